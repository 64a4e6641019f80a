"""What a step is given in process."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.context import derive_seed, local_context
from components.errors import Preempted


def test_a_local_context_has_folders_and_a_journal(tmp_path: Path):
    context = local_context("clean", tmp_path)
    context.progress(1, 2, "pages")
    context.log({"kept": 1.0}, step=1)
    context.text("sample", "text", step=1)
    assert context.output.is_dir()
    assert context.scratch.is_dir()
    assert len((tmp_path / "journal.jsonl").read_text().splitlines()) == 3


def test_map_keeps_the_order_of_its_items(tmp_path: Path):
    assert local_context("clean", tmp_path).map(lambda item: item * 2, [3, 1, 2]) == [6, 2, 4]


def test_map_stops_between_items(tmp_path: Path):
    context = local_context("clean", tmp_path)
    seen = []

    def item(number: int) -> None:
        seen.append(number)
        if number == 2:
            (tmp_path / "stop").touch()

    with pytest.raises(Preempted, match="Step clean was asked to stop"):
        context.map(item, [1, 2, 3])
    assert seen == [1, 2]


def test_seeds_depend_on_step_base_and_name_alone(tmp_path: Path):
    seeds = {
        local_context(step, tmp_path / str(index), base).seed(name)
        for index, (step, base, name) in enumerate(
            [("clean", 17, "a"), ("dedup", 17, "a"), ("clean", 18, "a"), ("clean", 17, "b"), ("clean", 17, "a")]
        )
    }
    assert len(seeds) == 4


def test_a_seed_never_moves():
    assert derive_seed("pretrain", 17, "weights") == 4901488826126189992


@given(st.text(), st.integers())
def test_a_seed_fits_63_bits(name: str, base: int):
    assert 0 <= derive_seed(name, base) < 2**63
