"""Runs the step alone: `python -m components.evaluate`."""

from components.evaluate.config import EvaluateConfig
from components.evaluate.step import evaluate
from components.standalone import main

main(evaluate, EvaluateConfig)
