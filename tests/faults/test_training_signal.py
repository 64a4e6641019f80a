"""`python -m components.pretrain` that is told to end while a checkpoint is being written."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import torch

from components.context import local_context
from components.pretrain.config import PretrainConfig
from components.pretrain.step import pretrain
from components.standalone import run_alone
from tests.components.pretrain.conftest import CONFIG, world  # noqa: F401  (a fixture; found by its name)

ROOT = Path(__file__).resolve().parents[2]
STEPS = 30
SIGNALLED = dataclasses.replace(
    CONFIG,
    training=dataclasses.replace(CONFIG.training, steps=STEPS, checkpoint_every=2),
    samples=(),
)


def end_in_a_save(process: subprocess.Popen[bytes], checkpoints: Path, how: signal.Signals = signal.SIGTERM) -> None:
    """Sends a signal while a draft lies there beside a checkpoint.

    The process is held still meanwhile, so that the draft stays one.
    """
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        assert process.poll() is None, "it ended before a checkpoint was seen being written"
        if any(checkpoints.glob("step-*")) and any(checkpoints.glob(".step-*.tmp")):
            os.kill(process.pid, signal.SIGSTOP)
            os.waitpid(process.pid, os.WUNTRACED)
            drafts = list(checkpoints.glob(".step-*.tmp"))
            if drafts:
                os.kill(process.pid, how)
            os.kill(process.pid, signal.SIGCONT)
            if drafts:
                return
        time.sleep(0.0005)
    raise AssertionError("no checkpoint was seen being written in two minutes")


def test_a_sigterm_during_a_save_costs_no_bit(world, tmp_path):  # noqa: F811
    torch.set_num_threads(1)
    (tmp_path / "config.json").write_text(json.dumps(dataclasses.asdict(SIGNALLED)))
    inputs = [f"tokens={world.tokens}", f"tokenizer={world.tokenizer}"]
    killed = tmp_path / "killed"
    words = ["--config", str(tmp_path / "config.json"), "--output", str(killed), *inputs]
    command = [sys.executable, "-m", "components.pretrain", *words]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    checkpoints = killed / "scratch" / "checkpoints"
    with subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.DEVNULL) as process:
        end_in_a_save(process, checkpoints)
        assert process.wait(120) == 3
    assert not list(checkpoints.glob(".step-*.tmp"))
    reached = max(int(path.name[5:]) for path in checkpoints.glob("step-*"))
    assert 0 < reached < STEPS
    run_alone(pretrain, PretrainConfig, words)
    said = (killed / "journal.jsonl").read_text(encoding="utf-8")
    assert f"training continues from step {reached}" in said

    whole = local_context("pretrain", tmp_path / "whole", SIGNALLED.seed)
    pretrain(whole, SIGNALLED, tokens=world.tokens, tokenizer=world.tokenizer)
    for name in ("model/model.safetensors", "curve.json"):
        assert (killed / "output" / name).read_bytes() == (whole.output / name).read_bytes(), name
