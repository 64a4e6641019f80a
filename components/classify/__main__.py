"""Runs the step alone: `python -m components.classify --help`."""

from components.classify.config import ClassifyConfig
from components.classify.step import classify
from components.standalone import main

main(classify, ClassifyConfig)
