"""Private pretraining end to end: rows by coins, epsilon in the curve and beside the model."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from components.context import local_context
from components.errors import ConfigError
from components.pretrain.private import PrivateRows, budget_of
from components.pretrain.step import pretrain
from components.pretrain.worker import schedule_of
from components.shards.loader import Loader, TokenRows
from components.training.privacy import SECRET, PrivacyConfig

PRIVACY = PrivacyConfig(on=True, noise=1.0, delta=1e-4)


@pytest.fixture
def private(config):
    return dataclasses.replace(config, training=dataclasses.replace(config.training, privacy=PRIVACY))


@pytest.fixture
def rows(private, world):
    loader = Loader.open(world.tokens, schedule_of(private, 3))
    validation = TokenRows.open(world.tokens / "val", private.length)
    return PrivateRows(private, loader, validation, lambda *_: None, budget_of(private, loader.num_rows), 5), loader


def test_epsilon_is_told_and_kept_beside_the_model(private, world, tmp_path):
    context = local_context("pretrain", tmp_path)
    metrics = pretrain(context, private, world.tokens, world.tokenizer)
    record = json.loads((context.output / "privacy.json").read_text())
    curve = json.loads((context.output / "curve.json").read_text())
    assert record["epsilon"] == metrics["epsilon"] == curve[-1]["epsilon"] > curve[0]["epsilon"] > 0
    assert record["steps"] == 12
    assert record["sampling"] == "poisson"
    assert record["noise"] == 1.0
    assert (context.output / "model" / "model.safetensors").is_file()
    secret = (context.scratch / SECRET).read_text()
    assert not any(secret.encode() in path.read_bytes() for path in context.output.rglob("*") if path.is_file())


def test_each_row_enters_a_step_with_the_chance_that_is_reckoned_with(rows):
    task, loader = rows
    drawn = [task.drawn(step) for step in range(600)]
    counts = np.bincount(np.concatenate(drawn), minlength=loader.num_rows)
    rate, sizes = task.budget.sample_rate, np.array([len(one) for one in drawn])
    assert all(len(np.unique(one)) == len(one) for one in drawn)
    assert len(counts) == loader.num_rows
    assert np.abs(counts / 600 - rate).max() < 5 * np.sqrt(rate * (1 - rate) / 600)
    assert sizes.var() == pytest.approx(loader.num_rows * rate * (1 - rate), rel=0.25)


def test_a_step_reads_just_the_rows_that_were_drawn(rows, private):
    task, loader = rows
    everything = {}
    for step in range(-(-loader.num_rows // private.training.batch_size)):
        for tokens in loader.batch(step).tokens:
            everything[tokens.tobytes()] = True
    batches = task.micro_batches(2, 0, 1)
    read = [row for batch in batches for row in batch["tokens_BT"].numpy()]
    assert len(read) == len(task.drawn(2))
    assert task.tokens(2) == len(read) * private.length
    assert all(row.tobytes() in everything for row in read)


def test_units_never_depend_on_the_rows(rows, private):
    task, _ = rows
    assert {task.units(step) for step in range(20)} == {private.training.batch_size * private.length}


def test_nobody_is_told_which_documents_a_step_drew(rows):
    task, _ = rows
    assert task.documents(2) == []


def test_steps_of_another_run_are_not_taken_over_because_their_epsilon_is_not_counted(private):
    with pytest.raises(ConfigError, match=r"does not go with pretrain\.resume"):
        dataclasses.replace(private, init="model", resume=True)


@pytest.mark.parametrize("setting", [{"num_experts": 4, "experts_per_token": 2}, {"positions": "t5"}])
def test_models_that_mix_rows_are_refused(private, setting):
    with pytest.raises(ConfigError, match=r"privacy\.on=true"):
        dataclasses.replace(private, model=dataclasses.replace(private.model, **setting))
