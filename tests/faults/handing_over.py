"""A tiny LLaMA's training that another engine takes over: its task and the rank function of one leg."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch
from torch import Tensor, nn

from components.context import Json, Rank
from components.training.checkpoint import load_engine, open_checkpoint
from components.training.config import TrainingConfig
from components.training.engine import Engine, make_engine
from components.training.loop import train
from components.training.model_folder import ModelFolder
from tests.components.training.small import CONFIG, LENGTH, make_model, tokens_of

LEG, ROWS = 4, 16
HANDED = dataclasses.replace(
    CONFIG,
    steps=3 * LEG,
    micro_batch=2,
    schedule="inverse-sqrt",  # the learning rate of a step does not depend on how many there will be
    eval_every=1,
    log_every=1,
    checkpoint_every=LEG,
)


def held_out() -> Tensor:
    """Rows that no step reads, [B, T + 1]."""
    return tokens_of(10**6, ROWS)


@dataclasses.dataclass(frozen=True)
class Counting:
    """Counting up by seven; see `components.training.task.Task`."""

    config: TrainingConfig

    def micro_batches(self, step: int, rank: int, world_size: int) -> list[dict[str, Tensor]]:
        share = self.config.batch_size // world_size
        mine = tokens_of(step, self.config.batch_size)[rank * share : (rank + 1) * share]
        return [{"tokens": part} for part in mine.split(self.config.micro_batch)]

    def units(self, step: int) -> float:
        return float(self.tokens(step))

    def tokens(self, step: int) -> int:
        return self.config.batch_size * LENGTH

    def loss(self, module: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        tokens = batch["tokens"]
        loss: Tensor = module(tokens[:, :-1], tokens[:, 1:])
        return loss

    def evaluate(self, engine: Engine, step: int) -> dict[str, float]:
        mine = held_out()[engine.rank :: engine.world_size]
        [total] = engine.sum_over_ranks([float(self.loss(engine.module, {"tokens": mine}))])
        return {"val_loss": total / (ROWS * LENGTH)}


def leg(config: TrainingConfig, scratch: Path, tokenizer: Path, origin: Path | None, rank: Rank) -> Json:
    """Rank function: trains to the config's last step, from a checkpoint of another training if there is one.

    Returns:
        "curve": one row per step, those before the checkpoint included; "taken_over": the held-out loss of what was
        loaded, before it learns anything.
    """
    torch.set_num_threads(1)
    model = make_model("llama")
    files, task = ModelFolder.of(model, model.config, tokenizer), Counting(config)
    engine = make_engine(model, config, rank)
    taken_over: Json = None
    try:
        if origin is not None:
            load_engine(engine, open_checkpoint(origin), files)
            engine.module.eval()
            with torch.no_grad():
                taken_over = task.evaluate(engine, -1)["val_loss"]
        result = train(rank, config, engine, task, scratch, files=files, origin=origin)
    finally:
        engine.close()
    return {"curve": [dict(row) for row in result.curve], "taken_over": taken_over}
