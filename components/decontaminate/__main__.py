"""Runs the step alone: `python -m components.decontaminate documents=... benchmarks=... action=drop`."""

from components.decontaminate.config import DecontaminateConfig
from components.decontaminate.step import decontaminate
from components.standalone import main

main(decontaminate, DecontaminateConfig)
