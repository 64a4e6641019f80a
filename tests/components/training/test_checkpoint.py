"""Checkpoints: whole or not at all, damaged ones named, the newest two kept."""

from __future__ import annotations

import json
import resource
import signal

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from components.errors import MachineError
from components.training.checkpoint import newest_verified, save_checkpoint

TENSORS = {"model": {"w": torch.arange(6.0).reshape(2, 3)}, "optimizer": {"w/exp_avg": torch.ones(2, 3)}}


def save(folder, *steps):
    for step in steps:
        save_checkpoint(folder, step, TENSORS, {"step": step, "curve": [{"val_bpb": 0.1 + 0.2}]})


def test_what_was_saved_is_read_back(tmp_path):
    save(tmp_path, 120)
    checkpoint = newest_verified(tmp_path, pytest.fail)
    assert checkpoint is not None
    assert checkpoint.step == 120
    assert checkpoint.path.name == "step-000120"
    assert torch.equal(checkpoint.tensors("model")["w"], TENSORS["model"]["w"])
    assert checkpoint.state() == {"step": 120, "curve": [{"val_bpb": 0.1 + 0.2}]}


def test_there_is_none_where_nothing_was_saved(tmp_path):
    assert newest_verified(tmp_path / "checkpoints", pytest.fail) is None


def test_the_newest_two_are_kept(tmp_path):
    save(tmp_path, 90, 100, 1000, 1100)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-001000", "step-001100"]


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors", "state.json"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(tmp_path, name):
    save(tmp_path, 10, 20)
    path = tmp_path / "step-000020" / name
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    said: list[str] = []
    checkpoint = newest_verified(tmp_path, said.append)
    assert checkpoint is not None
    assert checkpoint.step == 10
    assert said == [f"checkpoint step-000020 is skipped: {name} is not what was written"]


@given(st.integers(0, 2**20), st.integers(0, 255))
def test_any_changed_byte_of_the_weights_is_noticed(tmp_path_factory, place, value):
    folder = tmp_path_factory.mktemp("flip")
    save(folder, 5)
    path = folder / "step-000005" / "model.safetensors"
    content = bytearray(path.read_bytes())
    before = content[place % len(content)]
    content[place % len(content)] = value
    path.write_bytes(content)
    assert (newest_verified(folder, lambda _: None) is None) == (value != before)


def test_a_checkpoint_without_its_manifest_was_never_finished(tmp_path):
    save(tmp_path, 10, 20)
    (tmp_path / "step-000020" / "MANIFEST.json").unlink()
    said: list[str] = []
    checkpoint = newest_verified(tmp_path, said.append)
    assert checkpoint is not None
    assert checkpoint.step == 10
    assert said == ["checkpoint step-000020 is skipped: it was never finished"]


def test_a_missing_file_and_an_unreadable_manifest_are_named(tmp_path):
    save(tmp_path, 10, 20)
    (tmp_path / "step-000010" / "optimizer.safetensors").unlink()
    (tmp_path / "step-000020" / "MANIFEST.json").write_text("{")
    said: list[str] = []
    assert newest_verified(tmp_path, said.append) is None
    assert "manifest cannot be read" in said[0]
    assert "optimizer.safetensors is missing" in said[1]


def test_saving_a_step_again_replaces_what_was_left_of_it(tmp_path):
    save(tmp_path, 10)
    (tmp_path / "step-000010" / "MANIFEST.json").unlink()
    (tmp_path / "step-000010" / "old.safetensors").write_bytes(b"left over")
    save(tmp_path, 10)
    checkpoint = newest_verified(tmp_path, pytest.fail)
    assert checkpoint is not None
    files = json.loads((checkpoint.path / "MANIFEST.json").read_text())["files"]
    assert sorted(files) == ["model.safetensors", "optimizer.safetensors", "state.json"]


def test_a_disk_that_takes_no_more_is_told_with_the_fix_and_the_checkpoint_before_stays(tmp_path):
    save(tmp_path, 10)
    large = {"model": {"w": torch.zeros(100_000)}}
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    try:
        with pytest.raises(MachineError) as failure:
            save_checkpoint(tmp_path, 20, large, {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    assert "step 20" in failure.value.what
    assert "make room" in failure.value.fix
    checkpoint = newest_verified(tmp_path, lambda _: None)
    assert checkpoint is not None
    assert checkpoint.step == 10
