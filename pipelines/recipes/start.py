"""The model that pretraining goes on from, as an input of its step: by content, never by path."""

from __future__ import annotations

from dataclasses import replace

from components.model.config import ModelConfig
from components.pretrain.config import PretrainConfig
from pipelines.engine.step import Artifact, Recipe

GIVEN = "given"
"""Stands in the step's config for the path of a model that is an input."""


def with_start(run: Recipe, config: PretrainConfig) -> tuple[PretrainConfig, Artifact | None]:
    """Pretraining's config as it enters the key, and the folder it goes on from, if any.

    A model that goes on keeps its shape: `pretrain.model` is not used, and is left out of the key.

    Raises:
        ConfigError: If nothing lies at `pretrain.init`.
    """
    if config.init is None:
        return config, None
    return replace(config, init=GIVEN, model=ModelConfig()), run.file(config.init, "start")
