"""What is learned from a rollout: rewards per token, advantages, and the optimizer steps of actor and critic.

The reward of a token is the price of its drift from the reference; the last token also gets the judge's score, less
penalties if the reply was cut or is short. Both models then take the same mini-batches, several times over.

Batches are cut once, globally: a mini-batch is a set of rows of the whole rollout, each rank takes every
world_size-th of them, sorts them by length and forwards them in micro-batches. Loss weights are made for the whole
mini-batch, so its gradient does not depend on that cut.

Shapes: B episodes of the rollout, R rows of a micro-batch, T tokens, S = T - 1 predictions.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

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
from components.training.engine import Engine


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


@dataclass
class _Sums:
    """Loss and clip fraction summed over the optimizer steps of one rank's part."""

    policy_loss: float = 0.0
    policy_clipped: float = 0.0
    value_loss: float = 0.0
    steps: int = 0
    ratio_error: float = 0.0
    skipped: int = 0


def learn(
    roles: Roles,
    lesson: Lesson,
    config: PpoConfig,
    *,
    lr: float,
    update: int,
    seed: int,
) -> dict[str, float]:
    """Takes the optimizer steps of one update. Collective.

    Args:
        roles: Actor and critic are trained.
        lesson: What to learn.
        config: Epochs, mini-batches, clipping.
        lr: The actor's learning rate; the critic's follows the same schedule.
        update: Updates already done.
        seed: Root of the order of rows.

    Returns:
        policy_loss, value_loss, clip_fraction, first_ratio_error, skipped: the same on every rank.
    """
    sums = _Sums()
    critic_lr = lr * config.critic_lr / config.training.lr
    num_rows = len(lesson.rollout.tokens)
    for epoch in range(config.epochs):
        generator = torch.Generator().manual_seed(derive_seed(seed, "order", update, epoch))
        order_B = torch.randperm(num_rows, generator=generator).to(lesson.rollout.tokens.device)
        for rows_M in order_B.chunk(config.mini_batches):
            if update >= config.critic_warmup:
                _policy_step(roles.actor, lesson, config, rows_M, lr, sums)
            _value_step(roles, lesson, config, rows_M, critic_lr, sums)
            sums.steps += 1
    return _summary(roles.actor, sums)


def _policy_step(engine: Engine, lesson: Lesson, config: PpoConfig, rows_M: Tensor, lr: float, sums: _Sums) -> None:
    rollout, with_entropy = lesson.rollout, config.entropy_coefficient > 0
    for batch in micro_batches(rollout, rows_M, config, engine.rank, engine.world_size):
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
        sums.policy_loss += float(result.loss.detach())
        sums.policy_clipped += float(result.clip_fraction)
        if sums.steps == 0:
            drift = torch.expm1(log_probs_RS.detach() - batch.cut(rollout.sampled)).abs().max()
            sums.ratio_error = max(sums.ratio_error, float(drift))
    sums.skipped += engine.step(lr).skipped


def _value_step(roles: Roles, lesson: Lesson, config: PpoConfig, rows_M: Tensor, lr: float, sums: _Sums) -> None:
    engine, rollout = roles.critic, lesson.rollout
    for batch in micro_batches(rollout, rows_M, config, engine.rank, engine.world_size):
        values_RS = roles.judge.scale.normalise(engine.module(batch.tokens(rollout)).float())[:, :-1]
        result = clipped_value_loss(
            values_RS,
            batch.cut(rollout.values),
            batch.cut(lesson.returns),
            batch.weights,
            clip=config.clip_value,
        )
        engine.backward(result.loss)
        sums.value_loss += float(result.loss.detach())
    sums.skipped += engine.step(lr).skipped


def _summary(engine: Engine, sums: _Sums) -> dict[str, float]:
    errors = [0.0] * engine.world_size
    errors[engine.rank] = sums.ratio_error
    policy_loss, value_loss, clipped, *errors = engine.sum_over_ranks(
        [sums.policy_loss, sums.value_loss, sums.policy_clipped, *errors]
    )
    return {
        "policy_loss": policy_loss / sums.steps,
        "value_loss": value_loss / sums.steps,
        "clip_fraction": clipped / sums.steps,
        "first_ratio_error": max(errors),
        "skipped": float(sums.skipped),
    }


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
