"""What PPO is told: how it samples, what it pays for, how it learns."""

from __future__ import annotations

from dataclasses import dataclass

from components.configuring import require, require_choice
from components.training.checks import refuse_sharing
from components.training.config import TrainingConfig

KL_ESTIMATORS = ("k1", "k2", "k3", "abs")
AGGREGATIONS = ("token_mean", "sequence_mean", "constant")
WHITENINGS = ("unbiased", "biased", "none")

TRAINING = TrainingConfig(
    steps=24,
    batch_size=64,
    micro_batch=8,
    lr=3e-4,
    warmup_steps=2,
    schedule="linear",
    weight_decay=0.0,
    ranks=2,
    eval_every=12,
    log_every=1,
    checkpoint_every=8,
)


@dataclass(frozen=True)
class PpoConfig:
    """Settings of the `ppo` step.

    Attributes:
        training: The actor's optimizer and engine. Here `steps` counts updates (a rollout and what is learned from it),
            `batch_size` is the episodes of an update over all ranks, `micro_batch` the episodes of one forward pass.
            The critic trains on the same engine and schedule at its own learning rate.
        critic_lr: Peak learning rate of the critic.
        critic_warmup: First updates in which only the critic learns.
        mini_batches: Optimizer steps that one pass over the episodes is cut into.
        epochs: Passes over the episodes of an update.
        max_prompt_tokens: Longer prompts are left out.
        max_new_tokens: Longest reply.
        temperature: Of sampling; the log-probabilities that PPO trains on are those at this temperature.
        gamma: Discount per token.
        lam: Lambda of generalised advantage estimation.
        kl_coefficient: Price per nat of drift from the starting policy, in standard deviations of the reward model.
        kl_target: Drift of a whole reply to steer towards by changing the price, nats; unset keeps the price fixed.
        kl_horizon: Episodes over which the price reacts to a missed target; small is nervous.
        kl_estimator: Per-token penalty: "k1" (unbiased), "k2", "k3" or "abs".
        score_clip: Largest size of a normalised score; unset does not clip.
        missing_eos_penalty: Taken off the score of a reply that was cut at `max_new_tokens`.
        min_reply_tokens: Replies below so many tokens lose `short_penalty` in proportion to what is missing. A small
            policy soon finds that a single word of praise offends no reward model; 0 lets it.
        short_penalty: Taken off the score of an empty reply.
        whitening: Variance by which advantages are whitened: "unbiased", "biased", or "none" for no whitening.
        clip_low: The policy's ratio is not rewarded below 1 - clip_low.
        clip_high: Nor above 1 + clip_high; as clip_low if unset.
        dual_clip: Bound on the loss of a bad token, as a multiple of its advantage; unset turns it off.
        clip_value: Furthest that a value may usefully move in one update; unset turns it off.
        entropy_coefficient: Reward for uncertainty in the policy's loss.
        aggregation: How tokens are weighed: "token_mean", "sequence_mean" or "constant".
        eval_prompts: Held-out prompts answered at each evaluation.
        seed: Root of all randomness of this step.
    """

    training: TrainingConfig = TRAINING
    critic_lr: float = 1.5e-3
    critic_warmup: int = 0
    mini_batches: int = 2
    epochs: int = 2
    max_prompt_tokens: int = 64
    max_new_tokens: int = 40
    temperature: float = 1.0
    gamma: float = 1.0
    lam: float = 0.95
    kl_coefficient: float = 0.1
    kl_target: float | None = None
    kl_horizon: float = 2000.0
    kl_estimator: str = "k1"
    score_clip: float | None = 5.0
    missing_eos_penalty: float = 1.0
    min_reply_tokens: int = 10
    short_penalty: float = 1.0
    whitening: str = "unbiased"
    clip_low: float = 0.2
    clip_high: float | None = None
    dual_clip: float | None = None
    clip_value: float | None = 0.2
    entropy_coefficient: float = 0.0
    aggregation: str = "token_mean"
    eval_prompts: int = 48
    seed: int = 17

    def __post_init__(self) -> None:
        refuse_sharing(self.training, "ppo")
        require_choice("ppo.kl_estimator", self.kl_estimator, KL_ESTIMATORS)
        require_choice("ppo.whitening", self.whitening, WHITENINGS)
        require_choice("ppo.aggregation", self.aggregation, AGGREGATIONS)
        for name in ("mini_batches", "epochs", "max_prompt_tokens", "max_new_tokens", "eval_prompts"):
            self._at_least(name, 1)
        for name in ("critic_warmup", "kl_coefficient", "missing_eos_penalty", "short_penalty", "entropy_coefficient"):
            self._at_least(name, 0)
        require(
            0 <= self.min_reply_tokens <= self.max_new_tokens,
            "ppo.min_reply_tokens",
            self.min_reply_tokens,
            f"must lie between 0 and ppo.max_new_tokens={self.max_new_tokens}",
            "ppo.min_reply_tokens=0",
        )
        for name in ("critic_lr", "temperature", "kl_horizon", "kl_target", "score_clip", "clip_low", "clip_high"):
            self._above(name, 0)
        self._above("clip_value", 0)
        self._above("dual_clip", 1)
        for name in ("gamma", "lam"):
            value = getattr(self, name)
            require(0 <= value <= 1, f"ppo.{name}", value, "must lie between 0 and 1", f"ppo.{name}=0.95")
        episodes = self.training.batch_size
        require(
            episodes % self.mini_batches == 0,
            "ppo.mini_batches",
            self.mini_batches,
            f"does not divide ppo.training.batch_size={episodes} episodes",
            "ppo.mini_batches=1",
        )

    def _at_least(self, name: str, least: int) -> None:
        value = getattr(self, name)
        require(value >= least, f"ppo.{name}", value, f"must be {least} or more", f"ppo.{name}={max(least, 1)}")

    def _above(self, name: str, bound: int) -> None:
        value = getattr(self, name)
        require(
            value is None or value > bound, f"ppo.{name}", value, f"must be above {bound}", f"ppo.{name}={bound + 1}"
        )
