"""Trains the toy again and again while its ranks are killed, out of one process that has imported everything once.

Run as a script: killed_ranks.py ROOT FOLDER RANKS STAGE KILLS SEED. A rank is a fork of this process, so an attempt
costs a second instead of the ten that an import of torch and DeepSpeed on two ranks takes. The process that forks
computes nothing itself: threads do not survive a fork.

Writes FOLDER/result.json: the undisturbed training, the one that was killed, and the steps at which it went on.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import random
import signal
import sys
import time
from functools import partial
from pathlib import Path
from threading import Thread

ROOT = Path(sys.argv[1]) if __name__ == "__main__" else Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT))

import torch  # noqa: E402  (the root of the repository comes first)

from components.channel import Channel  # noqa: E402
from components.context import Json, Rank, free_port, read_result  # noqa: E402
from components.launching import Seat, run_rank  # noqa: E402
from components.training.config import TrainingConfig  # noqa: E402
from tests.components.training.conftest import CONFIG  # noqa: E402
from tests.components.training.toy import ToyTask, as_json, journal, run  # noqa: E402

STEPS, STEP_S = 60, 0.01


class SlowTask(ToyTask):
    """A step takes long enough to be killed in it."""

    def micro_batches(self, step: int, rank: int, world_size: int) -> list[dict[str, torch.Tensor]]:
        time.sleep(STEP_S)
        return super().micro_batches(step, rank, world_size)


def work(config: TrainingConfig, scratch: Path, kill: tuple[int, float] | None, rank: Rank) -> Json:
    """Rank function: trains; this process is killed so many steps and seconds from now, wherever it is then."""

    class Doomed(SlowTask):
        def micro_batches(self, step: int, rank: int, world_size: int) -> list[dict[str, torch.Tensor]]:
            started.append(step)
            if kill is not None and len(started) == kill[0]:
                Thread(target=die, args=kill[1:], daemon=True).start()
            return super().micro_batches(step, rank, world_size)

    def die(after_s: float) -> None:
        time.sleep(after_s)
        os.kill(os.getpid(), signal.SIGKILL)

    started: list[int] = []
    return as_json(*run(config, rank, scratch, Doomed(config), dropout=0.2))


def attempt(config: TrainingConfig, folder: Path, victim: int = -1, kill: tuple[int, float] | None = None) -> Json:
    """One launch; what rank 0 returned, None if it did not come to that."""
    launch = folder / f"launch-{time.monotonic_ns()}"
    launch.mkdir(parents=True)
    port = free_port()
    pids = []
    for number in range(config.ranks):
        pid = os.fork()
        if pid == 0:
            seat = Seat(number, config.ranks, number, config.ranks, "127.0.0.1", port)
            mine = kill if number == victim else None
            code = 1
            try:
                torch.set_num_threads(1)
                run_rank(partial(work, config, folder / "scratch", mine), seat, "cpu", Channel(folder), launch)
                code = 0
            finally:
                os._exit(code)
        pids.append(pid)
    failed = False
    for _ in pids:  # the first that fails ends the others, as launchers do
        _, status = os.wait()
        if status and not failed:
            failed = True
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
    return read_result(launch) if (launch / "result.json").exists() else None


def main(folder: Path, ranks: int, stage: int, kills: int, seed: int) -> None:
    """See the module."""
    engine = "deepspeed" if ranks > 1 else "plain"
    config = dataclasses.replace(
        CONFIG,
        steps=STEPS,
        ranks=ranks,
        engine=engine,
        zero_stage=stage,
        checkpoint_every=2,
        spike="rewind",
        spike_window=8,
    )
    os.environ["DS_ACCELERATOR"] = "cpu"
    if ranks > 1:
        import deepspeed  # noqa: F401

    whole = attempt(config, folder / "whole")
    draw = random.Random(seed)
    killed: Json = None
    done = 0
    while killed is None and done < kills:
        kill = (draw.randrange(2, 7), draw.uniform(0.0, 3 * STEP_S))
        killed = attempt(config, folder / "killed", draw.randrange(ranks), kill)
        done += killed is None
    if killed is None:
        killed = attempt(config, folder / "killed")
    said = [str(line["text"]) for line in journal(folder / "killed", "text")]
    result = {"whole": whole, "killed": killed, "kills": done, "said": said}
    (folder / "result.json").write_text(json.dumps(result))


if __name__ == "__main__":
    main(Path(sys.argv[2]), *map(int, sys.argv[3:7]))
