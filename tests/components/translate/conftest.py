"""Pairs of digits and their names, and a tiny encoder-decoder trained on them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from components.context import local_context
from components.model.config import ModelConfig
from components.pairs.config import PairsConfig
from components.pairs.step import pairs
from components.tokenizer.config import TokenizerConfig
from components.tokenizer.step import tokenizer
from components.training.config import TrainingConfig
from components.translate.config import TranslateConfig
from components.translate.step import translate

NAMES = "零一二三四五六七八九"
TRAINING = TrainingConfig(
    steps=200, batch_size=32, micro_batch=16, lr=5e-3, warmup_steps=20, beta2=0.98, engine="plain", ranks=1,
    eval_every=100, checkpoint_every=100,
)  # fmt: skip
SHAPE = ModelConfig(
    family="encoder-decoder", dim=48, num_layers=1, num_heads=4, num_kv_heads=4, ffn_dim=96, max_length=24
)
CONFIG = TranslateConfig(model=SHAPE, training=TRAINING)


@pytest.fixture(scope="session")
def prepared(tmp_path_factory) -> tuple[Path, Path]:
    """Artifacts of pairs and tokenizer: "4 0 7" is 四零七."""
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("pairs")
    numbers = [f"{value:0{1 + value % 3}d}" for value in range(500)]
    rows = [
        {
            "source": " ".join(text),
            "target": "".join(NAMES[int(digit)] for digit in text),
            "kind": f"{len(text)} digits",
        }
        for text in numbers
    ]
    (root / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    made = local_context("pairs", root / "pairs", 17)
    pairs(made, PairsConfig(held_out_fraction=0.1), root / "rows.jsonl")
    vocabulary = local_context("tokenizer", root / "tokenizer")
    tokenizer(vocabulary, TokenizerConfig(vocab_size=270, kind="character"), made.output)
    return made.output, vocabulary.output


@pytest.fixture(scope="session")
def trained(prepared, tmp_path_factory):
    context = local_context("translate", tmp_path_factory.mktemp("translate"), CONFIG.seed)
    return translate(context, CONFIG, *prepared), context.output
