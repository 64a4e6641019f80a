"""Runs the step alone: `python -m components.dedup documents=... threshold=0.8`."""

from components.dedup.config import DedupConfig
from components.dedup.step import dedup
from components.standalone import main

main(dedup, DedupConfig)
