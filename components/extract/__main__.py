"""Runs the step alone: `python -m components.extract --help`."""

from components.extract.config import ExtractConfig
from components.extract.step import extract
from components.standalone import main

main(extract, ExtractConfig)
