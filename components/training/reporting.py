"""Rank 0's voice: lines of metrics, the live table's note, sentences. The other ranks hold one too, and it is silent.

`Reporter` only keeps what a line needs about the time since the line before; what the numbers mean, and how they are
computed, is in `metrics`.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from components.context import Rank
from components.model.flops import CONVENTIONS
from components.training.config import TrainingConfig
from components.training.devices import device_name, measure_peak, peak_flops
from components.training.engine import Engine
from components.training.metrics import Machine, Window, peak_memory, speed, time_shares
from components.training.precision import compute_dtype
from components.training.task import Costed

Clock = Callable[[], float]
PROGRESS_EVERY_S = 1.0


class Reporter:
    """Tells how a training goes.

    Args:
        rank: This process; rank 0 speaks.
        config: Steps, and whether a peak is measured.
        clock: Seconds since some moment.
        wall_before_s: Seconds of the sessions before this one.
    """

    def __init__(self, rank: Rank, config: TrainingConfig, clock: Clock, wall_before_s: float) -> None:
        self.speaks = rank.rank == 0
        self.stalls: list[float] = []
        self.first_step_s: float | None = None
        self._rank, self._config, self._clock = rank, config, clock
        self._machine = Machine({}, None, None, rank.world_size)
        self._began = self._since = clock()
        self._wall_before_s = wall_before_s
        self._shown_at = self._began - PROGRESS_EVERY_S
        self._steps, self._tokens, self._step_s, self._wait_s = 0, 0, 0.0, 0.0

    @property
    def wall_s(self) -> float:
        """Seconds of all sessions so far."""
        return self._wall_before_s + self._clock() - self._began

    def meet(self, engine: Engine, task: object) -> None:
        """Finds out what the task costs and what the devices can do; says what will be missing from the metrics."""
        told = {name: task.flops_per_token(name) for name in CONVENTIONS} if isinstance(task, Costed) else {}
        flops: dict[str, float] = {name: value for name, value in told.items() if math.isfinite(value)}
        name = device_name(engine.device)
        peak = peak_flops(name)
        gemm = None
        if self._config.measure_peak:  # on all ranks at once, as they will train
            gemm = measure_peak(engine.device, compute_dtype(self._config, engine.device))
        self._machine = Machine(flops, peak, gemm, self._rank.world_size)
        if flops and peak is None:
            self.say(f"mfu is left out: no peak is known for the device {name!r}", 0)

    def count(self, step: int, tokens: int, step_s: float, wait_s: float) -> None:
        """A step was done; the first of a session is told how long the session took to get there."""
        if self.first_step_s is None:
            self.first_step_s = self._clock() - self._began
            self.log({"first_step_s": self.first_step_s}, step)
        self._steps, self._tokens = self._steps + 1, self._tokens + tokens
        self._step_s, self._wait_s = self._step_s + step_s, self._wait_s + wait_s

    def line(self, values: dict[str, float], step: int, useful_s: float, engine: Engine) -> None:
        """Logs values beside speed, time and memory since the line before."""
        now = self._clock()
        window = Window(self._steps, self._tokens, self._step_s, self._wait_s, now - self._since)
        self._since = now
        self._steps, self._tokens, self._step_s, self._wait_s = 0, 0, 0.0, 0.0
        if not self.speaks:
            return
        shares = time_shares(window, self._config.steps - step, useful_s, self.wall_s)
        self.log({**values, **speed(window, self._machine), **shares, **peak_memory(engine.device)}, step)

    def log(self, values: dict[str, float], step: int) -> None:
        """Logs some values."""
        if self.speaks:
            self._rank.channel.log(values, step)

    def stalled(self, seconds: float, step: int, step_s: float) -> None:
        """Training stood still for a save."""
        self.stalls.append(seconds)
        in_steps = {"checkpoint_stall_steps": seconds / step_s} if step_s else {}
        self.log({"checkpoint_stall_s": seconds, **in_steps}, step)

    def show(self, step: int, note: str, force: bool = False) -> None:
        """Tells the live table, once a second at most."""
        now = self._clock()
        if self.speaks and (force or now - self._shown_at >= PROGRESS_EVERY_S):
            self._rank.channel.progress(step, self._config.steps, "steps", note)
            self._shown_at = now

    def say(self, sentence: str, step: int) -> None:
        """Keeps a sentence in the journal."""
        if self.speaks:
            self._rank.channel.text("training", sentence, step)
