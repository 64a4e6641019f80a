"""Arithmetic of one token, for model FLOP utilisation: in two conventions, since a figure without its name misleads.

"palm" (2204.02311, appendix B) is what most published numbers use: 6 per matrix weight for forward and backward, plus
full attention, as if a token looked at all of the sequence. "causal" counts what is needed: a causal token looks at
half of the sequence on average, so attention is halved (an encoder's is not). At long sequences the first flatters by a
tenth or more. For packed rows the length that counts is that of the documents, see `effective_length`.

In both, embedding look-ups, norms and activations are free; the output projection counts, tied or not; of a mixture of
experts those that a token visits count. Of an encoder-decoder the figure is the mean over source and target tokens, of
sequences that are equally long.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

from components.model.config import ModelConfig
from components.model.counting import num_block_weights

Convention: TypeAlias = Literal["palm", "causal"]
CONVENTIONS: tuple[Convention, ...] = ("palm", "causal")


def flops_per_token(config: ModelConfig, length: float, convention: Convention = "palm") -> float:
    """Floating-point operations of training on one token of a sequence of `length` tokens, forward and backward."""
    return 3.0 * forward_flops_per_token(config, length, convention)


def forward_flops_per_token(config: ModelConfig, length: float, convention: Convention = "palm") -> float:
    """Floating-point operations of the forward pass alone: a third of training."""
    if config.family == "encoder-decoder":
        pair = num_block_weights(config) + config.vocab_size * config.dim
        seen = config.encoder_layers + config.num_layers * (1 + _share_seen(config, convention))
        return (2.0 * pair + _attention(config, seen * length)) / 2
    head = config.dim * config.dim if config.family == "bert" else 0
    weights = num_block_weights(config) + head + config.vocab_size * config.dim
    return 2.0 * weights + _attention(config, config.num_layers * _share_seen(config, convention) * length)


def effective_length(lengths: Sequence[int]) -> float:
    """The length to pass for rows that hold documents which do not see each other: sum of squares over sum.

    Attention of a document grows with its square, so this is the length of equal documents that cost as much a token.
    """
    total = sum(lengths)
    return sum(length * length for length in lengths) / total if total else 0.0


def _share_seen(config: ModelConfig, convention: Convention) -> float:
    """The part of a sequence that a token of a stack which predicts is counted to look at."""
    return 0.5 if convention == "causal" and config.causal else 1.0


def _attention(config: ModelConfig, seen: float) -> float:
    """Scores and their weighted sum over so many tokens: 2 products of 2 operations for each of H * C numbers."""
    return 4.0 * config.num_heads * config.head_dim * seen
