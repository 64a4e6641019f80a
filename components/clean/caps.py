"""At most so many documents or characters of one host or source: which ones, decided by their ids.

Ids are hashes, and rows are sorted by id: the first n of a host in the order of the whole artifact are a sample of it
that no order of crawling and no number of workers changes. A shard needs to know only what the shards before it kept of
its own hosts: one look over the scores counts, the driver adds up, and each shard is judged knowing what lies before
it. Memory is one pair of numbers per host. Hosts come first; sources count what the hosts' caps left.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

import numpy as np
import pyarrow as pa

from components.clean.config import CleanConfig
from components.clean.decide import Verdicts

KINDS = ("host", "source")
Counts = dict[str, list[int]]
"""Documents and characters by host or source."""


def is_capped(config: CleanConfig, kind: str) -> bool:
    """Tells whether the config limits hosts, or sources."""
    return any(limit is not None for limit in _limits(config, kind))


def owners_of(documents: pa.RecordBatch, kind: str) -> list[str]:
    """The host or the source of each document; "" for one that has no host."""
    if kind == "source":
        names: list[str] = documents.column("source").to_pylist()
        return names
    return [_host_of(url) for url in documents.column("url").to_pylist()]


def apply_cap(
    documents: pa.RecordBatch, scores: pa.RecordBatch, verdicts: Verdicts, config: CleanConfig, kind: str, seen: Counts
) -> None:
    """Drops what is above the limits of its host or source.

    Args:
        documents: Some documents, in the order of the artifact.
        scores: Their statistics.
        verdicts: What became of them so far; those that are dropped do not count.
        config: The limits.
        kind: "host" or "source".
        seen: What was counted before these documents; they are added.
    """
    max_documents, max_chars = _limits(config, kind)
    lengths = np.asarray(scores.column("chars").to_numpy(zero_copy_only=False)).astype(np.int64).tolist()
    for row, (owner, chars) in enumerate(zip(owners_of(documents, kind), lengths, strict=True)):
        if not owner or verdicts.rules[row]:
            continue
        before = seen.setdefault(owner, [0, 0])
        if max_documents is not None and before[0] >= max_documents:
            verdicts.drop(row, f"max_documents_per_{kind}", str(before[0] + 1), str(max_documents))
        elif max_chars is not None and before[1] >= max_chars:
            verdicts.drop(row, f"max_chars_per_{kind}", str(before[1] + chars), str(max_chars))
        before[0] += 1
        before[1] += chars


def sums_before(counts: Sequence[Mapping[str, list[int]]]) -> list[Counts]:
    """For each shard, what all shards before it counted of its own hosts or sources."""
    total: Counts = {}
    before: list[Counts] = []
    for shard in counts:
        before.append({owner: list(total[owner]) for owner in shard if owner in total})
        for owner, (documents, chars) in shard.items():
            sums = total.setdefault(owner, [0, 0])
            sums[0] += documents
            sums[1] += chars
    return before


def _limits(config: CleanConfig, kind: str) -> tuple[int | None, int | None]:
    if kind == "host":
        return config.max_documents_per_host, config.max_chars_per_host
    return config.max_documents_per_source, config.max_chars_per_source


def _host_of(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""  # no URL, but the key of a row
