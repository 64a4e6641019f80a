"""Useful tokens a second of CPU time on packed rows and on rows of one document each, padded.

Useful is a token that is scored. Packed: best-fit rows in which a token sees its own document only, and all documents
joined and cut. Padded: one document a row (long ones take several), filled up to the row's length, and the same cut to
the longest of the batch. Three corpora of random ids with lengths like those of the sample (tokens of its 8,192
vocabulary): questions and answers, conversations, and whole pages, which are long. One thread, CPU time of loader,
forward, backward and update, rounds interleaved. Run with `make bench`; goal 1.5 on short documents. Nothing passes or
fails by the clock.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from components.channel import Channel
from components.context import Rank, local_context
from components.model.config import ModelConfig
from components.model.transformer import Transformer
from components.pack.config import PackConfig
from components.pack.step import pack
from components.pretrain.task import NextToken
from components.shards.loader import Loader, TokenRows
from components.shards.schedule import Schedule
from components.training.config import TrainingConfig
from components.training.engine import Engine, make_engine
from components.training.task import Batch
from tests.components.shards.toy import Toy, write_tokens

LENGTH, BATCH, STEPS, ROUNDS = 256, 8, 3, 5
SHAPE = ModelConfig(vocab_size=8192, dim=256, num_layers=6, num_heads=4, num_kv_heads=4, ffn_dim=704, max_length=256)
CONFIG = TrainingConfig(steps=100, batch_size=BATCH, micro_batch=BATCH, warmup_steps=1, engine="plain", ranks=1)
SHARES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
LENGTHS = {
    "questions and answers": (4, 12, 20, 27, 29, 98, 230),
    "conversations": (3, 4, 13, 71, 472, 2008, 5064),
    "pages": (150, 215, 842, 3168, 4760, 10_295, 17_979),
}
"""Tokens of a document at these shares of the documents of the sample; between them lengths are drawn evenly."""
WAYS = {
    "padded to the row": ("document", False, False),
    "padded to the longest": ("document", False, True),
    "joined and cut": ("concat", False, False),
    "joined and cut, masked": ("concat", True, False),
    "best fit, masked": ("best_fit", True, False),
}
"""Strategy of packing, whether documents are masked, whether what is padding in all rows of a batch is cut off."""


def make_tokens(folder: Path, lengths: tuple[int, ...]) -> Path:
    """A corpus of 300,000 tokens or more."""
    draw = np.random.default_rng(1)
    toys: list[Toy] = []
    left = 300_000
    while left > 0:
        size = max(1, int(np.interp(draw.uniform(0, SHARES[-1]), SHARES, lengths)) - 2)
        toys.append(Toy(draw.integers(7, SHAPE.vocab_size, size).tolist()))
        left -= size
    return write_tokens(folder, train=[toys])


class Way:
    """One way to make rows, and a model that learns from them."""

    def __init__(self, tokens: Path, folder: Path, strategy: str, masked: bool, cut: bool) -> None:
        ctx = local_context("pack", folder)
        about = pack(ctx, PackConfig(strategy, LENGTH), tokens)
        loader = Loader.open(tokens, Schedule(1, BATCH, LENGTH), ctx.output)
        self.filled = about["targets"] / (about["rows"] * LENGTH)
        validation = TokenRows(loader.split, LENGTH)
        self._task = NextToken(CONFIG, loader, validation, lambda engine, step: None, document_mask=masked)
        model = Transformer(SHAPE, torch.Generator().manual_seed(1))
        self._engine: Engine = make_engine(model, CONFIG, Rank(0, 1, 0, "cpu", Channel(folder)))
        self._cut = cut
        self._steps: Iterator[int] = iter(range(10_000))
        self.round()

    def round(self) -> float:
        """Useful tokens a second of CPU time over some steps."""
        useful, start = 0.0, time.process_time()
        for step in (next(self._steps) for _ in range(STEPS)):
            useful += self._train(step)
        return useful / (time.process_time() - start)

    def _train(self, step: int) -> float:
        units = self._task.units(step)
        for batch in self._task.micro_batches(step, 0, 1):
            loss = self._task.loss(self._engine.module, self._without_padding(batch))
            self._engine.backward(loss / units)
        self._engine.step(1e-3)
        return units

    def _without_padding(self, batch: Batch) -> Batch:
        if not self._cut:
            return batch
        longest = int((batch["targets_BT"] >= 0).any(0).nonzero().max()) + 1
        return {name: column[:, :longest].contiguous() for name, column in batch.items()}


@pytest.mark.bench
@pytest.mark.timeout(0)
@pytest.mark.parametrize("corpus", LENGTHS)
def test_packed_rows_beside_padded_ones(corpus: str, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    tokens = make_tokens(tmp_path / "tokens", LENGTHS[corpus])
    ways = {name: Way(tokens, tmp_path / name, *about) for name, about in WAYS.items()}
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, way in ways.items():
            rates[name].append(way.round())
    base = rates["padded to the row"]
    print(f"\n{corpus}: rows of {LENGTH}, {ROUNDS} rounds of {STEPS} steps; goal 1.5 of short documents")
    for name, found in rates.items():
        ratios = f"{max(found) / max(base):5.2f} x padded of the best, "
        ratios += f"{statistics.median(found) / statistics.median(base):5.2f} of medians"
        print(f"{name:24s}{max(found):7.0f} useful tokens/s, rows {ways[name].filled:4.0%} scored   {ratios}")
