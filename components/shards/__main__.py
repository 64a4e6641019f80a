"""Runs the tokens step alone: `python -m components.shards --help`."""

from components.shards.config import TokensConfig
from components.shards.step import tokens
from components.standalone import main

main(tokens, TokensConfig)
