"""The guard: what it refuses, what it remembers, and that no refused step leaves a trace in the model."""

from __future__ import annotations

import dataclasses
import json
import math
import statistics
from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from components.context import local_context
from components.errors import StepError
from components.training.engine import StepReport
from components.training.stability import (
    ENGINE,
    GRADIENT,
    GRADIENT_SPIKE,
    LOSS,
    LOSS_SPIKE,
    Guard,
    GuardState,
    Quarantine,
    Window,
)
from tests.components.training import toy
from tests.components.training.conftest import CONFIG
from tests.components.training.one_sided import AT, guard_on_ranks, train_one_sided
from tests.components.training.toy import ToyTask, journal, run

GUARDED = dataclasses.replace(CONFIG, steps=24, spike="skip", spike_window=8, spike_sigmas=6.0, eval_every=12)
CLIPPED = dataclasses.replace(CONFIG, clip_grad=0.05, checkpoint_every=0)


def guard(state=None, **changes):
    return Guard(dataclasses.replace(GUARDED, **changes), state or GuardState())


def fed(losses, **changes):
    """A guard that has accepted steps of these losses, norms being a tenth of them."""
    judge = guard(**changes)
    for loss in losses:
        assert judge.settle(loss, StepReport(loss / 10, skipped=False)) == ""
    return judge


def weights_equal(one, other):
    return all(torch.equal(one[name], other[name]) for name in one) and one.keys() == other.keys()


def test_a_spike_is_above_the_mean_by_more_than_so_many_deviations():
    losses = [3.0, 3.1, 2.9, 3.05, 2.95, 3.0]
    limit = statistics.fmean(losses) + 6 * statistics.pstdev(losses)
    judge = fed(losses)
    assert judge.reason(limit - 1e-9, 0.3) == ""
    assert judge.reason(limit + 1e-9, 0.3) == LOSS_SPIKE
    assert judge.reason(0.0, 0.3) == ""
    assert judge.reason(3.0, limit / 10 - 1e-9) == ""
    assert judge.reason(3.0, limit / 10 + 1e-9) == GRADIENT_SPIKE


def test_no_spike_is_seen_before_half_a_window():
    losses = [3.0, 3.1, 2.9]
    assert fed(losses).reason(1e9, 1e9) == ""
    assert fed([*losses, 3.0]).reason(1e9, 1e9) == LOSS_SPIKE


def test_only_the_last_window_counts():
    judge = fed([100.0, 2.0, 3.0, 50.0] + [3.0, 3.1, 2.9, 3.0] * 2)
    assert judge.reason(50.0, 0.3) == LOSS_SPIKE
    assert len(judge.state.losses) == len(judge.state.norms) == 8


def test_what_is_not_finite_is_refused_whatever_the_config():
    judge = guard(spike="off")
    assert judge.reason(math.nan, math.nan) == LOSS
    assert judge.reason(math.inf, 1.0) == LOSS
    assert judge.reason(1.0, math.inf) == GRADIENT
    assert judge.reason(1e30, 1e30) == ""
    assert judge.gate(1.0) is None
    refuse = judge.gate(math.nan)
    assert refuse is not None
    assert not refuse(1.0)


def test_steps_are_counted_by_what_became_of_them():
    judge = fed([3.0, 3.1, 2.9, 3.0, 20.0][:4], clip_grad=0.305)
    assert judge.state.clipped == 1  # 0.31
    assert judge.settle(90.0, StepReport(0.3, skipped=True)) == LOSS_SPIKE
    assert judge.settle(3.0, StepReport(math.inf, skipped=True)) == GRADIENT
    assert judge.settle(3.0, StepReport(0.3, skipped=True)) == ENGINE
    assert judge.state.counts() == {
        "skipped": 3,
        "spikes": 1,
        "overflows": 0,
        "clipped": 1,
        "rewinds": 0,
        "repeated": 0,
        "quarantined": 0,
    }
    assert judge.state.losses == [3.0, 3.1, 2.9, 3.0]


def test_looking_for_the_loss_scale_is_no_failure_unless_it_never_ends():
    judge = guard(max_skipped=2)
    for _ in range(3):
        judge.settle(3.0, StepReport(math.inf, skipped=True, rescaled=True))
        judge.settle(3.0, StepReport(math.inf, skipped=True, rescaled=True))
        judge.check(1, GRADIENT)
        judge.settle(3.0, StepReport(0.3, skipped=False))
    assert (judge.state.skipped, judge.state.overflows) == (0, 6)
    for _ in range(3):
        judge.settle(3.0, StepReport(math.inf, skipped=True, rescaled=True))
    with pytest.raises(StepError, match="skipped 3 steps"):
        judge.check(1, GRADIENT)


