"""Arithmetic of one token in a model of transformers, by the two conventions of `flops`.

Matrices are counted on the model itself, attention from its config: heads, their width, and what the tokens of each
layer see, all of the sequence or a window. In "palm" a token looks at all that it may, as if it were the last; in
"causal" at what it sees on average, so a window counts for almost its width and the whole sequence for half of it.
Where a config does not tell, nothing is guessed: `UnknownCost` says what is missing.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from torch import nn

from components.model.flops import Convention

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

FULL, SLIDING, CHUNKED = "full_attention", "sliding_attention", "chunked_attention"
NUM_EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts")


class UnknownCost(ValueError):  # noqa: N818  (a state, not a fault)
    """The arithmetic of a token cannot be known; says why."""


def external_flops_per_token(inner: PreTrainedModel, length: float, convention: Convention) -> float:
    """Floating-point operations of training on one token of a sequence of `length` tokens, forward and backward.

    Args:
        inner: A causal language model; one on the device "meta" will do.
        length: Tokens of a sequence.
        convention: See `flops`.

    Raises:
        UnknownCost: If the config does not tell.
    """
    config = inner.config.get_text_config()
    heads, width = _heads(config)
    seen = sum(_seen(window, length, convention) for window in _windows(config))
    return 3.0 * (2.0 * _matrices(inner) + 4.0 * heads * width * seen)


def _seen(window: float | None, length: float, convention: Convention) -> float:
    """Tokens that a token is counted to look at in one layer."""
    reach = length if window is None else min(window, length)
    return reach if convention == "palm" or not reach else reach - reach * reach / (2 * length)


def _heads(config: PretrainedConfig) -> tuple[int, int]:
    """Query heads and their width."""
    heads, dim = getattr(config, "num_attention_heads", None), getattr(config, "hidden_size", None)
    if getattr(config, "kv_lora_rank", None):
        raise UnknownCost("keys and queries have parts of different widths")
    if not isinstance(heads, int) or not isinstance(dim, int):
        raise UnknownCost("its config names no num_attention_heads and hidden_size")
    return heads, getattr(config, "head_dim", None) or dim // heads


def _windows(config: PretrainedConfig) -> Iterator[float | None]:
    """What a token may look back on in each layer; None is everything."""
    window = getattr(config, "sliding_window", None)
    every = SLIDING if window else FULL
    kinds = getattr(config, "layer_types", None) or getattr(config, "attention_layers", None)
    for kind in kinds or [every] * config.num_hidden_layers:
        reach = {FULL: None, SLIDING: window, CHUNKED: getattr(config, "attention_chunk_size", None)}
        if kind not in reach or (kind != FULL and not reach[kind]):
            raise UnknownCost(f"it has layers of the kind {kind!r}, whose arithmetic is not known")
        yield reach[kind]


def _matrices(inner: PreTrainedModel) -> float:
    """Weights of matrices that a token visits; what is only looked up is free, and of experts a part is visited."""
    head = inner.get_output_embeddings()
    if any(isinstance(part, nn.Conv1d) for part in inner.modules()):
        raise UnknownCost("it has convolutions beside its attention")
    looked_up = {id(part.weight) for part in inner.modules() if isinstance(part, nn.Embedding)}
    free = looked_up - {id(getattr(head, "weight", None))}
    counted = 0.0
    for name, parameter in inner.named_parameters():
        if parameter.dim() >= 2 and id(parameter) not in free:
            counted += parameter.numel() * (_visited(inner.config.get_text_config()) if ".experts." in name else 1.0)
    return counted


def _visited(config: PretrainedConfig) -> float:
    """The share of the experts that a token visits."""
    total = next((found for name in NUM_EXPERTS if (found := getattr(config, name, None))), None)
    visited = getattr(config, "num_experts_per_tok", None)
    if not total or not visited:
        raise UnknownCost("its config does not tell how many of its experts a token visits")
    share: float = visited / total
    return share
