"""An encoder-decoder: one stack reads the source in both directions, the other writes the target and looks at it.

Both share one token embedding, and the output projection is that table too where the config ties it (Marian, BART, T5).

Shapes: B batch, S source tokens, T target tokens, D model width, V vocabulary.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from components.model.attention import Projection
from components.model.backbone import EMBEDDING_STD, Backbone, fill
from components.model.cache import KVCache
from components.model.config import ModelConfig, resolved
from components.model.masks import source_mask
from components.model.output import logits_or_loss


class EncoderDecoder(nn.Module):
    """A sequence-to-sequence model.

    Args:
        config: Its shape; `vocab_size` must be set.
        generator: Source of the initial weights; None draws from torch's global one.
    """

    def __init__(self, config: ModelConfig, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.config, config = config, resolved(config)
        self.encoder = Backbone(config, num_layers=config.encoder_layers, causal=False)
        self.decoder = Backbone(config, causal=True, cross=True, embed=False)
        self.lm_head = None if config.tie_embeddings else Projection(config.dim, config.vocab_size)
        self.logits_bias = nn.Parameter(torch.zeros(config.vocab_size)) if config.logits_bias else None
        self.encoder.initialise(generator)
        self.decoder.initialise(generator)
        if self.lm_head is not None:
            fill(self.lm_head, EMBEDDING_STD, generator)

    def forward(
        self,
        sources_BS: Tensor,
        tokens_BT: Tensor,
        targets_BT: Tensor | None = None,
        *,
        source_segments_BS: Tensor | None = None,
        segments_BT: Tensor | None = None,
        cache: KVCache | None = None,
        num_logits: int = 0,
    ) -> Tensor:
        """Scores targets, or predicts.

        Args:
            sources_BS: Token numbers of the source; not looked at once the cache has seen a token.
            tokens_BT: Token numbers that the decoder has so far: the target, shifted by its start token.
            targets_BT: What should follow each of them; -100 where nothing is scored.
            source_segments_BS: -1 for padding of the source, else 0, or the pair's number in packed rows.
            segments_BT: The pair's number of each target token in packed rows, whose sources are packed likewise.
            cache: Keys and values of earlier tokens and of the source, extended by this call.
            num_logits: Only the last so many positions are projected to logits; 0 means all.

        Returns:
            As `Transformer.forward`.
        """
        memory_BSD, mask, balances = None, None if cache is None else cache.crossed_mask, []
        if cache is None or cache.length == 0:
            memory_BSD, balance = self.encoder(sources_BS, segments_BT=source_segments_BS)
            balances.append(balance)
            if source_segments_BS is not None:
                mask = source_mask(source_segments_BS, segments_BT, memory_BSD.dtype)
            if cache is not None:
                cache.crossed_mask = mask
        hidden_BTD, balance = self.decoder(
            tokens_BT,
            embedded_BTD=self.encoder.embed(tokens_BT),
            segments_BT=segments_BT,
            cache=cache,
            memory_BSD=memory_BSD,
            memory_mask=mask,
        )
        balances.append(balance)
        if targets_BT is None:
            hidden_BTD = hidden_BTD[:, -num_logits:]
        output = self.encoder.embed if self.lm_head is None else self.lm_head
        counted = balances if self.training else []
        return logits_or_loss(hidden_BTD, (output.weight, self.logits_bias), targets_BT, self.config, counted)

    def encode(self, sources_BS: Tensor, source_segments_BS: Tensor | None = None) -> Tensor:
        """Hidden states of the source, [B, S, D]."""
        hidden_BSD: Tensor = self.encoder(sources_BS, segments_BT=source_segments_BS)[0]
        return hidden_BSD
