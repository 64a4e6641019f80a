"""Runs the pack step alone: `python -m components.pack --help`."""

from components.pack.config import PackConfig
from components.pack.step import pack
from components.standalone import main

main(pack, PackConfig)
