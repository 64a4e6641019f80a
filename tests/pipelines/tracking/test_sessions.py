"""A run that is driven again in its folder: one parent, one child a step, nothing RUNNING that does not run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from components.channel import Channel
from components.context import Json
from pipelines.engine.events import append, step_folder
from pipelines.engine.lock import try_lock
from pipelines.tracking.client import connect
from pipelines.tracking.config import TrackingConfig
from pipelines.tracking.mirror import Mirror

Prepare = Callable[..., tuple[Path, Any]]
Look = Callable[[Any, str], Any]

ERROR: dict[str, Json] = {"kind": "StepError", "what": "It is dark.", "where": "teach", "fix": "give it light"}


class Tracked:
    """A run of which the test writes every event itself."""

    def __init__(self, folder: Path, config: TrackingConfig, store: Path, look: Look) -> None:
        self.folder, self.store, self.config, self.look = folder, store, config, look
        self.session = 0

    def start(self, *steps: str) -> None:
        """Begins a session and, in it, steps."""
        self.session += 1
        self.say("run_started")
        for step in steps:
            self.say("started", step)

    def say(self, kind: str, step: str | None = None, **fields: Json) -> None:
        append(self.folder, kind, step, session=self.session, attempt=int(step is not None), **fields)

    def log(self, *numbers: int) -> None:
        """Lines of the journal of `teach`."""
        for number in numbers:
            Channel(step_folder(self.folder, "teach")).log({"loss": 1.0 / number}, number)

    def upload(self, over: bool = True) -> Any:
        """Sends the run with a new uploader and reads it back."""
        client, experiment = connect(self.config, self.store)
        Mirror(client, experiment, self.folder, self.store, print).update(over)
        return self.look(client, self.folder.name)


@pytest.fixture
def run(prepare: Prepare, store: Path, config: TrackingConfig, look: Look) -> Tracked:
    return Tracked(prepare(store, "amber-1")[0], config, store, look)


def statuses(seen: Any) -> dict[str, str]:
    children = {name: child.info.status for name, child in seen.children.items()}
    return {"": seen.parent.info.status, **children}


def test_a_step_that_was_killed_goes_on_in_its_own_child_and_no_row_is_there_twice(run: Tracked) -> None:
    run.start("teach")
    run.log(1, 2, 3)
    first = run.upload()
    assert statuses(first) == {"": "KILLED", "teach": "KILLED"}
    run.start("teach")
    run.log(2, 3, 4)
    assert statuses(run.upload(over=False)) == {"": "RUNNING", "teach": "RUNNING"}
    run.log(5)
    run.say("done", "teach", seconds=1.0, metrics={"loss": 0.2})
    run.say("run_ended", state="done")
    last = run.upload()
    assert statuses(last) == {"": "FINISHED", "teach": "FINISHED"}
    assert last.history["teach"]["teach/loss"] == [(step, 1.0 / step) for step in range(1, 6)]
    assert last.parent.info.run_id == first.parent.info.run_id
    assert last.children["teach"].info.run_id == first.children["teach"].info.run_id


def test_a_child_that_nobody_closed_is_closed_when_its_step_does_not_run_again(run: Tracked) -> None:
    run.start("collect", "teach")
    run.upload(over=False)
    run.log(1)  # driver and uploader die here
    run.start("collect")
    assert statuses(run.upload(over=False)) == {"": "RUNNING", "collect": "RUNNING", "teach": "KILLED"}
    run.say("failed", "collect", error=ERROR)
    run.say("skipped", "teach")
    run.say("run_ended", state="failed", error=ERROR)
    seen = run.upload()
    assert statuses(seen) == {"": "FAILED", "collect": "FAILED", "teach": "KILLED"}
    assert seen.history["teach"]["teach/loss"] == [(1, 1.0)]


def test_a_step_that_only_an_earlier_session_began_has_its_child_and_its_rows(run: Tracked) -> None:
    run.start("teach")
    run.log(1, 2)
    run.start()
    run.say("run_ended", state="stopped")
    seen = run.upload()
    assert statuses(seen) == {"": "KILLED", "teach": "KILLED"}
    assert [step for step, _ in seen.history["teach"]["teach/loss"]] == [1, 2]


def test_a_step_that_is_killed_while_its_ranks_wait_for_room_does_not_stay_open(run: Tracked) -> None:
    run.start("teach")
    run.upload(over=False)
    run.say("placing", "teach")
    assert statuses(run.upload(over=False)) == {"": "RUNNING", "teach": "RUNNING"}
    assert statuses(run.upload()) == {"": "KILLED", "teach": "KILLED"}


def test_a_step_that_is_left_out_has_no_child(run: Tracked) -> None:
    run.start("collect")
    run.say("failed", "collect", error=ERROR)
    run.say("skipped", "teach")
    run.say("run_ended", state="failed", error=ERROR)
    assert statuses(run.upload()) == {"": "FAILED", "collect": "FAILED"}


def test_a_failure_is_forgotten_when_the_step_succeeds_later(run: Tracked) -> None:
    run.start("teach")
    run.say("failed", "teach", error=ERROR)
    run.say("run_ended", state="failed", error=ERROR)
    assert "It is dark" in run.upload().children["teach"].data.tags["headwater.error"]
    run.start("teach")
    run.say("done", "teach", seconds=1.0, metrics={})
    run.say("run_ended", state="done")
    tags = run.upload().children["teach"].data.tags
    assert "headwater.error" not in tags
    assert "It is dark" not in tags["mlflow.note.content"]


def test_a_run_that_goes_again_says_so_and_ends_when_its_last_session_does(run: Tracked) -> None:
    run.start("teach")
    run.upload()
    run.start("teach")
    with try_lock(run.folder / "driver.lock"):
        tags = run.upload().parent.data.tags
    assert tags["headwater.state"] == "running"
    assert "session 2" in tags["mlflow.note.content"]
    run.say("run_ended", state="done", time=4e9)
    parent = run.upload().parent
    assert parent.data.tags["headwater.state"] == "done"
    assert parent.info.end_time == 4e12


def test_a_step_that_the_run_itself_made_earlier_does_not_count_as_cached(run: Tracked) -> None:
    run.start("collect")
    run.say("done", "collect", seconds=1.0, metrics={}, producer_run="amber-1")
    run.upload()
    run.start()
    run.say("cached", steps={"collect": {"producer_run": "amber-1", "seconds": 1.0, "metrics": {}}})
    run.say("run_ended", state="stopped")
    seen = run.upload()
    assert seen.children["collect"].data.tags["headwater.cached"] == "false"
    assert (seen.parent.data.metrics["run/steps_run"], seen.parent.data.metrics["run/steps_cached"]) == (1.0, 0.0)


@pytest.mark.parametrize("ending", ["goes", "killed", "failed"])
def test_picture_and_lineage_are_there_while_the_run_goes_and_however_it_ends(run: Tracked, ending: str) -> None:
    run.start("collect")
    if ending == "failed":
        run.say("failed", "collect", error=ERROR)
        run.say("run_ended", state="failed", error=ERROR)
    parent = run.upload(over=ending != "goes").parent
    client = connect(run.config, run.store)[0]
    drawn = Path(client.download_artifacts(parent.info.run_id, "dag.svg")).read_text()
    lineage = json.loads(Path(client.download_artifacts(parent.info.run_id, "lineage.json")).read_text())
    assert {"goes": "running", "killed": "stopped", "failed": "failed"}[ending] in drawn
    assert [step["step"] for step in lineage["steps"]] == ["collect", "teach", "judge"]


def test_a_step_that_its_driver_left_is_closed_with_a_word_and_opened_when_a_driver_takes_it_up(run: Tracked) -> None:
    run.start("teach")
    run.say("detached", "teach", note="goes on without a driver")
    run.say("run_ended", state="stopped")
    child = run.upload().children["teach"]
    assert (child.info.status, child.data.tags["mlflow.note.content"]) == ("KILLED", "goes on without a driver")
    run.start()
    run.say("attached", "teach", since=child.info.start_time / 1000)
    assert statuses(run.upload(over=False)) == {"": "RUNNING", "teach": "RUNNING"}
    run.say("done", "teach", seconds=1.0, metrics={})
    run.say("run_ended", state="done")
    seen = run.upload()
    assert statuses(seen) == {"": "FINISHED", "teach": "FINISHED"}
    assert seen.children["teach"].data.tags["mlflow.note.content"] == ""
