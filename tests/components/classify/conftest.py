"""A tiny encoder and texts whose label is a word in them: the smallest world in which a classifier learns."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from components.classify.config import ClassifyConfig
from components.context import local_context
from components.labelled.config import LabelledConfig
from components.labelled.step import labelled
from components.model.config import ModelConfig
from components.model.huggingface import save_model
from components.model.transformer import Transformer
from components.tokenizer.counting import count_texts
from components.tokenizer.train import train
from components.training.config import TrainingConfig

SHAPE = ModelConfig(
    family="bert",
    vocab_size=330,
    num_token_types=2,
    dim=32,
    num_layers=1,
    num_heads=2,
    num_kv_heads=2,
    ffn_dim=64,
    max_length=40,
)
TRAINING = TrainingConfig(
    steps=50, batch_size=16, micro_batch=8, lr=5e-3, warmup_steps=3, engine="plain", ranks=1, eval_every=25,
    checkpoint_every=25,
)  # fmt: skip
CONFIG = ClassifyConfig(training=TRAINING, max_length=32)
WORDS = {"good": ("bright", "fine", "glad"), "bad": ("dark", "foul", "grim")}


@pytest.fixture(scope="session")
def base(tmp_path_factory) -> Path:
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("base")
    texts = [" ".join([*WORDS["good"], *WORDS["bad"], "the day was and it felt number"])] * 8
    (root / "tokenizer").mkdir()
    train("bpe", "none", count_texts(texts, "bpe"), 330, 2, 1).save(str(root / "tokenizer" / "tokenizer.json"))
    save_model(Transformer(SHAPE, torch.Generator().manual_seed(1)), root / "model", root / "tokenizer")
    return root


@pytest.fixture(scope="session")
def texts(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("texts")
    rows = [
        {"text": f"the day was {WORDS[label][number % 3]} and it felt number {number}", "label": label}
        for number in range(120)
        for label in (("good", "bad") if number % 2 else ("bad", "good"))[: 1 + number % 2]
    ]
    (folder / "texts.jsonl").write_text("\n".join(map(json.dumps, rows)))
    context = local_context("labelled", folder)
    # Epochs of whole batches: no batch holds a text twice.
    labelled(context, LabelledConfig(max_train=112, held_out_fraction=0.2), folder / "texts.jsonl")
    return context.output
