"""Judging a translator as a step: the published folder writes held-out targets, beside two ways that learn nothing.

The artifact:
    scores.json    for greedy decoding, beam search, the nearest training pair and a copy of the source: BLEU, chrF,
                   ROUGE-1, -2, -L, exact matches; and the beam search's by kind of pair
    written.json   source, reference and what greedy decoding and the beam search wrote, of every held-out pair
    tables.json    the scores and some samples as tables
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from components.context import Context, Json, Metrics
from components.publish import publish_json
from components.score_table import ScoreTable, number, publish_tables
from components.translate.config import EvaluateTranslationConfig

if TYPE_CHECKING:
    from components.pairs.table import Pair

VERSION = 1
COLUMNS = {"bleu": "BLEU", "chrf": "chrF", "rouge1": "ROUGE-1", "rouge2": "ROUGE-2", "rougeL": "ROUGE-L"}
MOST_KINDS = 8
_NOTE = (
    "On pairs none of whose texts is in training. BLEU and chrF by sacrebleu (0 to 100), ROUGE as F1 over words and "
    "Chinese characters, exact: share of texts that are the reference. nearest: the target of the training pair with "
    "the most similar source. copy: the source itself."
)


@dataclass(frozen=True)
class Work:
    """Sources to write targets for, in one way.

    Attributes:
        folder: Model folder.
        sources: The texts.
        num_beams: Beams; 1 takes the likeliest token each time.
        config: Settings of the step.
    """

    folder: Path
    sources: tuple[str, ...]
    num_beams: int
    config: EvaluateTranslationConfig


def evaluate_translation(ctx: Context, config: EvaluateTranslationConfig, translator: Path, pairs: Path) -> Metrics:
    """Writes the targets of held-out pairs and scores them.

    Args:
        ctx: What a step is given.
        config: Settings of the step.
        translator: Artifact of `translate`.
        pairs: Artifact of `pairs`.

    Returns:
        bleu, chrf, rouge1, rouge2, rougeL and exact of the beam search; the same of greedy decoding, of the nearest
        training pair and of the copy with greedy_, nearest_ and copy_ before them; and pairs.

    Raises:
        StepError: If an input cannot be used.
    """
    from components.pairs.table import read_pairs
    from components.translate.scores import bleu_cut, nearest, score_texts
    from components.translate.writing import write

    train, asked = read_pairs(pairs / "train.arrow"), read_pairs(pairs / "held_out.arrow", config.pairs)
    sources, references = tuple(pair.source for pair in asked), [pair.target for pair in asked]
    ctx.progress(0, len(asked), "pairs", "writing")
    works = [Work(translator / "model", sources, beams, config) for beams in (1, config.num_beams)]
    greedy, beams = ctx.map(write, works)
    found = nearest([pair.source for pair in train], sources)
    written = {
        "beam": beams,
        "greedy": greedy,
        "nearest": [train[index].target for index in found],
        "copy": list(sources),
    }
    cut = bleu_cut(config.tokenize, references)
    scores = {name: score_texts(texts, references, cut) for name, texts in written.items()}
    by_kind = _by_kind(asked, beams, cut)
    publish_json(ctx.output / "scores.json", {**_json(scores), "by_kind": _json(by_kind), "tokenize": cut})
    _publish(ctx, config, scores, by_kind, asked, written)
    ctx.progress(len(asked), len(asked), "pairs")
    own = scores.pop("beam")
    others = {f"{name}_{key}": value for name, values in scores.items() for key, value in values.items()}
    return {**own, **others, "pairs": float(len(asked))}


def _by_kind(asked: Sequence[Pair], written: Sequence[str], cut: str) -> dict[str, dict[str, float]]:
    """Scores of the most frequent kinds of pairs, each with its number of pairs."""
    from components.translate.scores import score_texts

    counts = Counter(pair.kind for pair in asked)
    found = {}
    for kind, count in counts.most_common(MOST_KINDS):
        mine = [(text, pair.target) for text, pair in zip(written, asked, strict=True) if pair.kind == kind]
        texts, references = zip(*mine, strict=True)
        found[kind] = {**score_texts(texts, references, cut), "pairs": float(count)}
    return found


def _json(scores: dict[str, dict[str, float]]) -> dict[str, Json]:
    return {name: dict(values) for name, values in scores.items()}


def _publish(
    ctx: Context,
    config: EvaluateTranslationConfig,
    scores: dict[str, dict[str, float]],
    by_kind: dict[str, dict[str, float]],
    asked: Sequence[Pair],
    written: dict[str, list[str]],
) -> None:
    ours = [written["greedy"], written["beam"]]
    rows: list[Json] = [
        {"kind": pair.kind, "source": pair.source, "reference": pair.target, "greedy": one, "beam": other}
        for pair, one, other in zip(asked, *ours, strict=True)
    ]
    publish_json(ctx.output / "written.json", rows)
    names = {"beam": f"beam {config.num_beams}"}
    systems = [_row(names.get(name, name), values, len(asked)) for name, values in scores.items()]
    kinds = [_row(f"beam {config.num_beams}: {kind}", values, int(values["pairs"])) for kind, values in by_kind.items()]
    header = ("written by", "pairs", *COLUMNS.values(), "exact")
    title = f"Translation of {len(asked)} held-out pairs"
    shown = _samples(config, asked, written)
    tables = [ScoreTable(title, header, (*systems, *(kinds if len(kinds) > 1 else ())), _NOTE)]
    publish_tables(ctx.output, [*tables, ScoreTable("Translations", ("kind", "source", "reference", "written"), shown)])
    ctx.text("sample", "\n".join(" | ".join(row) for row in shown), 0)


def _row(name: str, values: dict[str, float], count: int) -> tuple[str, ...]:
    hundreds = [number(values[key], 1) for key in ("bleu", "chrf")]
    shares = [number(values[key]) for key in ("rouge1", "rouge2", "rougeL", "exact")]
    return (name, str(count), *hundreds, *shares)


def _samples(
    config: EvaluateTranslationConfig, asked: Sequence[Pair], written: dict[str, list[str]]
) -> tuple[tuple[str, ...], ...]:
    """The first pairs of each kind with what the beam search wrote."""
    counts: Counter[str] = Counter()
    rows = []
    for pair, text in zip(asked, written["beam"], strict=True):
        counts[pair.kind] += 1
        if counts[pair.kind] <= config.samples and len(counts) <= MOST_KINDS:
            rows.append((pair.kind, pair.source, pair.target, text))
    return tuple(sorted(rows, key=lambda row: row[0]))
