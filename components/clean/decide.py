"""Judges documents by their stored statistics alone, many at a time: no text is read.

    book = with_thresholds(load_rules(path), config)
    for documents, scores in iter_scored(documents_shard, scores_shard):
        verdicts = decide(scores, documents, book, config)

What becomes of a document depends on its own row alone: an opt-out first, then licence and language, then the rules of
its profile in their order; the first that is broken drops it. (Caps per host and source come after: `caps.py`.)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from components.clean.config import CleanConfig
from components.clean.profiles import QUALITY, Rule, RuleBook
from components.errors import StepError
from components.opt_outs import OptOuts

Numbers = NDArray[np.float32]


@dataclass(frozen=True)
class Verdicts:
    """What becomes of some documents, row by row.

    Attributes:
        rules: The rule that drops it; "" for a document that is kept.
        values: What broke the rule, as text for the ledger.
        thresholds: The bound, as text for the ledger.
    """

    rules: list[str]
    values: list[str]
    thresholds: list[str]

    @property
    def kept(self) -> NDArray[np.bool_]:
        """Whether each document is kept."""
        return np.array([not rule for rule in self.rules], dtype=np.bool_)

    def drop(self, row: int, rule: str, value: str, threshold: str) -> None:
        """Drops one more document."""
        self.rules[row], self.values[row], self.thresholds[row] = rule, value, threshold


def decide(
    scores: pa.RecordBatch | pa.Table,
    documents: pa.RecordBatch | pa.Table,
    book: RuleBook,
    config: CleanConfig,
    quality: Numbers | None = None,
    listed: OptOuts | None = None,
) -> Verdicts:
    """Judges documents by their scores.

    Args:
        scores: Rows of `components.score.table.SCORES`.
        documents: The same documents in the same order, with the columns source, lang, licence and opt_out at least.
        book: The rules, with the config's thresholds (`profiles.with_thresholds`).
        config: Languages, licences, opt-outs and profiles.
        quality: Score of the step `quality` for each document, if that step ran; NaN where it had none.
        listed: The user's opt-out list; `documents` has the columns doc_id and url then. It wins over every setting.

    Returns:
        One verdict a row.

    Raises:
        StepError: If a rule speaks of a statistic that the scores do not have.
    """
    num = scores.num_rows
    verdicts = Verdicts([""] * num, [""] * num, [""] * num)
    sources, langs, licences, opt_outs = (
        documents.column(name).to_pylist() for name in ("source", "lang", "licence", "opt_out")
    )
    entries = _entries(documents, listed) if listed else [""] * num
    groups: dict[tuple[str, str], list[int]] = {}
    for row, (source, lang, licence, opt_out) in enumerate(zip(sources, langs, licences, opt_outs, strict=True)):
        if entries[row]:
            verdicts.drop(row, "opt_out", entries[row], "the opt-out list")
        elif opt_out and not config.keep_opted_out:
            verdicts.drop(row, "opt_out", opt_out, "none")
        elif not _allows(licence, config.licences, config.refused_licences):
            verdicts.drop(row, "licence", licence or "unknown", _told(config))
        elif config.languages and lang not in config.languages:
            verdicts.drop(row, "language", lang, ", ".join(config.languages))
        else:
            groups.setdefault((book.profile_of(source, lang, config.profiles), lang), []).append(row)
    columns = _Columns(scores, quality)
    for (profile, lang), rows in groups.items():
        _judge(np.array(rows), [rule for rule in book.profiles[profile] if rule.holds_for(lang)], columns, verdicts)
    return verdicts


def _entries(documents: pa.RecordBatch | pa.Table, listed: OptOuts) -> list[str]:
    """The entry of the opt-out list that covers each document; "" where none does."""
    urls, ids = (documents.column(name).to_pylist() for name in ("url", "doc_id"))
    return [listed.entry_for(url, doc_id) for url, doc_id in zip(urls, ids, strict=True)]


class _Columns:
    """The statistics of some documents, each read once."""

    def __init__(self, scores: pa.RecordBatch | pa.Table, quality: Numbers | None) -> None:
        self._scores = scores
        self._read: dict[str, Numbers] = {} if quality is None else {QUALITY: quality}

    def __getitem__(self, statistic: str) -> Numbers:
        if statistic not in self._read:
            if statistic == QUALITY:
                raise StepError(
                    "A rule asks for the quality of documents, which no step has judged.",
                    "clean.min_quality, or a rule over the statistic quality",
                    "run the step quality before clean, or set clean.min_quality=null",
                )
            if statistic not in self._scores.schema.names:
                raise StepError(
                    f"The scores have no statistic {statistic}.", "the artifact of the step score", "run score again"
                )
            column = self._scores.column(statistic)
            self._read[statistic] = (
                column.to_numpy(zero_copy_only=False) if isinstance(column, pa.Array) else (column.to_numpy())
            )
        return self._read[statistic]


def _judge(
    rows: NDArray[np.int64], rules: Sequence[Rule], columns: Mapping[str, Numbers] | _Columns, out: Verdicts
) -> None:
    """Drops the rows that break a rule; those that are dropped are not looked at again."""
    for rule in rules:
        values = columns[rule.statistic].take(rows)
        bound = np.float32(rule.threshold)  # as the values are stored, so that one at the bound is at the bound
        broken = values > bound if rule.upper else values < bound  # never of a quality that nobody judged: NaN
        for row, value in zip(rows[broken].tolist(), values[broken].tolist(), strict=True):
            out.drop(row, rule.name, f"{value:.4g}", f"{rule.threshold:.10g}")
        rows = rows[~broken]


@lru_cache(maxsize=4096)
def _allows(licence: str, kept: tuple[str, ...], refused: tuple[str, ...]) -> bool:
    name = (licence or "unknown").lower()
    if any(fnmatchcase(name, pattern.lower()) for pattern in refused):
        return False
    return not kept or any(fnmatchcase(name, pattern.lower()) for pattern in kept)


def _told(config: CleanConfig) -> str:
    told = [", ".join(config.licences)] if config.licences else []
    told += [f"not {', '.join(config.refused_licences)}"] if config.refused_licences else []
    return "; ".join(told)
