"""Runs the augment step alone: `python -m components.augment --help`."""

from components.augment.config import AugmentConfig
from components.augment.step import augment
from components.standalone import main

main(augment, AugmentConfig)
