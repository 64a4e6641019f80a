"""Runs the tokenizer step alone: `python -m components.tokenizer --help`."""

from components.standalone import main
from components.tokenizer.config import TokenizerConfig
from components.tokenizer.step import tokenizer

main(tokenizer, TokenizerConfig)
