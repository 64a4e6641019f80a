"""`artifacts` lists, checks, keeps, adopts and deletes what the store holds."""

from __future__ import annotations

import json
import shutil
import uuid
from pathlib import Path

import pytest
from store_help import pretend_run

from components.errors import ConfigError
from pipelines.engine.events import DRIVER_LOCK
from pipelines.engine.gc import uncollected
from pipelines.engine.lock import try_lock
from pipelines.engine.manifest import Manifest
from pipelines.engine.store import Store, place_of
from pipelines.verbs.artifacts import find_artifact, in_bytes, key_in_run

from .conftest import Headwater


def key_of(store: Path, run: str, step: str) -> str:
    key = key_in_run(store / "runs" / run, step)
    assert key is not None
    return key


def listed(headwater: Headwater, *words: str) -> list[dict]:
    return json.loads(headwater("artifacts", "ls", *words, "--json"))


def build_again(store: Path, made: Manifest) -> Manifest:
    """The same bytes as one more epoch."""
    opened = Store(store)
    lease = opened.acquire(made.step, made.key, "cedar-3")
    attempt = opened.begin(lease)  # type: ignore[arg-type]
    shutil.copytree(store / made.data, attempt, dirs_exist_ok=True)
    again = opened.commit(lease, attempt, made).manifest  # type: ignore[arg-type]
    assert again is not None
    return again


@pytest.mark.parametrize(
    "form",
    ["{step}", "{step}@{key8}", "{step}@{key}", "birch-2:{step}", "{store}/{data}", "{data}.json", "{place}"],
)  # fmt: skip
def test_an_artifact_is_named_in_many_ways(store: Path, form: str):
    key = key_of(store, "birch-2", "clean")
    wanted = Store(store).lookup("clean", key).manifest
    assert wanted is not None
    name = form.format(step="clean", key=key, key8=key[:8], place=place_of("clean", key), store=store, data=wanted.data)
    assert find_artifact(Store(store), name) == wanted


def test_a_path_names_an_older_epoch_too(store: Path):
    old = find_artifact(Store(store), "clean")
    new = build_again(store, old)
    assert find_artifact(Store(store), old.data) == old
    assert find_artifact(Store(store), "clean") == new


def test_another_runs_artifact_is_named_by_its_run(store: Path):
    made = find_artifact(Store(store), "amber-1:clean")
    assert made.key == key_of(store, "amber-1", "clean") != key_of(store, "birch-2", "clean")


def test_where_no_run_has_the_step_its_newest_artifact_is_meant(store: Path):
    made = find_artifact(Store(store), "clean")
    shutil.rmtree(store / "runs")
    assert find_artifact(Store(store), "clean") == made


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("clear", "there is no artifact of a step clear"),
        ("amber-9:clean", "there is no run amber-9"),
        ("amber-1:clear", "run amber-1 has no step clear"),
        ("clean@zz", "there is no artifact clean@zz: no key begins so"),
        ("clean@", "2 keys of clean begin with ''"),
        ("some/where/else", "there is no artifact at some/where/else"),
        ("artifacts/clean/0000000000000000", "there is no artifact at"),
    ],
)
def test_a_name_that_fits_none_or_several_is_refused(store: Path, name: str, sentence: str):
    with pytest.raises(ConfigError) as caught:
        find_artifact(Store(store), name)
    assert sentence in caught.value.what


def test_ls_shows_what_is_current_and_with_all_what_is_superseded(store: Path, headwater: Headwater):
    old = find_artifact(Store(store), "clean")
    build_again(store, old)
    shown = [row for row in listed(headwater, "clean") if row["key"] == old.key]
    assert [(row["epoch"], row["run"], row["bytes"], row["state"]) for row in shown] == [
        (2, old.run, old.num_bytes, "current")
    ]
    shown = [row for row in listed(headwater, "clean", "--all") if row["key"] == old.key]
    assert [(row["epoch"], row["state"]) for row in shown] == [(2, "current"), (1, "superseded")]
    assert f"clean         {old.key[:16]}  epoch 2" in headwater("artifacts", "ls")


