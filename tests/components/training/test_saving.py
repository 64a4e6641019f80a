"""Writing behind the training's back: what is written, who waits for whom, and where errors come to light."""

from __future__ import annotations

import dataclasses
import threading
import time

import pytest
import torch

from components.errors import MachineError, Preempted
from components.training.checkpoint import NamedWeights, newest_verified
from components.training.loop import train
from components.training.saving import Saver
from tests.components.training.toy import ToyTask, journal, make_toy, run


class Gate(NamedWeights):
    """Weights as usual, written once the test lets them; may fail instead."""

    def __init__(self, error: Exception | None = None) -> None:
        self.open, self.begun, self.error = threading.Event(), threading.Event(), error

    def write(self, folder, weights):
        self.begun.set()
        assert self.open.wait(60)
        if self.error:
            raise self.error
        super().write(folder, weights)


def start(saver, files, step):
    weights = {"w": torch.full((3,), float(step))}
    saver.start(step, [(files, weights)], {"optimizer": {"w/exp_avg": torch.ones(3)}}, {"step": step})


def test_it_returns_before_anything_is_written_and_publishes_the_whole(tmp_path):
    files = Gate()
    saver = Saver(tmp_path)
    start(saver, files, 4)
    assert files.begun.wait(60)
    assert newest_verified(tmp_path, pytest.fail) is None
    files.open.set()
    saver.wait()
    found = newest_verified(tmp_path, pytest.fail)
    assert found is not None
    assert found.state() == {"step": 4}
    assert torch.equal(NamedWeights().read(found.path)["w"], torch.full((3,), 4.0))


def test_one_write_is_under_way_at_most(tmp_path):
    files = Gate()
    saver = Saver(tmp_path)
    start(saver, files, 4)
    assert files.begun.wait(60)
    second = threading.Thread(target=start, args=(saver, files, 5))
    second.start()
    time.sleep(0.1)
    assert second.is_alive()
    files.open.set()
    second.join(60)
    saver.wait()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-000004", "step-000005"]


def test_what_went_wrong_is_raised_where_training_looks_next(tmp_path):
    files = Gate(OSError(28, "No space left on device"))
    saver = Saver(tmp_path)
    start(saver, files, 4)
    saver.check()
    files.open.set()
    saver.close()
    with pytest.raises(MachineError, match="step 4 could not be written"):
        saver.check()
    saver.check()
    assert list(tmp_path.iterdir()) == []


def test_a_save_that_fails_ends_the_training_at_a_later_step(config, rank, tmp_path):
    files = Gate(OSError(28, "No space left on device"))
    files.open.set()
    engine = make_toy(config, rank)
    with pytest.raises(MachineError, match="step 3 could not be written"):
        train(rank, config, engine, ToyTask(config), tmp_path, files=files)


def test_training_goes_on_while_a_checkpoint_is_written(vary, rank, tmp_path):
    files = Gate()
    seen = []

    class Watched(ToyTask):
        def micro_batches(self, step, rank, world_size):
            if step == 3:
                assert files.begun.wait(60)
            seen.append((step, files.begun.is_set() and not files.open.is_set()))
            if step == 5:
                files.open.set()
            return super().micro_batches(step, rank, world_size)

    one = vary(steps=6, checkpoint_every=3)
    train(rank, one, make_toy(one, rank), Watched(one), tmp_path, files=files)
    assert [step for step, writing in seen if writing] == [3, 4, 5]
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["step-000003", "step-000006"]


def test_what_is_written_is_the_model_of_the_step_it_was_begun_at(vary, rank, tmp_path):
    files = Gate()

    class Late(ToyTask):
        def micro_batches(self, step, rank, world_size):
            if step == 5:
                files.open.set()
            return super().micro_batches(step, rank, world_size)

    one = vary(steps=6, checkpoint_every=3, eval_every=0, schedule="constant", warmup_steps=0)
    train(rank, one, make_toy(one, rank), Late(one), tmp_path, files=files)
    found = sorted((tmp_path / "checkpoints").iterdir())[0]
    _, weights = run(dataclasses.replace(one, steps=3), rank, tmp_path / "three")
    written = files.read(found)
    assert all(torch.equal(written[name], weights[name]) for name in weights)


def test_a_stop_while_a_checkpoint_is_written_waits_for_both(vary, rank, tmp_path):
    """The write of step 3 is under way when the run is asked to stop in step 5."""
    files = Gate()

    class Stopped(ToyTask):
        def micro_batches(self, step, rank, world_size):
            if step == 4:
                assert files.begun.wait(60)
                assert not files.open.is_set()
                threading.Timer(0.2, files.open.set).start()
            return super().micro_batches(step, rank, world_size)

    one = vary(steps=12, checkpoint_every=3)
    task = Stopped(one, stop_at=4, stop=tmp_path / "stop")
    with pytest.raises(Preempted, match="after step 5"):
        train(rank, one, make_toy(one, rank, 0.2), task, tmp_path / "stopped", files=files)
    (tmp_path / "stop").unlink()
    names = sorted(path.name for path in (tmp_path / "stopped/checkpoints").iterdir())
    assert names == ["step-000003", "step-000005"]
    resumed, same = run(one, rank, tmp_path / "stopped", dropout=0.2)
    whole, weights = run(one, rank, tmp_path / "whole", dropout=0.2)
    assert resumed.curve == whole.curve
    assert all(torch.equal(weights[name], same[name]) for name in weights)


def test_each_save_tells_how_long_training_stood_still(config, rank, tmp_path):
    run(config, rank, tmp_path)
    stalls = [line for line in journal(tmp_path, "metrics") if "checkpoint_stall_s" in line["values"]]
    assert [line["step"] for line in stalls] == [3, 6, 9, 12]
    assert all(line["values"]["checkpoint_stall_steps"] > 0 for line in stalls)