def test_the_guards_of_two_models_count_together_and_look_at_their_own_steps():
    state, window = GuardState(), Window()
    config = dataclasses.replace(GUARDED, max_skipped=2)
    one, other = Guard(config, state), Guard(config, state, window)
    for loss in (3.0, 3.1, 2.9, 3.0):
        one.settle(loss, StepReport(loss, skipped=False))
        other.settle(100 * loss, StepReport(100 * loss, skipped=False))
    assert (one.reason(290.0, 3.0), other.reason(290.0, 290.0)) == (LOSS_SPIKE, "")
    assert (len(state.losses), len(window.losses)) == (4, 4)
    one.settle(math.nan, StepReport(math.nan, skipped=True))
    other.settle(math.nan, StepReport(math.nan, skipped=True))
    assert state.skipped == 2
    for _ in range(3):  # the first goes on well, and cannot hide that the other never finds its loss scale
        other.settle(290.0, StepReport(math.inf, skipped=True, rescaled=True))
        one.settle(3.0, StepReport(3.0, skipped=False))
    one.check(9, GRADIENT)
    with pytest.raises(StepError, match="skipped 3 steps"):
        other.check(9, GRADIENT)


@given(
    values=st.lists(st.floats(0, 100) | st.sampled_from([math.nan, math.inf, 1e6]), min_size=1, max_size=40),
    cut=st.integers(0, 40),
    sigmas=st.floats(0.5, 8),
)
def test_a_guard_that_was_saved_and_restored_anywhere_judges_as_one_that_was_not(values, cut, sigmas):
    whole, broken = guard(spike_sigmas=sigmas), guard(spike_sigmas=sigmas)
    for number, value in enumerate(values):
        if number == cut:
            state = GuardState(**json.loads(json.dumps(dataclasses.asdict(broken.state))))
            broken = guard(state, spike_sigmas=sigmas)
        report = StepReport(value / 3, skipped=bool(whole.reason(value, value / 3)))
        assert whole.settle(value, report) == broken.settle(value, report)
    assert whole.state == broken.state


def test_a_skipped_spike_leaves_the_model_as_if_its_update_had_never_been(rank, tmp_path):
    steady = dataclasses.replace(GUARDED, steps=21, eval_every=0, schedule="constant", warmup_steps=0)
    result, weights = run(steady, rank, tmp_path / "spiked", ToyTask(steady, spiking=[20]))
    shorter = dataclasses.replace(steady, steps=20)
    _, same = run(shorter, rank, tmp_path / "shorter")
    assert (result.skipped, result.counts["spikes"]) == (1, 1)
    assert weights_equal(weights, same)


def test_without_the_guard_the_same_step_is_taken(rank, tmp_path):
    off = dataclasses.replace(GUARDED, spike="off")
    result, _ = run(off, rank, tmp_path / "off", ToyTask(off, spiking=[20]))
    assert result.skipped == 0


def test_a_left_out_batch_is_kept_with_its_rows_and_documents(rank, tmp_path):
    run(GUARDED, rank, tmp_path, ToyTask(GUARDED, poisoned=[5], spiking=[20]))
    poisoned, spiked = map(json.loads, (tmp_path / "quarantine.jsonl").read_text().splitlines())
    assert poisoned["step"] == 5
    assert poisoned["reason"] == LOSS
    assert (poisoned["loss"], poisoned["grad_norm"]) == ("nan", "nan")
    assert spiked["step"] == 20
    assert spiked["action"] == "skip"
    assert spiked["reason"] == LOSS_SPIKE
    assert spiked["rows"] == [320, 336]
    assert spiked["documents"] == ["document 20"]
    assert spiked["loss"] > 50


def test_a_rewind_ends_where_training_without_that_batch_ends(rank, tmp_path):
    config = dataclasses.replace(GUARDED, spike="rewind", checkpoint_every=7)
    result, weights = run(config, rank, tmp_path / "spiked", ToyTask(config, spiking=[20]), dropout=0.2)
    assert (result.skipped, result.counts["rewinds"], result.counts["repeated"]) == (0, 1, 6)
    assert result.tokens == 23 * 16 * toy.LENGTH
    said = [line["text"] for line in journal(tmp_path, "text")]
    assert said[0] == "back from step 21 to step 14, because its loss is a spike; its batch is left out"
    known = Quarantine(tmp_path / "clean" / "quarantine.jsonl")
    known.add({"step": 20, "action": "rewind"}, write=True)
    clean, same = run(config, rank, tmp_path / "clean", dropout=0.2)
    assert weights_equal(weights, same)
    assert clean.curve == result.curve


