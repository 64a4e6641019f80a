"""Beam search: the likeliest continuation among those that stay likely all the way (deterministic).

The rule is that of transformers' generate with early_stopping off, and the tokens are tested to be its tokens. Of all
one-token continuations of a row's W running beams the best (number of stop tokens + 1) W are looked at: those that end
and are among the best W compete, by length-penalised score, for the W finished places; the best W of the others run
on. A row is done when its best running beam, penalised at its present length, is below its worst finished one.

Rows do not depend on each other. The first question is asked once per row, not per beam.

Shapes: B rows, W beams, K candidates, T new tokens, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from components.model.config import SamplingConfig
from components.model.reader import Completion, Reader

NEVER = -1e9


@dataclass
class Beams:
    """Some sequences per row, best first; W of them, or K.

    Attributes:
        tokens: New tokens, [B, W, T].
        log_probs: Log-probability of each, [B, W, T].
        scores: Summed log-probability of running beams, penalised score of finished ones, [B, W].
        lengths: Tokens of each, [B, W]; 0 where there is no sequence yet.
    """

    tokens: Tensor
    log_probs: Tensor
    scores: Tensor
    lengths: Tensor

    def best(self, scores: Tensor, count: int) -> tuple[Beams, Tensor]:
        """The `count` sequences of highest scores, which become theirs; and their places, [B, count]."""
        top, places = scores.topk(count, dim=1)
        deep = places[:, :, None].expand(-1, -1, self.tokens.shape[2])
        kept = Beams(self.tokens.gather(1, deep), self.log_probs.gather(1, deep), top, self.lengths.gather(1, places))
        return kept, places

    def beside(self, other: Beams, scores: Tensor) -> tuple[Beams, Tensor]:
        """These sequences and others in one list; and both their scores, those of the others given."""
        both = Beams(
            torch.cat([self.tokens, other.tokens], 1),
            torch.cat([self.log_probs, other.log_probs], 1),
            torch.cat([self.scores, scores], 1),
            torch.cat([self.lengths, other.lengths], 1),
        )
        return both, both.scores


@torch.no_grad()
def search(reader: Reader, sampling: SamplingConfig, stop_ids: set[int] | frozenset[int]) -> list[Completion]:
    """Continues each of a reader's prompts by its best sequence.

    Args:
        reader: Prompts and model.
        sampling: `num_beams`, `length_penalty` and `max_new_tokens` count.
        stop_ids: Tokens that end a sequence.

    Returns:
        One completion per prompt, in order.
    """
    width, device = sampling.num_beams, reader.device
    stops = torch.tensor(sorted(stop_ids), device=device)
    logits_BV = reader.first()
    rows = len(logits_BV)
    reader.keep(torch.arange(rows, device=device).repeat_interleave(width))
    log_probs_BWV = logits_BV.float().log_softmax(-1)[:, None].expand(-1, width, -1)
    running, finished = _empty(rows, sampling, device), _empty(rows, sampling, device)
    running.scores[:, 1:] = NEVER  # all beams are the same at first: only one may be continued
    finished.scores[:] = NEVER
    open_B1 = torch.ones(rows, 1, dtype=torch.bool, device=device)
    for index in range(sampling.max_new_tokens):
        candidates, parents_BK = _continued(running, log_probs_BWV, index, max(2, 1 + len(stops)) * width)
        ends_BK = torch.isin(candidates.tokens[:, :, index], stops)
        if index + 1 == sampling.max_new_tokens:
            ends_BK = torch.ones_like(ends_BK)
        finished = _admit(finished, candidates, ends_BK & open_B1, sampling, index + 1)
        running, places = candidates.best(candidates.scores + NEVER * ends_BK, width)
        penalised_B1 = running.scores[:, :1] / (index + 1) ** sampling.length_penalty
        open_B1 &= (penalised_B1 > finished.scores[:, -1:]) | (finished.lengths[:, -1:] == 0)
        if not bool(open_B1.any()) or bool(ends_BK.all()):
            break
        parents = parents_BK.gather(1, places) + torch.arange(rows, device=device)[:, None] * width
        reader.keep(parents.flatten())
        log_probs = reader.after(running.tokens[:, :, index].flatten()).float().log_softmax(-1)
        log_probs_BWV = log_probs.view(rows, width, -1)
    return _completions(finished, stop_ids)


def _empty(rows: int, sampling: SamplingConfig, device: torch.device) -> Beams:
    shape = (rows, sampling.num_beams, sampling.max_new_tokens)
    scores = torch.zeros(shape[:2], device=device)
    return Beams(
        torch.zeros(shape, dtype=torch.int64, device=device), torch.zeros(shape, device=device), scores, scores.long()
    )


def _continued(running: Beams, log_probs_BWV: Tensor, index: int, count: int) -> tuple[Beams, Tensor]:
    """The best one-token continuations of all beams, and the beam each continues, [B, K]."""
    vocabulary = log_probs_BWV.shape[2]
    totals = (running.scores[:, :, None] + log_probs_BWV).flatten(1)
    scores_BK, places_BK = totals.topk(min(count, totals.shape[1]), dim=1)
    parents_BK, tokens_BK = places_BK // vocabulary, places_BK % vocabulary
    deep = parents_BK[:, :, None].expand(-1, -1, running.tokens.shape[2])
    tokens, log_probs = running.tokens.gather(1, deep), running.log_probs.gather(1, deep)
    tokens[:, :, index] = tokens_BK
    log_probs[:, :, index] = log_probs_BWV.flatten(1).gather(1, places_BK)
    return Beams(tokens, log_probs, scores_BK, torch.full_like(parents_BK, index + 1)), parents_BK


def _admit(finished: Beams, candidates: Beams, ends_BK: Tensor, sampling: SamplingConfig, length: int) -> Beams:
    """The best finished sequences when those candidates that end, and are among the best W, have joined them."""
    width = sampling.num_beams
    admitted_BK = ends_BK & (torch.arange(ends_BK.shape[1], device=ends_BK.device) < width)
    scores_BK = candidates.scores / length**sampling.length_penalty + NEVER * ~admitted_BK
    lengths = candidates.lengths * admitted_BK
    both, scores = finished.beside(Beams(candidates.tokens, candidates.log_probs, scores_BK, lengths), scores_BK)
    return both.best(scores, width)[0]


def _completions(finished: Beams, stop_ids: set[int] | frozenset[int]) -> list[Completion]:
    columns = zip(
        finished.tokens[:, 0].tolist(), finished.log_probs[:, 0].tolist(), finished.lengths[:, 0].tolist(), strict=True
    )
    return [
        Completion(tokens[:length], log_probs[:length], tokens[length - 1] in stop_ids)
        for tokens, log_probs, length in columns
    ]
