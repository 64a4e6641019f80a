"""What every task's checkpoints are asked: to be gone on from with the same bits, and to name what was left out."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TypeVar

import pytest

HALF, STEPS = 4, 8
GUARDED = {
    "steps": STEPS,
    "eval_every": HALF,
    "checkpoint_every": HALF,
    "warmup_steps": 1,
    "lr": 1e-4,  # the loss must not fall faster than it varies
    "spike": "skip",
    "spike_window": 4,
    "spike_sigmas": 0.1,  # nearly every second step is above that, and left out
    "max_skipped": STEPS,
}
Config = TypeVar("Config")


def guarded(config: Config, **changes: object) -> Config:
    """A step's config whose training saves half way, and leaves out some of its batches."""
    training = dataclasses.replace(config.training, **GUARDED | changes)  # type: ignore[attr-defined]
    return dataclasses.replace(config, training=training)  # type: ignore[type-var]


def half_way(run: Path) -> Path:
    """The checkpoint of the middle of a run."""
    return run / "scratch" / "checkpoints" / f"step-{HALF:06d}"


def go_on_over_a_damaged_checkpoint(start: Callable[[Path], object], whole: Path, folder: Path) -> None:
    """Starts again beside a run's checkpoints, the last of which is damaged, and compares what is written."""
    shutil.copytree(whole / "scratch" / "checkpoints", folder / "scratch" / "checkpoints")
    shutil.copy(whole / "scratch" / "quarantine.jsonl", folder / "scratch")
    last = folder / "scratch" / "checkpoints" / f"step-{STEPS:06d}"
    content = bytearray((last / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (last / "model.safetensors").write_bytes(content)
    start(folder)
    said = [line.get("text") for line in _lines(folder / "journal.jsonl")]
    assert f"checkpoint {last.name} is skipped: model.safetensors is not what was written" in said
    assert f"training continues from step {HALF}" in said
    written = [path.relative_to(whole) for path in (whole / "output").rglob("*") if path.is_file()]
    assert len(written) > 3
    for path in written:
        assert (folder / path).read_bytes() == (whole / path).read_bytes(), path


def hand_over(start: Callable[[Config, Path], object], config: Config, folder: Path) -> None:
    """Begins on two ranks at ZeRO-3, goes on on one with plain torch, and compares with one rank all the way.

    Args:
        start: Runs the step in a folder.
        config: Of the step, without dropout.
        folder: Where the three runs go.
    """
    alone = guarded(config, spike="off", engine="plain", ranks=1)
    micro = alone.training.batch_size // 2  # type: ignore[attr-defined]
    start(guarded(config, spike="off", engine="deepspeed", ranks=2, zero_stage=3, micro_batch=micro), folder / "two")
    shutil.copytree(half_way(folder / "two"), half_way(folder / "on"))
    start(alone, folder / "on")
    start(alone, folder / "whole")
    curves = [json.loads((folder / name / "output" / "curve.json").read_text()) for name in ("on", "whole")]
    assert curves[0][-1]["step"] == STEPS
    for row, same in zip(*curves, strict=True):
        assert row == pytest.approx(same, rel=1e-3, abs=1e-6)


def left_out(run: Path, known: Collection[str]) -> list[dict[str, object]]:
    """The batches that a run left out: each names what was in it."""
    lines = _lines(run / "output" / "quarantine.jsonl")
    assert lines
    for line in lines:
        assert line["documents"], line
        assert set(line["documents"]) <= set(known)
        assert len(line["documents"]) == len(set(line["documents"]))
    return lines


def _lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
