"""A model, a task and rank functions small enough for every engine to train in a blink.

Sizes are odd on purpose: 33 and 61 divide over no two ranks, so ZeRO has to pad.
"""

from __future__ import annotations

import dataclasses
import json
import os
import signal
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from components.context import Json, Rank
from components.errors import Preempted
from components.training.checkpoint import NamedWeights, load_engine, newest_verified, save_checkpoint
from components.training.config import TrainingConfig
from components.training.deepspeed_engine import DeepSpeedEngine
from components.training.engine import Engine, make_engine
from components.training.loop import TrainResult, train

VOCABULARY, LENGTH = 61, 8
SPIKE_CASES = [(0, "skip"), (1, "skip"), (2, "skip"), (3, "skip"), (3, "rewind")]


class Toy(nn.Module):
    """Predicts the next of a few numbers; its output projection is its embedding; draws a random mask if told."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, 33)
        nn.init.normal_(self.embed.weight, std=0.1)  # tied: the loss starts near ln(61)
        self.norm = nn.LayerNorm(33)
        self.dropout = nn.Dropout(dropout)
        self.hidden = nn.Linear(33, 33)
        self.frozen = nn.Parameter(torch.full((33,), 0.5), requires_grad=False)
        self.scale: Tensor
        self.register_buffer("scale", torch.ones(1))

    def forward(self, tokens: Tensor, targets: Tensor) -> Tensor:
        """Summed cross-entropy."""
        hidden = torch.tanh(self.hidden(self.dropout(self.norm(self.embed(tokens)))))
        hidden = hidden * self.scale.to(hidden.dtype) + self.frozen.to(hidden.dtype)
        return F.cross_entropy(
            F.linear(hidden, self.embed.weight).flatten(0, 1).float(), targets.flatten(), reduction="sum"
        )


@dataclasses.dataclass(frozen=True)
class ToyTask:
    """Multiply by three, add seven.

    Attributes:
        config: Batch and micro-batch.
        poisoned: Steps whose loss is not a number.
        spiking: Steps whose loss is a hundred times what it should be.
        crash_at: A step that raises.
        kill_at: A step at which rank 1 is killed.
        stop_at: A step at which the file `stop` appears.
        stop: That file.
    """

    config: TrainingConfig
    poisoned: Sequence[int] = ()
    spiking: Sequence[int] = ()
    crash_at: int = -1
    kill_at: int = -1
    stop_at: int = -1
    stop: Path = Path("stop")

    def micro_batches(self, step: int, rank: int, world_size: int) -> list[dict[str, Tensor]]:
        if step == self.crash_at:
            raise ConnectionResetError("the rank is gone")
        if step == self.kill_at and rank == world_size - 1:
            os.kill(os.getpid(), signal.SIGKILL)
        if step == self.stop_at and rank == 0:
            self.stop.touch()
        tokens = self._tokens(step, self.config.batch_size)
        share = self.config.batch_size // world_size
        mine = tokens[rank * share : (rank + 1) * share]
        poison = torch.full((), torch.nan if step in self.poisoned else 100.0 if step in self.spiking else 1.0)
        return [{"tokens": part, "poison": poison} for part in mine.split(self.config.micro_batch)]

    def units(self, step: int) -> float:
        return float(self.tokens(step))

    def tokens(self, step: int) -> int:
        return self.config.batch_size * LENGTH

    def loss(self, module: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        tokens = batch["tokens"]
        loss: Tensor = module(tokens, (tokens * 3 + 7) % VOCABULARY) * batch["poison"]
        return loss

    def evaluate(self, engine: Engine, step: int) -> dict[str, float]:
        tokens = self._tokens(10**6, 16)[engine.rank :: engine.world_size]
        batch = {"tokens": tokens, "poison": torch.ones(())}
        [total] = engine.sum_over_ranks([float(self.loss(engine.module, batch))])
        return {"val_loss": total / (16 * LENGTH)}

    def documents(self, step: int) -> list[str]:
        return [f"document {step}"]

    def _tokens(self, step: int, rows: int) -> Tensor:
        return torch.randint(VOCABULARY, (rows, LENGTH), generator=torch.Generator().manual_seed(step))


def make_toy(config: TrainingConfig, rank: Rank, dropout: float = 0.0) -> Engine:
    """The toy on the engine of the config, from the same weights every time."""
    torch.manual_seed(3)
    return make_engine(Toy(dropout), config, rank)


def run(
    config: TrainingConfig, rank: Rank, scratch: Path, task: ToyTask | None = None, dropout: float = 0.0
) -> tuple[TrainResult, dict[str, Tensor]]:
    """Trains the toy; returns the result and the weights."""
    engine = make_toy(config, rank, dropout)
    try:
        result = train(rank, config, engine, task or ToyTask(config), scratch)
        return result, engine.full_weights()
    finally:
        engine.close()


def journal(folder: Path, kind: str) -> list[dict[str, Json]]:
    """The lines of one kind that a channel wrote."""
    lines = (folder / "journal.jsonl").read_text(encoding="utf-8").splitlines()
    return [line for line in map(json.loads, lines) if line["kind"] == kind]


def as_json(result: TrainResult, weights: dict[str, Tensor]) -> Json:
    """What a rank function returns about a training."""
    return {"curve": [dict(row) for row in result.curve], "weights": _listed(weights), "skipped": result.skipped}


def all_of_it(config: TrainingConfig, folder: Path, rank: Rank) -> Json:
    """Rank function: everything below that needs two ranks, in one launch, because a launch costs seconds."""
    save_half_way(config, folder / "saved", rank)
    return {
        "stages": train_at_each_stage(config, folder, rank),
        "stopped": asked_to_stop(config, folder / "stopped", rank),
        **{
            f"resume {stage}": crash_and_resume(
                dataclasses.replace(config, zero_stage=stage), folder / f"{stage}", rank
            )
            for stage in (1, 3)
        },
    }


def train_at_each_stage(config: TrainingConfig, scratch: Path, rank: Rank) -> Json:
    """The toy at ZeRO 0 to 3 in whole and in halved micro-batches, and with one poisoned step."""
    results: dict[str, Json] = {}
    for stage in range(4):
        for micro_batch in {config.micro_batch, config.micro_batch // 2}:
            one = dataclasses.replace(config, zero_stage=stage, micro_batch=micro_batch, checkpoint_every=0)
            results[f"{stage}/{micro_batch}"] = as_json(*run(one, rank, scratch / f"{stage}-{micro_batch}"))
        one = dataclasses.replace(config, zero_stage=stage, checkpoint_every=0)
        results[f"{stage}/poisoned"] = as_json(*run(one, rank, scratch / f"{stage}-poisoned", ToyTask(one, [5])))
        results[f"{stage}/norms"] = gradient_norms(one, rank)
    return results


def gradient_norms(config: TrainingConfig, rank: Rank) -> Json:
    """Gradient norms of three steps, as the engine reports them."""
    engine, task = make_toy(config, rank), ToyTask(config)
    norms: list[Json] = []
    for step in range(3):
        for batch in task.micro_batches(step, engine.rank, engine.world_size):
            engine.backward(task.loss(engine.module, batch) / task.units(step))
        norms.append(engine.step(1e-2).grad_norm)
    engine.close()
    return norms


def spike_at_each_stage(config: TrainingConfig, scratch: Path, rank: Rank) -> Json:
    """Rank function: the toy at ZeRO 0 to 3 with a spike that the guard skips, or goes back for."""
    results: dict[str, Json] = {}
    for stage, mode in SPIKE_CASES:
        one = dataclasses.replace(config, zero_stage=stage, spike=mode)
        name = f"{mode}/{stage}"
        results[name] = as_json(*run(one, rank, scratch / name, ToyTask(one, spiking=[20])))
    return results


def train_in_bf16(config: TrainingConfig, scratch: Path, rank: Rank) -> Json:
    """Rank function: the toy in bf16 at ZeRO 0 to 3, with one poisoned step."""
    results: dict[str, Json] = {}
    for stage in range(4):
        one = dataclasses.replace(config, zero_stage=stage, precision="bf16", checkpoint_every=0)
        results[str(stage)] = as_json(*run(one, rank, scratch / f"bf16-{stage}", ToyTask(one, [5])))
    return results


def save_half_way(config: TrainingConfig, folder: Path, rank: Rank) -> Json:
    """At each stage six steps, then a checkpoint under `folder/<stage>`."""
    for stage in range(4):
        one = dataclasses.replace(config, zero_stage=stage)
        engine, task = make_toy(one, rank), ToyTask(one)
        _steps(engine, task, range(6))
        weights, state = engine.full_weights(), engine.optimizer_state()
        if rank.rank == 0:
            save_checkpoint(folder / str(stage), 6, {"optimizer": state}, {}, [(NamedWeights(), weights)])
        engine.close()
    return None


def load_and_finish(config: TrainingConfig, folder: Path, rank: Rank) -> Json:
    """Rank function: continues each of those checkpoints on each stage; returns the weights after six more steps."""
    results: dict[str, Json] = {}
    for saved in range(4):
        for stage in range(4):
            one = dataclasses.replace(config, zero_stage=stage)
            engine, task = make_toy(one, rank), ToyTask(one)
            checkpoint = newest_verified(folder / str(saved), print)
            assert checkpoint is not None
            load_engine(engine, checkpoint, NamedWeights())
            _steps(engine, task, range(6, 12))
            results[f"{saved}->{stage}"] = _flat(engine)
            engine.close()
    return results


def asked_to_stop(config: TrainingConfig, scratch: Path, rank: Rank) -> Json:
    """What each rank says when the run is asked to stop in its fifth step; the file is taken away again."""
    said = ""
    stop = rank.channel.folder / "stop"
    try:
        run(config, rank, scratch, ToyTask(config, stop_at=4, stop=stop))
    except Preempted as preempted:
        said = preempted.what
    dist.barrier()
    stop.unlink(missing_ok=True)
    heard = [torch.zeros(1) for _ in range(rank.world_size)]
    dist.all_gather(heard, torch.tensor([float("after step 5 of 12" in said)]))
    return [float(one) for one in heard]


def run_and_kill(config: TrainingConfig, scratch: Path, kill_at: int, rank: Rank) -> Json:
    """Rank function: trains; the last rank is killed at a step, if that is ever reached."""
    return as_json(*run(config, rank, scratch, ToyTask(config, kill_at=kill_at), dropout=0.2))


def straight_through(config: TrainingConfig, rank: Rank) -> Json:
    """The weights after the same twelve steps without a checkpoint between."""
    engine = make_toy(config, rank)
    _steps(engine, ToyTask(config), range(12))
    return _flat(engine)


def crash_and_resume(config: TrainingConfig, scratch: Path, rank: Rank) -> Json:
    """One undisturbed training, one that dies at step 8 and is started again, both with dropout."""
    whole = as_json(*run(config, rank, scratch / "whole", dropout=0.2))
    try:
        run(config, rank, scratch / "broken", ToyTask(config, crash_at=8), dropout=0.2)
    except ConnectionResetError:
        torch.manual_seed(99)
    return {"whole": whole, "resumed": as_json(*run(config, rank, scratch / "broken", dropout=0.2))}


def deepspeed_engine(config: TrainingConfig, rank: Rank) -> DeepSpeedEngine:
    """The toy under DeepSpeed."""
    return DeepSpeedEngine(Toy(), config, rank)


def _steps(engine: Engine, task: ToyTask, steps: range) -> None:
    for step in steps:
        for batch in task.micro_batches(step, engine.rank, engine.world_size):
            engine.backward(task.loss(engine.module, batch) / task.units(step))
        engine.step(1e-2)


def _flat(engine: Engine) -> list[Json]:
    return _listed(engine.full_weights())


def _listed(weights: dict[str, Tensor]) -> list[Json]:
    flat: list[Json] = torch.cat([weights[name].flatten().double() for name in sorted(weights)]).tolist()
    return flat
