"""A rollout: the episodes of one update, with all that learning from them needs.

Each rank answers its share of the prompts (every world_size-th row) and scores its own episodes; then all rows are
gathered on all ranks. They are a few numbers per token, and with the whole rollout everywhere, whitening, returns,
metrics and the choice of mini-batches are the same plain code on any number of ranks. A row's sample depends on the
seed, the update and the row number alone.

Two log-probabilities are kept per token: what the sampler drew with, and what the actor gives when it reads the episode
afterwards. PPO's ratio is against the latter, so it starts at 1 in any precision; that both agree is a check that the
replica has the actor's weights and the sampler is exact (`first_ratio_error`).

Shapes: B episodes, T tokens, S = T - 1 predictions (see `posttrain.replies`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from components.context import derive_seed
from components.model.generate import Completion, SamplingConfig, generate
from components.posttrain.chat_format import STOP_IDS
from components.posttrain.prompts import Prompt
from components.posttrain.replies import Episode, ReplyScorer, batches_by_length, last_values, pad_episodes
from components.ppo.config import PpoConfig
from components.ppo.roles import Roles
from components.shards.permutation import permute

PER_TOKEN = ("sampled", "log_probs", "reference", "values", "entropy")


@dataclass(frozen=True)
class Rollout:
    """Episodes right-padded to one width; per-token tensors are 0 outside the replies.

    Attributes:
        tokens: Ids of prompt and reply.
        mask: Which predictions belong to the reply.
        finished: Whether the reply ended by itself.
        sampled: Log-probability of each token as the sampler drew it, nats.
        log_probs: The same as the actor computes it, nats.
        reference: The same under the reference, nats.
        values: The critic's estimate before each token, in units of reward.
        entropy: Of the policy before each token, nats.
        scores: The judge's normalised score, clipped.
    """

    tokens: Tensor
    mask: Tensor
    finished: Tensor
    sampled: Tensor
    log_probs: Tensor
    reference: Tensor
    values: Tensor
    entropy: Tensor
    scores: Tensor

    @property
    def lengths(self) -> Tensor:
        """Tokens of each whole episode."""
        positions_S = torch.arange(1, self.mask.shape[1] + 1, device=self.mask.device)
        return (self.mask * positions_S).amax(1) + 1


def draw_prompts(prompts: Sequence[Prompt], update: int, count: int, seed: int) -> list[Prompt]:
    """The prompts of one update: the next `count` of an order that is shuffled anew each time all were used."""
    positions = np.arange(update * count, (update + 1) * count, dtype=np.int64)
    epochs, places = np.divmod(positions, len(prompts))
    drawn = [0] * count
    for epoch in np.unique(epochs).tolist():
        here = np.flatnonzero(epochs == epoch)
        order = permute(places[here], len(prompts), derive_seed(seed, "prompts", epoch))
        for place, row in zip(here.tolist(), order.tolist(), strict=True):
            drawn[place] = row
    return [prompts[row] for row in drawn]


def collect(
    roles: Roles,
    config: PpoConfig,
    prompts: Sequence[Prompt],
    seeds: Sequence[int],
    place: Callable[[str], None],
    stop: Callable[[], bool],
) -> Rollout | None:
    """Answers prompts with the replica and scores the episodes with every role. Collective.

    Args:
        roles: The replica must be up to date.
        config: Sampling and score settings.
        prompts: Those of the whole update; their number is a multiple of the number of ranks.
        seeds: One per prompt.
        place: Told what this rank does from here on.
        stop: Asked before every token whether to leave it at that.

    Returns:
        The whole rollout, on every rank; None if a rank was to stop.
    """
    rank, world_size = roles.actor.rank, roles.actor.world_size
    mine, my_seeds = prompts[rank::world_size], seeds[rank::world_size]
    place("answering prompts")
    completions = answer(roles, config, mine, my_seeds, stop)
    place("waiting for the others")
    [stopped] = roles.actor.sum_over_ranks([float(completions is None)])
    if stopped or completions is None:
        return None
    place("scoring replies")
    local = _score(roles, config, mine, completions)
    place("gathering replies")
    return gather(local, world_size)


class _Stopped(Exception):  # noqa: N818  (no fault)
    """Sampling was broken off."""


def answer(
    roles: Roles, config: PpoConfig, prompts: Sequence[Prompt], seeds: Sequence[int], stop: Callable[[], bool]
) -> list[Completion] | None:
    """Samples a reply to every prompt from the replica; None if it was broken off: a stop does not wait for it."""

    def look(*_: object) -> None:
        if stop():
            raise _Stopped

    sampling = SamplingConfig(temperature=config.temperature, max_new_tokens=config.max_new_tokens)
    ids = [prompt.ids for prompt in prompts]
    hook = roles.replica.register_forward_pre_hook(look)
    try:
        return generate(roles.replica, ids, sampling, STOP_IDS, seeds, roles.actor.device)
    except _Stopped:
        return None
    finally:
        hook.remove()


@torch.no_grad()
def _score(roles: Roles, config: PpoConfig, prompts: Sequence[Prompt], completions: Sequence[Completion]) -> Rollout:
    device, scale = roles.actor.device, roles.judge.scale
    episodes = [
        Episode(prompt.ids, completion.tokens, completion.finished)
        for prompt, completion in zip(prompts, completions, strict=True)
    ]
    # One fixed width on all ranks: rows are gathered as they are, and cut to the longest afterwards.
    padded = pad_episodes(episodes, config.max_prompt_tokens + config.max_new_tokens)
    tokens_BT, mask_BS = (tensor.to(device) for tensor in padded)
    tokens = {name: torch.zeros(mask_BS.shape, device=device) for name in PER_TOKEN}
    scores_B = torch.zeros(len(episodes), device=device)
    drawn = torch.tensor([number for completion in completions for number in completion.log_probs], device=device)
    tokens["sampled"].masked_scatter_(mask_BS, drawn)

    reference = ReplyScorer(roles.reference)
    lengths = [episode.num_tokens for episode in episodes]
    for batch in batches_by_length(lengths, config.training.micro_batch):
        rows, width = torch.tensor(batch, device=device), lengths[batch[0]]
        piece_BT, piece_BS = tokens_BT[rows, :width], mask_BS[rows, : width - 1]
        log_probs, entropy = roles.actor.module(piece_BT, piece_BS, config.temperature, True)
        tokens["log_probs"][rows, : width - 1] = log_probs
        tokens["entropy"][rows, : width - 1] = entropy
        tokens["reference"][rows, : width - 1] = reference(piece_BT, piece_BS, config.temperature)[0]
        values_BS = scale.normalise(roles.critic.module(piece_BT).float())[:, :-1]
        tokens["values"][rows, : width - 1] = values_BS * piece_BS
        scores_B[rows] = scale.normalise(last_values(roles.judge.model(piece_BT), piece_BS))

    if config.score_clip is not None:
        scores_B = scores_B.clamp(-config.score_clip, config.score_clip)
    finished_B = torch.tensor([episode.finished for episode in episodes], device=device)
    return Rollout(tokens_BT, mask_BS, finished_B, scores=scores_B, **tokens)


def gather(local: Rollout, world_size: int) -> Rollout:
    """Puts the rows of all ranks together, in the order of the prompts. Collective.

    Args:
        local: This rank's rows: rows rank, rank + world_size, ... of the whole.
        world_size: Number of ranks; every one has as many rows, of the same width.
    """
    counts = torch.cat([local.tokens, local.mask, local.finished[:, None]], dim=1)
    numbers = torch.cat([*(getattr(local, name) for name in PER_TOKEN), local.scores[:, None]], dim=1)
    counts, numbers = _interleave(counts, world_size), _interleave(numbers, world_size)
    width = local.tokens.shape[1]
    tokens_BT, mask_BS, finished_B1 = torch.split(counts, [width, width - 1, 1], dim=1)
    mask_BS = mask_BS.bool()
    *tokens, scores_B1 = torch.split(numbers, [width - 1] * len(PER_TOKEN) + [1], dim=1)
    last = int(mask_BS.any(0).nonzero().max()) + 1
    return Rollout(
        tokens_BT[:, : last + 1],
        mask_BS[:, :last],
        finished_B1.squeeze(1).bool(),
        scores=scores_B1.squeeze(1),
        **{name: tensor[:, :last] for name, tensor in zip(PER_TOKEN, tokens, strict=True)},
    )


def _interleave(rows: Tensor, world_size: int) -> Tensor:
    if world_size == 1:
        return rows
    parts = [torch.empty_like(rows) for _ in range(world_size)]
    dist.all_gather(parts, rows.contiguous())
    return torch.stack(parts, dim=1).flatten(0, 1)
