"""`python -m components.ppo` that is ended while a checkpoint is being written, or whose judge says nothing."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from components.context import local_context
from components.ppo.config import PpoConfig
from components.ppo.step import ppo
from components.standalone import main, run_alone
from tests.components.ppo.conftest import CONFIG, world  # noqa: F401  (a fixture; found by its name)
from tests.components.ppo.faulty import results
from tests.faults.test_training_signal import ROOT, end_in_a_save

UPDATES = 8
SIGNALLED = dataclasses.replace(
    CONFIG, training=dataclasses.replace(CONFIG.training, steps=UPDATES, checkpoint_every=1), kl_target=0.3
)


INPUTS = ("policy", "reward", "preferences")


def arguments(folder: Path, reward: Path, root: Path) -> list[str]:
    (folder / "config.json").write_text(json.dumps(dataclasses.asdict(SIGNALLED)))
    inputs = [f"policy={root / 'policy'}", f"reward={reward}", f"preferences={root / 'preferences'}"]
    return ["--config", str(folder / "config.json"), "--output", str(folder / "alone"), *inputs]


@pytest.fixture(scope="module")
def undisturbed(world, tmp_path_factory) -> dict[str, bytes]:  # noqa: F811
    torch.set_num_threads(1)
    context = local_context("ppo", tmp_path_factory.mktemp("whole"), SIGNALLED.seed)
    ppo(context, SIGNALLED, **{name: world / name for name in INPUTS})
    return results(context.output)


@pytest.mark.parametrize(
    ("how", "code"),
    [(signal.SIGKILL, -signal.SIGKILL), pytest.param(signal.SIGTERM, 3, marks=pytest.mark.slow)],
)
def test_an_end_during_a_save_costs_no_bit(world, undisturbed, tmp_path, how, code):  # noqa: F811
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    words, checkpoints = arguments(tmp_path, world / "reward", world), tmp_path / "alone/scratch/checkpoints"
    command = [sys.executable, "-m", "components.ppo", *words]
    with subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.DEVNULL) as process:
        end_in_a_save(process, checkpoints, how)
        assert process.wait(120) == code
    run_alone(ppo, PpoConfig, words)
    assert not list(checkpoints.glob(".step-*.tmp"))
    assert "training continues from update" in (tmp_path / "alone/journal.jsonl").read_text(encoding="utf-8")
    assert results(tmp_path / "alone" / "output") == undisturbed


def test_a_judge_that_gives_no_numbers_ends_the_run_with_one_sentence(world, tmp_path, capsys):  # noqa: F811
    shutil.copytree(world / "reward", tmp_path / "reward")
    path = tmp_path / "reward" / "model" / "model.safetensors"
    weights = load_file(path)
    save_file({**weights, "score.weight": weights["score.weight"] * torch.nan}, path, metadata={"format": "pt"})
    with pytest.raises(SystemExit) as end:
        main(ppo, PpoConfig, [*arguments(tmp_path, tmp_path / "reward", world), "training.max_skipped=5"])
    assert end.value.code == 1
    said = capsys.readouterr().err
    first = next(line for line in said.splitlines() if line.startswith("ppo: "))
    assert first.startswith("ppo: Training skipped 6 steps, last 6 because what it was to learn is not finite.")
    assert "Traceback" not in said
