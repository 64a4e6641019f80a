"""A corpus of counting sentences, its tokenizer and token shards: the smallest world in which pretraining learns."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from components.context import local_context
from components.documents import Document, Outcome, make_doc_id, write_shard, write_summary
from components.model.config import ModelConfig
from components.pretrain.config import PretrainConfig
from components.shards.config import TokensConfig
from components.shards.step import tokens
from components.tokenizer.config import TokenizerConfig
from components.tokenizer.step import tokenizer
from components.training.config import TrainingConfig

CONFIG = PretrainConfig(
    model=ModelConfig(dim=32, num_layers=2, num_heads=2, num_kv_heads=1, ffn_dim=64, max_length=64),
    training=TrainingConfig(
        steps=12,
        batch_size=8,
        micro_batch=4,
        lr=1e-2,
        warmup_steps=2,
        engine="plain",
        ranks=1,
        eval_every=6,
        log_every=4,
        checkpoint_every=4,
    ),
    length=32,
    samples=("one two", "你好"),
    sample_tokens=8,
)
ENGLISH = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
WORDS = [*ENGLISH, *"一二三四五六七八九十", "你好", "再见"]


@dataclasses.dataclass(frozen=True)
class World:
    """Folders of the artifacts that pretraining reads."""

    tokens: Path
    tokenizer: Path


@pytest.fixture(scope="session")
def world(tmp_path_factory) -> World:
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("corpus")
    outcome = Outcome()
    for number in range(120):
        start = number % len(WORDS)
        text = " ".join(WORDS[(start + place * (1 + number % 3)) % len(WORDS)] for place in range(40)) + "."
        url = f"http://corpus.test/{number}"
        outcome.kept.append(Document(make_doc_id("test", url, text.encode()), "test", url, "en", "", text))
    write_summary(root / "documents", [write_shard(root / "documents", 0, outcome)])
    vocabulary = local_context("tokenizer", root / "tokenizer")
    tokenizer(vocabulary, TokenizerConfig(vocab_size=320), root / "documents")
    rows = local_context("tokens", root / "tokens", 17)
    tokens(rows, TokensConfig(val_fraction=0.1), root / "documents", vocabulary.output)
    return World(rows.output, vocabulary.output)


@pytest.fixture
def config() -> PretrainConfig:
    """Twelve steps on one rank of plain torch."""
    return CONFIG
