"""The model: token numbers in, logits or a summed loss out.

One class per idea, each small: `RMSNorm`, `FeedForward`, `Block`, `Backbone` (embedding to last norm), `Transformer`
(backbone plus output projection). The scalar models of `heads.py` put another head on the same backbone. Nothing here
knows about ranks, precision or checkpoints; engines wrap the module from outside, and everything a training step needs
goes through `forward`, so that ZeRO-3 can gather weights as modules are entered.

Wide matrices are fused (queries, keys and values in one, gate and up in one): fewer, larger multiplications. The folder
written by `huggingface.py` holds them split, under Hugging Face's names.

Shapes: B batch, T tokens, D model width, V vocabulary.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from components.model.attention import Attention, AttentionPlan, KVCache, Projection, plan_attention
from components.model.config import ModelConfig
from components.model.elementwise import rms_norm, swiglu
from components.model.loss import cross_entropy

EMBEDDING_STD = 0.02


class RMSNorm(nn.Module):
    """Scales each row to unit root mean square, then by a learned weight."""

    def __init__(self, dim: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))
        self._eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Same shape and type as `x`."""
        return rms_norm(x, self.weight, self._eps)


class FeedForward(nn.Module):
    """A gated two-layer network, gate and up projections fused."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.gate_up = Projection(config.dim, 2 * config.ffn_dim)
        self.down = Projection(config.ffn_dim, config.dim)

    def forward(self, x_BTD: Tensor) -> Tensor:
        """Transforms each token by itself, [B, T, D]."""
        out: Tensor = self.down(swiglu(self.gate_up(x_BTD)))
        return out


class Block(nn.Module):
    """One layer: attention, then feed-forward, each normalised before and added to the residual stream."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.attention_norm = RMSNorm(config.dim, config.norm_eps)
        self.attention = Attention(config, layer)
        self.ffn_norm = RMSNorm(config.dim, config.norm_eps)
        self.ffn = FeedForward(config)

    def forward(self, x_BTD: Tensor, plan: AttentionPlan) -> Tensor:
        """The residual stream after this layer, [B, T, D]."""
        x_BTD = x_BTD + self.attention(self.attention_norm(x_BTD), plan)
        out: Tensor = x_BTD + self.ffn(self.ffn_norm(x_BTD))
        return out


class Backbone(nn.Module):
    """Embedding, blocks and the final norm: all that a language model and a scalar model share."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        if config.vocab_size < 1:
            raise ValueError("model.vocab_size is 0: replace it by the tokenizer's before building the model")
        self.config = config
        self.embed = nn.Embedding(config.vocab_size, config.dim)
        self.blocks = nn.ModuleList(Block(config, layer) for layer in range(config.num_layers))
        self.norm = RMSNorm(config.dim, config.norm_eps)

    def forward(
        self,
        tokens_BT: Tensor,
        *,
        positions_BT: Tensor | None = None,
        segments_BT: Tensor | None = None,
        cache: KVCache | None = None,
    ) -> Tensor:
        """Hidden states after the final norm, [B, T, D]; arguments as in `Transformer.forward`."""
        x_BTD = self.embed(tokens_BT)
        plan = plan_attention(self.config, tokens_BT, x_BTD.dtype, positions_BT, segments_BT, cache)
        for block in self.blocks:
            x_BTD = block(x_BTD, plan)
        if cache is not None:
            cache.advance(tokens_BT.shape[1])
        hidden: Tensor = self.norm(x_BTD)
        return hidden

    def initialise(self, generator: torch.Generator | None = None) -> None:
        """Draws all weights anew.

        - embedding: N(0, 0.02). Tied, it is also the output: logits start near 0, the loss near ln(vocab_size).
        - matrices that read the stream (qkv, gate_up): N(0, 1 / sqrt(dim)), which keeps the variance of what they read.
        - matrices that write to it (out, down): by their own input width, and divided by sqrt(2 num_layers), so that
          the sum of all layers' writes starts with the variance of one (GPT-2's rule).
        - norms: 1.
        """
        residual_scale = 1 / math.sqrt(2 * self.config.num_layers)
        nn.init.normal_(self.embed.weight, std=EMBEDDING_STD, generator=generator)
        for name, module in self.named_modules():
            if isinstance(module, Projection):
                scale = residual_scale if name.endswith((".out", ".down")) else 1.0
                nn.init.normal_(module.weight, std=scale / math.sqrt(module.in_features), generator=generator)
            elif isinstance(module, RMSNorm):
                nn.init.ones_(module.weight)


class Transformer(nn.Module):
    """A causal language model.

    Args:
        config: Its shape; `vocab_size` must be set.
        generator: Source of the initial weights; None draws from torch's global one.
    """

    def __init__(self, config: ModelConfig, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.config = config
        self.backbone = Backbone(config)
        self.lm_head = None if config.tie_embeddings else Projection(config.dim, config.vocab_size)
        self.backbone.initialise(generator)
        if self.lm_head is not None:
            nn.init.normal_(self.lm_head.weight, std=EMBEDDING_STD, generator=generator)

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
            targets_BT: What should follow each token; -100 where nothing is scored.
            positions_BT: Position of each token; by default its place in the row, or in its segment.
            segments_BT: Document number of each token of a packed row; documents do not see each other.
            cache: Keys and values of earlier tokens, extended by this call.
            num_logits: Only the last so many positions are projected to logits; 0 means all.

        Returns:
            With targets the sum of their cross-entropies in nats, an fp32 scalar; without, the logits [B, T, V].
        """
        hidden_BTD = self.backbone(tokens_BT, positions_BT=positions_BT, segments_BT=segments_BT, cache=cache)
        weight_VD = self.backbone.embed.weight if self.lm_head is None else self.lm_head.weight
        if targets_BT is not None:
            return cross_entropy(hidden_BTD, weight_VD, targets_BT)
        return F.linear(hidden_BTD[:, -num_logits:], weight_VD)

    def hidden(
        self,
        tokens_BT: Tensor,
        *,
        positions_BT: Tensor | None = None,
        segments_BT: Tensor | None = None,
        cache: KVCache | None = None,
    ) -> Tensor:
        """Hidden states after the final norm, [B, T, D]."""
        hidden: Tensor = self.backbone(tokens_BT, positions_BT=positions_BT, segments_BT=segments_BT, cache=cache)
        return hidden
