"""Keys are the same wherever and however often they are computed, and differ where the work differs."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from dataclasses import dataclass, field, fields, make_dataclass, replace
from pathlib import Path

import pytest
import toy_steps
from hypothesis import given
from hypothesis import strategies as st
from toy_steps import Inner, ToyConfig

from components.clean.config import CleanConfig
from components.configuring import added, runtime
from components.dedup.config import DedupConfig
from components.errors import ConfigError
from components.pretrain.config import PretrainConfig
from pipelines.engine.identity import (
    canonical_json,
    content_digest,
    content_key,
    describe_config,
    identity_of,
    recipe_key,
    redacted,
)
from pipelines.engine.plan import make_plan
from pipelines.engine.step import Recipe
from pipelines.engine.store import Store

GOLDEN = {
    "toy": "d8437adeacc9d9aa",
    "toy of bytes": "059df6e846ad5d41",
    "clean": "288e3948108a4aca",
    "dedup": "05eab88420aea781",
    "pretrain": "6f4ea207cc0ce63d",
}
"""Keys of the past. They move when a config's identity moves: a field added later is declared with `added`."""

leaves = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
values = st.recursive(leaves, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20)


def golden_keys() -> dict[str, str]:
    toy = identity_of(ToyConfig(text="héllo 世界", ratio=0.1, inner=Inner(depth=7)))
    inputs = {"pages": "ab" * 32, "left": "cd" * 32}
    keys = {
        "toy": recipe_key("clean", 3, toy, inputs, "ef" * 32),
        "toy of bytes": content_key("clean", 3, toy, inputs, "ef" * 32),
        "clean": recipe_key("clean", 1, identity_of(CleanConfig()), {"documents": "ab" * 32}, "cd" * 32),
        "dedup": recipe_key("dedup", 1, identity_of(DedupConfig()), {"documents": "ab" * 32}, "cd" * 32),
        "pretrain": recipe_key("pretrain", 1, identity_of(PretrainConfig()), {"tokens": "ab" * 32}, None),
    }
    return {name: key[:16] for name, key in keys.items()}


def planned_keys(store: str) -> dict[str, str]:
    """Keys of a plan, code digests and all."""
    recipe = Recipe("toy")
    one = recipe.step(toy_steps.source, ToyConfig())
    recipe.step(toy_steps.join, ToyConfig(text="-"), left=one, code="warn")
    return {entry.name: entry.key for entry in make_plan(recipe.steps, Store(store)).entries}


def test_golden_keys_have_not_moved():
    assert golden_keys() == GOLDEN


@pytest.mark.parametrize("seed", ["0", "12345"])
def test_keys_are_the_same_in_another_process_folder_and_store_with_another_hash_seed(seed: str, tmp_path: Path):
    program = "import json, test_identity as t; print(json.dumps([t.golden_keys(), t.planned_keys('elsewhere')]))"
    path = os.pathsep.join([str(Path(__file__).parent), os.environ["PYTHONPATH"], str(Path.cwd())])
    environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": path, "TZ": "Asia/Shanghai", "LC_ALL": "C"}
    run = subprocess.run([sys.executable, "-c", program], env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout) == [golden_keys(), planned_keys(str(tmp_path / "here"))]


@dataclass(frozen=True)
class Before:
    """A config as it was first."""

    text: str = "a"


@dataclass(frozen=True)
class Deep:
    """A nested config that was added, with a runtime field of its own."""

    depth: int = 1
    workers: int = runtime(1)


DEEP = Deep()


@dataclass(frozen=True)
class After:
    """The same config later."""

    text: str = "a"
    limit: int = added(10)
    ratio: float = added(0.5, keeps=1.0)
    names: tuple[str, ...] = added(())
    deep: Deep = added(DEEP)  # noqa: RUF009


def test_an_added_field_leaves_old_keys_alone():
    assert identity_of(After(ratio=1.0)) == identity_of(Before())


def test_an_added_field_counts_once_its_value_does_something_new():
    assert identity_of(After(limit=11, ratio=1.0)) == {"text": "a", "limit": 11}
    assert identity_of(After(ratio=1.0, deep=Deep(depth=2))) == {"text": "a", "deep": {"depth": 2}}
    assert identity_of(After(ratio=1.0, names=("x",))) == {"text": "a", "names": ["x"]}


def test_an_added_field_with_a_new_default_still_keeps_the_key_of_the_old_behaviour():
    assert identity_of(After()) == {"text": "a", "ratio": 0.5}


def test_the_value_that_keeps_is_compared_as_the_identity_sees_it():
    assert identity_of(After(ratio=1)) == identity_of(Before())
    assert identity_of(After(ratio=1.0, deep=Deep(workers=64))) == identity_of(Before())


def test_an_added_field_is_described_like_any_other():
    assert describe_config(After()) == {
        "text": "a", "limit": 10, "ratio": 0.5, "names": [], "deep": {"depth": 1, "workers": 1},
    }  # fmt: skip


@given(st.dictionaries(st.text(), st.text(), min_size=2), st.dictionaries(st.text(), st.text(), min_size=2))
def test_the_order_of_a_mapping_and_of_inputs_never_counts(mapping: dict[str, str], inputs: dict[str, str]):
    @dataclass(frozen=True)
    class Mapped:
        names: dict[str, str]

    one = recipe_key("clean", 1, identity_of(Mapped(mapping)), inputs, None)
    turned = identity_of(Mapped(dict(reversed(mapping.items()))))
    assert recipe_key("clean", 1, turned, dict(reversed(inputs.items())), None) == one


