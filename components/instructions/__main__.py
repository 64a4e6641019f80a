"""Runs the instructions step alone: `python -m components.instructions --help`."""

from components.instructions.config import InstructionsConfig
from components.instructions.step import instructions
from components.standalone import main

main(instructions, InstructionsConfig)
