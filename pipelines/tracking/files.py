"""The files of a run that MLflow gets as artifacts of the parent run, and the note that its page opens with."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from components.publish import publish_bytes
from pipelines.engine.events import RunStatus
from pipelines.report.diagram import mermaid, svg
from pipelines.report.report import duration, write_report
from pipelines.tracking.convert import masked
from pipelines.tracking.records import RunRecord, lineage

REPORT = ("report.html", "report.md")


def write_first(folder: Path, record: RunRecord) -> None:
    """Writes what is known before anything runs: the configuration and the plan."""
    config = (record.folder / "config.yaml").read_text(encoding="utf-8")
    publish_bytes(folder / "config.yaml", masked(config).encode())
    shutil.copyfile(record.folder / "plan.json", folder / "plan.json")


def write_picture(folder: Path, record: RunRecord, status: RunStatus) -> None:
    """Writes the DAG as it stands and the lineage of what is there; in a run that is over, nothing runs any more."""
    producers = {name: step.producers for name, step in record.steps.items()}
    over = {} if status.state == "running" else {"running": "stopped", "retrying": "stopped"}
    states = {name: over.get(step.state, step.state) for name, step in status.steps.items()}
    notes = {name: duration(step.seconds) for name, step in status.steps.items()}
    (folder / "dag.mmd").write_text(mermaid(producers, states), encoding="utf-8")
    (folder / "dag.svg").write_text(svg(producers, states, notes), encoding="utf-8")
    (folder / "lineage.json").write_text(json.dumps(lineage(record), indent=1), encoding="utf-8")


def write_final(folder: Path, record: RunRecord, status: RunStatus, store: Path) -> None:
    """Writes what is known at the end: the DAG as it went, the lineage, and the report."""
    write_picture(folder, record, status)
    write_report(record.folder, store)
    for name in REPORT:
        shutil.copyfile(record.folder / name, folder / name)


def note_of(record: RunRecord) -> str:
    """The first part of the report as Markdown: how the run ended and its scores."""
    text = (record.folder / "report.md").read_text(encoding="utf-8")
    return text.partition("\n## Steps")[0]
