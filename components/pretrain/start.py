"""What pretraining starts from: weights drawn anew, or those of a model folder (`pretrain.init`), ours or anyone's.

A model that goes on keeps its own shape, so `pretrain.model` is not used then, and its own tokenizer: the tokens must
have been made with it (`tokenizer.path=<the folder>`).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TypeAlias

from components.errors import StepError
from components.model.config import ModelConfig
from components.model.encoder_decoder import EncoderDecoder
from components.model.huggingface import check_vocabulary, load_encoder_decoder, load_transformer
from components.model.language import AnyConfig, LanguageModel, load_language_model, read_any_config
from components.pretrain.config import OBJECTIVES, PretrainConfig

Trainable: TypeAlias = LanguageModel | EncoderDecoder


def read_shape(folder: Path, config: PretrainConfig, tokenizer: Path) -> AnyConfig:
    """The shape of the model that goes on, read without its weights.

    Args:
        folder: Its folder.
        config: The step's settings.
        tokenizer: Tokenizer artifact of the tokens.

    Raises:
        StepError: If there is no model, it cannot learn the objective or read rows of `config.length`, or its tokenizer
            is another than that of the tokens.
    """
    shape = read_any_config(folder)
    family = shape.family if isinstance(shape, ModelConfig) else "llama"
    if family not in OBJECTIVES[config.objective]:
        raise StepError(
            f"The model to go on from is of the family {family}, which cannot learn the objective {config.objective}.",
            where=f"pretrain.objective={config.objective}, pretrain.init={folder}",
            fix=f"set pretrain.objective={next(name for name, able in OBJECTIVES.items() if family in able)}",
        )
    if config.length > shape.max_length:
        raise StepError(
            f"The model to go on from reads at most {shape.max_length} tokens.",
            where=f"pretrain.length={config.length}",
            fix=f"set pretrain.length={shape.max_length} and pack.length={shape.max_length}",
        )
    _check_tokenizer(folder, tokenizer)
    check_vocabulary(tokenizer / "tokenizer.json", shape.vocab_size)
    return shape


def load_start(folder: Path, objective: str) -> Trainable:
    """The model that goes on, in fp32.

    Raises:
        StepError: If the folder is no model of this sort.
    """
    if objective == "span":
        return load_encoder_decoder(folder)
    return load_transformer(folder) if objective == "masked" else load_language_model(folder)


def _check_tokenizer(folder: Path, tokenizer: Path) -> None:
    ours, theirs = folder / "tokenizer.json", tokenizer / "tokenizer.json"
    if not ours.is_file():
        raise StepError(
            "The model to go on from has no tokenizer.",
            where=f"{ours} does not exist",
            fix="put the tokenizer.json that it was trained with beside its weights",
        )
    one, other = (json.loads(path.read_text(encoding="utf-8")) for path in (ours, theirs))
    if any(one.get(part) != other.get(part) for part in ("model", "added_tokens")):
        raise StepError(
            "The tokens were made with another tokenizer than that of the model to go on from.",
            where=f"{ours}, {theirs}",
            fix=f"set tokenizer.path={folder}",
        )
