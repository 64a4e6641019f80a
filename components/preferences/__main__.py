"""Runs the preferences step alone: `python -m components.preferences --help`."""

from components.preferences.config import PreferencesConfig
from components.preferences.step import preferences
from components.standalone import main

main(preferences, PreferencesConfig)
