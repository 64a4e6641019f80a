"""Runs the step alone: `python -m components.labelled --help`."""

from components.labelled.config import LabelledConfig
from components.labelled.step import labelled
from components.standalone import main

main(labelled, LabelledConfig)
