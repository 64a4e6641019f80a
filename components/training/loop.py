"""The training loop of every stage: pretraining, SFT, reward model.

Signatures others build on:
    class Task(Protocol):                         all of it pure functions of `step`: that is the data position
        micro_batches(step, rank, world_size) -> Sequence[Batch]      equally many on every rank (ZeRO-3 needs it)
        units(step) -> float                      global number of loss units of the step (tokens, pairs)
        tokens(step) -> int                       global number of tokens the step reads, for tokens per second
        loss(module, batch) -> Tensor             SUM of the loss over the batch's units; the batch is on the device
        evaluate(engine, step) -> dict[str, float]    collective; under no_grad and module.eval(); sums over ranks by
                                                  engine.sum_over_ranks; equally many forward passes on every rank
    Batch = dict[str, Tensor]                     on the CPU; the loop moves it
    train(rank, config: TrainingConfig, engine, task, scratch: Path) -> TrainResult
    TrainResult: steps, curve, loss, seconds, tokens, tokens_per_second, skipped

What a step costs beside forward, backward and update is one all-reduce of three numbers: the loss and "were we asked
to stop, or to save". So all ranks stop, save and give up at the same step, and no rank waits for one that has left. All
that the loop knows is in `_State`, a checkpoint holds all of it, and a run that was killed ends with the bits of one
that was not.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Protocol, TypeAlias, cast

import torch
from torch import Tensor, nn

from components.context import Json, Rank
from components.errors import Preempted, StepError
from components.training.checkpoint import (
    agree_on_checkpoint,
    engine_tensors,
    load_engine,
    restore_rng,
    rng_tensors,
    save_checkpoint,
)
from components.training.config import TrainingConfig
from components.training.engine import Engine, StepReport
from components.training.metrics import Mean, describe
from components.training.schedule import lr_at

Batch: TypeAlias = dict[str, Tensor]
Clock: TypeAlias = Callable[[], float]
PROGRESS_EVERY_S = 1.0


class Task(Protocol):
    """What is learned: batches, loss and evaluation. Pure functions of the step, so resume needs no data state."""

    def micro_batches(self, step: int, rank: int, world_size: int) -> Sequence[Batch]:
        """This rank's part of a step's batch, cut into micro-batches; equally many on every rank."""

    def units(self, step: int) -> float:
        """Number of loss units of the step on all ranks together (tokens, pairs): what the loss is divided by."""

    def tokens(self, step: int) -> int:
        """Number of tokens the step reads on all ranks together."""

    def loss(self, module: nn.Module, batch: Batch) -> Tensor:
        """SUM of the loss over the batch's units, a scalar with gradient."""

    def evaluate(self, engine: Engine, step: int) -> dict[str, float]:
        """Scores the model after `step` steps, the same on every rank. Collective."""


@dataclass(frozen=True)
class TrainResult:
    """What training came to.

    Attributes:
        steps: Optimizer steps done, skipped ones included.
        curve: One row per evaluation: "step", "train_loss" (mean per unit since the row before) and its metrics.
        loss: Mean training loss per unit since the second last evaluation.
        seconds: Time spent in training steps (not evaluating or saving), over all sessions of a resumed run.
        tokens: Tokens read.
        tokens_per_second: Tokens over seconds.
        skipped: Steps skipped because their gradient was not finite.
    """

    steps: int
    curve: list[dict[str, float]]
    loss: float
    seconds: float
    tokens: int
    tokens_per_second: float
    skipped: int


@dataclass
class _State:
    """All that the loop knows between two steps."""

    step: int = 0
    skipped: int = 0
    tokens: int = 0
    seconds: float = 0.0
    logged_tokens: int = 0
    logged_seconds: float = 0.0
    since_log: Mean = field(default_factory=Mean)
    since_evaluation: Mean = field(default_factory=Mean)
    curve: list[dict[str, float]] = field(default_factory=list)

    def result(self) -> TrainResult:
        rate = self.tokens / self.seconds if self.seconds else 0.0
        loss = self.curve[-1]["train_loss"]
        return TrainResult(self.step, self.curve, loss, self.seconds, self.tokens, rate, self.skipped)


def train(
    rank: Rank,
    config: TrainingConfig,
    engine: Engine,
    task: Task,
    scratch: Path,
    clock: Clock = time.perf_counter,
) -> TrainResult:
    """Trains to `config.steps`, from the newest checkpoint in `scratch` if there is one.

    Args:
        rank: This process; rank 0 logs.
        config: Steps, schedule and intervals.
        engine: Holds model and optimizer; left holding the trained model.
        task: Batches, loss and evaluation.
        scratch: Checkpoints live in its folder `checkpoints`, which all ranks can read.
        clock: Seconds since some moment.

    Returns:
        The same on every rank, but for the times.

    Raises:
        Preempted: The run was asked to stop: a checkpoint is saved.
        StepError: More than `config.max_skipped` steps had a gradient that is not finite.
        MachineError: A checkpoint could not be written.
    """
    run = _Run(rank, config, engine, task, scratch / "checkpoints", clock)
    run.resume()
    engine.module.train()
    while run.state.step < config.steps:
        run.advance()
    return run.state.result()


def to_device(batch: Batch, device: torch.device) -> Batch:
    """The batch on a device; itself where it already is."""
    return {name: tensor.to(device, non_blocking=True) for name, tensor in batch.items()}


