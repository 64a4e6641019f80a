"""Runs the step alone: `python -m components.quality documents=SCORED positives=good.jsonl`."""

from components.quality.config import QualityConfig
from components.quality.step import quality
from components.standalone import main

main(quality, QualityConfig)
