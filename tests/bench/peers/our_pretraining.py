"""Our training loop in rounds: `python our_pretraining.py ENGINE SHAPE [compile]`; ENGINE: plain, zero1, zero3.

What a user runs: loader, engine and `train`, which logs every ten steps and checks gradients for being finite.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from pacing import Pacer

from components.context import Json, Rank, local_context
from components.model.config import ModelConfig
from components.model.transformer import Transformer
from components.pretrain.task import NextToken
from components.shards.corpus import TokenSplit
from components.shards.format import TokenBatch
from components.shards.loader import Loader, TokenRows
from components.shards.plan import concat_plan
from components.shards.schedule import Schedule
from components.training.config import TrainingConfig
from components.training.engine import Engine, make_engine
from components.training.loop import Batch, train

FOREVER = 1_000_000


def model_config(shape: dict[str, Any]) -> ModelConfig:
    """The same shape as the peers'."""
    return ModelConfig(
        family=shape["family"],
        vocab_size=shape["vocab"],
        dim=shape["dim"],
        num_layers=shape["layers"],
        num_heads=shape["heads"],
        num_kv_heads=shape["heads"],
        ffn_dim=shape["ffn"],
        max_length=shape["length"],
    )


def make_loader(shape: dict[str, Any]) -> Loader:
    """Random ids: speed does not depend on what they mean."""
    size = 200_000
    ids = np.random.default_rng(1).integers(7, shape["vocab"], size, dtype=np.uint16)
    names = (pa.array([b"0" * 16]), pa.array(["en"]), pa.array(["bench"]))
    counts = (np.array([1], np.int32), np.array([size], np.uint32), np.array([0, size], np.int64))
    split = TokenSplit([TokenBatch(*names, *counts, ids)])
    return Loader(split, concat_plan(split, shape["length"]), Schedule(1, shape["batch"], shape["length"]))


class Paced(NextToken):
    """Next-token prediction that asks before each step."""

    pacer: Pacer

    def micro_batches(self, step: int, rank: int, world_size: int) -> Sequence[Batch]:
        self.pacer.step()
        return super().micro_batches(step, rank, world_size)

    def evaluate(self, engine: Engine, step: int) -> dict[str, float]:
        return {}


def run(rank: Rank, shape: dict[str, Any], engine: str, folder: Path) -> Json:
    """Trains until it is told to leave."""
    torch.set_num_threads(1)
    config = TrainingConfig(
        steps=FOREVER,
        batch_size=shape["batch"],
        micro_batch=shape["batch"],
        lr=6e-4,
        warmup_steps=100,
        engine="plain" if engine == "plain" else "deepspeed",
        zero_stage=3 if engine == "zero3" else 1,
        ranks=1,
        eval_every=0,
        checkpoint_every=0,
        **({"compile": True} if shape["compile"] else {}),
    )
    loader = make_loader(shape)
    task = Paced(config, loader, TokenRows(loader.split, shape["length"]), lambda engine, step: None)
    task.pacer = Pacer(shape["warmup"], shape["steps"], shape["device"])
    model = Transformer(model_config(shape), torch.Generator().manual_seed(1))
    train(rank, config, make_engine(model, config, rank), task, folder)
    return None


if __name__ == "__main__":
    shape = {**json.loads(sys.argv[2]), "compile": "compile" in sys.argv[3:]}
    folder = Path(tempfile.mkdtemp())
    local_context("bench", folder).launch(partial(run, shape=shape, engine=sys.argv[1], folder=folder), 1)
