"""The plan says what runs and why, before anything does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import toy_steps as toy
from engine_help import plan_of, run_recipe
from toy_steps import Inner, ToyConfig

from pipelines.engine.plan import Plan, config_changes
from pipelines.engine.step import CodePolicy, Recipe
from pipelines.engine.store import Store


def pair(config: ToyConfig = ToyConfig(), join: ToyConfig = ToyConfig(), code: CodePolicy = "rerun") -> Recipe:  # noqa: B008
    recipe = Recipe("toy")
    recipe.step(toy.join, join, left=recipe.step(toy.source, config, code=code))
    return recipe


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def ran(store: Store) -> Store:
    assert run_recipe(pair(), store).state == "done"
    return store


def reasons(plan: Plan) -> dict[str, str]:
    return {entry.name: entry.reason for entry in plan.to_run}


def test_a_fresh_store_runs_everything(store: Store):
    plan = plan_of(pair(), store)
    assert reasons(plan) == {"source": "never ran", "join": "never ran"}
    assert plan.estimate_s is None


def test_what_ran_is_cached_with_its_run_and_artifact(ran: Store):
    plan = plan_of(pair(), ran)
    assert plan.to_run == ()
    assert plan["source"].producer_run.startswith("test-")
    assert plan["source"].metrics == {"letters": 3.0}
    assert plan["source"].artifact is not None
    assert (plan["source"].artifact / "part" / "text.txt").read_text() == "aaa"


def test_runtime_fields_and_resources_keep_the_cache(ran: Store):
    recipe = Recipe("toy")
    source = recipe.step(toy.source, ToyConfig(workers=8, inner=Inner(workers=3)), cpus=2.0, memory_gib=1.0)
    recipe.step(toy.join, ToyConfig(), left=source)
    assert plan_of(recipe, ran).to_run == ()


def test_a_changed_field_is_told_old_to_new_and_its_readers_follow(ran: Store):
    plan = plan_of(pair(ToyConfig(count=5, inner=Inner(depth=9))), ran)
    assert reasons(plan) == {"source": "config count 3 -> 5, inner.depth 2 -> 9", "join": "input source"}
    assert plan["source"].estimate_s is not None
    assert plan.estimate_s is not None


def test_a_change_downstream_leaves_what_is_above_cached(ran: Store):
    plan = plan_of(pair(join=ToyConfig(text="-")), ran)
    assert reasons(plan) == {"join": "config text a -> -"}


def test_missing_files_run_that_step_alone(ran: Store):
    artifact = plan_of(pair(), ran)["source"].artifact
    assert artifact is not None
    (artifact / "part" / "text.txt").unlink()
    assert reasons(plan_of(pair(), ran)) == {"source": "artifact files are missing (part/text.txt)"}


def test_a_new_version_is_told(ran: Store, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(toy, "VERSION", 2)
    assert reasons(plan_of(pair(), ran))["source"] == "version 1 -> 2"


def changed_code(plan: Plan, store: Store) -> None:
    """Makes the store remember other code for every artifact of a plan, as if the sources had changed since."""
    for entry in plan.entries:
        commit = store.root.path / "artifacts" / entry.name / entry.key[:16] / "COMMIT.json"
        commit.write_text(commit.read_text().replace(entry.code.files["toy_steps.py"], "0" * 16))


def test_a_changed_source_file_is_named(ran: Store):
    changed_code(plan_of(pair(), ran), ran)
    recipe = pair(ToyConfig(text="b"))
    assert reasons(plan_of(recipe, ran))["source"] == "config text a -> b; code toy_steps.py changed"


def test_under_warn_a_code_change_is_shown_and_the_artifact_kept(store: Store):
    assert run_recipe(pair(code="warn"), store).state == "done"
    changed_code(plan_of(pair(code="warn"), store), store)
    entry = plan_of(pair(code="warn"), store)["source"]
    assert (entry.state, entry.reason) == ("cached", "code toy_steps.py changed since, kept (code=warn)")


def test_the_policy_decides_whether_code_is_in_the_key(store: Store):
    assert plan_of(pair(), store)["source"].key != plan_of(pair(code="warn"), store)["source"].key


def test_an_external_file_is_followed_by_content(store: Store, tmp_path: Path):
    def recipe(text: str) -> Recipe:
        (tmp_path / "file").write_text(text)
        made = Recipe("toy")
        made.step(toy.read_file, ToyConfig(), document=made.file(tmp_path / "file", "corpus"))
        return made

    assert run_recipe(recipe("one"), store).state == "done"
    assert plan_of(recipe("one"), store).to_run == ()
    assert reasons(plan_of(recipe("two"), store)) == {"read_file": "input corpus"}


def test_secrets_do_not_show_in_a_reason(store: Store):
    assert run_recipe(pair(ToyConfig(token="one")), store).state == "done"
    assert "two" not in reasons(plan_of(pair(ToyConfig(token="two")), store))["source"]


def test_the_same_work_has_the_same_key_in_another_store(ran: Store, tmp_path: Path):
    other = plan_of(pair(), Store(tmp_path / "elsewhere"))
    assert [entry.key for entry in other.entries] == [entry.key for entry in plan_of(pair(), ran).entries]


def test_long_lists_and_values_are_shortened():
    old = {f"field{number}": "x" for number in range(9)}
    changes = config_changes(old, dict.fromkeys(old, "y" * 99))
    assert changes[0] == f"field0 x -> {'y' * 37}..."
    assert len(changes) == 9


def test_a_field_that_is_new_or_gone_is_told():
    assert config_changes({"a": 1}, {"b": 1}) == ["a 1 -> (absent)", "b (absent) -> 1"]


def test_planning_imports_neither_ray_nor_torch(ran: Store):
    program = (
        "import sys, toy_steps as toy\n"
        "from pipelines.engine.driver import execute\n"
        "from pipelines.engine.plan import make_plan\n"
        "from pipelines.engine.step import Recipe\n"
        "from pipelines.engine.store import Store\n"
        "recipe = Recipe('toy')\n"
        "recipe.step(toy.source, toy.ToyConfig())\n"
        "plan = make_plan(recipe.steps, Store(sys.argv[1]))\n"
        "assert plan['source'].state == 'cached'\n"
        "assert not {'ray', 'torch', 'pyarrow', 'mlflow', 'numpy'} & set(sys.modules), sys.modules.keys()\n"
    )
    subprocess.run([sys.executable, "-c", program, str(ran.root.path)], check=True)


def test_plan_json_lists_keys_inputs_and_reasons(store: Store):
    record = plan_of(pair(), store).to_json()
    steps = {step["name"]: step for step in record["steps"]}  # type: ignore[union-attr, index, call-overload]
    assert steps["join"]["producers"] == ["source"]
    assert steps["join"]["inputs"] == {"left": steps["source"]["key"]}
