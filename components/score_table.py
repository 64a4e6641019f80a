"""The table in which a step says what it measured: shown in the terminal, the report and MLflow as it stands."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from components.publish import publish_json

FILE_NAME = "table.json"


def publish_table(folder: Path, title: str, header: Sequence[str], rows: Sequence[Sequence[str]], note: str) -> None:
    """Writes `table.json` beside what else the step makes.

    Args:
        folder: The step's output.
        title: What was measured.
        header: Names of the columns.
        rows: The cells, as they are to be read.
        note: What the columns mean, in a sentence or two.

    Raises:
        ValueError: If a row has not as many cells as the header.
    """
    if any(len(row) != len(header) for row in rows):
        raise ValueError(f"a row of the table {title} has not {len(header)} cells")
    content = {"title": title, "header": list(header), "rows": [list(row) for row in rows], "note": note}
    publish_json(folder / FILE_NAME, content)


def number(value: float | None, digits: int = 3) -> str:
    """A value with a fixed number of decimals, or "-" where there is none."""
    return "-" if value is None else f"{value:.{digits}f}"
