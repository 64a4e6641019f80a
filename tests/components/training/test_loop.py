"""The loop on plain torch: what it logs, when it saves, and that a broken run ends like an unbroken one."""

from __future__ import annotations

import dataclasses
import itertools
import math
import subprocess
import sys

import pytest
import torch

from components.errors import Preempted, StepError
from tests.components.training.toy import LENGTH, Toy, ToyTask, journal, run

TRAIN_AND_BE_KILLED = """
import sys
from pathlib import Path
import torch
sys.path.append(sys.argv[1])
from components.channel import Channel
from components.context import Rank
from tests.components.training.conftest import CONFIG
from tests.components.training.toy import run_and_kill

torch.set_num_threads(1)
folder = Path(sys.argv[2])
run_and_kill(CONFIG, folder, 8, Rank(0, 1, 0, "cpu", Channel(folder)))
"""


def weights_equal(one, other):
    return all(torch.equal(one[name], other[name]) for name in one) and one.keys() == other.keys()


def test_training_learns_and_scores_at_every_interval_and_at_the_end(vary, rank, tmp_path):
    result, _ = run(vary(steps=30, eval_every=20), rank, tmp_path)
    assert [row["step"] for row in result.curve] == [20, 30]
    assert result.curve[-1]["val_loss"] < result.curve[0]["val_loss"] < math.log(61)
    assert result.steps == 30
    assert result.tokens == 30 * 16 * LENGTH
    assert result.tokens_per_second == pytest.approx(result.tokens / result.seconds)


def test_without_an_interval_it_is_scored_at_the_end_alone(vary, rank, tmp_path):
    result, _ = run(vary(eval_every=0), rank, tmp_path)
    assert [row["step"] for row in result.curve] == [12]


def test_metrics_are_logged_at_every_interval(vary, rank, tmp_path):
    run(vary(steps=7, log_every=3, eval_every=0), rank, tmp_path)
    lines = [line for line in journal(tmp_path, "metrics") if "loss" in line["values"]]
    assert [line["step"] for line in lines] == [3, 6, 7]
    told = {"loss", "lr", "grad_norm", "tokens_per_second", "data_wait_share", "goodput", "eta_s", "memory_gib"}
    assert set(lines[0]["values"]) == told
    assert lines[0]["values"]["loss"] == pytest.approx(math.log(61), rel=0.2)


def test_the_logged_loss_is_the_mean_since_the_line_before(vary, rank, tmp_path):
    run(vary(steps=6, log_every=1, eval_every=0), rank, tmp_path / "each")
    run(vary(steps=6, log_every=3, eval_every=0), rank, tmp_path / "thirds")
    losses = [line["values"]["loss"] for line in journal(tmp_path, "metrics") if "loss" in line["values"]]
    assert losses[6] == pytest.approx(sum(losses[:3]) / 3)
    assert losses[7] == pytest.approx(sum(losses[3:6]) / 3)


def test_the_gradient_is_that_of_the_mean_loss_of_the_whole_step(vary, rank, tmp_path):
    one = vary(steps=1, warmup_steps=0, log_every=1, micro_batch=4)
    run(one, rank, tmp_path)
    [line] = [line for line in journal(tmp_path, "metrics") if "grad_norm" in line["values"]]
    torch.manual_seed(3)
    model, task = Toy(), ToyTask(vary(micro_batch=16))
    [batch] = task.micro_batches(0, 0, 1)
    (task.loss(model, batch) / task.units(0)).backward()
    gradients = [parameter.grad.flatten() for parameter in model.parameters() if parameter.grad is not None]
    assert line["values"]["grad_norm"] == pytest.approx(float(torch.cat(gradients).norm()), rel=1e-5)


def test_progress_ends_with_the_last_step_and_says_how_it_stands(config, rank, tmp_path):
    run(config, rank, tmp_path)
    last = journal(tmp_path, "progress")[-1]
    assert (last["done"], last["total"], last["unit"]) == (12, 12, "steps")
    assert "skipped 0" in last["note"]


def test_progress_is_written_once_a_second_at_most(vary, rank, tmp_path):
    from components.training.engine import make_engine
    from components.training.loop import train

    ticks = itertools.count()
    one = vary(steps=40, eval_every=0)
    train(rank, one, make_engine(Toy(), one, rank), ToyTask(one), tmp_path, clock=lambda: next(ticks) * 0.1)
    seconds = next(ticks) * 0.1
    assert 3 <= len(journal(tmp_path, "progress")) <= seconds + 2


@pytest.mark.parametrize("micro_batch", [1, 4, 16])
def test_micro_batches_do_not_change_what_is_learned(vary, rank, tmp_path, micro_batch):
    one, _ = run(vary(micro_batch=8), rank, tmp_path / "8")
    other, _ = run(vary(micro_batch=micro_batch), rank, tmp_path / "other")
    for row, same in zip(one.curve, other.curve, strict=True):
        assert row == pytest.approx(same, rel=1e-5)


def test_a_step_whose_gradient_is_not_finite_is_skipped_counted_and_logged(config, rank, tmp_path):
    result, weights = run(config, rank, tmp_path, ToyTask(config, poisoned=[5]))
    assert result.skipped == 1
    assert all(torch.isfinite(tensor).all() for tensor in weights.values())
    skipped = [line for line in journal(tmp_path, "metrics") if set(line["values"]) == {"skipped", "grad_norm"}]
    assert [(line["step"], line["values"]["skipped"]) for line in skipped] == [(6, 1.0)]
    assert "skipped 1" in journal(tmp_path, "progress")[-1]["note"]


