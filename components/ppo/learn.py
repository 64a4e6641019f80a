"""What is learned from a rollout: rewards per token, advantages, and the optimizer steps of actor and critic.

The reward of a token is the price of its drift from the reference; the last token also gets the judge's score, less
penalties if the reply was cut or is short. Both models then take the same mini-batches, several times over.

Batches are cut once, globally: a mini-batch is a set of rows of the whole rollout, each rank takes every
world_size-th of them, sorts them by length and forwards them in micro-batches. Loss weights are made for the whole
mini-batch, so its gradient does not depend on that cut.

Shapes: B episodes of the rollout, R rows of a micro-batch, T tokens, S = T - 1 predictions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from components.context import derive_seed
from components.posttrain.advantage import gae
from components.posttrain.kl import estimate_kl
from components.posttrain.masked import masked_sum, token_weights
from components.posttrain.policy_loss import clipped_policy_loss
from components.posttrain.value_loss import clipped_value_loss, explained_variance
from components.posttrain.whiten import whiten
from components.ppo.config import PpoConfig
from components.ppo.roles import Roles
from components.ppo.rollout import Rollout
from components.training.engine import Engine, StepReport
from components.training.metrics import Mean
from components.training.stability import Guard


@dataclass(frozen=True)
class Lesson:
    """A rollout with what its tokens were worth.

    Attributes:
        rollout: The episodes.
        rewards: Reward of each token.
        advantages: How much better than expected each token was; whitened if so configured.
        returns: What the critic should have predicted.
    """

    rollout: Rollout
    rewards: Tensor
    advantages: Tensor
    returns: Tensor

    @property
    def finite(self) -> bool:
        """Whether it can be learned from; the same on every rank, as the lesson is."""
        return bool(torch.isfinite(self.advantages).all() and torch.isfinite(self.returns).all())


@dataclass(frozen=True)
class MicroBatch:
    """Rows of a rollout for one forward pass.

    Attributes:
        rows: Which rows.
        width: Tokens of the longest.
        weights: Each token's share of the optimizer step.
    """

    rows: Tensor
    width: int
    weights: Tensor

    def cut(self, tensor_BS: Tensor) -> Tensor:
        """These rows of a per-token tensor, without the padding they do not need."""
        return tensor_BS[self.rows, : self.width - 1]

    def tokens(self, rollout: Rollout) -> Tensor:
        """These rows' ids."""
        return rollout.tokens[self.rows, : self.width]


def make_lesson(rollout: Rollout, config: PpoConfig, kl_coefficient: float) -> Lesson:
    """Works out rewards, advantages and returns of a whole rollout."""
    kl_BS = estimate_kl(rollout.log_probs, rollout.reference, config.kl_estimator)
    rewards_BS = -kl_coefficient * kl_BS
    ends_B1 = rollout.lengths[:, None] - 2
    rewards_BS = rewards_BS.scatter_add(1, ends_B1, outcome_of(rollout, config)[:, None])
    advantages_BS, returns_BS = gae(rewards_BS, rollout.values, rollout.mask, config.gamma, config.lam)
    if config.whitening != "none":
        advantages_BS = whiten(advantages_BS, rollout.mask, unbiased=config.whitening == "unbiased")
    return Lesson(rollout, rewards_BS, advantages_BS, returns_BS)


def outcome_of(rollout: Rollout, config: PpoConfig) -> Tensor:
    """What each whole reply is worth, [B]: its score, less the penalties for being cut and for being short."""
    missing_B = (1 - rollout.mask.sum(1) / max(1, config.min_reply_tokens)).clamp(min=0)
    short_B = config.short_penalty * missing_B if config.min_reply_tokens else torch.zeros_like(missing_B)
    return rollout.scores - config.missing_eos_penalty * (~rollout.finished) - short_B


