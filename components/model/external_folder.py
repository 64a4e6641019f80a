"""Folders of model types that are not ours, read and written by transformers itself.

Code that a folder brings along is never run, and weights are read from safetensors alone. A folder is written whole
beside its place and moved in, config.json last.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from components.errors import StepError
from components.model.external import (
    LANGUAGE,
    SCALAR,
    ExternalConfig,
    ExternalModel,
    ExternalScalar,
    classifier_of,
    config_of,
)
from components.model.huggingface.folder import copy_tokenizer, generation_values
from components.publish import publish_json
from components.tokenizer.special import BOS, EOS, PAD

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def read_external_config(folder: Path) -> ExternalConfig:
    """The shape of a causal language model of any type that transformers knows, without its weights.

    Raises:
        StepError: If it knows none for the folder.
    """
    from transformers import AutoConfig, AutoModelForCausalLM

    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        if type(config) not in AutoModelForCausalLM._model_mapping:
            raise ValueError(f"no causal language model of the type {config.model_type}")
    except (OSError, ValueError, KeyError) as error:
        raise _unusable(folder, f"cannot be loaded by transformers ({_first_line(error)})") from error
    return config_of(config, LANGUAGE, config.get_text_config().vocab_size)


def build_external(config: ExternalConfig) -> ExternalModel:
    """A model of this shape, to be filled with weights."""
    from transformers import AutoConfig, AutoModelForCausalLM

    return ExternalModel(AutoModelForCausalLM.from_config(AutoConfig.for_model(**json.loads(config.values))))


def outline(config: ExternalConfig) -> PreTrainedModel:
    """Their model of this shape, without memory: to be counted."""
    from transformers import AutoConfig, AutoModelForCausalLM

    with torch.device("meta"):
        inner: PreTrainedModel = AutoModelForCausalLM.from_config(AutoConfig.for_model(**json.loads(config.values)))
    return inner


def load_external(folder: Path) -> ExternalModel:
    """Loads a causal language model of any type that transformers knows, in fp32.

    Raises:
        StepError: If it has none for the folder, or the weights are incomplete.
    """
    from transformers import AutoModelForCausalLM

    return ExternalModel(_load(folder, AutoModelForCausalLM))


def load_external_scalar(folder: Path) -> ExternalScalar:
    """Loads a sequence classifier with one label as a scalar model, in fp32.

    Raises:
        StepError: If the folder has none, or the weights are incomplete.
    """
    from transformers import AutoModelForSequenceClassification

    inner = _load(folder, AutoModelForSequenceClassification)
    score = getattr(inner, "score", None)
    if not isinstance(score, nn.Linear) or score.out_features != 1:
        raise _unusable(folder, "has no linear head `score` with one label: it is not a reward model")
    return ExternalScalar(inner)


def save_external(
    config: ExternalConfig,
    weights: Mapping[str, Tensor],
    folder: Path,
    tokenizer: Path,
    *,
    dtype: torch.dtype = torch.float32,
    shard_bytes: int = 0,
) -> None:
    """Writes the folder of a model of transformers in its own class; arguments as of `save_model`.

    Raises:
        StepError: As `save_model`; also if a weight is missing.
    """
    from transformers import AutoConfig, AutoModelForCausalLM

    values = json.loads(config.values)
    theirs = AutoConfig.for_model(**values)
    copy_tokenizer(tokenizer, folder, config.vocab_size)
    with torch.device("meta"):
        if config.head == SCALAR:
            inner = classifier_of(theirs, config.model_type)
        else:
            inner = AutoModelForCausalLM.from_config(theirs)
    state = {name.removeprefix("inner."): tensor.to("cpu", dtype) for name, tensor in weights.items()}
    inner.load_state_dict(state, strict=False, assign=True)
    inner.tie_weights()
    missing = [name for name, parameter in inner.named_parameters() if parameter.is_meta]
    if missing:
        raise StepError(f"The weights of the model miss {missing[0]}.", where=str(folder), fix="report this defect")
    inner.config.dtype = dtype
    inner.config.pad_token_id, inner.config.bos_token_id, inner.config.eos_token_id = PAD, BOS, EOS
    _publish(inner, folder, shard_bytes)
    if config.head == LANGUAGE:
        publish_json(folder / "generation_config.json", generation_values(tokenizer))


def _load(folder: Path, kind: type) -> PreTrainedModel:
    from transformers.utils import logging

    if not (folder / "config.json").is_file():
        raise _unusable(folder, "has no config.json: this is no model folder")
    logging.disable_progress_bar()
    try:
        model, told = kind.from_pretrained(  # type: ignore[attr-defined]
            folder,
            dtype=torch.float32,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            output_loading_info=True,
        )
    except (OSError, ValueError, KeyError, RuntimeError, ImportError) as error:
        raise _unusable(folder, f"cannot be loaded by transformers ({_first_line(error)})") from error
    lacking = sorted(told["missing_keys"]) or sorted(str(key) for key in told["mismatched_keys"])
    if lacking:
        raise _unusable(folder, f"has no fitting weights for {lacking[0]}")
    return cast("PreTrainedModel", model)


def _publish(inner: PreTrainedModel, folder: Path, shard_bytes: int) -> None:
    """Writes the files beside their place and moves them in, config.json last."""
    with tempfile.TemporaryDirectory(dir=folder, prefix=".export-") as temporary:
        inner.save_pretrained(temporary, max_shard_size=shard_bytes or 1 << 60)
        for stale in folder.glob("model*.safetensors*"):
            stale.unlink()
        for path in sorted(Path(temporary).iterdir(), key=lambda path: path.name == "config.json"):
            os.replace(path, folder / path.name)


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _unusable(folder: Path, why: str) -> StepError:
    return StepError(
        f"The model in {folder} {why}.",
        where=str(folder / "config.json"),
        fix="give a folder whose config.json and safetensors a class of transformers reads without code of its own",
    )
