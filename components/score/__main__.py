"""Runs the step alone: `python -m components.score documents=... mask=email,phone`."""

from components.score.config import ScoreConfig
from components.score.step import score
from components.standalone import main

main(score, ScoreConfig)
