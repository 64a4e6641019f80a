"""Runs the step alone: `python -m components.pairs --help`."""

from components.pairs.config import PairsConfig
from components.pairs.step import pairs
from components.standalone import main

main(pairs, PairsConfig)
