"""The training loop of every stage: pretraining, SFT, reward model.

Signatures others build on (`Task`, `Batch` and `to_device` are in `task`):
    train(rank, config: TrainingConfig, engine, task, scratch: Path, clock, files: ModelFiles, origin)
    TrainResult: steps, curve, loss, seconds, tokens, tokens_per_second, skipped, counts, goodput

What a step costs beside forward, backward and update is one all-reduce of five numbers: the loss, "were we asked to
stop, or to save", and where the rank believes to be. It comes before the update, so that the guard (`stability`) can
judge loss and gradient together; all ranks judge, stop, save and give up at the same step, and no rank waits for one
that has left. All that the loop knows is in `_State`, a checkpoint holds all of it, and a run that was killed ends with
the bits of one that was not.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TypeAlias, cast

import torch

from components.context import Json, Rank
from components.errors import Preempted
from components.training.checkpoint import (
    Checkpoint,
    ModelFiles,
    NamedWeights,
    agree_on_checkpoint,
    load_engine,
    open_checkpoint,
    restore_rng,
    rng_tensors,
)
from components.training.config import TrainingConfig
from components.training.engine import Engine, StepReport
from components.training.metrics import Mean, bits_per_byte, describe
from components.training.reporting import Reporter
from components.training.saving import Saver
from components.training.schedule import lr_at
from components.training.stability import QUARANTINE, Guard, GuardState, Quarantine, describe_batch
from components.training.task import Batch, Ordered, Spelled, Task, Traceable, to_device
from components.training.watchdog import Watchdog

Clock: TypeAlias = Callable[[], float]

__all__ = ["Batch", "Task", "TrainResult", "to_device", "train"]


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
        skipped: Steps whose update was left out.
        counts: What else happened to steps, by name, see `GuardState`.
        goodput: Share of the time of all sessions that was spent in steps the model still owes something to.
    """

    steps: int
    curve: list[dict[str, float]]
    loss: float
    seconds: float
    tokens: int
    tokens_per_second: float
    skipped: int
    counts: dict[str, int] = field(default_factory=dict, compare=False)
    goodput: float = field(default=math.nan, compare=False)


@dataclass
class _State:
    """All that the loop knows between two steps."""

    step: int = 0
    tokens: int = 0
    seconds: float = 0.0
    guard: GuardState = field(default_factory=GuardState)
    since_log: Mean = field(default_factory=Mean)
    since_evaluation: Mean = field(default_factory=Mean)
    curve: list[dict[str, float]] = field(default_factory=list)

    @classmethod
    def of(cls, checkpoint: Checkpoint) -> _State:
        """As it was saved."""
        values = dict(cast(dict[str, Json], checkpoint.state()["training"]))
        means = {name: Mean(**cast(dict[str, float], values.pop(name))) for name in ("since_log", "since_evaluation")}
        guard = GuardState(**values.pop("guard"))  # type: ignore[arg-type]
        return cls(guard=guard, **means, **values)  # type: ignore[arg-type]


@dataclass(frozen=True)
class _Step:
    """What one step did: its loss per unit, what the engine said, why it was left out, and what we were asked to do."""

    loss: float
    report: StepReport
    reason: str
    stop: bool
    save: bool


def train(
    rank: Rank,
    config: TrainingConfig,
    engine: Engine,
    task: Task,
    scratch: Path,
    clock: Clock = time.perf_counter,
    files: ModelFiles | None = None,
    origin: Path | None = None,
) -> TrainResult:
    """Trains to `config.steps`, from the newest checkpoint in `scratch` if there is one.

    Args:
        rank: This process; rank 0 logs.
        config: Steps, schedule and intervals.
        engine: Holds model and optimizer; left holding the trained model.
        task: Batches, loss and evaluation.
        scratch: All ranks can read it. Checkpoints live in its folder `checkpoints`, batches that were left out are
            in `quarantine.jsonl`, and `heartbeats` tells where each rank is.
        clock: Seconds since some moment.
        files: How a checkpoint's weights are laid out; by our own names where none is given.
        origin: A checkpoint of another training to go on from, at its step, where `scratch` has none yet.

    Returns:
        The same on every rank, but for the times.

    Raises:
        Preempted: The run was asked to stop: a checkpoint is saved.
        StepError: More steps were skipped, or more rewinds made, than the config allows.
        MachineError: A checkpoint could not be written.
    """
    with Watchdog(rank, scratch / "heartbeats", config.hang_timeout_s) as watchdog:
        run = _Run(rank, config, engine, task, scratch, clock, files or NamedWeights(), watchdog)
        try:
            run.resume(origin)
            engine.module.train()
            while run.state.step < config.steps:
                run.advance()
            return run.finish()
        finally:
            run.close()


