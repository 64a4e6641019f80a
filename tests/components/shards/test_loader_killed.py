"""Ten kills, each time with other ranks and workers: the stream of tokens is that of a reader that was left alone."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from components.context import local_context
from components.pack.config import PackConfig
from components.pack.step import pack
from tests.components.shards.reader import LENGTH, read
from tests.components.shards.toy import varied, write_tokens

STEPS, KILLS = 2000, 10
ROOT = Path(__file__).resolve().parents[3]


def lines_of(journal: Path) -> int:
    return journal.read_bytes().count(b"\n") if journal.exists() else 0


def test_ten_kills_with_other_ranks_and_workers_change_no_token(tmp_path: Path):
    tokens = write_tokens(tmp_path / "tokens", train=[varied(400, 3, langs=("en", "zh", "de"))])
    ctx = local_context("pack", tmp_path / "pack")
    pack(ctx, PackConfig("best_fit", LENGTH, group="lang"), tokens)
    read(tokens, ctx.output, tmp_path / "alone", 1, 0, STEPS)
    draw, journal = random.Random(4), tmp_path / "killed"
    for kill in range(KILLS):
        arguments = [tokens, ctx.output, journal, draw.choice([1, 2, 3, 4]), draw.choice([0, 1, 2]), STEPS]
        command = [sys.executable, "-m", "tests.components.shards.reader", *map(str, arguments)]
        child = subprocess.Popen(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)})
        goal = min(STEPS - 1, lines_of(journal) + draw.randint(1, STEPS // KILLS))
        while lines_of(journal) < goal:
            assert child.poll() is None, f"reader {kill} ended by itself"
            time.sleep(0.001)
        child.send_signal(signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL
    assert 0 < lines_of(journal) < STEPS
    read(tokens, ctx.output, journal, 3, 2, STEPS)
    assert journal.read_text() == (tmp_path / "alone").read_text()
