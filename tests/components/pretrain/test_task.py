"""Next-token prediction as a task: which rows, how many, and what a score is worth."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from components.channel import Channel
from components.context import Rank, local_context
from components.model.config import with_vocabulary
from components.model.transformer import Transformer
from components.pack.config import PackConfig
from components.pack.step import pack
from components.pretrain.task import NextToken
from components.shards.loader import Loader, TokenRows, inputs_and_targets
from components.shards.schedule import Schedule
from components.tokenizer.load import TextTokenizer
from components.training.engine import make_engine


@pytest.fixture
def rows(world):
    return Loader.open(world.tokens, Schedule(3, 8, 32))


@pytest.fixture
def task(world, config, rows):
    return NextToken(config.training, rows, TokenRows.open(world.tokens / "val", 32), lambda engine, step: None)


def tokens_of(batches):
    return torch.cat([batch["tokens_BT"] for batch in batches]).numpy()


def test_the_ranks_together_read_the_rows_of_the_step_in_order(task, rows):
    for step in (0, 7, 400):
        whole = rows.batch(step).ids
        np.testing.assert_array_equal(tokens_of(task.micro_batches(step, 0, 1)), whole[:, :-1])
        halves = [*task.micro_batches(step, 0, 2), *task.micro_batches(step, 1, 2)]
        np.testing.assert_array_equal(tokens_of(halves), whole[:, :-1])


def test_targets_are_the_tokens_that_follow(task):
    [first, *_] = task.micro_batches(0, 0, 1)
    assert first["tokens_BT"].shape == first["targets_BT"].shape == (4, 32)
    assert torch.equal(first["tokens_BT"][:, 1:], first["targets_BT"][:, :-1])


def test_the_units_of_a_step_are_the_targets_of_its_batches(task):
    scored = sum(int((batch["targets_BT"] != -100).sum()) for batch in task.micro_batches(3, 0, 1))
    assert task.units(3) == task.tokens(3) == scored == 8 * 32


def test_padded_rows_count_the_targets_they_score(world, config, tmp_path):
    context = local_context("pack", tmp_path)
    pack(context, PackConfig("document", 32), world.tokens)
    loader = Loader.open(world.tokens, Schedule(3, 8, 32), context.output)
    task = NextToken(config.training, loader, TokenRows.open(world.tokens / "val", 32), lambda engine, step: None)
    scored = sum(int((batch["targets_BT"] != -100).sum()) for batch in task.micro_batches(3, 0, 1))
    assert task.units(3) == scored < task.tokens(3) == 8 * 32


def test_bits_per_byte_are_those_of_one_pass_over_the_whole_split(world, config, task):
    shape = with_vocabulary(config.model, TextTokenizer.from_folder(world.tokenizer).vocab_size, "pretrain.model")
    model = Transformer(shape, torch.Generator().manual_seed(1))
    validation = TokenRows.open(world.tokens / "val", 32)
    nats = 0.0
    for some in validation.rows_sequential(1):
        tokens_BT, targets_BT = map(torch.from_numpy, inputs_and_targets(some))
        logits = model(tokens_BT).flatten(0, 1)
        nats += torch.nn.functional.cross_entropy(logits, targets_BT.flatten(), reduction="sum").item()
    engine = make_engine(model, config.training, Rank(0, 1, 0, "cpu", Channel(world.tokens)))
    with torch.no_grad():
        scores = task.evaluate(engine, 0)
    assert scores["val_bpb"] == pytest.approx(nats / math.log(2) / validation.num_bytes, rel=1e-5)
