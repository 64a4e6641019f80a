"""A recipe runs on a store in S3 as it does on a folder; what differs is only where the bytes lie."""

from __future__ import annotations

from pathlib import Path

import toy_steps as toy
from engine_help import run_recipe, states
from toy_steps import ToyConfig

from pipelines.engine.step import Recipe
from pipelines.engine.store import Store


def recipe() -> Recipe:
    recipe = Recipe("toy")
    text = recipe.step(toy.source, ToyConfig(), name="text")
    left = recipe.step(toy.join, ToyConfig(), name="left", left=text)
    recipe.step(toy.join, ToyConfig(text="-"), name="both", left=text, right=left)
    return recipe


def test_what_was_built_from_one_workspace_is_cached_in_another(s3_url: str, tmp_path: Path):
    assert set(states(run_recipe(recipe(), Store(s3_url, tmp_path / "here"))).values()) == {"done"}
    elsewhere = Store(s3_url, tmp_path / "elsewhere")
    assert set(states(run_recipe(recipe(), elsewhere)).values()) == {"cached"}
    made = elsewhere.newest("both")
    assert made is not None
    assert (elsewhere.fetch(made) / "part" / "text.txt").read_text() == "aaa-aaa"


def test_an_artifact_that_was_deleted_behind_a_hit_is_built_again_and_what_stands_on_it_kept(
    s3_url: str, tmp_path: Path
):
    store = Store(s3_url, tmp_path / "workspace")
    run_recipe(recipe(), store)
    made = store.newest("left")
    assert made is not None
    store.root.remove(made.data)
    assert states(run_recipe(recipe(), store)) == {"text": "cached", "left": "done", "both": "cached"}
