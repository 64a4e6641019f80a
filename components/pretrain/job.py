"""What each rank of pretraining is handed. Without torch, which who launches the ranks need not import."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from components.context import Json, Rank
from components.pretrain.config import PretrainConfig


@dataclass(frozen=True)
class Job:
    """Plain, picklable, the same on all ranks.

    Attributes:
        config: The step's settings.
        tokens: Tokens artifact.
        tokenizer: Tokenizer artifact.
        rows: Pack artifact, if there is one.
        output: Where rank 0 writes the artifact.
        scratch: Where checkpoints live.
        seeds: Of "weights", "rows", "samples", "hidden" (what masks and gaps hide) and "dropout".
        start: Model folder to go on from, if the weights are not drawn anew.
    """

    config: PretrainConfig
    tokens: Path
    tokenizer: Path
    rows: Path | None
    output: Path
    scratch: Path
    seeds: Mapping[str, int]
    start: Path | None = None


def run_rank(job: Job, rank: Rank) -> Json:
    """Trains on one rank of a `launch`; returns the step's metrics."""
    from components.pretrain.worker import train_rank

    return train_rank(job, rank)
