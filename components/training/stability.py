"""The guard: judges every step before its update, and counts what it left out.

A loss or gradient that is not finite is never taken. With `training.spike` one that stands out is not taken either:
more than `spike_sigmas` standard deviations above the mean of the last `spike_window` accepted steps, as OLMo-core and
levanter do it. "skip" leaves out the update and goes on. "rewind" goes back to the newest checkpoint, because the steps
just before a spike are often where it began, and leaves out the whole batch when it comes by again.

A verdict is a pure function of the loss and the norm, which are equal on all ranks, and of the window, which a
checkpoint holds: so all ranks judge alike, and a run that was killed judges as one that was not.

Every batch that was left out is a line of `quarantine.jsonl` with its rows and, where the task can tell, its documents.
The file is also the guard's memory across a rewind and a crash: what is known to spike is not met twice.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from components.context import Json
from components.errors import StepError
from components.publish import publish_bytes
from components.training.config import TrainingConfig
from components.training.engine import Accept, StepReport

LOSS, GRADIENT, LOSS_SPIKE, GRADIENT_SPIKE, ENGINE, LESSON = (
    "its loss is not finite",
    "its gradient is not finite",
    "its loss is a spike",
    "its gradient norm is a spike",
    "the engine refused its gradient",
    "what it was to learn is not finite",
)
QUARANTINE = "quarantine.jsonl"
SPIKES = (LOSS_SPIKE, GRADIENT_SPIKE)


@dataclass
class Window:
    """What the steps of one engine were like lately.

    Attributes:
        losses: Loss per unit of the last accepted steps, at most `spike_window`.
        norms: Their gradient norms.
        overflows_in_a_row: Steps that fp16's loss scale was too high for, since the last step that was taken.
    """

    losses: list[float] = field(default_factory=list)
    norms: list[float] = field(default_factory=list)
    overflows_in_a_row: int = 0


@dataclass
class GuardState(Window):
    """All that the guard of a training knows between two steps; a checkpoint holds it.

    Attributes:
        skipped: Steps whose update was left out.
        spikes: Those of them that were finite.
        overflows: Steps that fp16's loss scale was too high for; the engine lowers it, and they are no failure.
        clipped: Steps whose gradient was scaled down to `clip_grad`.
        rewinds: Times that training went back to a checkpoint.
        repeated: Steps done again after a rewind or a restart.
        quarantined: Steps whose batch is left out.
    """

    skipped: int = 0
    spikes: int = 0
    overflows: int = 0
    clipped: int = 0
    rewinds: int = 0
    repeated: int = 0
    quarantined: list[int] = field(default_factory=list)

    def counts(self) -> dict[str, int]:
        """What happened to steps, by name."""
        names = ("skipped", "spikes", "overflows", "clipped", "rewinds", "repeated")
        return {**{name: int(getattr(self, name)) for name in names}, "quarantined": len(self.quarantined)}

    def happened(self) -> dict[str, float]:
        """Those of the counts that are not zero, for a line of metrics."""
        return {name: float(count) for name, count in self.counts().items() if count}


class Guard:
    """Judges steps.

    Args:
        config: What a spike is, what to do about it, and how often.
        state: What happened before; kept up to date.
        window: What the steps before were like, where a training has several engines and a guard for each; of a
            training with one engine `state` tells.
    """

    def __init__(self, config: TrainingConfig, state: GuardState, window: Window | None = None) -> None:
        self.state = state
        self._window = state if window is None else window
        self._config = config

    def gate(self, loss: float) -> Accept | None:
        """What `Engine.step` asks about the gradient of a step with this loss; None where every finite one will do."""
        if self._config.spike == "off" and math.isfinite(loss):
            return None
        return lambda norm: not self.reason(loss, norm)

    def reason(self, loss: float, norm: float) -> str:
        """Why a step is not to be taken; empty if it is."""
        if not math.isfinite(loss):
            return LOSS
        if not math.isfinite(norm):
            return GRADIENT
        if self._config.spike == "off":
            return ""
        if self._is_spike(loss, self._window.losses):
            return LOSS_SPIKE
        return GRADIENT_SPIKE if self._is_spike(norm, self._window.norms) else ""

    def settle(self, loss: float, report: StepReport) -> str:
        """Takes note of a step that the engine took or left out.

        Returns:
            Why it was left out; empty if it was taken.
        """
        state, window, config = self.state, self._window, self._config
        reason = self.reason(loss, report.grad_norm) or (ENGINE if report.skipped else "")
        if not reason:
            window.overflows_in_a_row = 0
            state.clipped += 0 < config.clip_grad < report.grad_norm
            if config.spike != "off":
                window.losses = [*window.losses, loss][-config.spike_window :]
                window.norms = [*window.norms, report.grad_norm][-config.spike_window :]
        elif report.rescaled:
            state.overflows += 1
            window.overflows_in_a_row += 1
        elif not self.rewinds_for(reason):
            state.skipped += 1
            state.spikes += reason in SPIKES
        return reason

    def leave_out(self) -> None:
        """Counts a step that never came to a loss, because what it was to learn is not finite."""
        self.state.skipped += 1

    def rewinds_for(self, reason: str) -> bool:
        """True if the answer to this is to go back to a checkpoint."""
        return self._config.spike == "rewind" and reason in SPIKES

    def go_back(self, step: int, reason: str) -> None:
        """Counts a rewind; raises as `check`."""
        self.state.rewinds += 1
        self.check(step, reason)

    def check(self, step: int, reason: str) -> None:
        """Gives up if too much was left out.

        Raises:
            StepError: If more steps were skipped, or more rewinds made, than the config allows.
        """
        state, config = self.state, self._config
        calmer = f"lower training.lr={config.lr:g} or lengthen training.warmup_steps={config.warmup_steps}"
        count = max(state.skipped, self._window.overflows_in_a_row)
        if count > config.max_skipped:
            raise StepError(
                f"Training skipped {count} steps, last {step} because {reason}.",
                where=f"training.max_skipped={config.max_skipped}",
                fix=calmer,
            )
        if state.rewinds > config.max_rewinds:
            raise StepError(
                f"Training went back to a checkpoint {config.max_rewinds} times, and at step {step} {reason}.",
                where=f"training.max_rewinds={config.max_rewinds}",
                fix=f"look at quarantine.jsonl, then {calmer}",
            )

    def _is_spike(self, value: float, window: Sequence[float]) -> bool:
        if 2 * len(window) < self._config.spike_window:
            return False
        mean = math.fsum(window) / len(window)
        deviation = math.sqrt(math.fsum((one - mean) ** 2 for one in window) / len(window))
        return value > mean + self._config.spike_sigmas * deviation


class Quarantine:
    """The batches that were left out, one JSON line each, in the order of their steps.

    Args:
        path: The file; written by rank 0, read by all when training starts.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        self._records: dict[int, dict[str, Json]] = {record["step"]: record for record in map(json.loads, lines)}

    @property
    def rewound(self) -> list[int]:
        """Steps that training went back for."""
        return sorted(step for step, record in self._records.items() if record["action"] == "rewind")

    def remind(self, state: GuardState) -> None:
        """Tells a guard of the rewinds, which no checkpoint from before them can know."""
        state.quarantined = sorted({*state.quarantined, *self.rewound})
        state.rewinds = len(state.quarantined)

    def forget_from(self, step: int) -> None:
        """Forgets what was skipped at or after a step that training is about to do again; what was rewound stays."""
        kept = self._records.items()
        self._records = {at: one for at, one in kept if at < step or one["action"] == "rewind"}

    def add(self, record: dict[str, Json], write: bool) -> None:
        """Adds a batch; the file is replaced as a whole.

        Args:
            record: With "step" and "action" ("skip" or "rewind").
            write: Whether this rank writes.
        """
        step = record["step"]
        assert isinstance(step, int)
        self._records[step] = record
        if write:
            lines = [json.dumps(self._records[one], ensure_ascii=False) + "\n" for one in sorted(self._records)]
            publish_bytes(self._path, "".join(lines).encode())


def publish_quarantine(scratch: Path, output: Path) -> None:
    """Puts the batches that were left out into an artifact, if there are any."""
    if (scratch / QUARANTINE).exists():
        publish_bytes(output / QUARANTINE, (scratch / QUARANTINE).read_bytes())


def describe_batch(
    step: int, reason: str, loss: float, report: StepReport, action: str, rows: tuple[int, int], documents: list[str]
) -> dict[str, Json]:
    """A line of the quarantine.

    Args:
        step: The step, counted from 0.
        reason: Why its batch was left out.
        loss: Its loss per unit.
        report: What the engine said.
        action: "skip" or "rewind".
        rows: First sample of the batch and the one after its last, counted over the whole training.
        documents: Ids of the documents in it; empty where the task cannot tell.
    """
    finite = {"loss": loss, "grad_norm": report.grad_norm}
    numbers: dict[str, Json] = {name: one if math.isfinite(one) else str(one) for name, one in finite.items()}
    listed: list[Json] = [*documents]
    return {"step": step, "reason": reason, "action": action, **numbers, "rows": [*rows], "documents": listed}
