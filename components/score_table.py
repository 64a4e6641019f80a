"""The tables in which a step says what it measured: shown in the terminal, the report and MLflow as they stand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from components.publish import publish_json

FILE_NAME = "tables.json"


@dataclass(frozen=True)
class ScoreTable:
    """One table; the first of a step is its result, others tell more.

    Attributes:
        title: What was measured.
        header: Names of the columns.
        rows: The cells, as they are to be read.
        note: What the columns mean, in a sentence or two.
    """

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""

    def __post_init__(self) -> None:
        if any(len(row) != len(self.header) for row in self.rows):
            raise ValueError(f"a row of the table {self.title} has not {len(self.header)} cells")


def publish_tables(folder: Path, tables: Sequence[ScoreTable]) -> None:
    """Writes `tables.json` beside what else the step makes."""
    publish_json(folder / FILE_NAME, [asdict(table) for table in tables])


def number(value: float | None, digits: int = 3) -> str:
    """A value with a fixed number of decimals, or "-" where there is none."""
    return "-" if value is None else f"{value:.{digits}f}"
