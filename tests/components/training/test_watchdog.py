"""The watchdog: who is named, what is left behind, and that a training that goes on is left alone."""

from __future__ import annotations

import dataclasses
import json
import time
from functools import partial
from pathlib import Path

import pytest
import torch

from components.channel import Channel
from components.context import Rank, local_context
from components.launching import RankHung, RankLost, read_failure
from components.training import watchdog as watchdog_module
from components.training.watchdog import EXIT_HUNG, Beat, Watchdog, describe_hang, read_beat
from tests.components.training.conftest import CONFIG
from tests.components.training.hanging import BATCH_S, EVALUATION_BATCHES, evaluate_sleepily, train_sleepily
from tests.components.training.toy import journal, run


def beat(rank, passed, place="computing", step=12, at=100.0):
    return Beat(rank, passed, step, place, 600.0, 0.0, at)


def test_the_rank_that_passed_fewest_places_is_named():
    beats = [beat(0, 90, "waiting for the others"), beat(1, 88, "reading data"), beat(2, 90, "waiting for the others")]
    assert describe_hang(beats, 600, 0.0) == (
        "No step ended within training.hang_timeout_s=600: rank 1 was reading data in step 13."
    )


def test_a_process_without_a_heartbeat_is_named_before_one_that_is_behind():
    beats = [beat(0, 90), beat(1, 88), beat(2, 90, at=40.0), None]
    assert describe_hang(beats, 600, 50.0).endswith(": ranks 2, 3 gave no sign of life.")


def test_ranks_that_all_stand_at_the_same_place_are_all_named():
    assert describe_hang([beat(0, 90), beat(1, 90)], 60, 0.0).endswith(": all ranks were computing in step 13.")
    assert describe_hang([beat(0, 90)], 60, 0.0).endswith(": rank 0 was computing in step 13.")


def test_of_ranks_at_one_place_the_one_with_fewest_forward_passes_is_named():
    ahead = dataclasses.replace(beat(0, 90, "evaluating"), within=7)
    assert describe_hang([ahead, beat(1, 90, "evaluating")], 60, 0.0).endswith(": rank 1 was evaluating in step 13.")
    assert describe_hang([ahead, ahead], 60, 0.0).endswith(": all ranks were evaluating in step 13.")


def watch(folder, left, timeout_s=0.4):
    rank = Rank(0, 1, 0, "cpu", Channel(folder), folder)
    return Watchdog(rank, folder / "heartbeats", timeout_s, leave=left.append)


def test_a_step_that_does_not_end_ends_the_process_with_its_stacks_and_a_reason(tmp_path):
    left: list[int] = []
    with watch(tmp_path, left) as dog:
        dog.at("reading data", 4)
        deadline = time.monotonic() + 30
        while not left and time.monotonic() < deadline:
            time.sleep(0.05)
    assert left == [EXIT_HUNG]
    sentence = "No step ended within training.hang_timeout_s=0.4: rank 0 was reading data in step 5."
    failure = read_failure(tmp_path)
    assert isinstance(failure, RankHung)
    assert str(failure) == sentence
    assert "test_a_step_that_does_not_end" in (tmp_path / "heartbeats/rank-0.stacks.txt").read_text()
    assert journal(tmp_path, "text")[0]["text"].startswith(sentence)


def test_places_within_a_step_give_no_new_time_and_its_end_does(tmp_path):
    left: list[int] = []
    with watch(tmp_path, left, timeout_s=1.0) as dog:
        for _ in range(8):
            dog.at("between steps", 4, anew=True)
            time.sleep(0.25)
        assert left == []
        deadline = time.monotonic() + 30
        while not left and time.monotonic() < deadline:
            dog.at("computing", 4)
            time.sleep(0.05)
    assert left == [EXIT_HUNG]


def test_every_forward_pass_of_a_followed_model_gives_new_time(tmp_path):
    left: list[int] = []
    model, other = torch.nn.Linear(1, 1), torch.nn.Linear(1, 1)
    with watch(tmp_path, left, timeout_s=1.0) as dog:
        dog.at("evaluating", 4)
        with dog.following(other, model):
            for _ in range(8):
                model(torch.ones(1))
                time.sleep(0.25)
            assert left == []
        deadline = time.monotonic() + 30
        while not left and time.monotonic() < deadline:
            model(torch.ones(1))
            time.sleep(0.05)
    assert left == [EXIT_HUNG]
    last = read_beat(tmp_path / "heartbeats", 0)
    assert last is not None
    assert (last.passed, last.within) == (1, 8)


