"""How long a user waits: from the start of the process to the first optimizer step, and for a checkpoint.

`python -m components.pretrain` as it is, in the shape of the preset `tiny`: in its own process, and with two ranks
that torch spawns; DeepSpeed's ZeRO-1, as by default, and the plain engine. Files and byte code are warm: each runs once
before it counts. Told are seconds by the clock, which other work on the machine lengthens, and of CPU time of all
processes up to that moment. The stall of a save is what the loop logs, beside its mean step so far. Run with
`make bench`; goals: the first step within 10 s, a stall under half a step. Nothing passes or fails by the clock.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from made_texts import make_document, make_text, write_artifact

from components.context import local_context
from components.shards.config import TokensConfig
from components.shards.step import tokens
from components.tokenizer.config import TokenizerConfig
from components.tokenizer.step import tokenizer

ROUNDS, STEPS, EVERY, LIMIT_S = 3, 31, 10, 200
SHAPE = {"vocab_size": 8192, "dim": 192, "num_layers": 4, "num_heads": 6, "num_kv_heads": 2, "ffn_dim": 512}
BATCH = {"batch_size": 4, "micro_batch": 2, "lr": 4e-3, "beta2": 0.98, "warmup_steps": 10}
RUNS = {"alone": ("deepspeed", 1), "alone, plain engine": ("plain", 1), "two ranks": ("deepspeed", 2)}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Tokens and tokenizer of made-up texts, as arguments of the step."""
    folder = tmp_path_factory.mktemp("inputs")
    texts = [make_text(lang, number, 1500) for number in range(200) for lang in ("en", "zh")]
    made = [make_document(f"https://a.example/{number}", text) for number, text in enumerate(texts)]
    documents = write_artifact(folder / "documents", made)
    first, second = local_context("tokenizer", folder / "a"), local_context("tokens", folder / "b")
    tokenizer(first, TokenizerConfig(vocab_size=1024), documents)
    tokens(second, TokensConfig(), documents, first.output)
    return [f"tokens={second.output}", f"tokenizer={first.output}"]


def command(engine: str, ranks: int, folder: Path, inputs: list[str]) -> list[str]:
    """The step alone, as a user types it."""
    every = {"steps": STEPS, "eval_every": 0, "checkpoint_every": EVERY, "engine": engine, "ranks": ranks}
    settings = [f"model.{name}={value}" for name, value in SHAPE.items()]
    settings += [f"training.{name}={value}" for name, value in (BATCH | every).items()]
    start = [sys.executable, "-m", "components.pretrain", "--output", str(folder), "sample_tokens=0"]
    return [*start, *inputs, *settings]


@contextmanager
def started(words: list[str], folder: Path) -> Iterator[psutil.Popen]:
    """The process, ended with its children at the end of the block."""
    hooks = ("PYTHONPATH", "PYTHONDONTWRITEBYTECODE")  # of the tests; and byte code is to be warm
    outside = {name: value for name, value in os.environ.items() if name not in hooks}
    folder.mkdir()
    with (folder / "said").open("w") as said:
        process = psutil.Popen(words, env={**outside, "OMP_NUM_THREADS": "1"}, stdout=said, stderr=said)
    try:
        yield process
    finally:
        if process.poll() is None:
            for one in [*process.children(recursive=True), process]:
                one.kill()
        process.wait()


def first_step(words: list[str], folder: Path) -> tuple[float, float]:
    """Seconds by the clock and of CPU time until the journal tells of the first step."""
    begin = time.perf_counter()
    with started(words, folder) as process:
        while not any("first_step_s" in values for values in journal(folder / "run")):
            assert process.poll() is None, (folder / "said").read_text()[-3000:]
            assert time.perf_counter() - begin < LIMIT_S, "no first step"
            time.sleep(0.02)
        took = time.perf_counter() - begin
        times = [one.cpu_times() for one in [process, *process.children(recursive=True)]]
    return took, sum(one.user + one.system for one in times)


def stalls(words: list[str], folder: Path) -> list[tuple[float, float]]:
    """Of a whole training: each stall in seconds and in steps, the one at the end left out."""
    with started(words, folder) as process:
        assert process.wait(timeout=3 * LIMIT_S) == 0, (folder / "said").read_text()[-3000:]
        found = [one for one in journal(folder / "run") if "checkpoint_stall_steps" in one]
    return [(one["checkpoint_stall_s"], one["checkpoint_stall_steps"]) for one in found[:-1]]


def journal(folder: Path) -> list[dict[str, float]]:
    """The metrics that the step has logged so far."""
    path = folder / "journal.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [event["values"] for event in map(json.loads, lines) if event["kind"] == "metrics"]


@pytest.mark.bench
@pytest.mark.timeout(0)
def test_seconds_to_the_first_step(inputs: list[str], tmp_path: Path) -> None:
    took: dict[str, list[tuple[float, float]]] = {name: [] for name in RUNS}
    for number in range(ROUNDS + 1):
        for name, about in RUNS.items():
            folder = tmp_path / f"{name} {number}"
            took[name].append(first_step(command(*about, folder / "run", inputs), folder))
    load = os.getloadavg()[0]
    print(f"\nfirst step, {ROUNDS} rounds; goal 10 s; load average {load:.1f} on {os.cpu_count()} cores")
    for name, found in took.items():
        wall, cpu = zip(*found[1:], strict=True)
        walls = f"{min(wall):5.1f} s by the clock (median {statistics.median(wall):5.1f})"
        print(f"{name:20s}{walls}, {min(cpu):5.1f} s of CPU time (median {statistics.median(cpu):5.1f})")


@pytest.mark.bench
@pytest.mark.timeout(0)
def test_the_stall_of_a_save(inputs: list[str], tmp_path: Path) -> None:
    load = os.getloadavg()[0]
    print(f"\nstall of a save, goal 0.5 of a step; load average {load:.1f} on {os.cpu_count()} cores")
    for name in ("alone", "two ranks"):
        about = RUNS[name]
        found = stalls(command(*about, tmp_path / name / "run", inputs), tmp_path / name)
        each = ", ".join(f"{seconds * 1000:.0f} ms = {steps:.2f} steps" for seconds, steps in found)
        print(f"{name:20s}{each}")
