"""Replies under a model: padding them into a batch, the log-probability of each token, the score of a whole reply.

An episode is a prompt with a reply, both as ids. Batches are padded on the right: under a causal mask no real token
sees the padding, so no attention mask and no positions are needed. Position s of the "S" tensors is about predicting
token s + 1 from the tokens up to s; its mask is 1 where token s + 1 belongs to the reply.

The output projection is most of a tiny model's work and is needed for reply tokens only, so `ReplyScorer` picks those
rows out of the hidden states before it projects (a third less work than logits of all positions at 40 + 40 tokens).

Shapes: B episodes, T tokens, S = T - 1 predictions, N reply tokens of the batch, D model width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from components.model.language import AnyScalar, LanguageModel, logits_at
from components.tokenizer.special import PAD

SCORER_PREFIX = "model."


@dataclass(frozen=True)
class Episode:
    """A prompt and what was answered.

    Attributes:
        prompt: Ids up to where the assistant speaks.
        reply: Ids of the reply, its stop token included where it has one; at least one.
        finished: Whether the reply ended by itself rather than by being cut.
    """

    prompt: list[int]
    reply: list[int]
    finished: bool = True

    @property
    def num_tokens(self) -> int:
        """Length of the whole sequence."""
        return len(self.prompt) + len(self.reply)


class ReplyScorer(nn.Module):
    """A language model asked only about replies.

    Args:
        model: The model; its parameters appear here under the prefix `SCORER_PREFIX`.
    """

    def __init__(self, model: LanguageModel) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, tokens_BT: Tensor, mask_BS: Tensor, temperature: float = 1.0, with_entropy: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Log-probability of each reply token.

        Args:
            tokens_BT: Right-padded episodes.
            mask_BS: Which predictions count.
            temperature: Divides the logits, as it did when the reply was sampled.
            with_entropy: Also give the entropy of each prediction (costs two more passes over the logits).

        Returns:
            log_probs_BS and entropy_BS in nats, fp32, 0 where masked (entropy 0 everywhere if it was not asked for).
        """
        logits_NV = logits_at(self.model, tokens_BT, F.pad(mask_BS, (0, 1))).float() / temperature
        chosen_N = logits_NV.gather(1, tokens_BT[:, 1:][mask_BS][:, None]).squeeze(1)
        norm_N = logits_NV.logsumexp(1)
        zeros_BS = torch.zeros(mask_BS.shape, device=logits_NV.device)
        entropy_BS = zeros_BS
        if with_entropy:
            entropy_BS = zeros_BS.masked_scatter(mask_BS, norm_N - (logits_NV.softmax(1) * logits_NV).sum(1))
        return zeros_BS.masked_scatter(mask_BS, chosen_N - norm_N), entropy_BS


def pad_episodes(episodes: Sequence[Episode], width: int = 0) -> tuple[Tensor, Tensor]:
    """Puts episodes into one batch.

    Args:
        episodes: At least one.
        width: Tokens of a row; the longest episode's if smaller than that.

    Returns:
        tokens_BT, int64, padded on the right with PAD; mask_BS, bool.
    """
    width = max(width, *(episode.num_tokens for episode in episodes))
    tokens_BT = torch.full((len(episodes), width), PAD)
    mask_BS = torch.zeros((len(episodes), width - 1), dtype=torch.bool)
    for row, episode in enumerate(episodes):
        tokens_BT[row, : episode.num_tokens] = torch.tensor(episode.prompt + episode.reply)
        mask_BS[row, len(episode.prompt) - 1 : episode.num_tokens - 1] = True
    return tokens_BT, mask_BS


def batches_by_length(lengths: Sequence[int], batch_size: int) -> list[list[int]]:
    """Indices cut into batches of like length, longest first: little padding, and too big a batch fails at once."""
    order = sorted(range(len(lengths)), key=lambda index: (-lengths[index], index))
    return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]


@torch.no_grad()
def reply_log_probs(
    model: LanguageModel, episodes: Sequence[Episode], temperature: float = 1.0, batch_size: int = 32
) -> list[Tensor]:
    """Log-probabilities of every episode's reply tokens under a model, computed on the model's device.

    Returns:
        One CPU tensor per episode, shape [len(reply)], nats.
    """
    scorer = ReplyScorer(model)
    device = next(model.parameters()).device
    result: list[Tensor] = [torch.empty(0)] * len(episodes)
    for batch in batches_by_length([episode.num_tokens for episode in episodes], batch_size):
        tokens_BT, mask_BS = (tensor.to(device) for tensor in pad_episodes([episodes[index] for index in batch]))
        log_probs_BS, _ = scorer(tokens_BT, mask_BS, temperature)
        for row, index in enumerate(batch):
            result[index] = log_probs_BS[row][mask_BS[row]].cpu()
    return result


def last_values(values_BT: Tensor, mask_BS: Tensor) -> Tensor:
    """The value at each reply's last token, shape [B]: where a reward model is read."""
    positions_S = torch.arange(1, values_BT.shape[1], device=mask_BS.device)
    last_B = (mask_BS * positions_S).argmax(1) + 1
    return values_BT.gather(1, last_B[:, None]).squeeze(1)


@torch.no_grad()
def score_replies(judge: AnyScalar, episodes: Sequence[Episode], batch_size: int = 32) -> list[float]:
    """A reward model's raw score of every episode: its value at the last token, on the judge's device."""
    device = next(judge.parameters()).device
    scores = [0.0] * len(episodes)
    for batch in batches_by_length([episode.num_tokens for episode in episodes], batch_size):
        tokens_BT, mask_BS = (tensor.to(device) for tensor in pad_episodes([episodes[index] for index in batch]))
        for index, score in zip(batch, last_values(judge(tokens_BT), mask_BS).tolist(), strict=True):
            scores[index] = score
    return scores
