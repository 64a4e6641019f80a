"""Runs the step alone: `python -m components.clean documents=SCORED min_chars=200`."""

from components.clean.config import CleanConfig
from components.clean.step import clean
from components.standalone import main

main(clean, CleanConfig)
