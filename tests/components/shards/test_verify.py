"""Damage: a flipped byte, a cut, a missing or a foreign shard is refused with the shard's name."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.errors import StepError
from components.publish import publish_json, read_json
from components.shards.corpus import TokenSplit
from components.shards.verify import check_tokens, verify_tokens
from tests.components.shards.toy import numbered, varied, write_shard, write_tokens


@pytest.fixture
def tokens(tmp_path: Path) -> Path:
    return write_tokens(tmp_path / "tokens", train=[varied(40, 1), varied(30, 2)], val=[numbered(9)])


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tokens(tmp_path_factory.mktemp("whole"), train=[varied(40, 1), varied(30, 2)], val=[numbered(9)])


def test_a_whole_artifact_has_no_faults(tokens: Path):
    assert verify_tokens(tokens) == verify_tokens(tokens, full=False) == []


@settings(max_examples=100)
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_any_flipped_bit_is_found_by_its_shard(whole: Path, tmp_path_factory, place: float, bit: int):
    tokens = Path(shutil.copytree(whole, tmp_path_factory.mktemp("flipped") / "tokens"))
    path = tokens / "train" / "shard-00001.arrow"
    content = bytearray(path.read_bytes())
    content[int(place * len(content))] ^= 1 << bit
    path.write_bytes(content)
    [fault] = verify_tokens(tokens)
    assert fault.path == "train/shard-00001.arrow"
    with pytest.raises(StepError, match=r"train/shard-00001\.arrow"):
        check_tokens(tokens, full=True)


@given(kept=st.floats(0, 1, exclude_max=True))
def test_any_truncation_is_found_without_hashing(whole: Path, tmp_path_factory, kept: float):
    tokens = Path(shutil.copytree(whole, tmp_path_factory.mktemp("cut") / "tokens"))
    path = tokens / "train" / "shard-00000.arrow"
    path.write_bytes(path.read_bytes()[: int(kept * path.stat().st_size)])
    with pytest.raises(StepError, match=r"train/shard-00000\.arrow has \d+ bytes and was written with"):
        TokenSplit.open(tokens, "train")


def test_a_missing_shard_is_named(tokens: Path):
    (tokens / "val" / "shard-00000.arrow").unlink()
    assert [str(fault) for fault in verify_tokens(tokens)] == ["val/shard-00000.arrow is missing"]
    with pytest.raises(StepError, match=r"val/shard-00000\.arrow is missing"):
        TokenSplit.open(tokens, "val")
    assert TokenSplit.open(tokens, "train").num_documents == 70


def test_a_shard_of_another_artifact_is_named(tokens: Path):
    write_shard(tokens / "train" / "shard-00002.arrow", numbered(3))
    with pytest.raises(StepError, match=r"train/shard-00002\.arrow is no shard of this artifact"):
        TokenSplit.open(tokens, "train")


def test_two_shards_that_changed_places_are_named(tokens: Path):
    one, other = (tokens / "train" / f"shard-0000{number}.arrow" for number in (0, 1))
    content = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(content)
    with pytest.raises(StepError, match=r"train/shard-00000\.arrow .* \(and 1 more\)"):
        TokenSplit.open(tokens, "train")


def test_a_shard_of_another_type_of_ids_is_found_without_hashing(tokens: Path):
    entry = write_shard(tokens / "train" / "shard-00000.arrow", varied(40, 1), dtype="uint32")
    meta = read_json(tokens / "meta.json")
    meta["shards"]["train"][0] = entry
    publish_json(tokens / "meta.json", meta)
    with pytest.raises(StepError, match=r"shard-00000\.arrow has other columns"):
        TokenSplit.open(tokens, "train")


json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-5, 10**6), st.floats(allow_nan=False), st.text(max_size=8)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=8), inner, max_size=3)),
    max_leaves=5,
)


def paths_of(value: object, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """The way to every value inside a JSON value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield (*path, key)
        yield from paths_of(inner, (*path, key))


@pytest.mark.slow
@settings(max_examples=10_000)
@given(data=st.data(), value=json_values)
def test_any_value_anywhere_in_meta_is_a_fault_or_does_no_harm(whole: Path, tmp_path_factory, data, value: object):
    tokens = tmp_path_factory.getbasetemp() / "meta"
    if not tokens.exists():
        shutil.copytree(whole, tokens)
    meta = read_json(whole / "meta.json")
    *parents, last = data.draw(st.sampled_from(list(paths_of(meta))))
    place = meta
    for key in parents:
        place = place[key]
    place[last] = value
    (tokens / "meta.json").write_text(json.dumps(meta))
    faults = verify_tokens(tokens)
    assert all(fault.path and fault.what for fault in faults)
    if faults:
        with pytest.raises(StepError):
            check_tokens(tokens, full=True)


@pytest.mark.parametrize(
    "content", [None, "", "[]", "{}", '{"format": 1, "shards": {"train": [], "val": [], "test": []}}']
)
def test_without_a_usable_meta_nothing_is_read(tokens: Path, content: str | None):
    (tokens / "meta.json").unlink()
    if content is not None:
        (tokens / "meta.json").write_text(content)
    [fault] = verify_tokens(tokens)
    assert fault.path == "meta.json"
    with pytest.raises(StepError) as refusal:
        TokenSplit.open(tokens, "train")
    assert refusal.value.where.endswith("meta.json")
    assert refusal.value.fix
