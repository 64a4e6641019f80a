"""The plan says what runs and why, before anything does."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import toy_steps as toy
from engine_help import plan_of
from store_help import build, build_step
from toy_steps import Inner, ToyConfig

from components.errors import ConfigError
from pipelines.engine.draft import draft
from pipelines.engine.lease import Lease
from pipelines.engine.manifest import Origin
from pipelines.engine.plan import Plan, make_plan
from pipelines.engine.select import Selection
from pipelines.engine.step import Artifact, CodePolicy, Recipe, Step
from pipelines.engine.store import Store


def pair(config: ToyConfig = ToyConfig(), join: ToyConfig = ToyConfig(), code: CodePolicy = "rerun") -> Recipe:  # noqa: B008
    recipe = Recipe("toy")
    recipe.step(toy.join, join, left=recipe.step(toy.source, config, code=code))
    return recipe


def chain(last: ToyConfig = ToyConfig()) -> Recipe:  # noqa: B008
    """Three steps in a row."""
    recipe = Recipe("toy")
    one = recipe.step(toy.source, ToyConfig(), name="one")
    two = recipe.step(toy.join, ToyConfig(), name="two", left=one)
    recipe.step(toy.join, last, name="three", left=two)
    return recipe


def select(recipe: Recipe, store: Store, **words: str) -> Plan:
    return make_plan(recipe.steps, store, Selection.of({name: [word] for name, word in words.items()}))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def ran(store: Store) -> Store:
    build(pair(), store)
    return store


def reasons(plan: Plan) -> dict[str, str]:
    return {entry.name: entry.reason for entry in plan.to_run}


def states(plan: Plan) -> dict[str, str]:
    return {entry.name: entry.state for entry in plan.entries}


def record_of(store: Store, plan: Plan, step: str) -> Path:
    """The file that holds the manifest of a step."""
    made = plan[step].made
    assert made is not None
    return Path(store.root.url) / "artifacts" / step / made.key[:16] / f"{made.epoch:06d}.json"


def change_code(store: Store, plan: Plan, *steps: str) -> None:
    """Makes the store remember other code for artifacts, as if a source had changed since they were made."""
    for step in steps:
        record = record_of(store, plan, step)
        code = plan[step].code
        text = record.read_text().replace(code.files["toy_steps.py"], "0" * 16).replace(code.digest, "1" * 64)
        record.write_text(text)


def test_a_fresh_store_runs_everything(store: Store):
    plan = plan_of(pair(), store)
    assert reasons(plan) == {"source": "never ran", "join": "never ran"}
    assert plan.estimate_s is None


def test_what_ran_is_cached_with_its_run_and_artifact(ran: Store):
    plan = plan_of(pair(), ran)
    assert plan.to_run == ()
    assert plan["source"].producer_run == "run-1"
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
    assert [(reason.name, reason.old, reason.new) for reason in plan["source"].reasons] == [
        ("count", 3, 5),
        ("inner.depth", 2, 9),
    ]


def test_the_difference_is_told_to_the_artifact_that_comes_closest(ran: Store):
    build(pair(ToyConfig(count=9, text="b")), ran, "run-2")
    assert reasons(plan_of(pair(ToyConfig(text="c")), ran))["source"] == "config text a -> c"
    assert reasons(plan_of(pair(ToyConfig(text="c", count=9)), ran))["source"] == "config text b -> c"


def test_of_artifacts_that_come_as_close_the_newest_is_told(ran: Store):
    build(pair(ToyConfig(text="b")), ran, "run-2")
    assert reasons(plan_of(pair(ToyConfig(text="c")), ran))["source"] == "config text b -> c"


def test_a_change_downstream_leaves_what_is_above_cached(ran: Store):
    plan = plan_of(pair(join=ToyConfig(text="-")), ran)
    assert reasons(plan) == {"join": "config text a -> -"}


def test_a_step_below_missing_files_is_kept_if_they_come_out_equal(ran: Store):
    artifact = plan_of(pair(), ran)["source"].artifact
    assert artifact is not None
    (artifact / "part" / "text.txt").unlink()
    assert reasons(plan_of(pair(), ran)) == {
        "source": "artifact files are missing (part/text.txt)",
        "join": "input source is built again; kept if its bytes come out equal",
    }
    build(pair(), ran, selection=Selection(until=("source",)))
    assert plan_of(pair(), ran).to_run == ()


def test_an_input_with_other_bytes_under_the_same_key_is_told(ran: Store):
    plan = plan_of(pair(), ran)
    made = plan["source"].made
    assert made is not None
    record = record_of(ran, plan, "source")
    record.write_text(record.read_text().replace(made.content, "f" * 64))
    entry = plan_of(pair(), ran)["join"]
    assert entry.reason == "input source has other bytes"
    assert (entry.reasons[0].old, entry.reasons[0].new) == (made.content, "f" * 64)


def test_a_step_whose_inputs_came_out_equal_under_another_key_is_cached(ran: Store):
    """Three letters of "a" either way: the key of the source differs, its bytes do not."""
    recipe = pair(ToyConfig(seed=18))
    build(recipe, ran, "run-2", Selection(only=("source",)))
    plan = plan_of(recipe, ran)
    assert plan["join"].state == "cached"
    assert plan["join"].producer_run == "run-1"
    assert plan["join"].made is not None
    assert plan["join"].made.key != plan["join"].key


def test_a_damaged_manifest_runs_the_step_and_says_so(ran: Store):
    record_of(ran, plan_of(pair(), ran), "source").write_text("{")
    assert reasons(plan_of(pair(), ran))["source"] == "artifact manifest is damaged"


def test_a_new_version_is_told(ran: Store, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(toy, "VERSION", 2)
    assert reasons(plan_of(pair(), ran))["source"] == "version 1 -> 2"


def test_a_changed_source_file_is_named(ran: Store):
    change_code(ran, plan_of(pair(), ran), "source")
    recipe = pair(ToyConfig(text="b"))
    assert reasons(plan_of(recipe, ran))["source"] == "config text a -> b; code toy_steps.py changed"


def test_under_warn_a_code_change_is_shown_and_the_artifact_kept(store: Store):
    change_code(store, build(pair(code="warn"), store), "source")
    entry = plan_of(pair(code="warn"), store)["source"]
    assert (entry.state, entry.reason) == ("cached", "code toy_steps.py changed since, kept (code=warn)")


def test_under_fail_a_code_change_refuses_the_plan_and_names_the_files(store: Store):
    change_code(store, build(pair(code="fail"), store), "source")
    with pytest.raises(ConfigError, match=r"code of source changed .*toy_steps\.py") as caught:
        plan_of(pair(code="fail"), store)
    assert "headwater accept source" in caught.value.fix


def test_a_refused_step_may_be_left_out_or_forced(store: Store):
    change_code(store, build(pair(code="fail"), store), "source")
    assert states(select(pair(code="fail"), store, only="join"))["source"] == "cached"
    assert select(pair(code="fail"), store, force="source")["source"].reason == "forced"


def test_the_policies_warn_and_fail_have_one_key_and_rerun_another(store: Store):
    keys = {code: plan_of(pair(code=code), store)["source"].key for code in ("rerun", "warn", "fail")}
    assert keys["warn"] == keys["fail"] != keys["rerun"]


@pytest.mark.parametrize("code", ["step", "rerun", "warn", "fail"])
def test_the_policy_of_the_run_changes_no_key(store: Store, code: str):
    plan = make_plan(pair(code="warn").steps, store, code=code)  # type: ignore[arg-type]
    assert [entry.key for entry in plan.entries] == [entry.key for entry in plan_of(pair(code="warn"), store).entries]


def other_code(store: Store) -> None:
    """As if the code of the source had been another one when its artifact was made."""
    plan = plan_of(pair(), store)
    older = replace(plan["source"].code, digest="1" * 64, files={**plan["source"].code.files, "toy_steps.py": "0" * 16})
    made = build_step(replace(plan["source"], key="2" * 64, code=older), plan, store, "old")
    plan = make_plan(pair().steps, store, code="warn")
    assert plan["source"].made == made
    build_step(plan["join"], plan, store, "old")


def test_a_run_under_warn_takes_an_artifact_of_older_code_where_the_key_has_code(store: Store):
    other_code(store)
    assert reasons(plan_of(pair(), store))["source"] == "code toy_steps.py changed"
    plan = make_plan(pair().steps, store, code="warn")
    assert plan.to_run == ()
    assert plan["source"].reason == "code toy_steps.py changed since, kept (code=warn)"


def test_a_run_under_fail_refuses_changed_code_where_the_key_has_code(store: Store):
    other_code(store)
    with pytest.raises(ConfigError, match="code of source changed"):
        make_plan(pair().steps, store, code="fail")


def test_a_run_under_fail_runs_what_has_no_artifact(store: Store):
    assert len(make_plan(pair().steps, store, code="fail").to_run) == 2


def test_a_run_under_rerun_builds_again_what_the_step_would_keep(store: Store):
    change_code(store, build(pair(code="warn"), store), "source")
    entry = make_plan(pair(code="warn").steps, store, code="rerun")["source"]
    assert (entry.state, entry.reason, entry.forced) == ("runs", "code toy_steps.py changed", True)


def test_an_external_file_is_followed_by_content(store: Store, tmp_path: Path):
    def recipe(text: str) -> Recipe:
        (tmp_path / "file").write_text(text)
        made = Recipe("toy")
        made.step(toy.read_file, ToyConfig(), document=made.file(tmp_path / "file", "corpus"))
        return made

    build(recipe("one"), store)
    assert plan_of(recipe("one"), store).to_run == ()
    assert reasons(plan_of(recipe("two"), store)) == {"read_file": "input corpus"}


def test_secrets_do_not_show_in_a_plan(store: Store):
    build(pair(ToyConfig(token="one")), store)
    plan = plan_of(pair(ToyConfig(token="two")), store)
    assert plan["source"].state == "runs"
    assert '"two"' not in json.dumps(plan.to_json())


def test_the_same_work_has_the_same_key_in_another_store(ran: Store, tmp_path: Path):
    other = plan_of(pair(), Store(tmp_path / "elsewhere"))
    assert [entry.key for entry in other.entries] == [entry.key for entry in plan_of(pair(), ran).entries]


def test_a_plan_is_the_same_in_an_object_store(ran: Store, tmp_path: Path):
    remote = Store(f"memory://{tmp_path.name}", tmp_path / "workspace")
    build(pair(), remote)
    plan = plan_of(pair(), remote)
    assert plan.to_run == ()
    assert [entry.key for entry in plan.entries] == [entry.key for entry in plan_of(pair(), ran).entries]
    assert reasons(plan_of(pair(ToyConfig(count=5)), remote)) == {
        "source": "config count 3 -> 5",
        "join": "input source",
    }
    assert plan_of(pair(ToyConfig(count=5)), remote)["source"].estimate_s == 1.0


def test_the_order_in_which_steps_are_declared_changes_no_key(store: Store):
    steps = chain().steps
    keys = {entry.name: entry.key for entry in make_plan(steps, store).entries}
    assert {entry.name: entry.key for entry in make_plan(reversed(steps), store).entries} == keys


def test_from_takes_what_is_above_out_of_the_store(store: Store):
    build(chain(), store)
    plan = select(chain(ToyConfig(text="-")), store, start="three", force="three")
    assert states(plan) == {"one": "cached", "two": "cached", "three": "runs"}


def test_until_leaves_the_rest_out(store: Store):
    plan = select(chain(), store, until="two")
    assert states(plan) == {"one": "runs", "two": "runs", "three": "left_out"}
    assert plan["three"].reason == "by --until"
    assert [entry.name for entry in plan.to_run] == ["one", "two"]


def test_a_selected_step_that_needs_a_left_out_one_is_refused_naming_both(store: Store):
    with pytest.raises(ConfigError, match="Step three needs the artifact of two, which --only leaves out") as caught:
        select(chain(), store, only="three")
    assert "--until two" in caught.value.fix


def test_skip_leaves_out_what_needs_the_step(store: Store):
    plan = select(chain(), store, skip="two")
    assert states(plan) == {"one": "runs", "two": "left_out", "three": "left_out"}
    assert plan["three"].reason == "needs two, which is left out and not cached"


def test_skip_of_a_cached_step_runs_what_needs_it(store: Store):
    build(chain(), store, selection=Selection(until=("two",)))
    assert states(select(chain(), store, skip="two")) == {"one": "cached", "two": "cached", "three": "runs"}


def test_a_left_out_step_stands_on_its_key_where_its_inputs_are_gone(store: Store):
    plan = build(chain(), store)
    record_of(store, plan, "one").write_text("{}")
    plan = select(chain(ToyConfig(text="-")), store, start="three")
    assert states(plan) == {"one": "left_out", "two": "cached", "three": "runs"}


def test_force_runs_a_cached_step_and_what_is_below_looks_at_its_bytes(store: Store):
    build(chain(), store)
    plan = select(chain(), store, force="two")
    assert reasons(plan) == {"two": "forced", "three": "input two is built again; kept if its bytes come out equal"}
    assert [entry.name for entry in plan.entries if entry.forced] == ["two"]


def test_force_downstream_forces_all_below(store: Store):
    build(chain(), store)
    plan = select(chain(), store, force_downstream="two")
    assert reasons(plan) == {"two": "forced", "three": "forced"}
    assert [entry.name for entry in plan.entries if entry.forced] == ["two", "three"]


def timed(store: Store, *seconds: float, cpus: float = 1.0) -> Plan:
    """A plan after the source ran so often, each time with another config."""
    for number, time_s in enumerate(seconds):
        recipe = Recipe("toy")
        recipe.step(toy.source, ToyConfig(seed=100 + number), cpus=cpus)
        plan = plan_of(recipe, store)
        build_step(plan["source"], plan, store, f"run-{number}", time_s)
    recipe = Recipe("toy")
    recipe.step(toy.source, ToyConfig(), cpus=4.0)
    return plan_of(recipe, store)


def test_the_estimate_is_the_median_of_the_three_newest_times(store: Store):
    assert timed(store, 1000.0, 30.0, 10.0, 20.0)["source"].estimate_s == 20.0


def test_times_with_the_same_resources_are_preferred(store: Store):
    timed(store, 50.0, cpus=4.0)
    assert timed(store, 10.0, 10.0, 10.0)["source"].estimate_s == 50.0


def test_a_time_that_an_alias_repeats_counts_once(store: Store):
    plan = timed(store, 10.0, 20.0)
    source = next(made for made in store.manifests("source") if made.seconds == 10.0)
    lease = store.acquire("source", plan["source"].key, "run-9")
    assert isinstance(lease, Lease)
    origin = Origin("equal", source.step, source.key, source.epoch, "headwater", "")
    store.alias(lease, draft(plan["source"], {}, "run-9", {}), source, origin)
    assert timed(store)["source"].state == "cached"
    recipe = Recipe("toy")
    recipe.step(toy.source, ToyConfig(seed=1))
    assert plan_of(recipe, store)["source"].estimate_s == 15.0


def test_cost_is_cores_times_hours(store: Store):
    plan = timed(store, 1800.0)
    assert plan["source"].cost.cpu_hours == pytest.approx(2.0)
    assert plan.cost.money(0.05, 2.0) == pytest.approx(0.1)


def test_the_critical_path_is_the_longest(store: Store):
    recipe = Recipe("toy")
    left = recipe.step(toy.source, ToyConfig(text="l"), name="left")
    right = recipe.step(toy.source, ToyConfig(text="r"), name="right")
    recipe.step(toy.join, ToyConfig(), left=left, right=right)
    for name, time_s in (("left", 5.0), ("right", 60.0), ("join", 2.0)):
        plan = plan_of(recipe, store)
        build_step(plan[name], plan, store, "run-1", time_s)
    plan = select(recipe, store, force="left,right,join")
    assert (plan.estimate_s, plan.critical_s) == (67.0, 62.0)
    assert select(recipe, store, force="join").critical_s == 2.0


@pytest.mark.parametrize(
    ("steps", "sentence"),
    [
        ([("a", "b"), ("b", "a")], "form a circle: a -> b -> a"),
        ([("a", "a")], "form a circle: a -> a"),
        ([("a", ""), ("a", "")], "Two steps are named a"),
        ([("a", "missing")], "Input left of a comes from missing, which is no step"),
    ],
)
def test_steps_that_form_no_graph_are_refused(store: Store, steps: list[tuple[str, str]], sentence: str):
    made = [
        Step(name, toy.join, ToyConfig(), 1, {"left": Artifact(producer)} if producer else {})
        for name, producer in steps
    ]
    with pytest.raises(ConfigError, match=sentence):
        make_plan(made, store)


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
    subprocess.run([sys.executable, "-c", program, ran.root.url], check=True)


def test_plan_json_lists_keys_inputs_reasons_and_code(store: Store):
    plan = select(pair(), store, until="source")
    record = json.loads(json.dumps(plan.to_json()))
    steps = {step["name"]: step for step in record["steps"]}
    assert steps["join"]["producers"] == ["source"]
    assert steps["join"]["inputs"] == {"left": steps["source"]["key"]}
    assert steps["source"]["reasons"] == [{"kind": "never", "name": "", "old": None, "new": None}]
    assert "toy_steps.py" in record["code"][steps["source"]["code"]]
    assert Selection.from_json(record["selection"]) == plan.selection


def test_a_thousand_steps_of_one_module_have_their_code_digested_once(store: Store):
    recipe = Recipe("toy")
    last = recipe.step(toy.source, ToyConfig(), name="s0")
    for number in range(1, 1000):
        last = recipe.step(toy.join, ToyConfig(), name=f"s{number}", left=last)
    plan = plan_of(recipe, store)
    assert len(plan.to_run) == 1000
    assert len({id(entry.code) for entry in plan.entries}) == 1
