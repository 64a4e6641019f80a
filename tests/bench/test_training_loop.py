"""Our training loop beside thirty lines of plain PyTorch over the same model and rows.

Ours logs, reports progress, counts, schedules, looks for a stop, and saves two verified checkpoints a round; the plain
loop trains. Both in a process that holds its memory as a rank does, on one thread; CPU time of the process, rounds
interleaved, the minimum of each side; the ratio is of tokens per second. Run with `make bench`; goal 0.97, floor 0.9.
Nothing passes or fails by the clock.
"""

from __future__ import annotations

import shutil
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from components.channel import Channel
from components.context import Rank
from components.heap import keep_memory
from components.model.config import ModelConfig
from components.model.transformer import Transformer
from components.pretrain.task import NextToken
from components.shards.corpus import TokenSplit
from components.shards.format import TokenBatch
from components.shards.loader import Loader, TokenRows
from components.shards.plan import concat_plan
from components.shards.schedule import Schedule
from components.training.config import TrainingConfig
from components.training.engine import make_engine
from components.training.loop import train

SHAPE = ModelConfig(vocab_size=4096, dim=192, num_layers=4, num_heads=6, num_kv_heads=2, ffn_dim=512, max_length=256)
LENGTH, BATCH, STEPS, ROUNDS = 256, 4, 24, 7
CONFIG = TrainingConfig(
    steps=STEPS,
    batch_size=BATCH,
    micro_batch=BATCH,
    warmup_steps=2,
    engine="plain",
    ranks=1,
    eval_every=0,
    log_every=4,
    checkpoint_every=STEPS // 2,
)


def make_loader() -> Loader:
    """Random ids: speed does not depend on what they mean."""
    size = 200_000
    ids = np.random.default_rng(1).integers(7, SHAPE.vocab_size, size, dtype=np.uint16)
    one = np.array([0, size], dtype=np.int64)
    names = (pa.array([b"0" * 16]), pa.array(["en"]), pa.array(["bench"]))
    batch = TokenBatch(*names, np.array([1], np.int32), np.array([size], np.uint32), one, ids)
    split = TokenSplit([batch])
    return Loader(split, concat_plan(split, LENGTH), Schedule(1, BATCH, LENGTH))


def plain_loop(loader: Loader) -> None:
    """What anyone would write."""
    model = Transformer(SHAPE, torch.Generator().manual_seed(1))
    matrices = [p for p in model.parameters() if p.dim() >= 2]
    vectors = [p for p in model.parameters() if p.dim() < 2]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=2e-3, betas=(0.9, 0.95), fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    for step in range(STEPS):
        rows = loader.batch(step)
        tokens, targets = torch.from_numpy(rows.tokens), torch.from_numpy(rows.targets)
        loss = model(tokens, targets) / (BATCH * LENGTH)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad(set_to_none=True)


def our_loop(loader: Loader, folder: Path) -> None:
    """The same through `train`, with all it does beside."""

    class Unscored(NextToken):
        def evaluate(self, engine, step):
            return {}

    rank = Rank(0, 1, 0, "cpu", Channel(folder))
    task = Unscored(CONFIG, loader, TokenRows(loader.split, LENGTH), lambda engine, step: None)
    engine = make_engine(Transformer(SHAPE, torch.Generator().manual_seed(1)), CONFIG, rank)
    train(rank, CONFIG, engine, task, folder)


def cpu_seconds(work) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def rounds(folder: Path) -> tuple[list[float], list[float]]:
    """Seconds of CPU time of either loop, round by round."""
    keep_memory()
    torch.set_num_threads(1)
    loader = make_loader()
    plain, ours = [], []
    for number in range(ROUNDS):
        plain.append(cpu_seconds(lambda: plain_loop(loader)))
        ours.append(cpu_seconds(lambda own=folder / str(number): our_loop(loader, own)))
        shutil.rmtree(folder / str(number))
    return plain, ours


@pytest.mark.bench
def test_our_loop_beside_a_plain_one(tmp_path):
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        plain, ours = pool.submit(rounds, tmp_path).result()
    tokens = STEPS * BATCH * LENGTH
    print(f"\nplain loop  {tokens / min(plain):8.0f} tokens/s (median {tokens / statistics.median(plain):.0f})")
    print(f"our loop    {tokens / min(ours):8.0f} tokens/s (median {tokens / statistics.median(ours):.0f})")
    print(f"ratio       {min(plain) / min(ours):8.3f} of minima, ", end="")
    print(f"{statistics.median(plain) / statistics.median(ours):.3f} of medians; goal 0.97, floor 0.9")