class _Run:
    """One call of `train`: the state and what acts on it."""

    def __init__(
        self,
        rank: Rank,
        config: TrainingConfig,
        engine: Engine,
        task: Task,
        scratch: Path,
        clock: Clock,
        files: ModelFiles,
        watchdog: Watchdog,
    ) -> None:
        self.state = _State()
        self._rank, self._config, self._engine, self._task = rank, config, engine, task
        self._clock, self._files, self._watchdog = clock, files, watchdog
        self._folder = scratch / "checkpoints"
        self._guard = Guard(config, self.state.guard)
        self._quarantine = Quarantine(scratch / QUARANTINE)
        self._reporter = Reporter(rank, config, clock, watchdog.wall_before_s)
        self._saver = Saver(self._folder)
        self._saved_step = -1
        self._spelled = task if isinstance(task, Spelled) else None

    def resume(self, origin: Path | None) -> None:
        """Continues from the newest checkpoint that is whole or from another training's, or starts at step 0."""
        checkpoint = agree_on_checkpoint(self._engine, self._folder, self._say)
        if checkpoint is None and origin is not None:
            checkpoint = open_checkpoint(origin)
        if checkpoint is not None:
            if not self._load(checkpoint):
                self._say("the random state is that of another number of ranks and was not restored")
            self._say(f"training continues from step {self.state.step}")
            self._saved_step = self.state.step if checkpoint.path.parent == self._folder else -1
        self.state.guard.repeated += max(0, self._watchdog.step_before - self.state.step)
        self._quarantine.remind(self.state.guard)
        self._reporter.meet(self._engine, self._task)
        if self._saved_step < 0 and self._config.spike == "rewind":
            self._save()
        self._reporter.show(self.state.step, "starting")
        self._watchdog.at("starting", self.state.step, anew=True)

    def advance(self) -> None:
        """One optimizer step, or the way back to a checkpoint, and what falls due after it."""
        state, lr = self.state, lr_at(self._config, self.state.step)
        if state.step in state.guard.quarantined:
            state.step += 1
            self._say(f"the batch of step {state.step} is left out")
            self._after(lr, None)
            return
        step = self._step(lr)
        if self._guard.rewinds_for(step.reason):
            self._rewind(step)
            return
        self._count(step)
        state.step += 1
        note = describe(step.loss, lr, state.guard.skipped, state.curve[-1] if state.curve else {})
        self._reporter.show(state.step, note, state.step == self._config.steps)
        self._after(lr, step)

    def finish(self) -> TrainResult:
        """Waits until the last checkpoint is on disk, on all ranks, and sums up."""
        self._watchdog.at("saving", self.state.step, anew=True)
        self._saver.finish(self._engine)
        state, wall_s = self.state, self._reporter.wall_s
        rate = state.tokens / state.seconds if state.seconds else 0.0
        loss, counts = state.curve[-1]["train_loss"], state.guard.counts()
        goodput = state.seconds / wall_s if wall_s else math.nan
        return TrainResult(
            state.step, state.curve, loss, state.seconds, state.tokens, rate, counts["skipped"], counts, goodput
        )

    def close(self) -> None:
        """Lets a write that is under way end."""
        self._saver.close()

    def _step(self, lr: float) -> _Step:
        engine, task, number = self._engine, self._task, self.state.step
        start = self._clock()
        self._watchdog.at("reading data", number)
        units = task.units(number)
        batches = task.micro_batches(number, engine.rank, engine.world_size)
        wait_s = self._clock() - start
        total = torch.zeros((), dtype=torch.float64, device=engine.device)
        for batch in batches:
            self._watchdog.at("computing", number)
            loss = task.loss(engine.module, to_device(batch, engine.device))
            engine.backward(loss / units)
            total += loss.detach()
        self._watchdog.at("waiting for the others", number)
        loss_sum, stop, save = self._exchange(float(total))
        self._watchdog.at("updating", number)
        report = engine.step(lr, self._guard.gate(loss_sum / units))
        step_s = self._clock() - start
        self._watchdog.at("between steps", number + 1, anew=True)
        self.state.seconds += step_s
        tokens = task.tokens(number)
        self.state.tokens += tokens
        self._reporter.count(number + 1, tokens, step_s, wait_s)
        reason = self._guard.settle(loss_sum / units, report)
        if not reason:
            self.state.since_log.add(loss_sum, units)
            self.state.since_evaluation.add(loss_sum, units)
        return _Step(loss_sum / units, report, reason, stop, save)

    def _exchange(self, loss: float) -> tuple[float, bool, bool]:
        """The one all-reduce of a step: the loss of all ranks, and what rank 0 was asked to do."""
        self._saver.check()
        engine, channel, leads = self._engine, self._rank.channel, self._rank.rank == 0
        words = [float(leads and channel.should_stop()), float(leads and channel.take_save())]
        place = [float(self.state.step), float(self.state.guard.skipped)]
        total, stop, save, *places = engine.sum_over_ranks([loss, *words, *place])
        if places != [engine.world_size * one for one in place]:
            raise RuntimeError(
                f"rank {self._rank.rank} believes to be at step and skipped steps {place}, others do not"
            )
        return total, stop > 0, save > 0

    def _count(self, step: _Step) -> None:
        """Tells of a step that was left out; it never enters a mean."""
        state, reporter = self.state, self._reporter
        if not step.reason:
            return
        reporter.log({**state.guard.happened(), "grad_norm": step.report.grad_norm}, state.step + 1)
        if not step.report.rescaled:
            self._record(step, "skip")
        self._guard.check(state.step + 1, step.reason)

    def _rewind(self, step: _Step) -> None:
        """Goes back to the newest checkpoint; the batch of this step will be left out. Collective."""
        at = self.state.step
        self._guard.go_back(at + 1, step.reason)
        self._record(step, "rewind")
        self._watchdog.at("going back", at, anew=True)
        checkpoint = self._saver.newest(self._engine, self._say)
        repeated = self.state.guard.repeated + at - checkpoint.step
        self._load(checkpoint)
        self.state.guard.repeated = repeated
        self._quarantine.remind(self.state.guard)
        self._say(f"back from step {at + 1} to step {checkpoint.step}, because {step.reason}; its batch is left out")
        self._watchdog.at("going on", checkpoint.step, anew=True)

    def _record(self, step: _Step, action: str) -> None:
        at, size = self.state.step, self._config.batch_size
        documents: list[str] = []
        if self._rank.rank == 0 and isinstance(self._task, Traceable):
            documents = self._task.documents(at)
        rows = (at * size, (at + 1) * size)
        record = describe_batch(at, step.reason, step.loss, step.report, action, rows, documents)
        self._quarantine.add(record, write=self._rank.rank == 0)

    def _load(self, checkpoint: Checkpoint) -> bool:
        """Puts everything where a checkpoint has it. Collective.

        Returns:
            False if the random state could not be restored.
        """
        load_engine(self._engine, checkpoint, self._files)
        self.state = _State.of(checkpoint)
        self._guard = Guard(self._config, self.state.guard)
        self._saved_step = self.state.step
        self._quarantine.forget_from(self.state.step)
        return restore_rng(self._engine, checkpoint)

    def _after(self, lr: float, step: _Step | None) -> None:
        """What falls due after a step; there is no report of one whose batch was left out."""
        state, config = self.state, self._config
        last = state.step == config.steps
        if step is not None and (last or state.step % config.log_every == 0):
            self._log(lr, step.report)
        if last or (config.eval_every and state.step % config.eval_every == 0):
            self._evaluate()
        asked = step is not None and (step.stop or step.save)
        if asked or last or (config.checkpoint_every and state.step % config.checkpoint_every == 0):
            self._save()
        if step is not None and step.stop and not last:
            self._watchdog.at("saving", state.step, anew=True)
            self._saver.finish(self._engine)
            raise Preempted(
                f"Training was stopped after step {state.step} of {config.steps}; a checkpoint is saved.",
                fix="run again: training continues from there",
            )

    def _log(self, lr: float, report: StepReport) -> None:
        state = self.state
        loss = state.since_log.take()
        values = {"loss": loss, "lr": lr, "grad_norm": report.grad_norm}
        if self._spelled is not None:
            values["bits_per_byte"] = bits_per_byte(loss, self._spelled.bytes_per_unit())
        self._reporter.line({**values, **state.guard.happened()}, state.step, state.seconds, self._engine)

    def _evaluate(self) -> None:
        state, engine = self.state, self._engine
        self._watchdog.at("evaluating", state.step, anew=True)
        engine.module.eval()
        with torch.no_grad(), self._watchdog.following(engine.module):
            scores = self._task.evaluate(engine, state.step)
        engine.module.train()
        state.curve.append({"step": state.step, "train_loss": state.since_evaluation.take(), **scores})
        self._reporter.log(scores, state.step)
        self._watchdog.at("between steps", state.step, anew=True)

    def _save(self) -> None:
        state, engine = self.state, self._engine
        if self._saved_step == state.step:
            return
        start, lead = self._clock(), self._rank.rank == 0
        self._watchdog.at("saving", state.step, anew=True)
        self._saver.wait()
        tensors = {"optimizer": engine.optimizer_state(lead), **rng_tensors(engine)}
        weights = engine.full_weights(lead)
        if lead:
            self._saver.start(state.step, [(self._files, weights)], tensors, self._snapshot())
        self._saved_step = state.step
        self._reporter.stalled(self._clock() - start, state.step, state.seconds / max(1, state.step))
        self._watchdog.at("between steps", state.step, anew=True)

    def _snapshot(self) -> Mapping[str, Json]:
        """What a checkpoint says in plain values."""
        state, config = self.state, self._config
        names = ("schedule", "steps", "lr", "min_lr_ratio", "warmup_steps", "decay_share", "decay_shape")
        schedule: dict[str, Json] = {name: getattr(config, name) for name in names}
        position: dict[str, Json] = {"samples": state.step * config.batch_size, "batch_size": config.batch_size}
        if isinstance(self._task, Ordered):
            position["order"] = cast(Json, self._task.order())
        return {
            "step": state.step,
            "position": position,
            "schedule": schedule,
            "training": cast(dict[str, Json], asdict(state)),
        }

    def _say(self, sentence: str) -> None:
        self._reporter.say(sentence, self.state.step)