def test_ls_tells_of_missing_files_and_of_pins(store: Path, headwater: Headwater):
    made = find_artifact(Store(store), "clean")
    headwater("artifacts", "pin", "clean", "--name", "paper")
    assert "current, pinned as paper" in [row["state"] for row in listed(headwater, "clean")]
    shutil.rmtree(store / made.data)
    states = [row["state"] for row in listed(headwater, "clean", "--all") if row["key"] == made.key]
    assert states[0].startswith("artifact files are missing")


def test_show_prints_the_manifest(store: Path, headwater: Headwater):
    made = find_artifact(Store(store), "clean")
    assert Manifest.from_bytes(headwater("artifacts", "show", "clean", "--json").encode()) == made
    text = headwater("artifacts", "show", "clean")
    assert f"clean@{made.key[:16]}: {len(made.files)} files" in text
    assert "  config   min_chars = 200" in text
    assert f"score@{key_of(store, 'birch-2', 'score')[:16]}" in text


def test_verify_names_each_damaged_file_and_ends_with_1(
    store: Path, headwater: Headwater, capsys: pytest.CaptureFixture[str]
):
    from pipelines.cli import main

    assert "0 files damaged" in headwater("artifacts", "verify")
    made = find_artifact(Store(store), "clean")
    name = next(name for name, file in made.files.items() if file.bytes)
    path = store / made.data / name
    path.write_bytes(bytes([path.read_bytes()[0] ^ 1]) + path.read_bytes()[1:])
    assert main(["artifacts", "verify", "extract", "clean", f"store={store}"]) == 1
    assert capsys.readouterr().out.splitlines() == [
        f"damaged: clean@{made.key[:16]} {name}",
        "2 artifacts read, 1 files damaged.",
    ]


def test_gc_deletes_only_when_told_to_and_keeps_the_newest_runs(store: Path, headwater: Headwater):
    old, new = (find_artifact(Store(store), f"{run}:clean") for run in ("amber-1", "birch-2"))
    text = headwater("artifacts", "gc", "--keep-runs", "1")
    assert f"clean@{old.key[:16]}: no run that is kept needs it" in text
    assert f"clean@{new.key[:16]}: run birch-2" in text
    assert "would delete" in text
    assert (store / old.data).is_dir()
    assert " freed, " in headwater("artifacts", "gc", "--keep-runs", "1", "--apply")
    assert not (store / old.data).exists()
    assert "0 files damaged" in headwater("artifacts", "verify")


def test_gc_keeps_every_run_by_default(store: Path, headwater: Headwater):
    assert json.loads(headwater("artifacts", "gc", "--json"))["delete"] == []


def test_gc_keeps_what_an_older_run_that_is_alive_planned_on(store: Path, headwater: Headwater):
    old = find_artifact(Store(store), "amber-1:clean")
    with try_lock(store / "runs" / "amber-1" / DRIVER_LOCK):
        headwater("artifacts", "gc", "--keep-runs", "1", "--apply")
    assert (store / old.data).is_dir()


def test_gc_keeps_what_a_run_planned_on_whose_driver_has_not_begun(store: Path, headwater: Headwater):
    old = find_artifact(Store(store), "amber-1:clean")
    plan = store / "runs" / "amber-1" / "plan.json"
    plan.write_bytes(plan.read_bytes())  # as `resume` does: newer than every event
    headwater("artifacts", "gc", "--keep-runs", "1", "--apply")
    assert (store / old.data).is_dir()


def test_nothing_is_deleted_while_a_run_is_being_planned(store: Path, headwater: Headwater):
    old = find_artifact(Store(store), "amber-1:clean")
    with uncollected(store):
        assert "gc stopped" in headwater("artifacts", "gc", "--keep-runs", "1", "--apply", code=4)
    assert (store / old.data).is_dir()


def test_gc_keeps_what_is_pinned_until_it_is_not(store: Path, headwater: Headwater):
    old = find_artifact(Store(store), "amber-1:clean")
    headwater("artifacts", "pin", "amber-1:clean", "--name", "paper", "--reason", "figure 4")
    assert f"clean@{old.key[:16]}: pinned as paper" in headwater("artifacts", "gc", "--keep-runs", "1", "--apply")
    assert headwater("artifacts", "unpin", "paper") == "unpinned paper\n"
    headwater("artifacts", "gc", "--keep-runs", "1", "--apply")
    assert not (store / old.data).exists()


