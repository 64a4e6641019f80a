"""Checkpoints: whole or not at all, damaged ones named, the newest two kept."""

from __future__ import annotations

import json
import random
import resource
import shutil
import signal

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from components.errors import MachineError
from components.training import checkpoint as checkpoint_module
from components.training.checkpoint import NamedWeights, newest_verified, save_checkpoint

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


def test_none_of_200_flipped_bits_and_50_cuts_is_loaded_silently(tmp_path):
    whole = tmp_path / "whole"
    save_checkpoint(whole, 7, TENSORS, {"step": 7}, [(NamedWeights(), {"v": torch.ones(3)})])
    files = sorted(path.relative_to(whole) for path in whole.rglob("*") if path.is_file())
    assert len(files) == 4
    draw = random.Random(5)
    for number in range(250):
        folder = tmp_path / f"{number}"
        shutil.copytree(whole, folder)
        path = folder / files[number % len(files)]
        content = bytearray(path.read_bytes())
        if number < 200:
            content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        else:
            del content[draw.randrange(len(content)) :]
        path.write_bytes(content)
        said: list[str] = []
        assert newest_verified(folder, said.append) is None, (number, path)
        assert said[0].startswith("checkpoint step-000007 is skipped: ")


def test_a_checkpoint_of_another_step_under_this_name_is_not_taken_for_it(tmp_path):
    save(tmp_path, 10)
    (tmp_path / "step-000010").rename(tmp_path / "step-000020")
    said: list[str] = []
    assert newest_verified(tmp_path, said.append) is None
    assert said == ["checkpoint step-000020 is skipped: MANIFEST.json is not what was written"]


def test_a_checkpoint_of_an_older_version_is_named(tmp_path):
    save(tmp_path, 10)
    manifest = tmp_path / "step-000010" / "MANIFEST.json"
    files = {name: known["sha256"] for name, known in json.loads(manifest.read_text())["files"].items()}
    manifest.write_text(json.dumps({"step": 10, "files": files}))
    said: list[str] = []
    assert newest_verified(tmp_path, said.append) is None
    assert said == ["checkpoint step-000010 is skipped: it is of an older version, whose format is no longer read"]


def test_a_large_state_is_cut_into_files_of_bounded_size(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint_module, "FILE_BYTES", 1000)
    state = {f"w{number}": torch.full((100,), float(number)) for number in range(7)} | {"large": torch.zeros(2000)}
    save_checkpoint(tmp_path, 3, {"optimizer": state}, {})
    files = sorted((tmp_path / "step-000003").glob("optimizer*"))
    assert [path.name for path in files] == [f"optimizer-{number:05d}-of-00005.safetensors" for number in range(1, 6)]
    assert sorted(path.stat().st_size > 1500 for path in files) == [False] * 4 + [True]
    found = newest_verified(tmp_path, pytest.fail)
    assert found is not None
    back = found.tensors("optimizer")
    assert sorted(back) == sorted(state)
    assert all(torch.equal(back[name], state[name]) for name in state)


def test_a_writer_that_was_killed_leaves_nothing_that_counts_and_the_next_one_clears_it(tmp_path):
    save(tmp_path, 10)
    draft = tmp_path / ".step-000020.0123abcd.tmp"
    shutil.copytree(tmp_path / "step-000010", draft)
    checkpoint = newest_verified(tmp_path, pytest.fail)
    assert checkpoint is not None
    assert checkpoint.step == 10
    save(tmp_path, 20)
    assert not draft.exists()
