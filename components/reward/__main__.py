"""Runs the step alone: `python -m components.reward --help`."""

from components.reward.config import RewardConfig
from components.reward.step import reward
from components.standalone import main

main(reward, RewardConfig)
