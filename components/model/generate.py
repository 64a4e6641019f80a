"""The sampler: batched, with a key-value cache, exact about what it drew; for decoders and encoder-decoders alike.

Promises, all tested: greedy decoding equals Hugging Face's token for token; a row's tokens do not depend on the rows
beside it; the log-probabilities returned are those of the distribution drawn from (temperature, top-k and top-p
included) and equal a teacher-forced pass to 2e-5.

A row's uniform numbers are all drawn up front from its own seed, and a token is the first whose cumulative probability
exceeds its number. So one vectorised step serves all rows, and no row's stream shifts when another one ends. Finished
rows leave the batch once a quarter of it is finished: copying the cache at every end would cost more than it saves.
With `num_beams` above 1 the tokens are searched for, not drawn (`beam.py`).

Shapes: B rows of the batch, P prompt tokens, T new tokens, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from components.model.beam import search
from components.model.config import SamplingConfig
from components.model.encoder_decoder import EncoderDecoder
from components.model.language import LanguageModel
from components.model.reader import Completion, Reader

__all__ = ["Completion", "SamplingConfig", "generate", "stream"]


def generate(
    model: LanguageModel | EncoderDecoder,
    prompts: Sequence[Sequence[int]],
    sampling: SamplingConfig,
    stop_ids: set[int] | frozenset[int],
    seeds: Sequence[int],
    device: str | torch.device = "cpu",
    sources: Sequence[Sequence[int]] | None = None,
) -> list[Completion]:
    """Continues each prompt.

    Args:
        model: An unsharded model on `device`; its weights' type is the type computed in.
        prompts: Token numbers, at least one a row; rows may differ in length. Of an encoder-decoder what the target
            begins with: its start token.
        sampling: How tokens are drawn.
        stop_ids: Tokens that end a row.
        seeds: One per row; a row is a function of model, prompt, sampling and seed.
        device: Where the model is.
        sources: What an encoder-decoder reads, one row per prompt; None for other models.

    Returns:
        One completion per prompt, in order.

    Raises:
        ValueError: If a prompt is empty, its tokens and `max_new_tokens` exceed the model's `max_length`, prompts
            differ in number from seeds or sources, or the model is a bert.
    """
    if not prompts:
        return []
    _check(prompts, seeds)
    if sampling.num_beams > 1:
        return search(Reader(model, prompts, sources, sampling.max_new_tokens, device), sampling, stop_ids)
    shape = (len(prompts), sampling.max_new_tokens)
    tokens_BT = torch.zeros(shape, dtype=torch.int64, device=device)
    log_probs_BT = torch.zeros(shape, device=device)
    lengths_B = torch.zeros(len(prompts), dtype=torch.int64, device=device)
    reader = Reader(model, prompts, sources, sampling.max_new_tokens, device)
    for index, (rows, tokens, log_probs) in enumerate(_decode(reader, sampling, stop_ids, seeds)):
        tokens_BT[rows, index] = tokens
        log_probs_BT[rows, index] = log_probs
        lengths_B[rows] = index + 1
    columns = zip(tokens_BT.tolist(), log_probs_BT.tolist(), lengths_B.tolist(), strict=True)
    return [
        Completion(tokens[:length], log_probs[:length], tokens[length - 1] in stop_ids)
        for tokens, log_probs, length in columns
    ]


def stream(
    model: LanguageModel,
    prompt: Sequence[int],
    sampling: SamplingConfig,
    stop_ids: set[int] | frozenset[int],
    seed: int,
    device: str | torch.device = "cpu",
) -> Iterator[int]:
    """Continues one prompt, token by token as they are drawn: those `generate` returns, the stop token included.

    Raises:
        ValueError: As `generate`.
    """
    if sampling.num_beams > 1:
        raise ValueError(f"a search of num_beams={sampling.num_beams} knows its tokens only at its end: use generate")
    reader = Reader(model, [prompt], None, sampling.max_new_tokens, device)
    for _, tokens, _ in _decode(reader, sampling, stop_ids, [seed]):
        yield int(tokens[0])


@torch.no_grad()
def _decode(
    reader: Reader, sampling: SamplingConfig, stop_ids: set[int] | frozenset[int], seeds: Sequence[int]
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yields, for each new position, the rows still running (indices), their tokens and log-probabilities."""
    uniforms_TB = _uniforms(seeds, sampling.max_new_tokens).to(reader.device)
    stops = torch.tensor(sorted(stop_ids), device=reader.device)
    rows = torch.arange(len(seeds), device=reader.device)
    running = torch.ones_like(rows, dtype=torch.bool)
    logits_BV = reader.first()
    for index in range(sampling.max_new_tokens):
        tokens, log_probs = choose(logits_BV, uniforms_TB[index, rows], sampling)
        yield rows[running], tokens[running], log_probs[running]
        running &= ~torch.isin(tokens, stops)
        num_running = int(running.sum())
        if num_running == 0 or index + 1 == sampling.max_new_tokens:
            return
        if 4 * num_running <= 3 * len(rows):
            kept = running.nonzero().squeeze(1)
            reader.keep(kept)
            rows, tokens, running = rows[kept], tokens[kept], running[kept]
        logits_BV = reader.after(tokens)


