"""Findings as JSON for programs and as Markdown for people; the report of a run shows the same tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from components.context import Json
from components.scaling.law import Interval
from components.scaling.sweep import Findings, holds
from components.score_table import ScoreTable

FORMULAS = {"chinchilla": "L(N, D) = E + A / N^a + B / D^b", "compute": "L(C) = E + K / C^c with C = 6 N D"}


def as_record(found: Findings) -> dict[str, Json]:
    """Everything, as plain values."""
    targets: list[Json] = [
        {"parameters": parameters, "tokens": tokens, **_interval(value)} for parameters, tokens, value in found.targets
    ]
    names = ("flops", "parameters", "tokens", "loss")
    return {
        "form": found.law.form,
        "formula": FORMULAS[found.law.form],
        "unit": "bits per byte of the validation split",
        "confidence": found.confidence,
        "points": [asdict(point) for point in found.points],
        "fitted": [found.law.predict(point.parameters, point.tokens) for point in found.points],
        "fit_error": found.fit_error,
        "constants": {name: _interval(value) for name, value in found.constants.items()},
        "held_out": {**asdict(found.held_out), "predicted": _interval(found.prediction)},
        "error": found.error,
        "inside": found.inside,
        "held_back": [{**asdict(point), "predicted": _interval(guess)} for point, guess in found.held_back],
        "targets": targets,
        "optima": [dict(zip(names, row, strict=True)) for row in found.optima],
    }


def score_tables(found: Findings) -> list[ScoreTable]:
    """The tables of the report: the prediction first, then what the law is and says."""
    share = f"{found.confidence:.0%} interval"
    law = f"{FORMULAS[found.law.form]}; it misses its own points by {found.fit_error:.2%} (root mean square)."
    tables = [
        _table(
            "Scaling law", ["training", "parameters", "tokens", "measured", "law"], point_rows(found), sentence(found)
        ),
        _table("Constants of the law", ["constant", "value", share], constant_rows(found), law),
    ]
    if found.held_back:
        header, note = ["training", "measured", "foretold", share, "inside"], coverage_sentence(found)
        tables.append(_table("Each size foretold by the others", header, held_back_rows(found), note))
    if found.optima:
        header, note = ["FLOPs", "parameters", "tokens", "bits per byte"], "Where this law has its lowest loss."
        tables.append(_table("Best use of an amount of arithmetic", header, optimum_rows(found), note))
    if found.targets:
        header, note = (
            ["parameters", "tokens", "bits per byte", share],
            "Far beyond what was trained: as good as the form.",
        )
        tables.append(_table("Predictions", header, target_rows(found), note))
    return tables


def as_markdown(found: Findings) -> str:
    """The same tables as a page."""
    lines: list[str] = []
    for table in score_tables(found):
        rows = [f"| {' | '.join(row)} |" for row in (table.header, *table.rows)]
        lines += [f"## {table.title}", "", rows[0], f"|{'---|' * len(table.header)}", *rows[1:], "", table.note, ""]
    return "\n".join(lines)


def sentence(found: Findings) -> str:
    """What was foretold and what came."""
    last, guess = found.held_out, found.prediction
    where = "inside" if found.inside else "outside"
    return (
        f"From {len(found.points)} smaller trainings the law foretold {guess.value:.4f} bits per byte "
        f"({found.confidence:.0%} interval {guess.low:.4f} to {guess.high:.4f}) for "
        f"{short(last.parameters)} parameters after {short(last.tokens)} tokens; measured were {last.loss:.4f}: "
        f"{found.error:+.2%}, {where} the interval."
    )


def coverage_sentence(found: Findings) -> str:
    """What the intervals were worth on the sweep itself."""
    return (
        f"Fitted to the other sizes alone, the law's {found.confidence:.0%} intervals held {found.coverage:.0%} of "
        f"{len(found.held_back)} trainings."
    )


def held_back_rows(found: Findings) -> list[list[str]]:
    """One row a training of the sweep."""
    return [
        [
            point.name,
            f"{point.loss:.4f}",
            f"{guess.value:.4f}",
            f"{guess.low:.4f} to {guess.high:.4f}",
            "yes" if holds(guess, point) else "no",
        ]
        for point, guess in found.held_back
    ]


def point_rows(found: Findings) -> list[list[str]]:
    """One row a training, the held-out one last."""
    points = sorted(found.points, key=lambda point: (point.parameters, point.tokens))
    return [
        [point.name, short(point.parameters), short(point.tokens), f"{point.loss:.4f}", f"{fit:.4f}"]
        for point in (*points, found.held_out)
        for fit in [found.law.predict(point.parameters, point.tokens)]
    ]


def constant_rows(found: Findings) -> list[list[str]]:
    """One row a constant."""
    return [[name, f"{v.value:.4g}", f"{v.low:.4g} to {v.high:.4g}"] for name, v in found.constants.items()]


def optimum_rows(found: Findings) -> list[list[str]]:
    """One row an amount of arithmetic."""
    return [[f"{flops:.2g}", short(n), short(d), f"{loss:.4f}"] for flops, n, d, loss in found.optima]


def target_rows(found: Findings) -> list[list[str]]:
    """One row a target."""
    return [[short(n), short(d), f"{v.value:.4f}", f"{v.low:.4f} to {v.high:.4f}"] for n, d, v in found.targets]


def short(count: float) -> str:
    """A number of things as people write it: 1.24M."""
    for size, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if count >= size:
            return f"{count / size:.3g}{letter}"
    return f"{count:.3g}"


def _interval(value: Interval) -> dict[str, Json]:
    return {"value": value.value, "low": value.low, "high": value.high}


def _table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]], note: str) -> ScoreTable:
    return ScoreTable(title, tuple(header), tuple(tuple(row) for row in rows), note)
