"""One text from another: batches of an encoder-decoder out of pairs of id rows.

The decoder begins with `BOS` and has to say the target, `EOS` at its end. Padding of a source lies in a segment of its
own, which no real token looks at; padding of a target is not scored.

Shapes: B pairs, S tokens of a source, T tokens of a target.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from components.model.loss import IGNORED
from components.tokenizer.special import BOS, PAD

PADDING = -1
"""Segment of what is no text."""


def lay_out_sources(sources: Sequence[Sequence[int]], length: int | None = None) -> dict[str, Tensor]:
    """Pads sources to one length: the longest one's, or `length`.

    Returns:
        sources_BS and source_segments_BS (0 for text, `PADDING` for padding), int64.
    """
    width = max(map(len, sources)) if length is None else length
    sources_BS = torch.full((len(sources), width), PAD)
    segments_BS = torch.full((len(sources), width), PADDING)
    for index, source in enumerate(sources):
        sources_BS[index, : len(source)] = torch.as_tensor(source)
        segments_BS[index, : len(source)] = 0
    return {"sources_BS": sources_BS, "source_segments_BS": segments_BS}


def lay_out_pairs(
    sources: Sequence[Sequence[int]],
    targets: Sequence[Sequence[int]],
    lengths: tuple[int, int] | None = None,
) -> dict[str, Tensor]:
    """Lays pairs out as a batch for teacher forcing.

    Args:
        sources: What is read.
        targets: What is to be written, `EOS` included.
        lengths: Width of sources and of targets; None takes the longest of each.

    Returns:
        sources_BS, source_segments_BS, tokens_BT (`BOS` and all but the last of a target) and targets_BT, int64.
    """
    width = max(map(len, targets)) if lengths is None else lengths[1]
    tokens_BT = torch.full((len(targets), width), PAD)
    targets_BT = torch.full((len(targets), width), IGNORED)
    for index, target in enumerate(targets):
        row = torch.as_tensor(target)
        tokens_BT[index, 0] = BOS
        tokens_BT[index, 1 : len(row)] = row[:-1]
        targets_BT[index, : len(row)] = row
    padded = lay_out_sources(sources, None if lengths is None else lengths[0])
    return {**padded, "tokens_BT": tokens_BT, "targets_BT": targets_BT}
