"""Keys are the same wherever and however often they are computed, and differ where the work differs."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from toy_steps import Inner, ToyConfig

from components.configuring import runtime
from components.errors import ConfigError
from pipelines.engine.identity import (
    canonical_json,
    content_digest,
    describe_config,
    identity_of,
    recipe_key,
    redacted,
)

GOLDEN = "d8437adeacc9d9aa"

leaves = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
values = st.recursive(leaves, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20)


def golden_key() -> str:
    identity = identity_of(ToyConfig(text="héllo 世界", ratio=0.1, inner=Inner(depth=7)))
    return recipe_key("clean", 3, identity, {"pages": "ab" * 32, "left": "cd" * 32}, "ef" * 32)


def test_golden_key_has_not_moved():
    assert golden_key()[:16] == GOLDEN


@pytest.mark.parametrize("seed", ["0", "1", "12345"])
def test_key_is_the_same_in_another_process_with_another_hash_seed(seed: str, tmp_path: Path):
    program = "import test_identity as t; print(t.golden_key())"
    path = os.pathsep.join([str(Path(__file__).parent), os.environ["PYTHONPATH"], str(Path.cwd())])
    environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": path}
    run = subprocess.run([sys.executable, "-c", program], env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert run.stdout.strip() == golden_key(), run.stderr


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
