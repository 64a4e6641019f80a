"""What the same bytes have made before is shared, and what is shared is what the bytes say."""

from __future__ import annotations

from pathlib import Path

import pytest
import tough_steps as tough
from engine_help import plan_of, run_recipe, states
from tough_steps import ToughConfig

from pipelines.engine.step import Recipe, StepFunction
from pipelines.engine.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def chain(mark: Path, count: int = 3, first: StepFunction = tough.letters) -> Recipe:
    recipe = Recipe("chain")
    top = recipe.step(first, ToughConfig(count=count), name="top")
    middle = recipe.step(tough.follows, ToughConfig(text=str(mark)), left=top)
    recipe.step(tough.follows, ToughConfig(text=str(mark)), name="follows_copy", left=middle)
    return recipe


def test_a_step_that_comes_out_equal_leaves_all_below_it_cached(store: Store, tmp_path: Path):
    mark = tmp_path / "mark"
    run_recipe(chain(mark, count=3), store)
    status = run_recipe(chain(mark, count=4), store)  # the same three letters
    assert states(status) == {"top": "done", "follows": "cached", "follows_copy": "cached"}
    assert status.steps["follows"].note == "inputs came out equal"
    assert mark.read_text() == "ran\nran\n"


def test_what_was_shared_is_cached_under_its_new_key_in_the_next_plan(store: Store, tmp_path: Path):
    mark = tmp_path / "mark"
    first = run_recipe(chain(mark, count=3), store)
    run_recipe(chain(mark, count=4), store)
    plan = plan_of(chain(mark, count=4), store)
    assert [entry.state for entry in plan.entries] == ["cached"] * 3
    made = plan["follows"].made
    assert made is not None
    assert (made.key, made.run) == (plan["follows"].key, first.run_id)
    assert made.origin is not None
    assert (made.origin.kind, made.origin.key) == ("equal", first.steps["follows"].key)


def test_a_step_that_comes_out_otherwise_runs_all_below_it(store: Store, tmp_path: Path):
    mark = tmp_path / "mark"
    run_recipe(chain(mark, count=3), store)
    assert states(run_recipe(chain(mark, count=2), store)) == dict.fromkeys(["top", "follows", "follows_copy"], "done")


def test_what_was_made_of_bytes_that_were_lost_does_not_count_for_other_bytes(store: Store, tmp_path: Path):
    recipe = chain(tmp_path / "mark", first=tough.dice)
    run_recipe(recipe, store)
    made = plan_of(recipe, store)["top"].made
    assert made is not None
    (Path(store.root.url) / made.data / "letters.txt").unlink()
    status = run_recipe(recipe, store)
    assert states(status) == dict.fromkeys(["top", "follows", "follows_copy"], "done")
    plan = plan_of(recipe, store)
    assert {entry.state for entry in plan.entries} == {"cached"}
    top, below = plan["top"].made, plan["follows_copy"].made
    assert top is not None
    assert below is not None
    assert below.inputs["left"].content == plan["follows"].made.content  # type: ignore[union-attr]
    assert below.content != made.content
