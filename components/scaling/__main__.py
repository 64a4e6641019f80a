"""Runs the fit alone: `python -m components.scaling --help`."""

from components.scaling.config import ScalingConfig
from components.scaling.step import scaling
from components.standalone import main

main(scaling, ScalingConfig)
