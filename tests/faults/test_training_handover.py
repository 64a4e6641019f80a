"""One training, handed from ZeRO-3 on two ranks to plain torch on one, to ZeRO-1 on two, to transformers."""

from __future__ import annotations

import dataclasses
from functools import partial
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import AutoModelForCausalLM

from components.context import local_context
from tests.components.training.small import VOCABULARY
from tests.faults.handing_over import HANDED, LEG, held_out, leg

LEGS = {
    "zero-3 on 2": {"engine": "deepspeed", "zero_stage": 3, "ranks": 2},
    "plain on 1": {"engine": "plain", "ranks": 1},
    "zero-1 on 2": {"engine": "deepspeed", "zero_stage": 1, "ranks": 2},
}
HANDED_OVER = 1e-6
"""Relative: the same weights, whose losses are summed in another order by other ranks."""
FOLLOWED = 1e-6
"""Relative: twelve steps whose gradients are summed in another order."""


def start(folder: Path, config, origin: Path | None = None):
    context = local_context("leg", folder)
    (folder / "tokenizer").mkdir()
    numbers = Tokenizer(WordLevel({str(number): number for number in range(VOCABULARY)}, unk_token="0"))
    numbers.save(str(folder / "tokenizer" / "tokenizer.json"))
    work = partial(leg, config, context.scratch, folder / "tokenizer", origin)
    return context.launch(work, config.ranks), context.scratch / "checkpoints" / f"step-{config.steps:06d}"


def loss_in_transformers(folder: Path) -> float:
    tokens_BT = held_out()
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.no_grad():
        return float(model(tokens_BT, labels=tokens_BT).loss)


@pytest.mark.slow  # starts two ranks twice: about 45 s of one core
def test_a_training_handed_from_engine_to_engine_is_one_training(tmp_path):
    whole, _ = start(tmp_path / "whole", HANDED)
    reached, before, checkpoint = 0, None, None
    for number, (name, changes) in enumerate(LEGS.items(), 1):
        config = dataclasses.replace(HANDED, steps=number * LEG, **changes)
        result, checkpoint = start(tmp_path / str(number), config, checkpoint)
        if before is not None:
            assert result["taken_over"] == pytest.approx(before, rel=HANDED_OVER), name
        before, reached = result["curve"][-1]["val_loss"], len(result["curve"])
        assert reached == number * LEG, name
        assert loss_in_transformers(checkpoint) == pytest.approx(before, rel=HANDED_OVER), name
    for row, expected in zip(result["curve"], whole["curve"], strict=True):
        assert row == pytest.approx(expected, rel=FOLLOWED)
    assert before < whole["curve"][0]["val_loss"] - 0.1