def choose(logits_BV: Tensor, uniforms_B: Tensor, sampling: SamplingConfig) -> tuple[Tensor, Tensor]:
    """Draws one token per row by inverting the cumulative distribution at a uniform number.

    Args:
        logits_BV: Next-token logits.
        uniforms_B: In [0, 1); not looked at when greedy.
        sampling: How tokens are drawn.

    Returns:
        Tokens [B] and their log-probabilities [B] in fp32.
    """
    logits_BV = logits_BV.float()
    if sampling.temperature == 0:
        tokens_B1 = logits_BV.argmax(-1, keepdim=True)
        return tokens_B1.squeeze(1), logits_BV.log_softmax(-1).gather(1, tokens_B1).squeeze(1)
    scaled_BV = logits_BV if sampling.temperature == 1 else logits_BV / sampling.temperature
    probabilities_BV = truncated(scaled_BV, sampling).softmax(-1)
    cumulative_BV = probabilities_BV.cumsum(-1)
    total_B1 = cumulative_BV[:, -1:]
    # Strictly below the total, so that the search ends on a token that has probability.
    marks_B1 = torch.minimum(uniforms_B[:, None] * total_B1, total_B1.nextafter(torch.zeros_like(total_B1)))
    tokens_B1 = torch.searchsorted(cumulative_BV, marks_B1, right=True)
    return tokens_B1.squeeze(1), probabilities_BV.gather(1, tokens_B1).squeeze(1).log()


def truncated(logits_BV: Tensor, sampling: SamplingConfig) -> Tensor:
    """Puts -inf on the tokens that top-k, then top-p and min-p, rule out; at least one token stays.

    Ties with the k-th logit stay. Top-p keeps the shortest list of likeliest tokens whose probabilities reach it.
    """
    if 0 < sampling.top_k < logits_BV.shape[1]:
        least_B1 = logits_BV.topk(sampling.top_k).values[:, -1:]
        logits_BV = logits_BV.masked_fill(logits_BV < least_B1, -torch.inf)
    if sampling.top_p < 1:
        sorted_BV, order_BV = logits_BV.sort(descending=True, stable=True)
        probabilities_BV = sorted_BV.softmax(-1)
        out_BV = probabilities_BV.cumsum(-1) - probabilities_BV >= sampling.top_p
        logits_BV = logits_BV.masked_fill(torch.zeros_like(out_BV).scatter(1, order_BV, out_BV), -torch.inf)
    if sampling.min_p > 0:
        least_B1 = logits_BV.amax(-1, keepdim=True) + math.log(sampling.min_p)
        logits_BV = logits_BV.masked_fill(logits_BV < least_B1, -torch.inf)
    return logits_BV


def _uniforms(seeds: Sequence[int], count: int) -> Tensor:
    """Numbers in [0, 1), [T, B]; each column depends on its row's seed alone, and on no device."""
    columns = [torch.rand(count, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    return torch.stack(columns, dim=1)


def _check(prompts: Sequence[Sequence[int]], seeds: Sequence[int]) -> None:
    if len(seeds) != len(prompts):
        raise ValueError(f"{len(prompts)} prompts need as many seeds, not {len(seeds)}")
