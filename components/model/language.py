"""A language model, ours or anyone's: loading and saving for the steps that start from a model folder.

Model types that ours equals are loaded as ours, which are faster and know packed documents; every other type runs in
transformers' own code (`external`). Steps hold either and need not know which.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from components.errors import StepError
from components.model.cache import KVCache
from components.model.config import ModelConfig
from components.model.external import ExternalCache, ExternalConfig, ExternalModel, ExternalScalar
from components.model.external_folder import (
    build_external,
    load_external,
    load_external_scalar,
    read_external_config,
    save_external,
)
from components.model.heads import ScalarModel
from components.model.huggingface import UnlikeOursError, load_scalar, load_transformer, read_config, save_model
from components.model.output import scaled
from components.model.transformer import Transformer

LanguageModel: TypeAlias = Transformer | ExternalModel
AnyScalar: TypeAlias = ScalarModel | ExternalScalar
AnyConfig: TypeAlias = ModelConfig | ExternalConfig


def read_any_config(folder: Path) -> AnyConfig:
    """The shape of a model, read without its weights.

    Raises:
        StepError: If there is no model.
    """
    try:
        return read_config(folder)
    except UnlikeOursError:
        return read_external_config(folder)


def load_language_model(folder: Path) -> LanguageModel:
    """Loads a causal language model in fp32, whoever wrote it and whatever its type.

    Raises:
        StepError: If the folder is no model, the model is not causal, or nothing can compute its logits.
    """
    if not _is_ours(folder):
        return load_external(folder)
    model = load_transformer(folder)
    if not model.config.causal:
        raise StepError(
            f"The model in {folder} sees in both directions and cannot write on.",
            where=str(folder / "config.json"),
            fix="give the folder of a decoder (a bert is fine-tuned by the recipe encoder)",
        )
    return model


def build_language_model(config: AnyConfig) -> LanguageModel:
    """A model of this shape, to be filled with weights."""
    if isinstance(config, ExternalConfig):
        return build_external(config)
    return Transformer(config, torch.Generator())


def load_scalar_model(folder: Path) -> AnyScalar:
    """Loads a scalar model (a reward model or a critic) in fp32, whatever its type.

    Raises:
        StepError: If the folder is no model, or has no scalar head.
    """
    return load_scalar(folder) if _is_ours(folder) else load_external_scalar(folder)


def scalar_from(model: LanguageModel, generator: torch.Generator | None = None) -> AnyScalar:
    """A scalar model on a copy of a language model's backbone; arguments as of `ScalarModel.from_transformer`."""
    if isinstance(model, ExternalModel):
        return ExternalScalar.from_language(model, generator)
    return ScalarModel.from_transformer(model, generator)


def save_language_model(
    config: AnyConfig,
    weights: Mapping[str, Tensor],
    folder: Path,
    tokenizer: Path,
    *,
    dtype: torch.dtype = torch.float32,
    shard_bytes: int = 0,
) -> str:
    """Writes the folder of a language or scalar model in its own class; arguments and result as of `save_model`."""
    if isinstance(config, ExternalConfig):
        save_external(config, weights, folder, tokenizer, dtype=dtype, shard_bytes=shard_bytes)
        return ""
    return save_model((config, weights), folder, tokenizer, dtype=dtype, shard_bytes=shard_bytes)


def make_cache(model: LanguageModel, padding_B: Tensor, size: int) -> KVCache | ExternalCache:
    """An empty cache for generation.

    Args:
        model: Whose keys and values it will hold.
        padding_B: Padding at the start of each prompt.
        size: Tokens of a row, prompt and reply.
    """
    if isinstance(model, ExternalModel):
        return model.make_cache(padding_B)
    return KVCache(model.config, padding_B, size, model.backbone.embed.weight.dtype)


def logits_at(model: LanguageModel, tokens_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """Logits of some positions alone, [N, V]: projecting is most of a small model's work."""
    if isinstance(model, ExternalModel):
        return model.logits_at(tokens_BT, mask_BT)
    return F.linear(scaled(model.hidden(tokens_BT)[mask_BT], model.config), model.output.weight)


def _is_ours(folder: Path) -> bool:
    """Whether our own model computes what the folder's author's does; all else about the folder is judged later."""
    try:
        read_config(folder)
    except UnlikeOursError:
        return False
    return True
