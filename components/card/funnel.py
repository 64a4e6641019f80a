"""The funnel: what each step of the data path read, kept and dropped, and whether it adds up.

Every step of the path leaves a `summary.json`. Here those are read into `Stage`s, whatever the step, and two laws are
checked: a step reads what it keeps and drops, and a step reads what the one before it handed on. `headwater data
verify`, `headwater data stats` and the data card all say what this module found.
"""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from components.publish import read_json

CRAWL_ENDS = ("redirected", "refused", "failed")


@dataclass(frozen=True)
class Stage:
    """One step of the funnel.

    Attributes:
        step: Name of the step.
        unit: What it counts: "pages" or "documents".
        read: What came in.
        kept: What it kept.
        dropped: What it dropped, by rule.
        handed: What the next step reads of it: `kept`, but for a crawl, which also hands on answers other than pages
            with status 200. None where that is not known.
        chars: Characters of text kept; None where nobody counts them.
        languages: Documents kept by language.
    """

    step: str
    unit: str
    read: int
    kept: int
    dropped: Mapping[str, int] = field(default_factory=dict)
    handed: int | None = None
    chars: int | None = None
    languages: Mapping[str, int] = field(default_factory=dict)

    @property
    def num_dropped(self) -> int:
        """Dropped by all rules together."""
        return sum(self.dropped.values())

    def to_json(self) -> dict[str, object]:
        """For programs and for the card."""
        return {
            "step": self.step,
            "unit": self.unit,
            "read": self.read,
            "kept": self.kept,
            "dropped": dict(self.dropped),
            "chars": self.chars,
            "languages": dict(self.languages),
        }


def read_stage(step: str, folder: Path) -> Stage | None:
    """Reads what a step of the data path counted; None if its artifact counts nothing of the kind.

    Args:
        step: Name of the step.
        folder: Its artifact.

    Raises:
        ValueError: If `summary.json` is no JSON object.
    """
    path = folder / "summary.json"
    if not path.is_file():
        return None
    summary = read_json(path)
    if isinstance(summary.get("pages"), Mapping):
        return _crawl_stage(step, folder, summary)
    dropped = summary.get("dropped", summary.get("skipped"))  # of archives records are skipped, not documents dropped
    if not {"read", "kept"} <= summary.keys() or not isinstance(dropped, Mapping):
        return None
    kept = _number(summary["kept"])
    return Stage(
        step,
        "documents" if (folder / "documents").is_dir() else "pages",
        _number(summary["read"]),
        kept,
        ranked(_counts(dropped)),
        kept,
        _number(summary["chars"]) if "chars" in summary else None,
        ranked(_counts(summary.get("languages", {}))),
    )


def faults_of(stages: Sequence[Stage]) -> list[str]:
    """Where the counts of a chain of steps do not add up; empty if nothing vanished.

    Args:
        stages: The stages, each reading what the one before kept.
    """
    found = [
        f"{stage.step} read {stage.read} {stage.unit}, but kept {stage.kept} and dropped {stage.num_dropped}"
        for stage in stages
        if stage.read != stage.kept + stage.num_dropped
    ]
    for before, after in itertools.pairwise(stages):
        if before.handed is not None and before.handed != after.read:
            found.append(f"{before.step} handed on {before.handed} {before.unit}, but {after.step} read {after.read}")
    return found


def ranked(counts: Mapping[str, int]) -> dict[str, int]:
    """Counts with the largest first, equal ones by name."""
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def frontiers(crawl: Path) -> list[Path]:
    """The frontier databases of a crawl artifact."""
    return sorted(crawl.glob("frontier*.sqlite"))


def open_frontier(path: Path) -> sqlite3.Connection:
    """A frontier for reading alone: a crawl artifact never changes, not even by SQLite's own files."""
    return sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True)


def _crawl_stage(step: str, folder: Path, summary: Mapping[str, object]) -> Stage:
    pages = summary["pages"]
    states = {str(state): _counts(reasons) for state, reasons in pages.items()} if isinstance(pages, Mapping) else {}
    dropped = {
        f"{state}: {reason}" if reason != "ok" else state: count
        for state, reasons in states.items()
        if state != "fetched"
        for reason, count in reasons.items()
    }
    kept = sum(states.get("fetched", {}).values())
    return Stage(step, "pages", kept + sum(dropped.values()), kept, ranked(dropped), _recorded(folder))


def _recorded(folder: Path) -> int | None:
    """Answers to page requests that lie in the WARC files, as the frontier remembers them."""
    query = "SELECT count(*) FROM urls WHERE warc_file IS NOT NULL AND kind = 'page'"
    total = 0
    for path in frontiers(folder):
        with closing(open_frontier(path)) as database:
            total += int(database.execute(query).fetchone()[0])
    return total if frontiers(folder) else None


def _counts(table: object) -> dict[str, int]:
    if not isinstance(table, Mapping):
        return {}
    return {str(name): _number(count) for name, count in table.items()}


def _number(value: object) -> int:
    return int(value) if isinstance(value, int | float) else int(str(value))
