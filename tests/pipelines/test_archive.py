"""A run's history is found again on a machine that never saw it."""

from __future__ import annotations

from pathlib import Path

import pytest
import toy_steps as toy
from engine_help import run_recipe
from toy_steps import ToyConfig

from components.publish import publish_json
from pipelines.archive import archive, archived, unpack
from pipelines.cli import main
from pipelines.engine.events import fold
from pipelines.engine.step import Recipe
from pipelines.engine.store import Store


def test_an_archived_run_tells_the_same_elsewhere(s3_url: str, tmp_path: Path):
    here, there = Store(s3_url, tmp_path / "here"), Store(s3_url, tmp_path / "there")
    recipe = Recipe("toy")
    recipe.step(toy.source, ToyConfig())
    status = run_recipe(recipe, here)
    folder = here.run_folder(status.run_id)
    archive(here, folder)
    assert archived(there) == [status.run_id]
    found = unpack(there, status.run_id)
    assert found is not None
    assert fold(found) == status
    assert (found / "steps/source/log.txt").read_text() == (folder / "steps/source/log.txt").read_text()
    assert not (found / "driver.lock").exists()


def test_a_verb_finds_an_archived_run_on_a_machine_that_never_saw_it(
    s3_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    here = Store(s3_url, tmp_path / "here")
    recipe = Recipe("toy")
    recipe.step(toy.source, ToyConfig())
    status = run_recipe(recipe, here, run_folder=here.run_folder("amber-1"))
    publish_json(here.run_folder("amber-1") / "run.json", {"created": status.started})
    archive(here, here.run_folder("amber-1"))
    words = ["status", "--run-id", "amber-1", f"store={s3_url}", f"workspace={tmp_path / 'there'}", "tracking=off"]
    assert main(words) == 0
    assert "run amber-1: done" in capsys.readouterr().out


def test_a_store_in_a_folder_has_nothing_to_archive(tmp_path: Path):
    store = Store(tmp_path)
    archive(store, store.run_folder("none"))
    assert archived(store) == []


def test_a_run_without_an_archive_is_none(s3_url: str, tmp_path: Path):
    assert unpack(Store(s3_url, tmp_path), "amber-1") is None