def test_nothing_is_watched_where_the_limit_is_zero_but_the_heart_beats(tmp_path, monkeypatch):
    monkeypatch.setattr(watchdog_module, "BEAT_S", 0.05)
    left: list[int] = []
    with watch(tmp_path, left, timeout_s=0) as dog:
        dog.at("computing", 4)
        time.sleep(0.4)
    assert left == []
    last = read_beat(tmp_path / "heartbeats", 0)
    assert last is not None
    assert (last.step, last.place, last.passed) == (4, "computing", 1)
    assert last.wall_s >= 0.4


def test_a_session_adds_its_time_to_those_before(tmp_path):
    for _ in range(2):
        with watch(tmp_path, [], timeout_s=0) as dog:
            dog.at("between steps", 7)
            time.sleep(0.1)
    assert dog.wall_before_s >= 0.1
    assert dog.step_before == 7
    last = read_beat(tmp_path / "heartbeats", 0)
    assert last is not None
    assert last.wall_s >= 0.2


@pytest.mark.parametrize("content", ["", "{", "[]", '{"rank": 0}'])
def test_a_heartbeat_that_was_cut_off_is_none(tmp_path, content):
    (tmp_path / "rank-0.json").write_text(content)
    assert read_beat(tmp_path, 0) is None


def test_a_training_that_takes_longer_than_the_limit_but_goes_on_is_left_alone(vary, rank, tmp_path):
    one = vary(steps=60, hang_timeout_s=30.0)
    result, _ = run(one, rank, tmp_path)
    assert result.steps == 60
    last = read_beat(tmp_path / "heartbeats", 0)
    assert last is not None
    assert last.step == 60


def stacks(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in (folder / "heartbeats").glob("*.stacks.txt")}


def test_a_rank_that_falls_asleep_is_named_by_the_one_that_waits(tmp_path):
    config = dataclasses.replace(CONFIG, engine="deepspeed", ranks=2, zero_stage=1, hang_timeout_s=4.0)
    context = local_context("hang", tmp_path)
    with pytest.raises(RankHung, match=r"hang_timeout_s=4: rank 1 was reading data in step 4\."):
        context.launch(partial(train_sleepily, config, tmp_path / "run", False), 2)
    assert "fall_asleep" in stacks(tmp_path / "run")["rank-1.stacks.txt"]
    assert "sum_over_ranks" in stacks(tmp_path / "run")["rank-0.stacks.txt"]
    [told] = [line["text"] for line in journal(tmp_path, "text") if "No step ended" in line["text"]]
    assert json.loads((tmp_path / "run/heartbeats/verdict.json").read_text()) in told


def test_a_long_evaluation_goes_on_batch_by_batch_and_a_rank_that_hangs_in_one_is_named(tmp_path):
    config = dataclasses.replace(CONFIG, engine="deepspeed", ranks=2, hang_timeout_s=4.0, steps=8, eval_every=4)
    assert config.hang_timeout_s < EVALUATION_BATCHES * BATCH_S
    context = local_context("hang", tmp_path)
    with pytest.raises(RankHung, match=r"hang_timeout_s=4: rank 1 was evaluating in step 9\."):
        context.launch(partial(evaluate_sleepily, config, tmp_path / "run"), 2)
    assert [line["step"] for line in journal(tmp_path, "metrics") if "val_loss" in line["values"]] == [4]
    assert "fall_asleep" in stacks(tmp_path / "run")["rank-1.stacks.txt"]


@pytest.mark.slow
def test_a_rank_that_holds_the_interpreter_is_ended_too(tmp_path):
    config = dataclasses.replace(CONFIG, engine="deepspeed", ranks=2, zero_stage=1, hang_timeout_s=4.0)
    context = local_context("hang", tmp_path)
    with pytest.raises(RankLost):
        context.launch(partial(train_sleepily, config, tmp_path / "run", True), 2)
    assert "fall_asleep" in stacks(tmp_path / "run")["rank-1.stacks.txt"]
