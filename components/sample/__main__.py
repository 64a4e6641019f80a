"""Runs the step alone: `python -m components.sample conversations=100`."""

from components.sample.config import SampleConfig
from components.sample.step import site
from components.standalone import main

main(site, SampleConfig)