def test_gc_deletes_no_model_while_mlflow_does_not_answer(store: Path, headwater: Headwater):
    text = headwater("artifacts", "gc", "--keep-runs", "0", "tracking.uri=http://127.0.0.1:9")
    assert "MLflow does not answer, so no model is deleted" in text


def test_gc_deletes_nothing_while_a_run_of_another_workspace_builds(store: Path, headwater: Headwater):
    Store(store).acquire("clean", "a" * 64, "elsewhere-1")
    told = headwater("artifacts", "gc", "--keep-runs", "0", "--apply", code=4)
    assert "Run elsewhere-1 is building an artifact, and what else it needs is not known here." in told
    assert "would delete" in headwater("artifacts", "gc", "--keep-runs", "0")


def test_gc_keeps_the_newest_runs_of_other_workspaces(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    from pipelines.archive import archive
    from pipelines.cli import main

    url = f"memory://{uuid.uuid4().hex}/store"
    folder = pretend_run("amber-1", f"store={url}", f"workspace={tmp_path / 'there'}", "preset=micro")
    archive(Store(url, tmp_path / "there"), folder)
    capsys.readouterr()
    words = [f"store={url}", f"workspace={tmp_path / 'here'}", "preset=micro"]
    assert main(["artifacts", "gc", "--apply", "--json", *words]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["delete"] == []
    assert {item["why"] for item in found["keep"]} == {"run amber-1"}


def test_gc_refuses_numbers_that_make_no_sense(headwater: Headwater):
    assert "gc keeps no negative number" in headwater("artifacts", "gc", "--keep-runs", "-1", code=2)


def test_files_made_elsewhere_become_the_artifact_of_a_step(store: Path, headwater: Headwater, tmp_path: Path):
    (tmp_path / "mine" / "deep").mkdir(parents=True)
    (tmp_path / "mine" / "deep" / "a.txt").write_text("mine")
    change = "clean.min_chars=300"
    text = headwater("artifacts", "adopt", "clean", str(tmp_path / "mine"), "--reason", "cleaned by hand", change)
    assert text.startswith("adopted 1 files as clean@")
    made = find_artifact(Store(store), text.split()[4].rstrip(","))
    assert made.origin is not None
    assert (made.origin.kind, made.origin.reason, list(made.files)) == ("adopted", "cleaned by hand", ["deep/a.txt"])
    assert (store / made.data / "deep" / "a.txt").read_text() == "mine"
    plan = json.loads(headwater("plan", change, "--json"))
    assert {step["step"]: step["state"] for step in plan["steps"]}["clean"] == "cached"
    headwater("artifacts", "gc", "--keep-runs", "0", "--apply")
    assert (store / made.data).is_dir()


def test_files_cannot_be_adopted_before_the_inputs_are_there(headwater: Headwater, tmp_path: Path):
    told = headwater("artifacts", "adopt", "dedup", str(tmp_path), "--reason", "x", "clean.min_chars=999", code=2)
    assert "The inputs of dedup are not there yet" in told
    assert "--until clean" in told


def test_links_cannot_be_adopted_and_nothing_is_left(store: Path, headwater: Headwater, tmp_path: Path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "link").symlink_to(tmp_path)
    told = headwater(
        "artifacts", "adopt", "clean", str(tmp_path / "mine"), "--reason", "x", "clean.min_chars=7", code=1
    )
    assert "left a link in its output" in told
    assert [row for row in listed(headwater, "clean", "--all") if row["run"] == "adopted"] == []
    assert list((store / "artifacts" / "clean").rglob("link")) == []


def test_a_step_that_is_not_there_cannot_be_adopted(headwater: Headwater, tmp_path: Path):
    assert "there is no step clear" in headwater("artifacts", "adopt", "clear", str(tmp_path), "--reason", "x", code=2)


@pytest.mark.parametrize(("size", "text"), [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (5 << 50, "5120.0 TiB")])
def test_sizes_are_told_in_the_unit_a_person_would_choose(size: int, text: str):
    assert in_bytes(size) == text
