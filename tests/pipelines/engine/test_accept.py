"""Accepting declares an artifact valid where only code differs, and leaves a record of who and why."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import toy_steps as toy
from engine_help import plan_of
from store_help import build, build_step
from toy_steps import ToyConfig

from components.errors import ConfigError, MachineError
from pipelines.engine.accept import accept
from pipelines.engine.lease import Lease
from pipelines.engine.plan import PlanEntry, make_plan
from pipelines.engine.step import CodePolicy, Recipe
from pipelines.engine.store import Store


def pair(code: CodePolicy, config: ToyConfig = ToyConfig()) -> Recipe:  # noqa: B008
    recipe = Recipe("toy")
    recipe.step(toy.join, ToyConfig(), left=recipe.step(toy.source, config, code=code))
    return recipe


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def of_older_code(entry: PlanEntry, key: str) -> PlanEntry:
    return replace(
        entry, key=key, code=replace(entry.code, digest="1" * 64, files={**entry.code.files, "toy_steps.py": "0" * 16})
    )


def made_by_older_code(store: Store, code: CodePolicy) -> Recipe:
    """A recipe whose source was built by older code, and whose join was built of that."""
    recipe = pair(code)
    plan = plan_of(recipe, store)
    key = "2" * 64 if code == "rerun" else plan["source"].key
    build_step(of_older_code(plan["source"], key), plan, store, "old")
    plan = make_plan(recipe.steps, store, code="warn")
    build_step(plan["join"], plan, store, "old")
    return recipe


@pytest.mark.parametrize("code", ["rerun", "warn", "fail"])
def test_an_accepted_artifact_is_cached_for_the_code_as_it_is_and_says_who_and_why(store: Store, code: CodePolicy):
    recipe = made_by_older_code(store, code)
    (accepted,) = accept(recipe.steps, store, ["source"], "ada", "a log line")
    assert accepted.files == ("toy_steps.py",)
    plan = plan_of(recipe, store)
    assert plan.to_run == ()
    assert plan["source"].reason == "accepted by ada: a log line"
    assert plan["source"].producer_run == "old"


@pytest.mark.parametrize("code", ["rerun", "warn", "fail"])
def test_an_accepted_artifact_satisfies_a_run_that_refuses_changed_code(store: Store, code: CodePolicy):
    recipe = made_by_older_code(store, code)
    accept(recipe.steps, store, ["source"], "ada", "")
    assert make_plan(recipe.steps, store, code="fail").to_run == ()


def test_where_code_is_in_the_key_the_record_is_an_alias_without_a_copy(store: Store):
    recipe = made_by_older_code(store, "rerun")
    old = make_plan(recipe.steps, store, code="warn")["source"].made
    accept(recipe.steps, store, ["source"], "ada", "a log line")
    made = plan_of(recipe, store)["source"].made
    assert old is not None
    assert made is not None
    assert (made.origin and made.origin.kind, made.data, made.seconds) == ("accepted", old.data, old.seconds)
    assert made.code_digest == plan_of(recipe, store)["source"].code.digest


def test_where_code_is_not_in_the_key_the_record_names_both_digests(store: Store):
    recipe = made_by_older_code(store, "warn")
    accept(recipe.steps, store, ["source"], "ada", "a log line")
    (path,) = (Path(store.root.url) / "acceptances" / "source").rglob("*.json")
    record = json.loads(path.read_text())
    assert (record["by"], record["reason"], record["made"]) == ("ada", "a log line", "1" * 64)
    assert record["accepted"] == plan_of(recipe, store)["source"].code.digest


def test_a_damaged_record_accepts_nothing(store: Store):
    recipe = made_by_older_code(store, "fail")
    accept(recipe.steps, store, ["source"], "ada", "")
    (path,) = (Path(store.root.url) / "acceptances").rglob("*.json")
    path.write_text("{}")
    with pytest.raises(ConfigError, match="code of source changed"):
        plan_of(recipe, store)


def test_an_acceptance_does_not_cover_the_next_change(store: Store):
    recipe = made_by_older_code(store, "warn")
    accept(recipe.steps, store, ["source"], "ada", "")
    entry = plan_of(recipe, store)["source"]
    assert entry.made is not None
    record = Path(store.root.url) / "artifacts" / "source" / entry.key[:16] / f"{entry.made.epoch:06d}.json"
    record.write_text(record.read_text().replace("1" * 64, "3" * 64))
    assert "changed since, kept" in plan_of(recipe, store)["source"].reason


@pytest.mark.parametrize("code", ["rerun", "warn"])
def test_nothing_but_code_may_differ(store: Store, code: CodePolicy):
    made_by_older_code(store, code)
    with pytest.raises(ConfigError, match="more than code differs: config count: 3 -> 4"):
        accept(pair(code, ToyConfig(count=4)).steps, store, ["source"], "ada", "")


def test_an_artifact_of_this_code_needs_no_acceptance(store: Store):
    recipe = pair("rerun")
    build(recipe, store)
    with pytest.raises(ConfigError, match="nothing to accept of source: its artifact was made by this code"):
        accept(recipe.steps, store, ["source"], "ada", "")


def test_accepting_twice_is_told(store: Store):
    recipe = made_by_older_code(store, "rerun")
    accept(recipe.steps, store, ["source"], "ada", "fine")
    with pytest.raises(ConfigError, match="it is accepted by ada: fine"):
        accept(recipe.steps, store, ["source"], "bob", "")


def test_all_named_steps_are_accepted_or_none(store: Store):
    recipe = made_by_older_code(store, "rerun")
    with pytest.raises(ConfigError, match="There is no step jion"):
        accept(recipe.steps, store, ["source", "jion"], "ada", "")
    assert plan_of(recipe, store)["source"].state == "runs"


def test_a_record_of_another_change_accepts_nothing(store: Store):
    recipe = made_by_older_code(store, "fail")
    accept(recipe.steps, store, ["source"], "ada", "")
    (path,) = (Path(store.root.url) / "acceptances").rglob("*.json")
    path.write_text(path.read_text().replace("1" * 64, "1" * 63 + "0"))
    with pytest.raises(ConfigError, match="code of source changed"):
        plan_of(recipe, store)


def test_steps_above_each_other_are_accepted_together(store: Store):
    recipe = pair("rerun")
    plan = plan_of(recipe, store)
    build_step(of_older_code(plan["source"], "2" * 64), plan, store, "old")
    plan = make_plan(recipe.steps, store, code="warn")
    build_step(of_older_code(plan["join"], "3" * 64), plan, store, "old")
    done = accept(recipe.steps, store, ["join", "source"], "ada", "")
    assert [accepted.step for accepted in done] == ["join", "source"]
    assert plan_of(recipe, store).to_run == ()


def test_an_artifact_that_is_being_built_is_not_accepted_meanwhile(store: Store):
    recipe = made_by_older_code(store, "rerun")
    lease = store.acquire("source", plan_of(recipe, store)["source"].key, "amber-17")
    assert isinstance(lease, Lease)
    with pytest.raises(MachineError, match="is being built by amber-17"):
        accept(recipe.steps, store, ["source"], "ada", "")
    lease.release("the test is over")
