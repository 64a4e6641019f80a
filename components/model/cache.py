"""The key-value cache of generation: what attention computed for the tokens seen so far.

Left padding makes every row write the same slot, so appending is one slice copy and no row waits for another. The
decoder of an encoder-decoder also keeps the keys and values of the source here: they are computed once, at the first
token.

Shapes: B batch, T tokens, S slots of the cache, L layers, K key-value heads, C width of a head.
"""

from __future__ import annotations

import torch
from torch import Tensor

from components.model.config import ModelConfig


class KVCache:
    """Keys and values of a batch of left-padded prompts; allocated once.

    Attributes:
        length: Slots in use.
        padding_B: Padding slots at the start of each row.
        crossed: Keys and values of the source by layer, [B, K, S, C] each; empty before the first token and in models
            without cross attention.
        crossed_mask: Which of them may be looked at, added to the scores; None for all.
    """

    def __init__(self, config: ModelConfig, padding_B: Tensor, size: int, dtype: torch.dtype) -> None:
        shape = (2, config.num_layers, len(padding_B), config.num_kv_heads, size, config.head_dim)
        self._slots_2LBKSC = torch.empty(shape, dtype=dtype, device=padding_B.device)
        self._size = size
        self._ragged = bool((padding_B > 0).any())
        self.padding_B = padding_B
        self.length = 0
        self.crossed: dict[int, tuple[Tensor, Tensor]] = {}
        self.crossed_mask: Tensor | None = None

    def append(self, layer: int, keys_BKTC: Tensor, values_BKTC: Tensor) -> tuple[Tensor, Tensor]:
        """Stores one layer's new keys and values; returns views of all of them so far, [B, K, S, C] each."""
        end = self.length + keys_BKTC.shape[2]
        self._slots_2LBKSC[0, layer, :, :, self.length : end] = keys_BKTC
        self._slots_2LBKSC[1, layer, :, :, self.length : end] = values_BKTC
        keys, values = self._slots_2LBKSC[:, layer, :, :, :end]
        return keys, values

    def advance(self, num_tokens: int) -> None:
        """Counts the tokens that every layer has now appended."""
        self.length += num_tokens

    def keep(self, rows: Tensor) -> None:
        """Forgets all rows but these (indices, in order; one that is named twice becomes two)."""
        self._slots_2LBKSC = self._slots_2LBKSC.index_select(2, rows)
        self.padding_B = self.padding_B[rows]
        self._ragged = bool((self.padding_B > 0).any())
        self.crossed = {layer: (keys[rows], values[rows]) for layer, (keys, values) in self.crossed.items()}
        if self.crossed_mask is not None:
            self.crossed_mask = self.crossed_mask[rows]

    def positions(self, num_tokens: int) -> Tensor:
        """Positions of the next tokens in their own row, [B, T]; 0 for padding."""
        slots_T = torch.arange(self.length, self.length + num_tokens, device=self.padding_B.device)
        return (slots_T - self.padding_B[:, None]).clamp_(min=0)

    def visible(self, num_tokens: int) -> Tensor | None:
        """Which slot each new token may look at, [B, 1, T, S]; None where the causal rule alone says it."""
        end = self.length + num_tokens
        if not self._ragged and (self.length == 0 or num_tokens == 1):
            return None
        slots_S = torch.arange(end, device=self.padding_B.device)
        slots_T = slots_S[self.length :]
        real_B1S = slots_S >= self.padding_B[:, None, None]
        # A padding token looks at itself: a softmax over nothing would put NaN into the batch.
        allowed_BTS = (real_B1S & (slots_S <= slots_T[:, None])) | (slots_S == slots_T[:, None])
        return allowed_BTS[:, None]