@given(st.permutations([field.name for field in fields(ToyConfig)]), st.integers(), st.text())
def test_the_order_of_fields_never_counts(names: list[str], count: int, text: str):
    config = ToyConfig(count=count, text=text)
    by_name = {field.name: field for field in fields(ToyConfig)}
    turned = make_dataclass("Turned", [(name, object, by_name[name]) for name in names], frozen=True, kw_only=True)
    values = {name: getattr(config, name) for name in names}
    assert canonical_json(identity_of(turned(**values))) == canonical_json(identity_of(config))


@given(st.dictionaries(st.text(), values, min_size=2))
def test_order_of_keys_never_counts(mapping: dict):
    assert canonical_json(mapping) == canonical_json(dict(reversed(mapping.items())))


@given(values)
def test_canonical_json_reads_back_as_the_same_typed_value(value: object):
    again = json.loads(canonical_json(value))
    assert again == value
    assert canonical_json(again) == canonical_json(value)


@pytest.mark.parametrize(("one", "other"), [(1, 1.0), (1, True), (0, False), ("1", 1), (None, "null"), ([], {})])
def test_values_of_different_types_are_kept_apart(one: object, other: object):
    assert canonical_json(one) != canonical_json(other)


@pytest.mark.parametrize("value", [math.nan, math.inf, {"a": [math.nan]}, {1: 2}, {"a": object()}, b"x", {"a": {1, 2}}])
def test_what_has_no_canonical_form_is_refused(value: object):
    with pytest.raises(ConfigError, match="has no identity"):
        canonical_json(value)  # type: ignore[arg-type]


def test_runtime_fields_never_enter_not_even_nested_ones():
    assert identity_of(ToyConfig()) == identity_of(ToyConfig(workers=64, inner=Inner(workers=32)))
    assert "workers" not in identity_of(ToyConfig())


@pytest.mark.parametrize(
    "config",
    [
        ToyConfig(text="b"),
        ToyConfig(ratio=0.25),
        ToyConfig(inner=Inner(depth=3)),
        ToyConfig(seed=18),
        ToyConfig(token="x"),
    ],
)
def test_every_identity_field_counts(config: ToyConfig):
    assert identity_of(config) != identity_of(ToyConfig())


def test_a_whole_number_in_a_float_field_is_that_float():
    assert canonical_json(identity_of(ToyConfig(ratio=1))) == canonical_json(identity_of(ToyConfig(ratio=1.0)))


def test_whole_numbers_in_a_tuple_or_mapping_of_floats_are_those_floats():
    @dataclass(frozen=True)
    class Weights:
        shares: tuple[float, ...] = ()
        named: dict[str, float] | None = None
        counts: tuple[int, ...] = ()

    one, other = Weights((1, 2), {"a": 1}, (1,)), Weights((1.0, 2.0), {"a": 1.0}, (1,))
    assert canonical_json(identity_of(one)) == canonical_json(identity_of(other))
    assert identity_of(one)["counts"] == [1]


def test_minus_zero_is_zero():
    assert canonical_json(identity_of(ToyConfig(ratio=-0.0))) == canonical_json(identity_of(ToyConfig(ratio=0.0)))


def test_a_mapping_whose_names_are_no_text_is_refused():
    with pytest.raises(ConfigError, match="text is a int"):
        identity_of(ToyConfig(text={1: "a"}))  # type: ignore[arg-type]


def test_class_names_and_field_order_never_enter():
    @dataclass(frozen=True)
    class Renamed:
        seed: int = 17
        token: str = ""
        inner: Inner = field(default_factory=Inner)
        ratio: float = 0.5
        count: int = 3
        text: str = "a"
        threads: int = runtime(8)

    assert canonical_json(identity_of(Renamed())) == canonical_json(identity_of(ToyConfig()))


def test_a_path_in_an_identity_field_is_refused_with_the_field_named():
    with pytest.raises(ConfigError, match="text is a PosixPath"):
        identity_of(ToyConfig(text=Path("/somewhere")))  # type: ignore[arg-type]


@pytest.mark.parametrize("part", ["step", "version", "identity", "input_name", "input_key", "code"])
def test_every_part_of_the_key_counts(part: str):
    identity = identity_of(ToyConfig())
    parts = {
        "step": ("crawl", 3, identity, {"a": "k"}, "c"),
        "version": ("clean", 4, identity, {"a": "k"}, "c"),
        "identity": ("clean", 3, {**identity, "count": 4}, {"a": "k"}, "c"),
        "input_name": ("clean", 3, identity, {"b": "k"}, "c"),
        "input_key": ("clean", 3, identity, {"a": "l"}, "c"),
        "code": ("clean", 3, identity, {"a": "k"}, None),
    }
    assert recipe_key(*parts[part]) != recipe_key("clean", 3, identity, {"a": "k"}, "c")


def test_secrets_are_written_down_nowhere():
    config = ToyConfig(token="hunter2")
    assert describe_config(config)["token"] == "***"
    assert redacted(identity_of(config))["token"] == "***"
    assert identity_of(config)["token"] == "hunter2"


def test_describing_a_config_keeps_runtime_fields():
    assert describe_config(replace(ToyConfig(), workers=5))["workers"] == 5


def test_content_digest_sees_names_and_bytes_but_not_the_place(tmp_path: Path):
    for name in ("one", "two"):
        (tmp_path / name / "deep").mkdir(parents=True)
        (tmp_path / name / "deep" / "a.txt").write_text("a")
        (tmp_path / name / "b.txt").write_text("b")
    same = content_digest(tmp_path / "one")
    assert content_digest(tmp_path / "two") == same
    (tmp_path / "two" / "b.txt").rename(tmp_path / "two" / "c.txt")
    renamed = content_digest(tmp_path / "two")
    (tmp_path / "two" / "c.txt").write_text("c")
    assert len({same, renamed, content_digest(tmp_path / "two")}) == 3
