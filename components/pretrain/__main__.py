"""Runs the pretraining step alone: `python -m components.pretrain --help`."""

from components.pretrain.config import PretrainConfig
from components.pretrain.step import pretrain
from components.standalone import main

main(pretrain, PretrainConfig)