def test_a_skipped_step_leaves_weights_and_moments_alone(vary, rank, tmp_path):
    last = vary(steps=6, eval_every=0, schedule="constant", warmup_steps=0)
    _, poisoned = run(last, rank, tmp_path / "a", ToyTask(last, poisoned=[5]))
    _, shorter = run(vary(steps=5, eval_every=0, schedule="constant", warmup_steps=0), rank, tmp_path / "b")
    assert weights_equal(poisoned, shorter)


def test_a_skipped_step_does_not_enter_the_mean_loss(config, rank, tmp_path):
    result, _ = run(config, rank, tmp_path, ToyTask(config, poisoned=[0, 5, 11]))
    assert all(math.isfinite(row["train_loss"]) for row in result.curve)


def test_too_many_skipped_steps_end_the_training_with_a_sentence(vary, rank, tmp_path):
    one = vary(max_skipped=2)
    with pytest.raises(StepError, match="skipped 3 steps") as failure:
        run(one, rank, tmp_path, ToyTask(one, poisoned=range(3, 12)))
    assert "training.lr" in failure.value.fix
    skipped = [line["values"] for line in journal(tmp_path, "metrics") if "loss" not in line["values"]]
    assert [values["skipped"] for values in skipped if "skipped" in values] == [1, 2, 3]


def test_a_run_that_died_ends_with_the_bits_of_one_that_did_not(config, rank, tmp_path):
    whole, weights = run(config, rank, tmp_path / "whole", dropout=0.2)
    with pytest.raises(ConnectionResetError):
        run(config, rank, tmp_path / "broken", ToyTask(config, crash_at=8), dropout=0.2)
    resumed, same = run(config, rank, tmp_path / "broken", dropout=0.2)
    assert resumed.curve == whole.curve
    assert (resumed.steps, resumed.tokens, resumed.skipped) == (whole.steps, whole.tokens, whole.skipped)
    assert weights_equal(weights, same)
    assert "training continues from step 6" in [line["text"] for line in journal(tmp_path, "text")]


def test_a_killed_process_is_continued_with_the_same_bits(config, rank, tmp_path, request):
    root = str(request.config.rootpath)
    killed = subprocess.run([sys.executable, "-c", TRAIN_AND_BE_KILLED, root, str(tmp_path / "killed")], check=False)
    assert killed.returncode == -9
    resumed, same = run(config, rank, tmp_path / "killed", dropout=0.2)
    whole, weights = run(config, rank, tmp_path / "whole", dropout=0.2)
    assert resumed.curve == whole.curve
    assert weights_equal(weights, same)


def test_a_damaged_checkpoint_is_skipped_and_the_bits_are_still_the_same(config, rank, tmp_path):
    whole, weights = run(config, rank, tmp_path / "whole", dropout=0.2)
    with pytest.raises(ConnectionResetError):
        run(config, rank, tmp_path / "broken", ToyTask(config, crash_at=8), dropout=0.2)
    (tmp_path / "broken/checkpoints/step-000006/model.safetensors").write_bytes(b"nothing")
    resumed, same = run(config, rank, tmp_path / "broken", dropout=0.2)
    assert resumed.curve == whole.curve
    assert weights_equal(weights, same)
    said = [line["text"] for line in journal(tmp_path, "text")]
    assert said[0] == "checkpoint step-000006 is skipped: model.safetensors is not what was written"
    assert said[1] == "training continues from step 3"


def test_asked_to_stop_it_saves_and_the_next_run_ends_with_the_same_bits(config, rank, tmp_path):
    whole, weights = run(config, rank, tmp_path / "whole")
    with pytest.raises(Preempted, match="after step 5 of 12"):
        run(config, rank, tmp_path / "stopped", ToyTask(config, stop_at=4, stop=tmp_path / "stop"))
    (tmp_path / "stop").unlink()
    assert (tmp_path / "stopped/checkpoints/step-000005/MANIFEST.json").exists()
    resumed, same = run(config, rank, tmp_path / "stopped")
    assert resumed.curve == whole.curve
    assert weights_equal(weights, same)


def test_asked_to_save_it_saves_once_and_goes_on(config, rank, tmp_path):
    task = ToyTask(config, stop_at=4, stop=tmp_path / "save")
    result, weights = run(dataclasses.replace(config, checkpoint_every=0), rank, tmp_path / "saved", task)
    assert sorted(path.name for path in (tmp_path / "saved/checkpoints").iterdir()) == ["step-000005", "step-000012"]
    assert not (tmp_path / "save").exists()
    whole, same = run(config, rank, tmp_path / "whole")
    assert result.curve == whole.curve
    assert weights_equal(weights, same)


def test_a_stop_at_the_last_step_comes_too_late_to_matter(config, rank, tmp_path):
    (tmp_path / "stop").touch()
    with pytest.raises(Preempted):
        run(config, rank, tmp_path / "early")
    result, _ = run(config.__class__(**{**vars(config), "steps": 1, "warmup_steps": 0}), rank, tmp_path / "late")
    assert result.steps == 1


def test_a_finished_training_is_not_repeated(config, rank, tmp_path):
    whole, weights = run(config, rank, tmp_path)
    again, same = run(config, rank, tmp_path, ToyTask(config, crash_at=0))
    assert again == whole
    assert weights_equal(weights, same)
