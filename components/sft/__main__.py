"""Runs the step alone: `python -m components.sft --help`."""

from components.sft.config import SftConfig
from components.sft.step import sft
from components.standalone import main

main(sft, SftConfig)
