"""What a rank does in the test of sharded training: a few steps of models whose parts are unlike a llama's."""

from __future__ import annotations

import dataclasses

import torch

from components.context import Json, Rank
from components.model.config import ModelConfig
from components.model.transformer import build_model
from components.training.config import TrainingConfig
from components.training.engine import make_engine

SHAPE = {"vocab_size": 53, "dim": 24, "num_layers": 2, "num_heads": 4, "num_kv_heads": 2, "ffn_dim": 36}
T5 = {"norm": "rmsnorm", "post_norm": False, "scale_attention": False, "bias": False, "scale_output": True}
MODELS = {
    "experts": {"num_experts": 4, "router_loss": 0.0, "qk_norm": True},
    "odd experts": {"num_experts": 3, "router_loss": 0.0, "ffn_dim": 35, "activation": "gelu"},
    "bert": {"family": "bert", "num_token_types": 2},
    "marian": {"family": "encoder-decoder", "logits_bias": True},
    "t5": {"family": "encoder-decoder", "positions": "t5", **T5},
}
ROWS, LENGTH, STEPS = 4, 12, 3


def train_all(config: TrainingConfig, rank: Rank) -> Json:
    """Loss of each step and all weights of each model, as JSON."""
    return {name: _train(config, rank, ModelConfig(**{**SHAPE, **changes})) for name, changes in MODELS.items()}


def _train(config: TrainingConfig, rank: Rank, shape: ModelConfig) -> Json:
    engine = make_engine(build_model(shape, torch.Generator().manual_seed(1)), config, rank)
    try:
        losses = [_step(engine, shape) for _ in range(STEPS)]
        weights = engine.full_weights()
        return {"losses": losses, "weights": {name: weight.flatten().tolist() for name, weight in weights.items()}}
    finally:
        engine.close()


def _step(engine, shape: ModelConfig) -> float:
    generator = torch.Generator().manual_seed(5)  # the same rows in every step: the loss has to fall
    tokens, sources = (torch.randint(53, (ROWS, LENGTH), generator=generator) for _ in range(2))
    segments = torch.tensor([[0] * 9 + [-1] * 3, [0] * 12]).repeat(ROWS // 2, 1)
    mine = slice(engine.rank, None, engine.world_size)
    if shape.family == "encoder-decoder":
        inputs = (sources[mine], tokens[mine], tokens.roll(1, 1)[mine])
        loss = engine.module(*inputs, source_segments_BS=segments[mine])
    else:
        loss = engine.module(tokens[mine], tokens.roll(1, 1)[mine], segments_BT=segments[mine])
    engine.backward(loss / (ROWS * LENGTH))
    engine.step(1e-2)
    [total] = engine.sum_over_ranks([float(loss.detach())])
    return total / (ROWS * LENGTH)


def changed(config: TrainingConfig, **changes: object) -> TrainingConfig:
    """The config with some fields replaced."""
    return dataclasses.replace(config, **changes)  # type: ignore[arg-type]
