"""Memory of the loader: flat over epochs, and the same for a corpus ten times the size."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from components.context import local_context
from components.pack.config import PackConfig
from components.pack.step import pack
from tests.components.shards.toy import Toy, write_tokens

ROOT = Path(__file__).resolve().parents[3]
LENGTH = 512
PROGRAM = """
import sys
from pathlib import Path
from components.shards.config import MixtureConfig
from components.shards.loader import Loader
from components.shards.schedule import Schedule

def anonymous():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))

mixture = MixtureConfig({"en": "2", "zh": "1"})
loader = Loader.open(Path(sys.argv[1]), Schedule(1, 32, int(sys.argv[3]), mixture), Path(sys.argv[2]))
for epoch in range(3):
    for step in range(epoch * loader.num_rows // 32, (epoch + 1) * loader.num_rows // 32):
        loader.batch(step)
    print(anonymous())
"""


def memory_kib(folder: Path, num_documents: int) -> list[int]:
    """Memory of a reader's own after each of three epochs (mapped files, which the system drops at will, left out)."""
    draw = np.random.default_rng(num_documents)
    toys = [Toy(draw.integers(7, 60_000, 300), "en" if number % 3 else "zh") for number in range(num_documents)]
    tokens = write_tokens(folder / "tokens", train=[toys])
    ctx = local_context("pack", folder / "pack")
    pack(ctx, PackConfig("best_fit", LENGTH, group="lang"), tokens)
    command = [sys.executable, "-c", PROGRAM, str(tokens), str(ctx.output), str(LENGTH)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return [int(line) for line in done.stdout.split()]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/status")
def test_memory_is_flat_over_three_epochs_and_in_the_size_of_the_corpus(tmp_path: Path):
    small, large = memory_kib(tmp_path / "small", 1_500), memory_kib(tmp_path / "large", 15_000)
    for epochs in (small, large):
        assert epochs[2] - epochs[0] < 1024
    assert large[2] < 1.1 * small[2]
