"""Going on from another run's checkpoint: same bits as in one go, and what is refused."""

from __future__ import annotations

import dataclasses
import math
import shutil

import pytest
import torch
from transformers import AutoModelForCausalLM

from components.errors import ConfigError, StepError
from components.model.huggingface import load_transformer
from components.shards.config import MixtureConfig
from components.shards.schedule import Schedule
from tests.components.pretrain.conftest import CONFIG
from tests.components.pretrain.test_step import journal, packed, start, vary

MIXED = dataclasses.replace(CONFIG, mixture=MixtureConfig({"en": "1"}))
LATER = dataclasses.replace(MIXED, mixture=MixtureConfig({"en": "1"}, {"10": "en=2"}))


@pytest.fixture(scope="module")
def finished(world, tmp_path_factory):
    """Rows by language, and a finished run with its checkpoints of steps 8 and 12."""
    folder = tmp_path_factory.mktemp("finished")
    rows = packed(world, folder / "pack", group="lang")
    start(MIXED, world, folder / "run", rows)
    return rows, folder / "run" / "scratch" / "checkpoints"


def continuing(checkpoint, config=LATER):
    return dataclasses.replace(config, init=str(checkpoint), resume=True)


def test_a_mixture_that_changes_later_goes_on_from_the_old_run_with_the_bits_of_one_go(world, finished, tmp_path):
    rows, checkpoints = finished
    given = tmp_path / "given"  # a folder by another name, as an input of a step is
    shutil.copytree(checkpoints / "step-000008", given)
    _, resumed = start(continuing(given), world, tmp_path / "resumed", rows)
    _, whole = start(LATER, world, tmp_path / "whole", rows)
    for name in ("curve.json", "model/model.safetensors", "samples.json", "order.json"):
        assert (resumed / name).read_bytes() == (whole / name).read_bytes(), name
    said = [line["text"] for line in journal(tmp_path / "resumed", "text")]
    assert "training continues from step 8" in said


def test_a_run_goes_on_for_more_steps(world, finished, tmp_path):
    rows, checkpoints = finished
    longer = vary(continuing(checkpoints / "step-000012", MIXED), steps=16, schedule="constant")
    metrics, _ = start(longer, world, tmp_path, rows)
    assert metrics["steps"] == 16


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"seed": 18}, "has read other rows in 8 steps"),
        ({"mixture": MixtureConfig()}, "has read other rows in 8 steps"),
        ({"training": dataclasses.replace(CONFIG.training, batch_size=16)}, "has read other rows in 8 steps"),
        ({"training": dataclasses.replace(CONFIG.training, steps=8)}, "has done 8 steps, and the run ends after 8"),
    ],
)
def test_a_checkpoint_that_this_run_would_not_have_come_to_is_refused(world, finished, tmp_path, change, sentence):
    rows, checkpoints = finished
    config = dataclasses.replace(continuing(checkpoints / "step-000008"), **change)
    with pytest.raises(StepError, match=sentence):
        start(config, world, tmp_path, rows)


def test_a_damaged_checkpoint_is_refused_before_anything_starts(world, finished, tmp_path):
    rows, checkpoints = finished
    shutil.copytree(checkpoints / "step-000008", tmp_path / "damaged")
    path = tmp_path / "damaged" / "optimizer.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(StepError, match=r"optimizer\.safetensors is not what was written"):
        start(continuing(tmp_path / "damaged"), world, tmp_path / "run", rows)
    with pytest.raises(StepError, match="it was never finished"):
        start(continuing(finished[1].parent.parent / "output" / "model"), world, tmp_path / "model", rows)


def test_resume_without_a_checkpoint_is_refused():
    with pytest.raises(ConfigError, match=r"pretrain\.resume=True needs pretrain\.init"):
        dataclasses.replace(CONFIG, resume=True)


def test_transformers_loads_a_checkpoint_as_it_lies_there(finished):
    folder = finished[1] / "step-000008"
    theirs = AutoModelForCausalLM.from_pretrained(folder)
    ours = load_transformer(folder)
    tokens = torch.arange(7, 39)[None]
    with torch.no_grad():
        assert torch.allclose(theirs(tokens).logits, ours(tokens), atol=1e-5)


def test_schedules_read_alike_up_to_the_first_change_that_differs():
    first = Schedule(1, 8, 32, MixtureConfig({"en": "1"}, {"10": "en=1, zh=1"}))
    second = Schedule(1, 8, 32, MixtureConfig({"en": "2"}, {"10": "en=1, zh=2"}))
    assert first.reads_alike_before(second, 10)
    assert not first.reads_alike_before(second, 11)
    assert not first.reads_alike_before(dataclasses.replace(first, seed=2), 1)


def test_a_step_can_name_its_documents_and_the_bytes_behind_a_target(world):
    from components.pretrain.task import NextToken
    from components.shards.loader import Loader, TokenRows

    loader = Loader.open(world.tokens, Schedule(1, 8, 32))
    task = NextToken(CONFIG.training, loader, TokenRows.open(world.tokens / "val", 32), lambda engine, step: None)
    ids = task.documents(3)
    assert len(ids) == len(set(ids)) > 0
    known = {loader.split.doc_id(number).hex() for number in range(loader.split.num_documents)}
    assert set(ids) <= known
    assert 1 < task.bytes_per_unit() < 8
    assert math.isnan(task.flops_per_token("palm"))
