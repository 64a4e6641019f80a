"""Runs whose artifacts are on S3: another machine finds them, fetches them checked, and shares what is built."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import toy_steps as toy
from engine_help import plan_of, run_recipe, states
from toy_steps import ToyConfig

from pipelines.engine.events import fold
from pipelines.engine.select import Selection
from pipelines.engine.step import Recipe
from pipelines.engine.store import Store

DRIVE = """
import sys
import toy_steps as toy
from engine_help import run_recipe
from pipelines.engine.step import Recipe
from pipelines.engine.store import Store
url, workspace, run = sys.argv[1:]
recipe = Recipe("toy")
left = recipe.step(toy.source, toy.ToyConfig(text="l"), name="left", detached=True)
recipe.step(toy.join, toy.ToyConfig(text="-"), left=left)
store = Store(url, workspace)
status = run_recipe(recipe, store, "local", run_folder=store.run_folder(run))
sys.exit(status.exit_code)
"""


def chain(text: str = "-") -> Recipe:
    recipe = Recipe("toy")
    recipe.step(toy.join, ToyConfig(text=text), left=recipe.step(toy.source, ToyConfig(text="l"), name="left"))
    return recipe


def test_a_run_on_one_machine_is_cached_on_another(s3_url: str, tmp_path: Path):
    here, there = Store(s3_url, tmp_path / "here"), Store(s3_url, tmp_path / "there")
    assert states(run_recipe(chain(), here)) == {"left": "done", "join": "done"}
    assert states(run_recipe(chain(), there)) == {"left": "cached", "join": "cached"}
    assert states(run_recipe(chain("+"), there)) == {"left": "cached", "join": "done"}
    made = plan_of(chain("+"), there)["join"].made
    assert made is not None
    assert (there.fetch(made) / "part" / "text.txt").read_text() == "lll"


def test_an_input_that_was_damaged_in_the_store_is_named_and_can_be_built_again(s3_url: str, tmp_path: Path):
    here, there = Store(s3_url, tmp_path / "here"), Store(s3_url, tmp_path / "there")
    run_recipe(chain(), here)
    made = plan_of(chain(), here)["left"].made
    assert made is not None
    here.root.put(f"{made.data}/part/text.txt", b"xxx")
    status = run_recipe(chain("+"), there)
    assert status.error is not None
    assert "of left are damaged in the store, first part/text.txt" in status.error.what
    assert status.error.fix == "headwater run --force left builds it again"
    again = run_recipe(chain("+"), there, selection=Selection(force=("left",)))
    assert states(again) == {"left": "done", "join": "done"}


@pytest.mark.slow
def test_on_ray_it_is_the_same(s3_url: str, tmp_path: Path):
    command = [sys.executable, "-c", DRIVE, s3_url, str(tmp_path / "ray"), "remote"]
    subprocess.run(command, check=True, timeout=180, env=os.environ)
    assert states(fold(tmp_path / "ray" / "runs" / "remote")) == {"left": "done", "join": "done"}
    there = Store(s3_url, tmp_path / "there")
    made = there.newest("join")
    assert made is not None
    assert (there.fetch(made) / "part" / "text.txt").read_text() == "lll"
    assert not (tmp_path / "ray" / "artifacts").exists()