def micro_batches(
    rollout: Rollout, rows_M: Tensor, config: PpoConfig, rank: int, world_size: int
) -> Iterator[MicroBatch]:
    """Cuts this rank's share of a mini-batch; every rank gets equally many pieces, as ZeRO-3 needs.

    Args:
        rollout: The whole rollout.
        rows_M: Rows of the mini-batch, over all ranks.
        config: Weighing of tokens, largest micro-batch.
        rank: This rank.
        world_size: Number of ranks.
    """
    weights_MS = token_weights(rollout.mask[rows_M], config.aggregation, config.max_new_tokens)
    share = torch.arange(rank, len(rows_M), world_size, device=rows_M.device)
    if len(share) < -(-len(rows_M) // world_size):
        # The mini-batch does not divide: a row that counts for nothing keeps this rank in step with the others.
        weights_MS = torch.cat([weights_MS, torch.zeros_like(weights_MS[:1])])
        rows_M = torch.cat([rows_M, rows_M[:1]])
        share = torch.cat([share, torch.tensor([len(rows_M) - 1], device=share.device)])
    lengths = rollout.lengths[rows_M[share]]
    order = torch.argsort(lengths, descending=True, stable=True)
    for piece in torch.split(order, config.training.micro_batch):
        width = int(lengths[piece].max())
        yield MicroBatch(rows_M[share[piece]], width, weights_MS[share[piece], : width - 1])


@dataclass(frozen=True)
class Guards:
    """The guards of the two models that learn; what they count they count together."""

    actor: Guard
    critic: Guard


@dataclass(frozen=True)
class Refused:
    """An optimizer step that was left out.

    Attributes:
        reason: Why.
        loss: Its loss.
        report: What the engine said.
    """

    reason: str
    loss: float
    report: StepReport


@dataclass
class Learned:
    """What the optimizer steps of an update came to, the same on every rank; means are over those that were taken.

    Attributes:
        policy_loss: Of the actor.
        clip_fraction: Share of tokens whose ratio was clipped.
        value_loss: Of the critic.
        ratio_error: How far the first ratio of actor and sampler was from 1, at most.
        refused: Steps that were left out.
    """

    policy_loss: Mean = field(default_factory=Mean)
    clip_fraction: Mean = field(default_factory=Mean)
    value_loss: Mean = field(default_factory=Mean)
    ratio_error: float = 0.0
    refused: list[Refused] = field(default_factory=list)

    def metrics(self) -> dict[str, float]:
        """policy_loss, clip_fraction and value_loss as far as steps were taken, and first_ratio_error."""
        means = {name: getattr(self, name) for name in ("policy_loss", "clip_fraction", "value_loss")}
        told = {name: mean.take() for name, mean in means.items() if mean.units}
        return {**told, "first_ratio_error": self.ratio_error}


def learn(
    roles: Roles,
    guards: Guards,
    lesson: Lesson,
    config: PpoConfig,
    *,
    lr: float,
    update: int,
    seed: int,
    place: Callable[[str], None],
) -> Learned:
    """Takes the optimizer steps of one update; ends early at one for which training is to go back. Collective.

    Args:
        roles: Actor and critic are trained.
        guards: Judge each step by the loss and gradient of all ranks.
        lesson: What to learn.
        config: Epochs, mini-batches, clipping.
        lr: The actor's learning rate; the critic's follows the same schedule.
        update: Updates already done.
        seed: Root of the order of rows.
        place: Told what this rank does from here on.
    """
    learned = Learned()
    critic_lr = lr * config.critic_lr / config.training.lr
    for epoch in range(config.epochs):
        generator = torch.Generator().manual_seed(derive_seed(seed, "order", update, epoch))
        order_B = torch.randperm(len(lesson.rollout.tokens), generator=generator)
        for rows_M in order_B.to(lesson.rollout.tokens.device).chunk(config.mini_batches):
            if update >= config.critic_warmup:
                sums = _policy_gradient(roles.actor, lesson, config, rows_M, learned, place)
                _step(roles.actor, guards.actor, lr, sums, (learned.policy_loss, learned.clip_fraction), learned, place)
            sums = _value_gradient(roles, lesson, config, rows_M, place)
            _step(roles.critic, guards.critic, critic_lr, sums, (learned.value_loss,), learned, place)
            if any(guards.actor.rewinds_for(one.reason) for one in learned.refused):
                return learned
    learned.ratio_error = _largest(roles.actor, learned.ratio_error)
    return learned


def _policy_gradient(
    engine: Engine,
    lesson: Lesson,
    config: PpoConfig,
    rows_M: Tensor,
    learned: Learned,
    place: Callable[[str], None],
) -> list[float]:
    """This rank's part of a mini-batch's loss and clip fraction, its gradient computed."""
    rollout, with_entropy = lesson.rollout, config.entropy_coefficient > 0
    first = not learned.policy_loss.units and not learned.refused
    loss = clipped = 0.0
    for batch in micro_batches(rollout, rows_M, config, engine.rank, engine.world_size):
        place("computing the policy's gradient")
        mask_RS = batch.cut(rollout.mask)
        log_probs_RS, entropy_RS = engine.module(batch.tokens(rollout), mask_RS, config.temperature, with_entropy)
        result = clipped_policy_loss(
            log_probs_RS,
            batch.cut(rollout.log_probs),
            batch.cut(lesson.advantages),
            batch.weights,
            clip_low=config.clip_low,
            clip_high=config.clip_high,
            dual_clip=config.dual_clip,
        )
        engine.backward(result.loss - config.entropy_coefficient * (entropy_RS * batch.weights).sum())
        loss, clipped = loss + float(result.loss.detach()), clipped + float(result.clip_fraction)
        if first:
            drift = torch.expm1(log_probs_RS.detach() - batch.cut(rollout.sampled)).abs().max()
            learned.ratio_error = max(learned.ratio_error, float(drift))
    return [loss, clipped]


def _value_gradient(
    roles: Roles, lesson: Lesson, config: PpoConfig, rows_M: Tensor, place: Callable[[str], None]
) -> list[float]:
    """This rank's part of a mini-batch's value loss, its gradient computed."""
    engine, rollout = roles.critic, lesson.rollout
    loss = 0.0
    for batch in micro_batches(rollout, rows_M, config, engine.rank, engine.world_size):
        place("computing the critic's gradient")
        values_RS = roles.judge.scale.normalise(engine.module(batch.tokens(rollout)).float())[:, :-1]
        result = clipped_value_loss(
            values_RS,
            batch.cut(rollout.values),
            batch.cut(lesson.returns),
            batch.weights,
            clip=config.clip_value,
        )
        engine.backward(result.loss)
        loss += float(result.loss.detach())
    return [loss]


def _step(
    engine: Engine,
    guard: Guard,
    lr: float,
    sums: Sequence[float],
    means: Sequence[Mean],
    learned: Learned,
    place: Callable[[str], None],
) -> None:
    """One optimizer step, judged by the first of these sums over all ranks; one that is left out enters no mean."""
    place("waiting for the others")
    values = engine.sum_over_ranks(sums)
    place("updating")
    report = engine.step(lr, guard.gate(values[0]))
    reason = guard.settle(values[0], report)
    if reason:
        learned.refused.append(Refused(reason, values[0], report))
        return
    for mean, value in zip(means, values, strict=True):
        mean.add(value, 1)


def _largest(engine: Engine, value: float) -> float:
    values = [0.0] * engine.world_size
    values[engine.rank] = value
    return max(engine.sum_over_ranks(values))


def describe_rollout(lesson: Lesson) -> dict[str, float]:
    """What the episodes of an update were like: reward, score, kl, entropy, response_length, stop_rate, and more."""
    rollout = lesson.rollout
    mask, num_rows = rollout.mask, len(rollout.tokens)
    kl_BS = estimate_kl(rollout.log_probs, rollout.reference, "k1")
    return {
        "reward": float(masked_sum(lesson.rewards, mask)) / num_rows,
        "score": float(rollout.scores.mean()),
        "kl": float(masked_sum(kl_BS, mask)) / num_rows,
        "entropy": float(masked_sum(rollout.entropy, mask) / mask.sum()),
        "response_length": float(mask.sum()) / num_rows,
        "stop_rate": float(rollout.finished.float().mean()),
        "explained_variance": explained_variance(rollout.values, lesson.returns, mask),
    }
