"""Rows of 2,049 tokens a second of CPU time: our loader beside np.memmap, Hugging Face datasets and litdata.

The same 60 M random ids, in documents of log-normal length, two languages. Ours is measured in three settings: all
documents joined; joined by language under a mixture; best-fit rows under a mixture; each with ids alone and with the
targets that training takes. Peers draw uniformly random rows (litdata: its own shuffle) of one stream, no mixture, no
packing. One thread, rounds interleaved, the best of five. Peers are installed from a pinned list into a virtual
environment of their own, kept in `~/.cache/headwater/bench`. Run with `make bench`; goal 200 M tokens/s with mixture
and packing. Nothing passes or fails by the clock.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from peer_help import environment_of

from components.context import local_context
from components.pack.config import PackConfig
from components.pack.step import pack
from components.shards.config import MixtureConfig
from components.shards.loader import Loader, RowBatch
from components.shards.schedule import Schedule
from components.shards.verify import verify_tokens
from tests.components.shards.toy import Toy, write_tokens

PEERS = Path(__file__).parent / "peers"
LENGTH, BATCH, ROWS, ROUNDS, DOCUMENTS = 2048, 64, 6016, 5, 60_000
MIXED = MixtureConfig({"en": "0.6", "zh": "0.4"})
SETTINGS: dict[str, tuple[PackConfig | None, MixtureConfig]] = {
    "joined": (None, MixtureConfig()),
    "joined by language, mixed": (PackConfig("concat", LENGTH, group="lang"), MIXED),
    "best-fit by language, mixed": (PackConfig("best_fit", LENGTH, group="lang"), MIXED),
}
TAKES: dict[str, Callable[[RowBatch], object]] = {
    "ids": lambda rows: rows.ids,
    "with targets": lambda rows: (rows.tokens, rows.targets),
    "with masks too": lambda rows: (rows.tokens, rows.targets, rows.documents, rows.positions, rows.cu_seqlens),
}


def peer(python: Path, *arguments: object) -> float:
    """Runs the peers' program; what it printed as taken, 0 if nothing."""
    outside = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}  # no hook of the tests
    environment = {**outside, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    command = [str(python), str(PEERS / "loader_peers.py"), *map(str, arguments)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]
    took = [line for line in done.stdout.splitlines() if line.startswith("took ")]
    return float(took[-1].split()[1]) if took else 0.0


def ours(loader: Loader, take: Callable[[RowBatch], object], first: int) -> float:
    """Tokens a second of CPU time over `ROWS` rows from a step on."""
    start = time.process_time()
    for step in range(first, first + ROWS // BATCH):
        take(loader.batch(step))
    return ROWS * (LENGTH + 1) / (time.process_time() - start)


def make_tokens(folder: Path) -> Path:
    draw = np.random.default_rng(1)
    sizes = np.maximum(2, draw.lognormal(6.3, 1.1, DOCUMENTS)).astype(int)
    toys = [
        Toy(draw.integers(7, 60_000, size, dtype=np.uint16), "en" if number % 3 else "zh")
        for number, size in enumerate(sizes)
    ]
    return write_tokens(folder, train=[toys[index::4] for index in range(4)])


@pytest.mark.bench
def test_rows_a_second_beside_other_loaders(tmp_path: Path) -> None:
    tokens = make_tokens(tmp_path / "tokens")
    loaders, rates = {}, defaultdict(list)
    for name, (config, mixture) in SETTINGS.items():
        ctx = local_context("pack", tmp_path / name)
        if config is not None:
            pack(ctx, config, tokens)
        plan = None if config is None else ctx.output
        loaders[name] = Loader.open(tokens, Schedule(1, BATCH, LENGTH, mixture), plan)
    split = loaders["joined"].split
    np.concatenate([batch.values for batch in split.batches]).tofile(tmp_path / "ids.bin")
    python = environment_of("loader") / "bin" / "python"
    peer(python, "prepare", tmp_path)
    for number in range(ROUNDS):
        for name, loader in loaders.items():
            for what, take in TAKES.items():
                rates[f"ours, {name}, {what}"].append(ours(loader, take, number * ROWS // BATCH))
        for name in ("memmap", "datasets", "litdata"):
            rates[name].append(peer(python, "read", name, tmp_path, ROWS))
    base = max(rates["memmap"])
    print(f"\n{split.num_tokens / 1e6:.0f} M tokens, rows of {LENGTH + 1}, batches of {BATCH}")
    for name, found in rates.items():
        print(f"{name:48s} {max(found) / 1e6:6.0f} M tokens/s, {max(found) / base:5.2f} x memmap")


@pytest.mark.bench
def test_the_price_of_hashing_every_shard(tmp_path: Path) -> None:
    tokens = make_tokens(tmp_path / "tokens")
    size = sum(path.stat().st_size for path in tokens.rglob("*.arrow"))
    times = []
    for _ in range(ROUNDS):
        start = time.process_time()
        assert verify_tokens(tokens) == []
        times.append(time.process_time() - start)
    print(f"\nfull verification {min(times) / size * 1e9:.2f} s of CPU time per GB")
