"""Runs the step alone: `python -m components.card extract=... clean=... tokens=...`."""

from components.card.config import CardConfig
from components.card.step import card
from components.standalone import main

main(card, CardConfig)
