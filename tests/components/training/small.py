"""Transformers small enough to train at every engine, stage and number of ranks, and rank functions that do it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from components.context import Json, Rank
from components.model.config import ModelConfig
from components.model.transformer import Transformer
from components.training import partitions
from components.training.config import TrainingConfig
from components.training.engine import Engine, make_engine

VOCABULARY, LENGTH, STEPS = 67, 12, 5
MODELS = {
    "llama": ModelConfig(
        vocab_size=VOCABULARY, dim=24, num_layers=2, num_heads=4, num_kv_heads=2, ffn_dim=40, max_length=LENGTH
    ),
    "gpt2": ModelConfig(
        family="gpt2",
        vocab_size=VOCABULARY,
        dim=24,
        num_layers=2,
        num_heads=2,
        num_kv_heads=2,
        ffn_dim=36,
        max_length=LENGTH,
    ),
}
CONFIG = TrainingConfig(
    steps=STEPS,
    batch_size=8,
    micro_batch=4,
    lr=1e-2,
    eps=1e-6,  # of 1e-8, a gradient that is nothing but rounding would move a weight as far as any other
    warmup_steps=1,
    engine="plain",
    precision="fp32",
    ranks=1,
)


def make_model(family: str) -> Transformer:
    """A model of the family, with the same weights every time."""
    return Transformer(MODELS[family], torch.Generator().manual_seed(5))


def make_small(family: str, config: TrainingConfig, rank: Rank) -> Engine:
    """That model on the engine of the config."""
    return make_engine(make_model(family), config, rank)


def tokens_of(step: int, rows: int = CONFIG.batch_size) -> Tensor:
    """The batch of a step, [B, T + 1]: counting up by seven from somewhere, which can be learned."""
    starts = torch.randint(VOCABULARY, (rows, 1), generator=torch.Generator().manual_seed(step))
    return (starts + 7 * torch.arange(LENGTH + 1)) % VOCABULARY


def segments_of(tokens_BT: Tensor) -> Tensor:
    """Cuts every row into two documents, at a place that follows from its first token."""
    cuts_B = 3 + tokens_BT[:, 0] % 7
    return (torch.arange(tokens_BT.shape[1]) >= cuts_B[:, None]).long()


def train_small(
    engine: Engine, config: TrainingConfig, steps: Sequence[int] = range(STEPS), packed: bool = False
) -> list[float]:
    """Takes steps; returns the mean loss of each before its update. Packed rows hold two documents each."""
    losses = []
    for step in steps:
        share = config.batch_size // engine.world_size
        mine = tokens_of(step)[engine.rank * share : (engine.rank + 1) * share]
        total = torch.zeros((), dtype=torch.float64)
        for part in mine.split(config.micro_batch):
            segments = {"segments_BT": segments_of(part[:, :-1])} if packed else {}
            loss = engine.module(part[:, :-1], part[:, 1:], **segments)
            engine.backward(loss / (config.batch_size * LENGTH))
            total += loss.detach().cpu()
        engine.step(config.lr)
        losses.append(engine.sum_over_ranks([float(total)])[0] / (config.batch_size * LENGTH))
    return losses


def flat(weights: dict[str, Tensor]) -> list[Json]:
    """All weights in one list, by name, but for the biases of keys.

    They have no effect: each adds the same to all scores of a query. Their gradient is nothing but rounding, which
    AdamW makes as large as any other.
    """
    kept = {
        name: torch.cat([weight.chunk(3)[0], weight.chunk(3)[2]]) if name.endswith("qkv.bias") else weight
        for name, weight in weights.items()
    }
    values: list[Json] = torch.cat([kept[name].flatten().double() for name in sorted(kept)]).tolist()
    return values


def train_all(config: TrainingConfig, variants: dict[str, dict[str, object]], rank: Rank) -> Json:
    """Rank function: the losses, final weights and moments of each variant of a config.

    The name of a variant begins with its family. "packed" rows hold several documents; one that is "reloaded" goes on
    in another engine after two steps, with the weights and the optimizer's state of the first, which ranks exchange in
    many messages.
    """
    results: dict[str, Json] = {}
    for name, changes in variants.items():
        one = dataclasses.replace(config, **changes)  # type: ignore[arg-type]
        family, packed = name.partition("/")[0], "packed" in name
        engine, losses = make_small(family, one, rank), []
        if "reloaded" in name:
            losses += train_small(engine, one, range(2), packed)
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(partitions, "MESSAGE", 1000)
                weights, state = engine.full_weights(), engine.optimizer_state()
            engine.close()
            engine = make_small(family, one, rank)
            engine.load_weights(weights)
            engine.load_optimizer_state(state)
        losses += train_small(engine, one, range(len(losses), STEPS), packed)
        state = engine.optimizer_state()
        results[name] = {
            "losses": [*losses],
            "weights": flat(engine.full_weights()),
            "step": float(state.pop("step")),
            "moments": {key: float(moment.double().norm()) for key, moment in state.items()},
        }
        engine.close()
    return results
