"""Arithmetic of one token, for model FLOP utilisation: which convention, said out loud.

Convention: PaLM's (2204.02311, appendix B), as in most published numbers: 6 per matrix weight for forward and backward,
plus full, not halved, attention. Embedding look-ups are free; the output projection counts, tied or not.
"""

from __future__ import annotations

from components.model.config import ModelConfig, num_block_weights


def flops_per_token(config: ModelConfig, length: int) -> float:
    """Floating-point operations of training on one token of a sequence of `length` tokens."""
    weights = num_block_weights(config) + config.vocab_size * config.dim
    return 6.0 * weights + 12.0 * config.num_layers * config.dim * length


def forward_flops_per_token(config: ModelConfig, length: int) -> float:
    """Floating-point operations of the forward pass alone: a third of training."""
    return flops_per_token(config, length) / 3
