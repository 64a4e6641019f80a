"""A model that has read some prompts and is asked, token after token, what comes next.

The sampler and the beam search both stand on this: they choose, it keeps the cache. Which kind of model answers makes
no difference to them; an encoder-decoder reads its sources once, at the first question.

Shapes: B rows of the batch, P prompt tokens, S source tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from components.model.cache import KVCache
from components.model.encoder_decoder import EncoderDecoder
from components.model.external import ExternalCache
from components.model.language import LanguageModel, make_cache
from components.model.transformer import Transformer


@dataclass(frozen=True)
class Completion:
    """What one row wrote.

    Attributes:
        tokens: The new tokens, the stop token included if it was reached.
        log_probs: Log-probability of each under the distribution it was drawn from, in nats. Greedy decoding and beam
            search draw from nothing: there it is the model's own log-probability, at temperature 1.
        finished: Whether a stop token was reached; False if the row was cut.
    """

    tokens: list[int]
    log_probs: list[float]
    finished: bool


class Reader:
    """Prompts, a model, and its cache.

    Args:
        model: An unsharded model on `device`.
        prompts: Token numbers, at least one a row.
        sources: What an encoder-decoder reads, one row per prompt.
        num_new: Tokens that will be asked for at most.
        device: Where the model is.

    Raises:
        ValueError: If the model cannot continue these prompts; see `generate`.
    """

    def __init__(
        self,
        model: LanguageModel | EncoderDecoder,
        prompts: Sequence[Sequence[int]],
        sources: Sequence[Sequence[int]] | None,
        num_new: int,
        device: str | torch.device,
    ) -> None:
        _check(model, prompts, sources, num_new)
        self.device = torch.device(device)
        self._model = model
        self._prompts_BP, padding_B = _left_padded(prompts, device)
        self._sources = _right_padded(sources, device) if sources is not None else None
        size = self._prompts_BP.shape[1] + num_new
        self._cache = _cache(model, padding_B, size)

    def first(self) -> Tensor:
        """Logits of the token after each prompt, [B, V]."""
        return self._ask(self._prompts_BP)

    def after(self, tokens_B: Tensor) -> Tensor:
        """Logits of the token after these, [B, V]."""
        return self._ask(tokens_B[:, None])

    def keep(self, rows: Tensor) -> None:
        """Goes on with these rows only (indices, in order; one that is named twice becomes two)."""
        self._cache.keep(rows)

    def _ask(self, tokens_BT: Tensor) -> Tensor:
        if self._sources is None:
            logits_BTV: Tensor = self._model(tokens_BT, cache=self._cache, num_logits=1)
        else:
            sources_BS, segments_BS = self._sources
            logits_BTV = self._model(
                sources_BS, tokens_BT, source_segments_BS=segments_BS, cache=self._cache, num_logits=1
            )
        return logits_BTV[:, -1]


def _cache(model: LanguageModel | EncoderDecoder, padding_B: Tensor, size: int) -> KVCache | ExternalCache:
    if isinstance(model, EncoderDecoder):
        return KVCache(model.config, padding_B, size, model.encoder.embed.weight.dtype)
    return make_cache(model, padding_B, size)


def _left_padded(prompts: Sequence[Sequence[int]], device: str | torch.device) -> tuple[Tensor, Tensor]:
    """One row per prompt, aligned at the right, [B, P], and the padding of each row, [B]."""
    width = max(len(prompt) for prompt in prompts)
    rows = [[0] * (width - len(prompt)) + list(prompt) for prompt in prompts]
    padding = [width - len(prompt) for prompt in prompts]
    return torch.tensor(rows, device=device), torch.tensor(padding, device=device)


def _right_padded(sources: Sequence[Sequence[int]], device: str | torch.device) -> tuple[Tensor, Tensor | None]:
    """One row per source, aligned at the left, [B, S], and 0 where it is, -1 where it is padding; None without any."""
    width = max(len(source) for source in sources)
    rows = [list(source) + [0] * (width - len(source)) for source in sources]
    lengths_B = torch.tensor([len(source) for source in sources], device=device)
    segments_BS = torch.where(torch.arange(width, device=device) < lengths_B[:, None], 0, -1)
    return torch.tensor(rows, device=device), segments_BS if bool((segments_BS < 0).any()) else None


def _check(
    model: LanguageModel | EncoderDecoder,
    prompts: Sequence[Sequence[int]],
    sources: Sequence[Sequence[int]] | None,
    num_new: int,
) -> None:
    if min(len(prompt) for prompt in prompts) == 0:
        raise ValueError("a prompt is empty: it needs at least one token to continue from")
    if isinstance(model, Transformer) and not model.config.causal:
        raise ValueError("an encoder fills gaps and continues no prompt: use model.family=llama or gpt2")
    if isinstance(model, EncoderDecoder) != (sources is not None):
        raise ValueError("an encoder-decoder needs sources to read, and no other model does")
    if sources is not None and (len(sources) != len(prompts) or min(map(len, sources)) == 0):
        raise ValueError(f"{len(prompts)} prompts need as many sources of at least one token, not {len(sources)}")
    longest = max(len(prompt) for prompt in prompts) + num_new
    if longest > model.config.max_length:
        raise ValueError(
            f"the longest prompt and {num_new} new tokens make {longest}, "
            f"more than model.max_length={model.config.max_length}"
        )
