"""How `headwater data tune` prints what it found: shares by language, a small histogram, samples."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pipelines.verbs.data_text import aligned, harmless, number, share

SAMPLE_CHARS = 200
_BAR = 40


def lines(record: Mapping[str, Any]) -> Iterator[str]:
    """The whole report."""
    yield from _summary(record)
    yield ""
    rows = [["language", "read", "kept before", "", "kept after", "", "characters before", "after"]]
    for lang, counts in record["languages"].items():
        rows.append([lang, number(counts["read"]["documents"]), *_cells(counts)])
    rows.append(["all", number(record["read"]["documents"]), *_cells(record)])
    yield from aligned(rows)
    if record["histogram"]:
        yield ""
        yield f"documents by {record['statistic']}"
        yield from _bars(record)
    for name in ("newly_kept", "newly_dropped"):
        yield from _samples(name.replace("_", " "), record[f"num_{name}"], record[name])
    if record["override"]:
        yield ""
        yield f"to run with it: headwater run {record['override']}"


def _summary(record: Mapping[str, Any]) -> Iterator[str]:
    moves: dict[str, list[str]] = {}
    for one in record["thresholds"]:
        moves.setdefault(f"{_threshold(one['before'])} -> {_threshold(one['after'])}", []).append(one["profile"])
    told = [move if len(moves) == 1 else f"{', '.join(profiles)} {move}" for move, profiles in moves.items()]
    yield f"{record['rule']}: {'; '.join(told)}"
    kept, dropped = (number(record[f"num_newly_{name}"]) for name in ("kept", "dropped"))
    chars = record["after"]["chars"] - record["before"]["chars"]
    rate = record["tokens_per_char"]
    tokens = f", about {number(round(chars * rate))} tokens" if rate is not None else ""
    yield f"{kept} documents newly kept, {dropped} newly dropped: {number(chars)} characters{tokens}"


def _threshold(value: float | None) -> str:
    return "off" if value is None else f"{value:g}"


def _cells(counts: Mapping[str, Any]) -> list[str]:
    cells = []
    for name in ("before", "after"):
        kept = counts[name]["documents"]
        cells += [number(kept), share(kept, counts["read"]["documents"])]
    return [*cells, number(counts["before"]["chars"]), number(counts["after"]["chars"])]


def _bars(record: Mapping[str, Any]) -> Iterator[str]:
    most = max(one["documents"] for one in record["histogram"]) or 1
    rows = [["from", "to", "documents", "", ""]]
    for one in record["histogram"]:
        marks = [
            f"{name} {_threshold(bound[name])}"
            for name in ("before", "after")
            for bound in record["thresholds"]
            if bound[name] is not None and one["from"] <= bound[name] < one["to"]
        ]
        bar = "#" * -(-one["documents"] * _BAR // most)
        ends = (number(one["from"]), number(one["to"]))
        rows.append([*ends, number(one["documents"]), bar, ", ".join(dict.fromkeys(marks))])
    yield from aligned(rows)


def _samples(title: str, total: int, samples: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    if samples:
        yield ""
        yield f"{title}: {number(len(samples))} of {number(total)}"
    for one in samples:
        value = "" if one["value"] is None else f" {number(one['value'])}"
        yield f"  {one['doc_id'][:8]} {one['lang']} {one['rule']}{value}  {harmless(one['url'])}"
        yield f"    {harmless(one['text'], SAMPLE_CHARS)}"
