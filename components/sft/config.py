"""What supervised fine-tuning is told: how it is trained, how long a row of dialogues is, how much is held out."""

from __future__ import annotations

from dataclasses import dataclass

from components.configuring import require
from components.training.checks import refuse_sharing
from components.training.config import TrainingConfig

TRAINING = TrainingConfig(
    steps=100,
    batch_size=16,
    micro_batch=8,
    lr=1e-3,
    warmup_steps=5,
    weight_decay=0.0,
    eval_every=50,
    checkpoint_every=50,
)


@dataclass(frozen=True)
class SftConfig:
    """Settings of the `sft` step.

    Attributes:
        training: Steps, batch, learning rate, engine. A sequence of `batch_size` is one row of packed dialogues.
        max_length: Tokens of a row, and the longest dialogue; a longer one is cut after the last reply that fits.
        held_out_examples: Held-out dialogues that are scored; unset scores all of them.
        seed: Root of all randomness of this step: the order of the dialogues.
    """

    training: TrainingConfig = TRAINING
    max_length: int = 256
    held_out_examples: int | None = 400
    seed: int = 17

    def __post_init__(self) -> None:
        refuse_sharing(self.training, "sft")
        require(self.max_length >= 8, "sft.max_length", self.max_length, "must be at least 8", "sft.max_length=256")
        require(
            self.held_out_examples is None or self.held_out_examples >= 1,
            "sft.held_out_examples",
            self.held_out_examples,
            "must be at least 1",
            "sft.held_out_examples=null",
        )
