"""How many numbers a model has, counted from its config alone: before there is a model, and without torch.

Exact for every family: a test builds each model without memory and counts. What the counts are for: the size that is
written down with a model, the memory it will take (`estimate`), and its arithmetic (`flops`). Of a mixture of experts
two numbers matter, all parameters for memory, and those that one token visits for arithmetic.
"""

from __future__ import annotations

from dataclasses import dataclass

from components.model.config import ModelConfig, resolved

CHUNK_LOGITS = 1 << 22
"""Logits of one chunk of the loss on a CPU: 16 MB of fp32, 512 rows at a vocabulary of 8,192. The three matrix products
take a fifth less than with 128 rows, the passes over the logits hardly more (docs/benchmarks.md)."""


@dataclass(frozen=True)
class LayerWeights:
    """Entries of the matrices of one block, without biases.

    Attributes:
        attention: Queries, keys, values and output.
        cross_target: What a target token meets of the cross attention: queries and output. 0 where there is none.
        cross_source: What a source token meets of it: keys and values.
        router: The router of a mixture of experts.
        ffn: One feed-forward network.
    """

    attention: int
    cross_target: int
    cross_source: int
    router: int
    ffn: int


def layer_weights(config: ModelConfig, cross: bool = False) -> LayerWeights:
    """The matrices of one block; `cross` is for a block that also attends to a source."""
    inner, shared = config.num_heads * config.head_dim, config.num_kv_heads * config.head_dim
    reading, other = 2 * config.dim * inner, 2 * config.dim * shared
    ffn = (3 if config.gated else 2) * config.dim * config.ffn_dim
    router = config.num_experts * config.dim
    return LayerWeights(reading + other, reading if cross else 0, other if cross else 0, router, ffn)


def num_parameters(config: ModelConfig) -> int:
    """Trainable parameters of a model of this shape, a tied table counted once."""
    return _total(config, max(1, config.num_experts))


def num_active_parameters(config: ModelConfig) -> int:
    """Parameters that one token visits: all, but for experts that its router does not choose."""
    return _total(config, config.experts_per_token if config.num_experts else 1)


def num_block_weights(config: ModelConfig) -> int:
    """Entries of the matrices inside all blocks that a token is multiplied by.

    Of an encoder-decoder those that a source token and a target token are multiplied by, together.
    """
    experts = config.experts_per_token if config.num_experts else 1
    total = 0
    for layers, cross in stacks(config):
        weights = layer_weights(config, cross)
        attention = weights.attention + weights.cross_target + weights.cross_source
        total += layers * (attention + weights.router + experts * weights.ffn)
    return total


def stacks(config: ModelConfig) -> list[tuple[int, bool]]:
    """Blocks of each stack, and whether they attend to a source."""
    if config.family == "encoder-decoder":
        return [(config.encoder_layers, False), (config.num_layers, True)]
    return [(config.num_layers, False)]


def _total(config: ModelConfig, experts: int) -> int:
    config = resolved(config)
    total = sum(layers * _block(config, cross, experts) for layers, cross in stacks(config))
    total += config.vocab_size * config.dim * (1 if config.tie_embeddings else 2)
    return total + len(stacks(config)) * _around_blocks(config) + _head(config)


def _norm(config: ModelConfig) -> int:
    return config.dim * (2 if config.norm == "layernorm" and config.bias else 1)


def _block(config: ModelConfig, cross: bool, experts: int) -> int:
    config = resolved(config)
    weights = layer_weights(config, cross)
    total = weights.attention + weights.cross_target + weights.cross_source + weights.router + experts * weights.ffn
    total += (3 if cross else 2) * _norm(config)
    total += 2 * config.head_dim if config.qk_norm else 0  # of the self-attention alone
    if config.bias:
        queries, shared = config.num_heads * config.head_dim, 2 * config.num_kv_heads * config.head_dim
        total += (2 if cross else 1) * (queries + shared + config.dim)
        if not config.num_experts:
            total += (2 if config.gated else 1) * config.ffn_dim + config.dim
    return total


def _around_blocks(config: ModelConfig) -> int:
    """Of one stack: positions, token types, norms before and after the blocks."""
    total = config.max_length * config.dim if config.positions == "learned" else 0
    total += config.relative_buckets * config.num_heads if config.positions == "t5" else 0
    total += config.num_token_types * config.dim
    total += _norm(config) if config.embed_norm else 0
    return total + (0 if config.post_norm else _norm(config))


def _head(config: ModelConfig) -> int:
    """What lies between the last block and the logits: BERT's dense layer and norm, and a bias for each token."""
    if config.family != "bert":
        return config.vocab_size if config.logits_bias else 0
    return config.dim * config.dim + config.dim + _norm(config) + config.vocab_size
