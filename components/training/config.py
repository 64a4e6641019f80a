"""How a model is trained: steps, batch, learning rate, engine. One config for pretraining, SFT and the reward model.

A stage nests it as its field `training`. `batch_size` is global and given once: ranks and micro-batches only say how a
step's sequences are cut up, and never change its gradient.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from components.configuring import require, require_choice, runtime

SCHEDULES = ("cosine", "linear", "constant")
ENGINES = ("deepspeed", "plain")
PRECISIONS = ("auto", "fp32", "bf16")


@dataclass(frozen=True)
class TrainingConfig:
    """Settings of a training run.

    Attributes:
        steps: Optimizer steps.
        batch_size: Sequences per step, over all ranks.
        micro_batch: Sequences per forward pass of one rank; bounds memory, never changes the gradient.
        lr: Peak learning rate.
        min_lr_ratio: The learning rate ends at this share of its peak ("cosine" and "linear").
        warmup_steps: Steps over which the learning rate climbs linearly from near zero to its peak.
        schedule: "cosine", "linear" or "constant" after the warm-up.
        weight_decay: AdamW's decoupled decay, on matrices only (not on norms and biases).
        beta1: AdamW's decay rate of the first moment.
        beta2: AdamW's decay rate of the second moment.
        eps: AdamW's epsilon.
        clip_grad: Largest global L2 norm of the gradient; 0 turns clipping off.
        engine: "deepspeed", or "plain" torch (one rank).
        zero_stage: DeepSpeed ZeRO stage 0 to 3: nothing, optimizer states, gradients, weights are split over ranks.
        precision: "auto" (fp32 on CPU, bf16 on CUDA), "fp32" or "bf16".
        ranks: Training processes.
        eval_every: Steps between evaluations; 0 evaluates at the end only.
        log_every: Steps between logged metrics.
        checkpoint_every: Steps between checkpoints; 0 saves only when the run is stopped.
        max_skipped: Steps with a non-finite gradient that are skipped before training gives up.
    """

    steps: int = 400
    batch_size: int = 16
    micro_batch: int = runtime(8)
    lr: float = 2e-3
    min_lr_ratio: float = 0.1
    warmup_steps: int = 20
    schedule: str = "cosine"
    weight_decay: float = 0.1
    beta1: float = 0.9
    beta2: float = 0.95
    eps: float = 1e-8
    clip_grad: float = 1.0
    engine: str = "deepspeed"
    zero_stage: int = 1
    precision: str = "auto"
    ranks: int = runtime(2)
    eval_every: int = 100
    log_every: int = runtime(10)
    checkpoint_every: int = runtime(100)
    max_skipped: int = 10

    def __post_init__(self) -> None:
        require(self.steps >= 1, "training.steps", self.steps, "must be at least 1", "training.steps=400")
        self._check_batch()
        self._check_optimizer()
        self._check_engine()
        for name in ("eval_every", "checkpoint_every", "max_skipped"):
            value = getattr(self, name)
            require(value >= 0, f"training.{name}", value, "must be 0 or more", f"training.{name}=100")
        require(
            self.log_every >= 1, "training.log_every", self.log_every, "must be at least 1", "training.log_every=10"
        )

    def with_less_memory(self) -> TrainingConfig | None:
        """At most half the micro-batch and the same global batch; None where the micro-batch is 1 already."""
        smaller = range(self.micro_batch // 2, 0, -1)
        fitting = [micro_batch for micro_batch in smaller if self.batch_size % (micro_batch * self.ranks) == 0]
        return replace(self, micro_batch=fitting[0]) if fitting else None

    def _check_batch(self) -> None:
        for name in ("batch_size", "micro_batch", "ranks"):
            value = getattr(self, name)
            require(value >= 1, f"training.{name}", value, "must be at least 1", f"training.{name}=2")
        share = self.micro_batch * self.ranks
        require(
            self.batch_size % share == 0,
            "training.batch_size",
            self.batch_size,
            f"does not divide into micro-batches of {self.micro_batch} on {self.ranks} ranks",
            f"training.batch_size={max(1, round(self.batch_size / share)) * share}",
        )

    def _check_optimizer(self) -> None:
        require(self.lr > 0, "training.lr", self.lr, "must be above 0", "training.lr=0.001")
        require(
            0 <= self.warmup_steps < self.steps,
            "training.warmup_steps",
            self.warmup_steps,
            f"must be 0 or more and below training.steps={self.steps}",
            f"training.warmup_steps={self.steps // 20}",
        )
        require_choice("training.schedule", self.schedule, SCHEDULES)
        for name in ("min_lr_ratio", "beta1", "beta2"):
            value = getattr(self, name)
            require(0 <= value <= 1, f"training.{name}", value, "must lie between 0 and 1", f"training.{name}=0.9")
        for name in ("weight_decay", "eps", "clip_grad"):
            value = getattr(self, name)
            require(value >= 0, f"training.{name}", value, "must be 0 or more", f"training.{name}=0.1")

    def _check_engine(self) -> None:
        require_choice("training.engine", self.engine, ENGINES)
        require_choice("training.precision", self.precision, PRECISIONS)
        stages = "training.zero_stage"
        require(0 <= self.zero_stage <= 3, stages, self.zero_stage, "must be 0, 1, 2 or 3", f"{stages}=1")
        require(
            self.engine != "plain" or self.ranks == 1,
            "training.ranks",
            self.ranks,
            "needs training.engine=deepspeed: the plain engine has one rank",
            "training.ranks=1 or training.engine=deepspeed",
        )
