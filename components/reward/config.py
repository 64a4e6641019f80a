"""What the reward model is told: how it is trained, what its loss asks for, how much is held out."""

from __future__ import annotations

from dataclasses import dataclass

from components.configuring import require, require_choice
from components.training.checks import refuse_sharing
from components.training.config import TrainingConfig

HEADS = ("zero", "normal")
TRAINING = TrainingConfig(
    steps=60,
    batch_size=64,
    micro_batch=32,
    lr=5e-4,
    warmup_steps=5,
    weight_decay=0.1,
    eval_every=30,
    checkpoint_every=30,
)


@dataclass(frozen=True)
class RewardConfig:
    """Settings of the `reward` step.

    Attributes:
        training: Steps, batch, learning rate, engine. A sequence of `batch_size` is one pair, both of its replies.
        max_length: Longest conversation with a reply, in tokens; of a longer one the oldest messages are left out.
        margin_weight: Gap of scores asked for per unit of a pair's margin, on top of the order; 0 asks for the order.
        centring: Weight of the squared sum of a pair's scores, which keeps scores near 0.
        head: The scalar head starts at "zero", so the first loss is ln 2, or "normal" with variance 1 / (dim + 1).
        held_out_pairs: Held-out pairs that are scored; unset scores all of them.
        scale_pairs: Training pairs whose scores give the mean and spread that PPO normalises by.
        seed: Root of all randomness of this step: the order of the pairs, the head.
    """

    training: TrainingConfig = TRAINING
    max_length: int = 128
    margin_weight: float = 0.0
    centring: float = 0.01
    head: str = "zero"
    held_out_pairs: int | None = 1500
    scale_pairs: int = 512
    seed: int = 17

    def __post_init__(self) -> None:
        refuse_sharing(self.training, "reward")
        require_choice("reward.head", self.head, HEADS)
        require(
            self.max_length >= 8, "reward.max_length", self.max_length, "must be at least 8", "reward.max_length=128"
        )
        for name in ("margin_weight", "centring"):
            value = getattr(self, name)
            require(value >= 0, f"reward.{name}", value, "must not be negative", f"reward.{name}=0")
        require(
            self.held_out_pairs is None or self.held_out_pairs >= 1,
            "reward.held_out_pairs",
            self.held_out_pairs,
            "must be at least 1",
            "reward.held_out_pairs=null",
        )
        require(
            self.scale_pairs >= 1,
            "reward.scale_pairs",
            self.scale_pairs,
            "must be at least 1",
            "reward.scale_pairs=512",
        )
