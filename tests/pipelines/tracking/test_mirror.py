"""A run in MLflow is the run folder, however often and from wherever it is sent."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from components.channel import Channel
from components.publish import publish_json, read_json
from pipelines.engine.events import append
from pipelines.engine.lock import try_lock
from pipelines.engine.store import Store
from pipelines.tracking import sending
from pipelines.tracking.client import EXPERIMENT_TAGS, connect
from pipelines.tracking.config import TrackingConfig
from pipelines.tracking.mirror import PROGRESS_FILE, Mirror
from pipelines.tracking.mlflow_sink import replay

Drive = Callable[..., Path]
Look = Callable[[Any, str], Any]


@pytest.fixture
def client(store: Path, config: TrackingConfig) -> Any:
    return connect(config, store)[0]


def mirror(folder: Path, config: TrackingConfig, store: Path, said: list[str] | None = None) -> Mirror:
    client, experiment = connect(config, store)
    return Mirror(client, experiment, folder, store, (said if said is not None else []).append)


def test_a_finished_run_is_a_parent_and_a_child_per_step(
    store: Path, config: TrackingConfig, client: Any, drive: Drive, look: Look
) -> None:
    folder = drive(store, "amber-1")
    assert mirror(folder, config, store).update(over=True)
    seen = look(client, "amber-1")
    assert seen.parent.info.run_name == "amber-1"
    assert seen.parent.info.status == "FINISHED"
    assert {name: child.info.status for name, child in seen.children.items()} == dict.fromkeys(
        ["collect", "teach", "judge"], "FINISHED"
    )
    assert seen.parent.data.tags["mlflow.source.git.commit"] == "c0ffee"
    assert seen.parent.data.params["teach.steps"] == "5"
    assert seen.parent.data.metrics["run/steps_run"] == 3
    assert seen.parent.data.metrics["judge/score"] == 0.5


def test_curves_final_metrics_and_parameters_are_under_the_stages_name(
    store: Path, config: TrackingConfig, client: Any, drive: Drive, look: Look
) -> None:
    mirror(drive(store, "amber-1"), config, store).update(over=True)
    seen = look(client, "amber-1")
    teach = seen.children["teach"]
    assert seen.history["teach"]["teach/loss"] == [(step, 1.0 / step) for step in range(1, 6)]
    assert teach.data.metrics["teach/loss"] == pytest.approx(0.2)
    assert teach.data.metrics["teach/strange name_"] == 1.0
    assert teach.data.params["training.pages"] == "3"


def test_secrets_in_the_configuration_never_arrive(
    store: Path, config: TrackingConfig, client: Any, drive: Drive, tmp_path: Path
) -> None:
    folder = drive(store, "amber-1", uri="postgresql://me:hunter2@db/mlflow")
    mirror(folder, config, store).update(over=True)
    sent = b"".join(path.read_bytes() for path in (store / "mlflow").rglob("*") if path.is_file())
    assert b"hunter2" not in sent
    params = b"".join(path.read_bytes() for path in [store / "mlflow" / "mlflow.db"])
    assert b"canary-4711" not in params


def test_inputs_are_datasets_with_the_digest_of_their_content(
    store: Path, config: TrackingConfig, client: Any, drive: Drive, look: Look
) -> None:
    folder = drive(store, "amber-1")
    mirror(folder, config, store).update(over=True)
    made = Store(store).newest("collect")
    assert made is not None
    (given,) = look(client, "amber-1").children["teach"].inputs.dataset_inputs
    assert given.dataset.name == "collect"
    assert given.dataset.digest == made.content[:16]
    assert {tag.key: tag.value for tag in given.tags} == {"mlflow.data.context": "documents"}


def test_a_trained_model_is_logged_once_and_linked_to_maker_and_reader(
    store: Path, config: TrackingConfig, client: Any, drive: Drive, look: Look
) -> None:
    mirror(drive(store, "amber-1"), config, store).update(over=True)
    mirror(drive(store, "amber-2"), config, store).update(over=True)
    (model,) = client.search_logged_models([client.get_experiment_by_name("headwater").experiment_id])
    first, second = look(client, "amber-1"), look(client, "amber-2")
    assert str(model.status) == "READY"
    assert Path(model.tags["headwater.path"], "config.json").is_file()
    assert model.source_run_id == first.children["teach"].info.run_id
    for seen in (first, second):
        assert [out.model_id for out in seen.children["teach"].outputs.model_outputs] == [model.model_id]
        assert [given.model_id for given in seen.children["judge"].inputs.model_inputs] == [model.model_id]


def test_a_cached_step_is_a_child_that_links_to_its_producer_and_has_its_metrics(
    store: Path, config: TrackingConfig, client: Any, drive: Drive, look: Look
) -> None:
    mirror(drive(store, "amber-1"), config, store).update(over=True)
    mirror(drive(store, "amber-2"), config, store).update(over=True)
    first, second = look(client, "amber-1"), look(client, "amber-2")
    tags = second.children["teach"].data.tags
    assert tags["headwater.cached"] == "true"
    assert first.children["teach"].data.tags["headwater.cached"] == "false"
    assert tags["headwater.producer_run_id"] == first.children["teach"].info.run_id
    assert "amber-1" in tags["mlflow.note.content"]
    assert second.children["teach"].data.metrics == first.children["teach"].data.metrics
    assert {row[-1] for row in second.history["teach"].values()} == {row[-1] for row in first.history["teach"].values()}
    assert second.parent.data.metrics["run/steps_cached"] == 3


def test_a_failed_run_says_why_and_its_rest_has_no_child(
    store: Path, config: TrackingConfig, client: Any, drive: Drive, look: Look
) -> None:
    mirror(drive(store, "amber-1", fail=True), config, store).update(over=True)
    seen = look(client, "amber-1")
    assert seen.parent.info.status == "FAILED"
    assert seen.children["judge"].info.status == "FAILED"
    assert "give it light" in seen.children["judge"].data.tags["headwater.error"]
    assert seen.children["teach"].info.status == "FINISHED"


def test_a_run_whose_driver_died_is_killed_and_a_later_session_reopens_it(
    store: Path, config: TrackingConfig, client: Any, drive: Drive, look: Look
) -> None:
    folder = drive(store, "amber-1")
    append(folder, "run_started", session=2)
    append(folder, "started", "judge", session=2, attempt=1)
    assert mirror(folder, config, store).update(over=True)
    seen = look(client, "amber-1")
    assert (seen.parent.info.status, seen.children["judge"].info.status) == ("KILLED", "KILLED")
    with try_lock(folder / "driver.lock"):
        assert not mirror(folder, config, store).update(over=True)
    seen = look(client, "amber-1")
    assert (seen.parent.info.status, seen.children["judge"].info.status) == ("RUNNING", "RUNNING")


def test_while_the_driver_lives_the_run_itself_stays_open(
    store: Path, config: TrackingConfig, client: Any, drive: Drive, look: Look
) -> None:
    assert not mirror(drive(store, "amber-1"), config, store).update(over=False)
    seen = look(client, "amber-1")
    assert seen.parent.info.status == "RUNNING"
    assert seen.children["judge"].info.status == "FINISHED"


def test_sending_a_run_again_changes_nothing(
    store: Path, config: TrackingConfig, client: Any, drive: Drive, look: Look
) -> None:
    folder = drive(store, "amber-1")
    replay(folder, config, store)
    before = look(client, "amber-1")
    for complete in (True, False):
        progress = read_json(folder / PROGRESS_FILE)
        publish_json(folder / PROGRESS_FILE, progress | {"offsets": progress["offsets"] if complete else {}})
        client.update_run(before.parent.info.run_id, "RUNNING")
        client.update_run(before.children["teach"].info.run_id, "RUNNING")
        replay(folder, config, store)
    after = look(client, "amber-1")
    assert after.history == before.history
    assert after.parent.info.status == "FINISHED"
    assert len(client.search_logged_models([before.parent.info.experiment_id])) == 1


def test_a_run_that_was_created_twice_by_a_lost_answer_ends_up_once(
    store: Path, config: TrackingConfig, client: Any, drive: Drive, look: Look
) -> None:
    folder = drive(store, "amber-1")
    mirror(folder, config, store).update(over=False)
    first = look(client, "amber-1").parent
    tags = {key: value for key, value in first.data.tags.items() if key.startswith("headwater.")}
    client.create_run(first.info.experiment_id, tags=tags, run_name="amber-1")
    mirror(folder, config, store).update(over=True)
    assert look(client, "amber-1").parent.info.run_id == first.info.run_id


def test_two_stores_with_a_run_of_the_same_name_do_not_mix(
    store: Path, tmp_path_factory: pytest.TempPathFactory, client: Any, drive: Drive
) -> None:
    shared = TrackingConfig(uri=f"sqlite:///{store / 'mlflow' / 'mlflow.db'}")
    other = tmp_path_factory.mktemp("other")
    for place in (store, other):
        mirror(drive(place, "amber-1"), shared, place).update(over=True)
    experiment = client.get_experiment_by_name("headwater").experiment_id
    runs = client.search_runs([experiment], "tags.`headwater.step` = ''")
    assert len(runs) == len({run.data.tags["headwater.uid"] for run in runs}) == 2


def test_the_parent_holds_plan_picture_lineage_and_report(
    store: Path, config: TrackingConfig, client: Any, drive: Drive, look: Look
) -> None:
    mirror(drive(store, "amber-1"), config, store).update(over=True)
    parent = look(client, "amber-1").parent
    names = {file.path for file in client.list_artifacts(parent.info.run_id)}
    assert names == {"config.yaml", "plan.json", "dag.mmd", "dag.svg", "lineage.json", "report.html", "report.md"}
    lineage = json.loads(Path(client.download_artifacts(parent.info.run_id, "lineage.json")).read_text())
    teach = next(step for step in lineage["steps"] if step["step"] == "teach")
    assert teach["inputs"]["documents"]["step"] == "collect"
    assert "amber-1 done" in parent.data.tags["mlflow.note.content"]


def test_the_experiment_opens_in_the_training_view(store: Path, config: TrackingConfig, client: Any) -> None:
    tags = client.get_experiment_by_name("headwater").tags
    assert tags["mlflow.experimentKind"] == "custom_model_development"
    assert EXPERIMENT_TAGS.items() <= tags.items()


def test_lines_that_cannot_be_read_are_said_and_left_out(
    store: Path, config: TrackingConfig, client: Any, drive: Drive, look: Look
) -> None:
    folder, said = drive(store, "amber-1"), []
    with (folder / "steps/teach/journal.jsonl").open("ab") as journal:
        journal.write(b'{"kind": "metr\n')
    mirror(folder, config, store, said).update(over=True)
    assert any("1 lines could not be read" in line for line in said)
    assert len(look(client, "amber-1").history["teach"]["teach/loss"]) == 5


def test_what_mlflow_refuses_is_left_out_alone(
    store: Path, config: TrackingConfig, client: Any, drive: Drive, look: Look
) -> None:
    folder, said = drive(store, "amber-1"), []
    Channel(folder / "steps" / "teach").log({"loss": 0.1, "a//b": 1.0, "lr": 0.1}, 6)
    mirror(folder, config, store, said).update(over=True)
    history = look(client, "amber-1").history["teach"]
    assert [len(history[name]) for name in ("teach/loss", "teach/lr")] == [7, 6]
    assert [line for line in said if "teach/a//b" in line]


def test_lines_that_come_after_the_end_was_believed_arrive_with_the_next_upload(
    store: Path, config: TrackingConfig, client: Any, drive: Drive, look: Look
) -> None:
    folder = drive(store, "amber-1")
    replay(folder, config, store)
    Channel(folder / "steps" / "judge").log({"late": 1.0}, 1)
    replay(folder, config, store)
    assert look(client, "amber-1").history["judge"]["judge/late"] == [(1, 1.0)]


def test_a_search_goes_through_all_pages(
    store: Path, config: TrackingConfig, client: Any, drive: Drive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending, "PAGE", 2)
    mirror(drive(store, "amber-1"), config, store).update(over=True)
    experiment = client.get_experiment_by_name("headwater").experiment_id
    names = [run.info.run_name for run in sending.search(client, experiment, "tags.`headwater.run` = 'amber-1'")]
    assert sorted(names) == ["amber-1", "collect", "judge", "teach"]