class _Run:
    """One call of `train`: the state and what acts on it."""

    def __init__(
        self, rank: Rank, config: TrainingConfig, engine: Engine, task: Task, folder: Path, clock: Clock
    ) -> None:
        self.state = _State()
        self._rank, self._config, self._engine, self._task = rank, config, engine, task
        self._folder, self._clock = folder, clock
        self._saved_step = -1
        self._shown_at = -PROGRESS_EVERY_S

    def resume(self) -> None:
        """Continues from the newest checkpoint that is whole, or starts at step 0."""
        checkpoint = agree_on_checkpoint(self._engine, self._folder, self._say)
        if checkpoint is not None:
            load_engine(self._engine, checkpoint)
            self.state = _from_json(checkpoint.state())
            self._saved_step = self.state.step
            if not restore_rng(self._engine, checkpoint):
                self._say("the random state is that of another number of ranks and was not restored")
            self._say(f"training continues from step {self.state.step}")
        self._show("starting")

    def advance(self) -> None:
        """One optimizer step, and what falls due after it."""
        state, config = self.state, self._config
        lr = lr_at(config, state.step)
        start = self._clock()
        units = self._task.units(state.step)
        report, loss, stop, save = self._step(lr, units)
        state.seconds += self._clock() - start
        state.tokens += self._task.tokens(state.step)
        self._count(report, loss, units)
        state.step += 1
        last = state.step == config.steps
        self._show(describe(loss / units, lr, state.skipped, self._last_row()), last)
        if last or state.step % config.log_every == 0:
            self._log(lr, report)
        if last or (config.eval_every and state.step % config.eval_every == 0):
            self._evaluate()
        if stop or save or last or (config.checkpoint_every and state.step % config.checkpoint_every == 0):
            self._save()
        if stop and not last:
            raise Preempted(
                f"Training was stopped after step {state.step} of {config.steps}; a checkpoint is saved.",
                fix="run again: training continues from there",
            )

    def _step(self, lr: float, units: float) -> tuple[StepReport, float, bool, bool]:
        engine, task, step = self._engine, self._task, self.state.step
        total = torch.zeros((), dtype=torch.float64, device=engine.device)
        for batch in task.micro_batches(step, engine.rank, engine.world_size):
            loss = task.loss(engine.module, to_device(batch, engine.device))
            engine.backward(loss / units)
            total += loss.detach()
        report = engine.step(lr)
        channel, leads = self._rank.channel, self._rank.rank == 0
        words = [float(leads and channel.should_stop()), float(leads and channel.take_save())]
        loss_sum, stop, save = engine.sum_over_ranks([float(total), *words])
        return report, loss_sum, stop > 0, save > 0

    def _count(self, report: StepReport, loss: float, units: float) -> None:
        """Counts a step; a skipped one is logged at once and never enters a mean."""
        state, config = self.state, self._config
        if not report.skipped:
            state.since_log.add(loss, units)
            state.since_evaluation.add(loss, units)
            return
        state.skipped += 1
        if self._rank.rank == 0:
            self._rank.channel.log({"skipped": state.skipped, "grad_norm": report.grad_norm}, state.step + 1)
        if state.skipped > config.max_skipped:
            raise StepError(
                f"Training skipped {state.skipped} steps with a gradient that is not finite, last {state.step + 1}.",
                where=f"training.max_skipped={config.max_skipped}",
                fix=f"lower training.lr={config.lr:g} or lengthen training.warmup_steps={config.warmup_steps}",
            )

    def _log(self, lr: float, report: StepReport) -> None:
        state = self.state
        seconds, tokens = state.seconds - state.logged_seconds, state.tokens - state.logged_tokens
        state.logged_seconds, state.logged_tokens = state.seconds, state.tokens
        loss = state.since_log.take()
        if self._rank.rank == 0:
            values = {"loss": loss, "lr": lr, "grad_norm": report.grad_norm, "tokens_per_second": tokens / seconds}
            self._rank.channel.log(values, state.step)

    def _evaluate(self) -> None:
        state, engine = self.state, self._engine
        engine.module.eval()
        with torch.no_grad():
            scores = self._task.evaluate(engine, state.step)
        engine.module.train()
        state.curve.append({"step": state.step, "train_loss": state.since_evaluation.take(), **scores})
        if self._rank.rank == 0:
            self._rank.channel.log(scores, state.step)

    def _save(self) -> None:
        state, engine = self.state, self._engine
        if self._saved_step == state.step:
            return
        tensors = {**engine_tensors(engine), **rng_tensors(engine)}
        if self._rank.rank == 0:
            save_checkpoint(self._folder, state.step, tensors, cast(Mapping[str, Json], asdict(state)))
        self._saved_step = state.step

    def _last_row(self) -> dict[str, float]:
        return self.state.curve[-1] if self.state.curve else {}

    def _show(self, note: str, force: bool = False) -> None:
        now = self._clock()
        if self._rank.rank == 0 and (force or now - self._shown_at >= PROGRESS_EVERY_S):
            self._rank.channel.progress(self.state.step, self._config.steps, "steps", note)
            self._shown_at = now

    def _say(self, sentence: str) -> None:
        if self._rank.rank == 0:
            self._rank.channel.text("training", sentence, self.state.step)


def _from_json(saved: dict[str, Json]) -> _State:
    values = dict(saved)
    means = {name: Mean(**cast(dict[str, float], values.pop(name))) for name in ("since_log", "since_evaluation")}
    return _State(**means, **values)  # type: ignore[arg-type]
