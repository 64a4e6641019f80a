"""Embedding, blocks and the final norm: all that language models, encoders and scalar models share.

`ModelConfig` says what a stack is made of; the one thing it does not say is which side of an encoder-decoder this is.

Shapes: B batch, T tokens, S source tokens, D model width, E experts.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from components.model.attention import Attention, CrossAttention, Projection
from components.model.blocks import Block
from components.model.cache import KVCache
from components.model.config import ModelConfig, resolved
from components.model.elementwise import make_norm
from components.model.experts import Experts, balance_loss
from components.model.masks import AttentionPlan, plan_attention
from components.model.positions import sinusoidal_table

EMBEDDING_STD = 0.02


class Backbone(nn.Module):
    """A stack of blocks between the token embedding and the final norm.

    Args:
        config: Shape; `vocab_size` must be set.
        num_layers: Blocks, if not the config's.
        causal: Whether a token sees only those before it, if not as the config says.
        cross: Whether blocks attend to a source.
        embed: Whether the stack has a token embedding of its own; one without is given embedded tokens.
    """

    embed: nn.Embedding

    def __init__(
        self,
        config: ModelConfig,
        *,
        num_layers: int = 0,
        causal: bool | None = None,
        cross: bool = False,
        embed: bool = True,
    ) -> None:
        super().__init__()
        if config.vocab_size < 1:
            raise ValueError("model.vocab_size is 0: replace it by the tokenizer's before building the model")
        config = resolved(config)
        self.config = config
        self.checkpointed = False
        self._causal = config.causal if causal is None else causal
        if embed:
            self.embed = nn.Embedding(config.vocab_size, config.dim)
        learned, relative = config.positions == "learned", config.positions == "t5"
        self.positions = nn.Embedding(config.max_length, config.dim) if learned else None
        self.relative = nn.Embedding(config.relative_buckets, config.num_heads) if relative else None
        self.token_types = nn.Embedding(config.num_token_types, config.dim) if config.num_token_types else None
        self.embed_norm = make_norm(config) if config.embed_norm else None
        layers = range(num_layers or config.num_layers)
        self.blocks = nn.ModuleList(Block(config, layer, cross) for layer in layers)
        self.norm = None if config.post_norm else make_norm(config)

    def forward(
        self,
        tokens_BT: Tensor,
        *,
        embedded_BTD: Tensor | None = None,
        positions_BT: Tensor | None = None,
        segments_BT: Tensor | None = None,
        cache: KVCache | None = None,
        memory_BSD: Tensor | None = None,
        memory_mask: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Runs the stack.

        Args:
            tokens_BT: Token numbers.
            embedded_BTD: Their embeddings, of a stack that has none of its own.
            positions_BT: As in `Transformer.forward`.
            segments_BT: As in `Transformer.forward`.
            cache: As in `Transformer.forward`.
            memory_BSD: Hidden states of the source, for cross attention; None where the cache has their keys.
            memory_mask: What is added to the scores of cross attention.

        Returns:
            Hidden states after the final norm, [B, T, D], and the load-balancing loss of the experts, if there are any.
        """
        x_BTD = self.embed(tokens_BT) if embedded_BTD is None else embedded_BTD
        plan = plan_attention(
            self.config,
            tokens_BT,
            x_BTD.dtype,
            positions_BT,
            segments_BT,
            cache,
            causal=self._causal,
            relative=self.relative,
            memory=(memory_BSD, memory_mask),
        )
        x_BTD = self._placed(x_BTD, plan)
        routings: list[Tensor] = []
        for block in self.blocks:
            x_BTD, routing_2E = (
                checkpoint(block, x_BTD, plan, use_reentrant=False) if self._saves() else block(x_BTD, plan)
            )
            if routing_2E is not None:
                routings.append(routing_2E)
        if cache is not None:
            cache.advance(tokens_BT.shape[1])
        hidden_BTD = x_BTD if self.norm is None else self.norm(x_BTD)
        return hidden_BTD, balance_loss(routings) if routings else None

    def _saves(self) -> bool:
        return self.checkpointed and torch.is_grad_enabled()

    def _placed(self, x_BTD: Tensor, plan: AttentionPlan) -> Tensor:
        """Embedded tokens with their positions, normalised and dropped out where the model does so."""
        config = self.config
        if config.scale_embeddings:
            x_BTD = x_BTD * math.sqrt(config.dim)
        if self.token_types is not None:
            # All tokens are of the first type. The table is entered as a module, so that ZeRO-3 gathers it.
            x_BTD = x_BTD + self.token_types(plan.positions.new_zeros(1))
        if self.positions is not None:
            x_BTD = x_BTD + self.positions(plan.positions)
        elif config.positions == "sinusoidal":
            table = sinusoidal_table(config.max_length, config.dim, x_BTD.device)
            x_BTD = x_BTD + table[plan.positions].to(x_BTD.dtype)
        if self.embed_norm is not None:
            x_BTD = self.embed_norm(x_BTD)
        return F.dropout(x_BTD, config.dropout) if config.dropout and self.training else x_BTD

    def initialise(self, generator: torch.Generator | None = None) -> None:
        """Draws all weights anew.

        - embedding: N(0, 0.02). Tied, it is also the output: logits start near 0, the loss near ln(vocab_size). Where
          the output is divided by sqrt(dim), the embedding starts that much larger.
        - other tables (positions, token types, distances): N(0, 0.02).
        - matrices that read the stream (qkv, gate_up): N(0, 1 / sqrt(dim)), which keeps the variance of what they read.
          Queries whose scores are not divided by sqrt(head width) start that much smaller (T5's rule).
        - matrices that write to it (out, down): by their own input width, and divided by the root of the number of
          sub-layers, so that the sum of all layers' writes starts with the variance of one (GPT-2's rule).
        - routers: N(0, 0.02), which sends tokens everywhere at first.
        - norms: 1. Biases: 0.
        """
        config = self.config
        num_writes = len(self.blocks) * (3 if self.blocks[0].cross is not None else 2)
        residual_scale = 1 / math.sqrt(num_writes)
        if hasattr(self, "embed"):
            scale = math.sqrt(config.dim) if config.scale_output else 1.0
            nn.init.normal_(self.embed.weight, std=EMBEDDING_STD * scale, generator=generator)
        for name, module in self.named_modules():
            if isinstance(module, Projection):
                scale = residual_scale if name.endswith((".out", ".down")) else 1.0
                std = EMBEDDING_STD if name.endswith(".router") else scale / math.sqrt(module.in_features)
                fill(module, std, generator)
            elif isinstance(module, Experts):
                _fill_experts(module, residual_scale, generator)
            elif name in ("positions", "relative", "token_types"):
                nn.init.normal_(module.weight, std=EMBEDDING_STD, generator=generator)
        if not config.scale_attention:
            for module in self.modules():
                _shrink_queries(module, config)


def fill(module: nn.Linear, std: float, generator: torch.Generator | None) -> None:
    """Draws a linear map's matrix from N(0, std); its bias is zero."""
    nn.init.normal_(module.weight, std=std, generator=generator)
    if module.bias is not None:
        nn.init.zeros_(module.bias)


def _fill_experts(experts: Experts, residual_scale: float, generator: torch.Generator | None) -> None:
    for weight in (experts.gate_up, experts.up):
        if weight is not None:
            nn.init.normal_(weight, std=weight.shape[-1] ** -0.5, generator=generator)
    nn.init.normal_(experts.down, std=residual_scale * experts.down.shape[-1] ** -0.5, generator=generator)


@torch.no_grad()
def _shrink_queries(module: nn.Module, config: ModelConfig) -> None:
    rows = config.num_heads * config.head_dim
    if isinstance(module, Attention):
        module.qkv.weight[:rows].mul_(config.head_dim**-0.5)
    elif isinstance(module, CrossAttention):
        module.query.weight.mul_(config.head_dim**-0.5)
