"""A model folder rewritten for others: another type of weights, shards, its native class, verified by reading it back.

Every model folder of ours is a Hugging Face folder already. What an export adds: half the bytes in bf16, files small
enough to move, and the proof that what was written is what is read. A model that no class of transformers has is
refused here, since an export is for others.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from components.errors import ConfigError, StepError
from components.model.config import ENCODERS, ModelConfig
from components.model.huggingface import (
    UnlikeOursError,
    load_classifier,
    load_encoder_decoder,
    load_transformer,
    read_config,
)
from components.model.huggingface.configs import kind_for
from components.model.huggingface.folder import head_of, no_class
from components.model.huggingface.weights import FolderWeights
from components.model.language import AnyConfig, load_language_model, load_scalar_model, save_language_model

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
SHARD_BYTES = 5_000_000_000
SIDE_FILES = ("reward.json",)
"""What steps of ours keep beside the model: the scale of a reward model's scores."""


@dataclass(frozen=True)
class Export:
    """What was written.

    Attributes:
        model_class: Class of transformers that reads it.
        parameters: Numbers in it, a tied table counted once.
        files: Weight files.
        num_bytes: Of them.
    """

    model_class: str
    parameters: int
    files: int
    num_bytes: int


def export_model(source: Path, folder: Path, dtype: str = "fp32", shard_bytes: int = SHARD_BYTES) -> Export:
    """Writes a model folder as a folder of its native class, and reads it back.

    Args:
        source: A model folder.
        folder: Where to; must not exist or be empty.
        dtype: "fp32", "bf16" or "fp16".
        shard_bytes: Most bytes of a weight file, unless a single tensor has more.

    Raises:
        ConfigError: If there is something at `folder`.
        StepError: If the source is no model, no class has its config, a weight is too large for the type, or what is
            read back is not what was written.
    """
    require_new(folder)
    model = load_any(source)
    config: AnyConfig = model.config  # type: ignore[assignment]
    weights = {name: tensor.detach() for name, tensor in model.named_parameters()}
    _check_class(config, weights, source)
    _check_range(weights, DTYPES[dtype], source)
    save_language_model(config, weights, folder, source, dtype=DTYPES[dtype], shard_bytes=shard_bytes)
    for name in SIDE_FILES:
        if (source / name).is_file():
            shutil.copyfile(source / name, folder / name)
    _verify(weights, folder, DTYPES[dtype])
    paths = list(folder.glob("*.safetensors"))
    return Export(
        model_class=json.loads((folder / "config.json").read_text(encoding="utf-8"))["architectures"][0],
        parameters=sum(tensor.numel() for tensor in weights.values()),
        files=len(paths),
        num_bytes=sum(path.stat().st_size for path in paths),
    )


def require_new(folder: Path) -> None:
    """Refuses to write a model folder where there is something.

    Raises:
        ConfigError: If there is.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"There is something at {folder} already.", where=str(folder), fix="name a new folder")


def load_any(folder: Path) -> nn.Module:
    """Loads whatever model is in a folder, in fp32, with the head that its weights have.

    Raises:
        StepError: If there is none.
    """
    try:
        family = read_config(folder).family
    except UnlikeOursError:
        family = "external"
    weights = FolderWeights(folder)
    if family in ENCODERS:
        return load_classifier(folder) if "classifier.weight" in weights else load_transformer(folder)
    if family == "encoder-decoder":
        return load_encoder_decoder(folder)
    return load_scalar_model(folder) if "score.weight" in weights else load_language_model(folder)


def _check_class(config: AnyConfig, weights: dict[str, Tensor], source: Path) -> None:
    if not isinstance(config, ModelConfig):
        return
    kind, obstacle = kind_for(config, head_of(weights))
    if kind is None:
        raise StepError(
            no_class(obstacle),
            where=str(source / "config.json"),
            fix="train a model without this setting; commands of headwater read the folder as it is",
        )


def _check_range(weights: dict[str, Tensor], dtype: torch.dtype, source: Path) -> None:
    largest = torch.finfo(dtype).max
    for name, tensor in weights.items():
        if tensor.numel() and float(tensor.abs().max()) > largest:
            raise StepError(
                f"{name} has a value beyond {largest:g}, the largest of this type.",
                where=str(source),
                fix="export it with --dtype bf16",
            )


def _verify(weights: dict[str, Tensor], folder: Path, dtype: torch.dtype) -> None:
    """Reads the folder back and compares every number.

    Raises:
        StepError: If one differs.
    """
    again = dict(load_any(folder).named_parameters())
    wrong = [name for name, tensor in weights.items() if not torch.equal(tensor.to(dtype).float(), again[name])]
    if wrong or len(again) != len(weights):
        raise StepError(
            f"{wrong[0] if wrong else 'A weight'} is not what was written when it is read back.",
            where=str(folder),
            fix="check the disk and export again",
        )
