"""The status is the fold of a set of events, in whatever order they come."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.errors import ConfigError, StepError
from components.publish import publish_json
from pipelines.engine import events
from pipelines.engine.events import DRIVER_LOCK, Failure, append, fold, fold_events, read_events
from pipelines.engine.lock import try_lock

STEP_KINDS = ["submitted", "busy", "attached", "started", "placing", "placed", "retrying", "detached", "stopped"]
STEP_KINDS += ["skipped", "failed", "done", "cached"]
event = st.fixed_dictionaries(
    {
        "kind": st.sampled_from(STEP_KINDS),
        "step": st.sampled_from(["crawl", "clean"]),
        "session": st.integers(1, 2),
        "attempt": st.integers(0, 2),
        "launch": st.integers(0, 1),
        "time": st.floats(0, 100),
        "key": st.sampled_from(["k1", "k2"]),
        "actor": st.sampled_from(["step:r:crawl:t1", "step:r:crawl:t2"]),
    }
)
run_event = st.fixed_dictionaries(
    {
        "kind": st.sampled_from(["run_started", "run_ended"]),
        "step": st.none(),
        "session": st.integers(1, 2),
        "time": st.floats(0, 100),
        "state": st.just("done"),
    }
)


def happened(kind: str, step: str | None = "clean", **fields: object) -> dict:
    return {"kind": kind, "step": step, "session": 1, "attempt": 1, "time": 10.0, **fields}


@given(st.lists(event | run_event, max_size=25), st.randoms())
def test_status_is_equal_in_any_order_of_arrival(history: list[dict], random: random.Random):
    shuffled = [*history]
    random.shuffle(shuffled)
    planned = {"crawl": [], "clean": ["crawl"]}
    assert fold_events(shuffled, planned, "amber-1", 50.0) == fold_events(history, planned, "amber-1", 50.0)


@given(st.lists(event, max_size=25), st.randoms())
def test_actors_are_the_same_in_any_order_of_arrival(history: list[dict], random: random.Random):
    shuffled = [*history]
    random.shuffle(shuffled)
    assert events.actors(shuffled) == events.actors(history)


def test_an_actor_is_known_by_its_newest_attempt_and_since_when_it_works():
    history = [
        happened("submitted", actor="step:r:clean:t1", key="k1", time=1.0),
        happened("started", key="k1", time=2.0),
        happened("submitted", attempt=2, actor="step:r:clean:t2", key="k1", time=3.0),
        happened("started", attempt=2, key="k1", time=4.0),
        happened("submitted", session=2, actor="step:r:clean:t2", key="k1", time=9.0),
    ]
    assert events.actors(history) == {"clean": events.ActorRecord("step:r:clean:t2", "k1", 4.0)}
    assert events.actors(history)["clean"].token == "t2"


def test_a_step_that_was_taken_up_runs_since_it_began():
    history = [
        happened("submitted", session=2, actor="step:r:clean:t1"),
        happened("attached", session=2, since=5.0),
    ]
    step = fold_events(history, {}, "r", 40.0).steps["clean"]
    assert (step.state, step.started, step.seconds) == ("running", 5.0, 35.0)


def test_attempts_and_kinds_order_events_where_clocks_disagree():
    history = [
        happened("started", time=30.0),
        happened("retrying", time=20.0, note="its process died"),
        happened("started", attempt=2, time=15.0),
        happened("done", attempt=2, time=5.0, seconds=3.0, metrics={"kept": 4}),
    ]
    for length, state in [(1, "running"), (2, "retrying"), (3, "running"), (4, "done")]:
        assert fold_events(history[:length], {}, "r", 40.0).steps["clean"].state == state
    assert fold_events(history, {}, "r", 40.0).steps["clean"].metrics == {"kept": 4.0}


def test_a_second_launch_waits_for_room_after_the_first_had_it():
    history = [
        happened("started"),
        happened("placing", launch=1),
        happened("placed", launch=1),
        happened("placing", launch=2, note="for 2 x 1 free cores"),
    ]
    step = fold_events(history, {}, "r", 40.0).steps["clean"]
    assert (step.state, step.note) == ("waiting", "for 2 x 1 free cores")
    history.append(happened("placed", launch=2))
    assert fold_events(history, {}, "r", 40.0).steps["clean"].state == "running"
    assert fold_events([*history, happened("done")], {}, "r", 40.0).steps["clean"].state == "done"


def test_a_new_session_starts_with_a_clean_table():
    history = [happened("failed", error={"kind": "StepError", "what": "x"}), happened("run_started", None, session=2)]
    assert fold_events(history, {"clean": []}, "r", 40.0).steps["clean"].state == "waiting"


def test_waiting_steps_say_what_for():
    status = fold_events([happened("done", "crawl")], {"crawl": [], "clean": ["crawl"], "dedup": ["clean"]}, "r", 20.0)
    assert (status.steps["clean"].note, status.steps["dedup"].note) == ("for free cores", "for clean")


def test_one_event_tells_all_cached_steps():
    fields = {"key": "k", "producer_run": "amber-1", "metrics": {"kept": 1.0}, "seconds": 2.0}
    status = fold_events([happened("cached", None, steps={"crawl": fields, "clean": fields})], {}, "r", 20.0)
    assert {name: (step.state, step.producer_run) for name, step in status.steps.items()} == {
        "crawl": ("cached", "amber-1"),
        "clean": ("cached", "amber-1"),
    }


def test_a_failed_run_carries_its_sentence_and_exit_code():
    error = Failure.of(ConfigError("No.", "here", "do this")).to_json()
    status = fold_events([happened("run_ended", None, state="failed", error=error)], {}, "r", 20.0)
    assert status.exit_code == 2
    assert status.error is not None
    assert str(status.error.to_error()) == "No.\n  where: here\n  fix:   do this"


@pytest.mark.parametrize(("state", "code"), [("done", 0), ("stopped", 3)])
def test_exit_codes(state: str, code: int):
    assert fold_events([happened("run_ended", None, state=state)], {}, "r", 20.0).exit_code == code


def test_a_failure_is_raised_again_as_its_own_class():
    assert isinstance(Failure.of(StepError("x")).to_error(), StepError)


def test_a_run_is_interrupted_when_nobody_drives_it(tmp_path: Path):
    append(tmp_path, "run_started", session=1)
    with try_lock(tmp_path / DRIVER_LOCK):
        assert fold(tmp_path).state == "running"
    assert fold(tmp_path).state == "interrupted"
    assert fold(tmp_path).exit_code == 3


def test_fold_reads_the_plan_the_events_and_the_journals(tmp_path: Path):
    publish_json(
        tmp_path / "plan.json",
        {"steps": [{"name": "crawl", "producers": []}, {"name": "clean", "producers": ["crawl"]}]},
    )
    append(tmp_path, "run_started", session=1, time=100.0)
    append(tmp_path, "started", "crawl", session=1, attempt=1, time=101.0)
    journal = events.step_folder(tmp_path, "crawl") / "journal.jsonl"
    journal.parent.mkdir(parents=True)
    lines = [f'{{"kind": "progress", "time": {t}, "done": {t}, "total": 120, "unit": "pages"}}' for t in (102, 110)]
    journal.write_text("\n".join([*lines, '{"kind": "progr']))
    with try_lock(tmp_path / DRIVER_LOCK):
        status = fold(tmp_path, now=111.0)
    crawl = status.steps["crawl"]
    assert (crawl.state, crawl.done, crawl.total, crawl.rate, crawl.eta_s, crawl.seconds) == (
        "running",
        110,
        120,
        1,
        9,
        10,
    )
    assert status.steps["clean"].note == "for crawl"
    assert status.seconds == 11.0


def test_event_files_are_never_changed_and_half_written_ones_never_seen(tmp_path: Path):
    append(tmp_path, "run_started", session=1, time=1.0)
    (tmp_path / "events" / ".00-started-x.json.tmp").write_text("{")
    append(tmp_path, "run_started", session=1, time=1.0)
    assert len(read_events(tmp_path)) == 2
