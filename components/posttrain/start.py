"""Where post-training starts: a model folder with its tokenizer, checked, and its score before the first step."""

from __future__ import annotations

from pathlib import Path

import torch

from components.context import Rank
from components.errors import StepError
from components.model.huggingface import check_vocabulary
from components.model.language import LanguageModel, load_language_model
from components.tokenizer.load import TextTokenizer
from components.training.engine import Engine
from components.training.loop import Task


def load_start(folder: Path, max_length: int, key: str) -> tuple[LanguageModel, TextTokenizer]:
    """Loads the model to start from and the tokenizer it was trained with.

    Args:
        folder: A model folder.
        max_length: Longest sequence the stage will train on.
        key: Config key of `max_length`, for the refusal.

    Raises:
        StepError: If the folder is no language model, its tokenizer does not fit it, or it reads no such sequence.
    """
    model = load_language_model(folder)
    tokenizer = TextTokenizer.from_folder(folder)
    check_vocabulary(folder / "tokenizer.json", model.config.vocab_size)
    if max_length > model.config.max_length:
        raise StepError(
            f"The model reads at most {model.config.max_length} tokens.",
            where=f"{key}={max_length}",
            fix=f"set {key}={model.config.max_length}, or pretrain with a larger model.max_length",
        )
    return model, tokenizer


def evaluate_start(engine: Engine, task: Task, rank: Rank) -> dict[str, float]:
    """Scores the model before the first step, and logs it at step 0. Collective.

    A run that resumes scores the start again, before its checkpoint is loaded: that takes a second, and no checkpoint
    has to carry the value.
    """
    engine.module.eval()
    with torch.no_grad():
        scores = task.evaluate(engine, 0)
    engine.module.train()
    if rank.rank == 0:
        rank.channel.log(scores, 0)
    return scores
