"""A step that is spread over items keeps each of them by itself, and tries only what failed again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tough_steps as tough
from engine_help import plan_of, run_recipe, states
from tough_steps import ToughConfig

from components.context import Json
from components.errors import ConfigError
from pipelines.engine.fan_out import digest_of
from pipelines.engine.step import Recipe
from pipelines.engine.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def spread(mark: Path, items: list[Json], min_success: float = 1.0) -> Recipe:
    recipe = Recipe("spread")
    recipe.map(tough.scores, ToughConfig(text=str(mark)), over=items, min_success=min_success)
    return recipe


def ran(mark: Path) -> list[str]:
    path = Path(f"{mark}.ran")
    lines = sorted(path.read_text().split()) if path.exists() else []
    path.unlink(missing_ok=True)
    return lines


def output(store: Store, recipe: Recipe, step: str = "scores") -> tuple[Path, dict[int, str]]:
    artifact = plan_of(recipe, store)[step].artifact
    assert artifact is not None
    lines = [json.loads(line) for line in (artifact / "items.jsonl").read_text().splitlines()]
    return artifact, {line["item"]: line["state"] for line in lines}


def test_every_item_has_its_folder_and_its_line(store: Store, tmp_path: Path):
    recipe = spread(tmp_path / "mark", [2, 3])
    status = run_recipe(recipe, store)
    assert status.steps["scores"].metrics == {"items": 2.0, "failed": 0.0, "made": 2.0, "kept": 0.0}
    artifact, lines = output(store, recipe)
    assert lines == {2: "done", 3: "done"}
    assert (artifact / digest_of(3)[:16] / "square.txt").read_text() == "9"


def test_only_new_items_run_when_the_list_changes(store: Store, tmp_path: Path):
    mark = tmp_path / "mark"
    run_recipe(spread(mark, [1, 2, 3]), store)
    ran(mark)
    status = run_recipe(spread(mark, [4, 3, 2]), store)
    assert ran(mark) == ["4"]
    assert status.steps["scores"].metrics["kept"] == 2.0


def test_too_many_failures_fail_the_step_and_only_failed_items_run_again(store: Store, tmp_path: Path):
    mark = tmp_path / "mark"
    Path(f"{mark}.bad").write_text("2 5")
    recipe = spread(mark, list(range(6)), min_success=0.8)
    status = run_recipe(recipe, store)
    assert status.error is not None
    assert status.error.what == "2 of 6 items of scores failed, 80% must succeed: Item 2 is bad."
    assert len(ran(mark)) == 6
    Path(f"{mark}.bad").write_text("5")
    assert states(run_recipe(recipe, store)) == {"scores": "done"}
    assert ran(mark) == ["2", "5"]
    assert output(store, recipe)[1] == {0: "done", 1: "done", 2: "done", 3: "done", 4: "done", 5: "failed"}


def test_items_may_come_from_an_earlier_step(store: Store, tmp_path: Path):
    mark = tmp_path / "mark"

    def recipe(count: int) -> Recipe:
        made = Recipe("spread")
        listed = made.step(tough.lists, ToughConfig(count=count))
        made.map(tough.scores, ToughConfig(text=str(mark)), over=listed)
        return made

    run_recipe(recipe(3), store)
    assert ran(mark) == ["0", "1", "2"]
    run_recipe(recipe(5), store)
    assert ran(mark) == ["3", "4"]
    assert sorted(output(store, recipe(5))[1]) == [0, 1, 2, 3, 4]


def test_an_item_does_not_depend_on_its_place(store: Store, tmp_path: Path):
    mark = tmp_path / "mark"
    run_recipe(spread(mark, [1, 2, 3]), store)
    before, _ = output(store, spread(mark, [1, 2, 3]))
    other = Store(tmp_path / "other")
    run_recipe(spread(mark, [3, 2, 1]), other)
    after, _ = output(other, spread(mark, [3, 2, 1]))
    assert sorted(path.relative_to(before) for path in before.rglob("*")) == sorted(
        path.relative_to(after) for path in after.rglob("*")
    )
    assert (before / "items.jsonl").read_bytes() == (after / "items.jsonl").read_bytes()


@pytest.mark.parametrize(
    ("items", "sentence"), [([], "spread over no items"), ([1, 1], "Two items of scores are equal")]
)
def test_lists_that_make_no_sense_are_refused(tmp_path: Path, items: list[Json], sentence: str):
    with pytest.raises(ConfigError, match=sentence):
        spread(tmp_path / "mark", items)


@pytest.mark.usefixtures("ray_cluster")
def test_on_ray_it_is_the_same(store: Store, tmp_path: Path):
    mark = tmp_path / "mark"
    recipe = spread(mark, list(range(12)))
    status = run_recipe(recipe, store, "local")
    assert (states(status), status.steps["scores"].metrics["made"]) == ({"scores": "done"}, 12.0)
    local = Store(tmp_path / "inprocess")
    run_recipe(recipe, local)
    found = [where.lookup("scores", plan_of(recipe, where)["scores"].key).manifest for where in (store, local)]
    assert found[0] is not None
    assert found[1] is not None
    assert found[0].content == found[1].content
