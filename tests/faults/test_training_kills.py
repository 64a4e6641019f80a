"""A training whose ranks are killed, anywhere and again and again, ends with the bits of one that was left alone."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults import killed_ranks


def killed_and_whole(folder: Path, ranks: int, stage: int, kills: int):
    script = Path(killed_ranks.__file__)
    arguments = [str(killed_ranks.ROOT), str(folder), str(ranks), str(stage), str(kills), "11"]
    subprocess.run([sys.executable, str(script), *arguments], check=True, timeout=1800)
    result = json.loads((folder / "result.json").read_text())
    assert result["kills"] >= kills / 2  # it may come to its end before
    return result


def assert_same_bits(result):
    assert result["killed"]["curve"] == result["whole"]["curve"]
    assert result["killed"]["weights"] == result["whole"]["weights"]
    steps = [int(found[1]) for line in result["said"] if (found := re.search(r"continues from step (\d+)", line))]
    assert steps == sorted(steps)
    assert len(set(steps)) >= 5


@pytest.mark.parametrize("kills", [8, pytest.param(20, marks=pytest.mark.slow)])
def test_one_rank_killed_at_random_points_costs_no_bit(tmp_path, kills):
    assert_same_bits(killed_and_whole(tmp_path, ranks=1, stage=0, kills=kills))


@pytest.mark.slow
@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_two_ranks_killed_at_20_random_points_cost_no_bit(tmp_path, stage):
    assert_same_bits(killed_and_whole(tmp_path, ranks=2, stage=stage, kills=20))