def test_a_rewind_before_the_first_checkpoint_goes_back_to_the_start(rank, tmp_path):
    config = dataclasses.replace(GUARDED, spike="rewind", checkpoint_every=100)
    result, _ = run(config, rank, tmp_path, ToyTask(config, spiking=[20]))
    assert result.counts["repeated"] == 20


def test_a_killed_run_remembers_what_it_went_back_for(rank, tmp_path):
    config = dataclasses.replace(GUARDED, spike="rewind", checkpoint_every=7)
    whole, weights = run(config, rank, tmp_path / "whole", ToyTask(config, spiking=[12, 20]), dropout=0.2)
    with pytest.raises(ConnectionResetError):
        run(config, rank, tmp_path / "broken", ToyTask(config, spiking=[12], crash_at=13), dropout=0.2)
    resumed, same = run(config, rank, tmp_path / "broken", ToyTask(config, spiking=[12, 20]), dropout=0.2)
    assert weights_equal(weights, same)
    assert resumed.curve == whole.curve
    assert (resumed.counts["rewinds"], resumed.counts["quarantined"]) == (2, 2)
    said = [line["text"] for line in journal(tmp_path, "text")]
    assert len([line for line in said if line.startswith("back from step 13")]) == 2  # once a run: not met again


def test_the_budget_of_rewinds_ends_the_training_with_a_sentence(rank, tmp_path):
    config = dataclasses.replace(GUARDED, spike="rewind", max_rewinds=1, checkpoint_every=4)
    with pytest.raises(StepError, match="went back to a checkpoint 1 times, and at step 21 its loss is a spike"):
        run(config, rank, tmp_path, ToyTask(config, spiking=[15, 20]))


def test_what_was_skipped_after_a_checkpoint_is_forgotten_when_training_goes_back_to_it(tmp_path):
    quarantine = Quarantine(tmp_path / "quarantine.jsonl")
    for step, action in ((3, "skip"), (8, "rewind"), (9, "skip")):
        quarantine.add({"step": step, "action": action}, write=True)
    again = Quarantine(tmp_path / "quarantine.jsonl")
    again.forget_from(5)
    again.add({"step": 11, "action": "skip"}, write=True)
    lines = map(json.loads, (tmp_path / "quarantine.jsonl").read_text().splitlines())
    assert [line["step"] for line in lines] == [3, 8, 11]
    assert again.rewound == [8]


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory):
    """What two ranks do at each stage about a spike by the guard's mode, about one that one rank sees, and to clip."""
    context = local_context("two", tmp_path_factory.mktemp("two"))
    sharded = {"engine": "deepspeed", "ranks": 2}
    configs = {
        "spikes": dataclasses.replace(GUARDED, **sharded, checkpoint_every=7),
        "one-sided": dataclasses.replace(GUARDED, **sharded, zero_stage=1, hang_timeout_s=30.0),
        "clipped": dataclasses.replace(CLIPPED, **sharded),
    }
    return context.launch(partial(guard_on_ranks, configs, context.scratch), 2), context.scratch


@pytest.mark.parametrize(("stage", "mode"), toy.SPIKE_CASES)
def test_two_ranks_judge_as_one_does_at_every_stage(two_ranks, rank, tmp_path, stage, mode):
    config = dataclasses.replace(GUARDED, spike=mode, checkpoint_every=7)
    oracle = toy.as_json(*run(config, rank, tmp_path, ToyTask(config, spiking=[20])))
    result = two_ranks[0]["spikes"][f"{mode}/{stage}"]
    assert result["skipped"] == oracle["skipped"] == (mode == "skip")
    assert result["weights"] == pytest.approx(oracle["weights"], abs=1e-5)


def test_ranks_refuse_together_what_only_one_of_them_would(two_ranks, rank, tmp_path):
    """The gradient is as ever, so only the loss of both together tells the rank whose rows are in order."""
    oracle = train_one_sided(GUARDED, tmp_path / "one", rank)
    result = two_ranks[0]["one-sided"]
    assert result["skipped"] == oracle["skipped"] == 1
    [record] = map(json.loads, (two_ranks[1] / "one-sided" / "quarantine.jsonl").read_text().splitlines())
    assert (record["step"], record["reason"]) == (AT, LOSS_SPIKE)
    assert result["weights"] == pytest.approx(oracle["weights"], abs=1e-5)


def test_ranks_clip_by_the_norm_of_the_whole_gradient_at_every_stage(two_ranks, rank, tmp_path):
    result, weights = run(CLIPPED, rank, tmp_path / "one")
    assert result.counts["clipped"] == CLIPPED.steps
    for stage in map(str, range(4)):
        clipped = two_ranks[0]["clipped"][stage]["weights"]
        assert clipped == pytest.approx(toy.as_json(result, weights)["weights"], abs=1e-5), stage
