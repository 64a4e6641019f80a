"""What the plan decided is what the driver does: selections, forced steps, and code that changed."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import pytest
import toy_steps as toy
from engine_help import plan_of, states
from store_help import build_step
from toy_steps import ToyConfig

from components.errors import ConfigError
from components.publish import publish_json
from pipelines.engine.cluster import ClusterConfig
from pipelines.engine.driver import execute
from pipelines.engine.events import RunStatus
from pipelines.engine.plan import Plan, make_plan
from pipelines.engine.step import Recipe
from pipelines.engine.store import Store

from .test_plan import chain, other_code, pair, reasons, select


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def carry_out(plan: Plan, store: Store, run: str = "run-1") -> RunStatus:
    folder = store.run_folder(run)
    publish_json(folder / "plan.json", plan.to_json())
    return execute(plan, store, folder, ClusterConfig(kind="inprocess"), threading.Event())


def test_left_out_steps_take_no_part_in_a_run_that_ends_well(store: Store):
    status = carry_out(select(chain(), store, until="two"), store)
    assert (status.state, states(status)) == ("done", {"one": "done", "two": "done"})
    assert select(chain(), store, until="two").to_run == ()


def test_a_forced_step_is_built_again_and_what_is_below_is_kept_where_bytes_are_equal(store: Store):
    carry_out(plan_of(chain(), store), store)
    status = carry_out(select(chain(), store, force="one"), store, "run-2")
    assert states(status) == {"one": "done", "two": "cached", "three": "cached"}
    made = plan_of(chain(), store)["one"].made
    assert made is not None
    assert (made.epoch, made.run) == (2, "run-2")


def test_force_downstream_builds_all_below_again(store: Store):
    carry_out(plan_of(chain(), store), store)
    status = carry_out(select(chain(), store, force_downstream="two"), store, "run-2")
    assert states(status) == {"one": "cached", "two": "done", "three": "done"}


def test_a_run_that_took_older_code_leaves_it_visible_to_later_plans(store: Store):
    other_code(store)
    status = carry_out(make_plan(pair().steps, store, code="warn"), store)
    assert states(status) == {"source": "cached", "join": "cached"}
    assert reasons(plan_of(pair(), store))["source"] == "code toy_steps.py changed"
    with pytest.raises(ConfigError, match="code of source changed"):
        make_plan(pair().steps, store, code="fail")
    assert make_plan(pair().steps, store, code="warn").to_run == ()


def test_a_step_whose_code_changed_is_built_again_under_rerun(store: Store):
    other_code(store)
    carry_out(make_plan(pair().steps, store, code="warn"), store)
    status = carry_out(plan_of(pair(), store), store, "run-2")
    assert states(status) == {"source": "done", "join": "cached"}
    assert make_plan(pair().steps, store, code="fail").to_run == ()


def test_a_step_whose_input_comes_out_equal_is_not_kept_if_its_code_changed(store: Store):
    plan = plan_of(pair(), store)
    build_step(plan["source"], plan, store, "old")
    plan = plan_of(pair(), store)
    older = replace(plan["join"].code, digest="1" * 64, files={"toy_steps.py": "0" * 16})
    build_step(replace(plan["join"], key="2" * 64, code=older), plan, store, "old")
    carry_out(make_plan(pair().steps, store, code="warn"), store)
    status = carry_out(select(pair(), store, force="source"), store, "run-2")
    assert states(status) == {"source": "done", "join": "done"}


def test_an_artifact_shared_under_another_key_keeps_the_code_it_was_made_by(store: Store):
    def recipe(seed: int) -> Recipe:
        """The seed changes the key of the source, and none of its bytes."""
        made = Recipe("toy")
        made.step(toy.join, ToyConfig(), code="warn", left=made.step(toy.source, ToyConfig(seed=seed)))
        return made

    plan = plan_of(recipe(1), store)
    build_step(plan["source"], plan, store, "old")
    plan = plan_of(recipe(1), store)
    older = replace(plan["join"].code, digest="1" * 64, files={"toy_steps.py": "0" * 16})
    build_step(replace(plan["join"], code=older), plan, store, "old")
    status = carry_out(plan_of(recipe(2), store), store)
    assert states(status) == {"source": "done", "join": "cached"}
    entry = plan_of(recipe(2), store)["join"]
    assert entry.made is not None
    assert (entry.made.key, entry.state) == (entry.key, "cached")
    assert "changed since, kept" in entry.reason
