"""From pairs that are alike to verdicts: which documents are one, which of them stays, and what the ledger says.

All this is about documents that have a double, never about the others: memory goes by the number of duplicates (about
300 bytes each), not by the size of the corpus.

The best of a set is found by a total order of facts about documents: most letters, then fewest characters (copies
gather marks and spaces), then URL, then id. Documents are numbered in the order of their ids, see `gather`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from components.dedup.groups import order_of
from components.dedup.runs import Table
from components.publish import publish
from components.sketch.sketches import iter_columns

Numbers = NDArray[np.int64]

VERDICTS = pa.schema(
    [
        ("number", pa.int64()),
        ("drops", pa.bool_()),
        ("rule", pa.string()),
        ("value", pa.string()),
        ("threshold", pa.string()),
        ("cluster", pa.binary()),
        ("cluster_size", pa.int32()),
    ]
)


HEADS = {"number": np.int64, "head": np.int64}
KEPT = ", kept "
"""Stands between the threshold and the URL of the document that stayed, in the ledger."""
EDGES = {"first": np.int64, "second": np.int64, "similarity": np.float64, "threshold": np.float64}
_FACTS = pa.schema([("number", pa.int64()), ("order", pa.uint64()), ("url", pa.string()), ("doc_id", pa.binary(16))])


@dataclass(frozen=True)
class Describing:
    """Documents of one shard that a judge wants to know more of.

    Attributes:
        sketches: Sketches of the shard.
        start: Number of its first document.
        numbers: The documents, ascending.
    """

    sketches: Path
    start: int
    numbers: Numbers


def describe(task: Describing) -> pa.Table:
    """Number, order, URL and id of some documents of a shard."""
    found = []
    start = task.start
    for batch in iter_columns(task.sketches, ["doc_id", "url", "chars", "letters"]):
        low, high = np.searchsorted(task.numbers, (start, start + batch.num_rows))
        rows = task.numbers[low:high] - start
        columns = [
            pa.array(task.numbers[low:high]),
            pa.array(order_of(batch)[rows]),
            *(batch.column(name).take(pa.array(rows)) for name in ("url", "doc_id")),
        ]
        found.append(pa.record_batch(columns, schema=_FACTS))
        start += batch.num_rows
    return pa.Table.from_batches(found, schema=_FACTS)


def describing(sketches: Sequence[Path], starts: Sequence[int], numbers: Numbers) -> list[Describing]:
    """The tasks that describe some documents (numbers ascending), one for each shard with any."""
    edges = np.searchsorted(numbers, np.array(starts, dtype=np.int64))
    tasks = [
        Describing(path, start, numbers[low:high])
        for path, start, low, high in zip(sketches, starts, edges, edges[1:], strict=False)
    ]
    return [task for task in tasks if len(task.numbers)]


def members_of(*edges: Table) -> Numbers:
    """All documents that some edges join, ascending."""
    ends = [
        column for table in edges for name, column in table.items() if name in ("number", "head", "first", "second")
    ]
    return np.unique(np.concatenate(ends)).astype(np.int64)


def components_of(size: int, first: Numbers, second: Numbers) -> Numbers:
    """For each of `size` things, the least one that edges join it with, over whatever others."""
    labels = np.arange(size, dtype=np.int64)
    while True:
        one, two = labels[first], labels[second]
        if (one == two).all():
            return labels
        low = np.minimum(one, two)
        np.minimum.at(labels, one, low)
        np.minimum.at(labels, two, low)
        while (labels[labels] != labels).any():
            labels = labels[labels]


@dataclass(frozen=True)
class Members:
    """Documents with a double, by place: row i of the facts is document `numbers[i]`.

    Attributes:
        numbers: The documents, ascending.
        facts: What `describe` says of each.
        ranks: Place of each in the total order, the best being 0.
    """

    numbers: Numbers
    facts: pa.Table
    ranks: Numbers

    def places(self, table: Table, column: str) -> Numbers:
        """The places of the documents in a column of a table."""
        return np.searchsorted(self.numbers, table[column]).astype(np.int64)

    def best_of(self, labels: Numbers) -> Numbers:
        """For each place, the place of the best with the same label."""
        best = np.full(len(labels), len(labels), dtype=np.int64)
        np.minimum.at(best, labels, self.ranks)
        by_rank = np.argsort(self.ranks)
        return by_rank[best[labels]]

    def texts(self, column: str, places: Numbers) -> pa.ChunkedArray:
        """A column of the facts at some places."""
        return self.facts.column(column).take(pa.array(places, pa.int64()))


def ranked(facts: Sequence[pa.Table]) -> Members:
    """Puts documents into the total order."""
    table = pa.concat_tables([_FACTS.empty_table(), *facts]).combine_chunks()
    keys = [("order", "ascending"), ("url", "ascending"), ("number", "ascending")]
    order = pc.sort_indices(table, sort_keys=keys).to_numpy()
    ranks = np.empty(len(order), dtype=np.int64)
    ranks[order] = np.arange(len(order))
    return Members(table.column("number").to_numpy(), table, ranks)


def judge_versions(members: Members, heads: Table) -> pa.Table:
    """Verdicts on versions of one URL: all go but the best."""
    labels = components_of(len(members.numbers), members.places(heads, "number"), members.places(heads, "head"))
    best = members.best_of(labels)
    sizes = np.bincount(labels, minlength=len(labels))[labels]
    going = np.flatnonzero(best != np.arange(len(best)))
    urls = members.texts("url", best[going]).to_pylist()
    return _table(
        members.numbers[going],
        np.ones(len(going), dtype=np.bool_),
        ["same_url"] * len(going),
        [f"{size} versions" for size in sizes[going].tolist()],
        [f"1{KEPT}{url}" for url in urls],
        [b""] * len(going),
        np.ones(len(going), dtype=np.int64),
    )


def judge_clusters(members: Members, copies: Table, edges: Table, drop_near: bool) -> pa.Table:
    """Verdicts on clusters: sets of documents joined by equal texts (`copies`) and by likeness (`edges`).

    Args:
        members: All documents of both.
        copies: Exact copies (number, head); only heads take part in edges.
        edges: Pairs that are alike (first, second, similarity, threshold).
        drop_near: Whether near duplicates go, or are only marked.

    Returns:
        VERDICTS on all members, the best of each cluster included.
    """
    size = len(members.numbers)
    number, head = members.places(copies, "number"), members.places(copies, "head")
    first, second = members.places(edges, "first"), members.places(edges, "second")
    text_of = np.arange(size)
    text_of[number] = head
    labels = components_of(size, np.concatenate((number, first)), np.concatenate((head, second)))
    best, best_text = members.best_of(labels), members.best_of(text_of)
    similarity, threshold = _closest(size, first, second, edges)
    places = np.arange(size)
    is_copy = best_text != places
    is_best = best == places
    drops = ~is_best & (is_copy | drop_near)
    urls = members.texts("url", best).to_pylist()
    rules = np.where(is_best, "", np.where(is_copy, "exact_duplicate", "near_duplicate")).tolist()
    values = np.where(is_copy, 1.0, similarity[text_of]).tolist()
    limits = np.where(is_copy, 1.0, threshold[text_of]).tolist()
    clusters = members.texts("doc_id", best).to_pylist()
    return _table(
        members.numbers,
        drops,
        rules,
        [f"{value:.3f}" for value in values],
        [f"{limit:g}{KEPT}{url}" for limit, url in zip(limits, urls, strict=True)],
        [b"" if alone else cluster for alone, cluster in zip(is_best.tolist(), clusters, strict=True)],
        np.bincount(labels, minlength=size)[labels],
    )


def _closest(
    size: int, first: Numbers, second: Numbers, edges: Table
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """For each member, its greatest similarity with another one and the threshold of that pair."""
    similarity, threshold = np.zeros(size), np.ones(size)
    order = np.lexsort((-edges["threshold"], edges["similarity"]))  # the last one written stays
    for ends in (first, second):
        better = edges["similarity"][order] >= similarity[ends[order]]
        chosen = order[better]
        similarity[ends[chosen]] = edges["similarity"][chosen]
        threshold[ends[chosen]] = edges["threshold"][chosen]
    return similarity, threshold


def _table(
    numbers: Numbers,
    drops: NDArray[np.bool_],
    rules: list[str],
    values: list[str],
    thresholds: list[str],
    clusters: list[bytes],
    sizes: Numbers,
) -> pa.Table:
    return pa.table([numbers, drops, rules, values, thresholds, clusters, sizes.astype(np.int32)], schema=VERDICTS)


def write_verdicts(path: Path, verdicts: Sequence[pa.Table]) -> None:
    """Writes verdicts as one batch, by number."""
    table = pa.concat_tables(verdicts).sort_by("number").combine_chunks()
    batch = table.to_batches()[0] if table.num_rows else pa.RecordBatch.from_pylist([], schema=VERDICTS)
    with publish(path) as temporary, pa.OSFile(str(temporary), "wb") as sink, pa.ipc.new_file(sink, VERDICTS) as writer:
        writer.write_batch(batch)


def others_of(*verdicts: pa.Table) -> Table:
    """The documents that verdicts are on, but for the best of each cluster: the column `number`, ascending."""
    found = [table.filter(pc.not_equal(table.column("rule"), "")).column("number").to_numpy() for table in verdicts]
    return {"number": np.sort(np.concatenate(found))}


def read_verdicts(path: Path, low: int, high: int) -> list[dict[str, object]]:
    """The verdicts on the documents from `low` up to `high`."""
    with pa.memory_map(str(path)) as source:
        batch = pa.ipc.open_file(source).get_batch(0)
        start, end = np.searchsorted(batch.column("number").to_numpy(), (low, high))
        rows: list[dict[str, object]] = batch.slice(start, end - start).to_pylist()
    return rows
