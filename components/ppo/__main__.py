"""Runs the step alone: `python -m components.ppo`."""

from components.ppo.config import PpoConfig
from components.ppo.step import ppo
from components.standalone import main

main(ppo, PpoConfig)
