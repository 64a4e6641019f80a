"""Runs the step alone: `python -m components.sketch documents=... line_chars=40`."""

from components.sketch.config import SketchConfig
from components.sketch.step import sketch
from components.standalone import main

main(sketch, SketchConfig)
