"""Runs the step alone: `python -m components.translate --help`."""

from components.standalone import main
from components.translate.config import TranslateConfig
from components.translate.step import translate

main(translate, TranslateConfig)
