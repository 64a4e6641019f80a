"""The corpus in a run's report: what the data card says, as blocks, when the run has a card."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from components.card.markdown import ranked_rows
from pipelines.report.blocks import Block, Heading, Paragraph, Table

TOP = 8
_GROUPS = {"lang": "language", "source": "source", "host": "host", "licence": "licence"}


def corpus_blocks(card: Mapping[str, Any] | None) -> Iterator[Block]:
    """The section on the corpus; nothing where there is no card.

    Args:
        card: What `card.json` of the run holds.
    """
    if not card:
        return
    totals = card["totals"]
    tokens = f", {totals['tokens']:,} tokens" if "tokens" in totals else ""
    yield Heading("Corpus")
    yield Paragraph(f"{totals['documents']:,} documents, {totals['chars']:,} characters{tokens}.")
    for fault in card["faults"]:
        yield Paragraph(f"Does not add up: {fault}.")
    yield Table(["by", "", "documents", "characters"], list(_groups(card["groups"])))
    splits = [[name, *(f"{row[key]:,}" for key in ("documents", "tokens"))] for name, row in card["splits"].items()]
    if splits:
        yield Table(["split", "documents", "tokens"], splits)
    yield Paragraph(_honoured(card))


def _groups(groups: Mapping[str, Any]) -> Iterator[list[str]]:
    for group, title in _GROUPS.items():
        for value, row in ranked_rows(groups[group])[:TOP]:
            yield [title, value or "(not said)", f"{row['documents']:,}", f"{row['chars']:,}"]


def _honoured(card: Mapping[str, Any]) -> str:
    masked = card["totals"]["pii"]
    stood_for = card["clusters"]["documents_stood_for"]
    return (
        f"{card['opt_outs']['dropped']:,} documents dropped because somebody opted out, {masked:,} pieces of personal "
        f"data masked, {stood_for:,} documents seen as near duplicates of {card['clusters']['of_several']:,} that stay."
    )
