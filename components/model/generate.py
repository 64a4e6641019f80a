"""The sampler: batched, with a key-value cache, exact about what it drew.

Promises, all tested: greedy decoding equals Hugging Face's token for token; a row's tokens do not depend on the rows
beside it; the log-probabilities returned are those of the distribution drawn from (temperature, top-k and top-p
included) and equal a teacher-forced pass to 2e-5.

A row's uniform numbers are all drawn up front from its own seed, and a token is the first whose cumulative probability
exceeds its number. So one vectorised step serves all rows, and no row's stream shifts when another one ends. Finished
rows leave the batch once a quarter of it is finished: copying the cache at every end would cost more than it saves.

Shapes: B rows of the batch, P prompt tokens, T new tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from components.model.cache import KVCache
from components.model.config import SamplingConfig
from components.model.transformer import Transformer

__all__ = ["Completion", "SamplingConfig", "generate", "stream"]


@dataclass(frozen=True)
class Completion:
    """What one row wrote.

    Attributes:
        tokens: The new tokens, the stop token included if it was reached.
        log_probs: Log-probability of each under the distribution it was drawn from, in nats. Greedy decoding draws
            from nothing: there it is the model's own log-probability, at temperature 1.
        finished: Whether a stop token was reached; False if the row was cut.
    """

    tokens: list[int]
    log_probs: list[float]
    finished: bool


def generate(
    model: Transformer,
    prompts: Sequence[Sequence[int]],
    sampling: SamplingConfig,
    stop_ids: set[int] | frozenset[int],
    seeds: Sequence[int],
    device: str | torch.device = "cpu",
) -> list[Completion]:
    """Continues each prompt.

    Args:
        model: An unsharded model on `device`; its weights' type is the type computed in.
        prompts: Token numbers, at least one a row; rows may differ in length.
        sampling: How tokens are drawn.
        stop_ids: Tokens that end a row.
        seeds: One per row; a row is a function of model, prompt, sampling and seed.
        device: Where the model is.

    Returns:
        One completion per prompt, in order.

    Raises:
        ValueError: If a prompt is empty, its tokens and `max_new_tokens` exceed the model's `max_length`, or seeds and
            prompts differ in number.
    """
    if not prompts:
        return []
    shape = (len(prompts), sampling.max_new_tokens)
    tokens_BT = torch.zeros(shape, dtype=torch.int64, device=device)
    log_probs_BT = torch.zeros(shape, device=device)
    lengths_B = torch.zeros(len(prompts), dtype=torch.int64, device=device)
    for index, (rows, tokens, log_probs) in enumerate(_decode(model, prompts, sampling, stop_ids, seeds, device)):
        tokens_BT[rows, index] = tokens
        log_probs_BT[rows, index] = log_probs
        lengths_B[rows] = index + 1
    columns = zip(tokens_BT.tolist(), log_probs_BT.tolist(), lengths_B.tolist(), strict=True)
    return [
        Completion(tokens[:length], log_probs[:length], tokens[length - 1] in stop_ids)
        for tokens, log_probs, length in columns
    ]


def stream(
    model: Transformer,
    prompt: Sequence[int],
    sampling: SamplingConfig,
    stop_ids: set[int] | frozenset[int],
    seed: int,
    device: str | torch.device = "cpu",
) -> Iterator[int]:
    """Continues one prompt, token by token as they are drawn: those `generate` returns, the stop token included."""
    for _, tokens, _ in _decode(model, [prompt], sampling, stop_ids, [seed], device):
        yield int(tokens[0])


@torch.no_grad()
def _decode(
    model: Transformer,
    prompts: Sequence[Sequence[int]],
    sampling: SamplingConfig,
    stop_ids: set[int] | frozenset[int],
    seeds: Sequence[int],
    device: str | torch.device,
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yields, for each new position, the rows still running (indices), their tokens and log-probabilities."""
    _check(model, prompts, sampling, seeds)
    input_BP, padding_B = _left_padded(prompts, device)
    size = input_BP.shape[1] + sampling.max_new_tokens
    cache = KVCache(model.config, padding_B, size, model.backbone.embed.weight.dtype)
    uniforms_TB = _uniforms(seeds, sampling.max_new_tokens).to(device)
    stops = torch.tensor(sorted(stop_ids), device=device)
    rows = torch.arange(len(prompts), device=device)
    running = torch.ones_like(rows, dtype=torch.bool)
    for index in range(sampling.max_new_tokens):
        logits_BV = model(input_BP, cache=cache, num_logits=1)[:, -1]
        tokens, log_probs = choose(logits_BV, uniforms_TB[index, rows], sampling)
        yield rows[running], tokens[running], log_probs[running]
        running &= ~torch.isin(tokens, stops)
        num_running = int(running.sum())
        if num_running == 0:
            return
        if 4 * num_running <= 3 * len(rows):
            kept = running.nonzero().squeeze(1)
            cache.keep(kept)
            rows, tokens, running = rows[kept], tokens[kept], running[kept]
        input_BP = tokens[:, None]


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
    """Puts -inf on the tokens that top-k, then top-p, rule out; at least one token stays.

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
    return logits_BV


def _left_padded(prompts: Sequence[Sequence[int]], device: str | torch.device) -> tuple[Tensor, Tensor]:
    """One row per prompt, aligned at the right, [B, P], and the padding of each row, [B]."""
    width = max(len(prompt) for prompt in prompts)
    rows = [[0] * (width - len(prompt)) + list(prompt) for prompt in prompts]
    padding = [width - len(prompt) for prompt in prompts]
    return torch.tensor(rows, device=device), torch.tensor(padding, device=device)


def _uniforms(seeds: Sequence[int], count: int) -> Tensor:
    """Numbers in [0, 1), [T, B]; each column depends on its row's seed alone, and on no device."""
    columns = [torch.rand(count, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    return torch.stack(columns, dim=1)


def _check(
    model: Transformer, prompts: Sequence[Sequence[int]], sampling: SamplingConfig, seeds: Sequence[int]
) -> None:
    if len(seeds) != len(prompts):
        raise ValueError(f"{len(prompts)} prompts need as many seeds, not {len(seeds)}")
    if min(len(prompt) for prompt in prompts) == 0:
        raise ValueError("a prompt is empty: it needs at least one token to continue from")
    longest = max(len(prompt) for prompt in prompts) + sampling.max_new_tokens
    if longest > model.config.max_length:
        raise ValueError(
            f"the longest prompt and {sampling.max_new_tokens} new tokens make {longest}, "
            f"more than model.max_length={model.config.max_length}"
        )
