"""The model: token numbers in, logits or a summed loss out. `Transformer` is a backbone with an output projection.

The room, from the inside out, one idea each:

    positions, elementwise      rotary tables, biases of distance; norms and activations
    masks, cache, attention     who sees whom; keys of earlier tokens; self and cross attention
    experts, blocks, backbone   feed-forward or a mixture of it; one layer; the stack
    output                      logits, or the loss of targets
    transformer                 decoders (llama, gpt2) and encoders (bert): backbone and head
    encoder_decoder             two stacks, the second reading the first
    heads                       other heads on a backbone: one number per token, one label per text

Nothing here knows about ranks, precision or checkpoints; engines wrap the module from outside, and everything a
training step needs goes through `forward`, so that ZeRO-3 can gather weights as modules are entered.

Wide matrices are fused (queries, keys and values in one, gate and up in one): fewer, larger multiplications. The folder
written by `huggingface.py` holds them split, under Hugging Face's names.

Shapes: B batch, T tokens, D model width, V vocabulary.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from components.model.attention import Projection
from components.model.backbone import EMBEDDING_STD, Backbone, fill
from components.model.cache import KVCache
from components.model.config import ModelConfig, resolved
from components.model.elementwise import activate, make_norm
from components.model.encoder_decoder import EncoderDecoder
from components.model.output import logits_or_loss

__all__ = ["Backbone", "EncoderDecoder", "Transformer", "build_model"]


def build_model(config: ModelConfig, generator: torch.Generator | None = None) -> Transformer | EncoderDecoder:
    """A new model of the config's family; arguments as of `Transformer`."""
    if config.family == "encoder-decoder":
        return EncoderDecoder(config, generator)
    return Transformer(config, generator)


class MaskedHead(nn.Module):
    """What a bert does to a hidden state before it is compared with the embeddings: dense, activation, norm."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self._activation = "gelu" if config.gated else config.activation
        self.dense = Projection(config.dim, config.dim, bias=True)
        self.norm = make_norm(config)
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))

    def forward(self, hidden_BTD: Tensor) -> tuple[Tensor, Tensor]:
        """The transformed states [B, T, D], and the bias of each token's logit [V]."""
        return self.norm(activate(self._activation, self.dense(hidden_BTD))), self.bias


class Transformer(nn.Module):
    """A language model: a causal one that predicts the next token, or an encoder that fills gaps.

    Args:
        config: Its shape; `vocab_size` must be set.
        generator: Source of the initial weights; None draws from torch's global one.
    """

    def __init__(self, config: ModelConfig, generator: torch.Generator | None = None) -> None:
        super().__init__()
        if config.family == "encoder-decoder":
            raise ValueError("model.family=encoder-decoder is no Transformer: build it with build_model")
        self.config, config = config, resolved(config)
        self.backbone = Backbone(config)
        self.mlm = MaskedHead(config) if config.family == "bert" else None
        self.lm_head = None if config.tie_embeddings else Projection(config.dim, config.vocab_size)
        self.backbone.initialise(generator)
        if self.mlm is not None:
            fill(self.mlm.dense, config.dim**-0.5, generator)
        if self.lm_head is not None:
            fill(self.lm_head, EMBEDDING_STD, generator)

    def forward(
        self,
        tokens_BT: Tensor,
        targets_BT: Tensor | None = None,
        *,
        positions_BT: Tensor | None = None,
        segments_BT: Tensor | None = None,
        cache: KVCache | None = None,
        num_logits: int = 0,
    ) -> Tensor:
        """Scores targets, or predicts.

        Args:
            tokens_BT: Token numbers.
            targets_BT: What should follow each token (of an encoder: stand in its place); -100 where nothing is scored.
            positions_BT: Position of each token; by default its place in the row, or in its segment.
            segments_BT: Document number of each token of a packed row; documents do not see each other. An
                encoder's padding has a number of its own.
            cache: Keys and values of earlier tokens, extended by this call.
            num_logits: Only the last so many positions are projected to logits; 0 means all.

        Returns:
            With targets the sum of their cross-entropies in nats, an fp32 scalar (while a mixture of experts trains,
            plus `router_loss` times its load-balancing loss per scored token); without, the logits [B, T, V].
        """
        hidden_BTD, balance = self.backbone(tokens_BT, positions_BT=positions_BT, segments_BT=segments_BT, cache=cache)
        if targets_BT is None:
            hidden_BTD = hidden_BTD[:, -num_logits:]
        bias_V = None
        if self.mlm is not None:
            hidden_BTD, bias_V = self.mlm(hidden_BTD)
        balances = [balance] if self.training else []
        return logits_or_loss(hidden_BTD, (self.output.weight, bias_V), targets_BT, self.config, balances)

    @property
    def output(self) -> nn.Embedding | nn.Linear:
        """What holds the output projection: a matrix of its own, or the embedding."""
        return self.backbone.embed if self.lm_head is None else self.lm_head

    def hidden(
        self,
        tokens_BT: Tensor,
        *,
        positions_BT: Tensor | None = None,
        segments_BT: Tensor | None = None,
        cache: KVCache | None = None,
    ) -> Tensor:
        """Hidden states after the final norm, [B, T, D]."""
        hidden_BTD: Tensor = self.backbone(tokens_BT, positions_BT=positions_BT, segments_BT=segments_BT, cache=cache)[
            0
        ]
        return hidden_BTD
