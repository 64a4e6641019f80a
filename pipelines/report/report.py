"""The report of a run: one page, readable offline, made of nothing but the run's records.

`write_report` is a pure function of the run folder and of the manifests and files of its artifacts, so it can be made
again at any time, and for a run that failed or was stopped it says what there is. It shows where the run came from, the
DAG, what became of the documents, the curves, the scores with their standard errors, replies side by side, and the
commands that make it again. Curves and samples of a cached step are those of the run that made it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from components.publish import publish_bytes
from pipelines.engine.events import RunStatus, StepStatus, fold, step_folder
from pipelines.engine.manifest import Manifest
from pipelines.engine.store import Found
from pipelines.report.blocks import Block, Code, Heading, Paragraph, Picture, Table, to_html, to_markdown
from pipelines.report.curves import Series, line_chart
from pipelines.report.data import corpus_blocks
from pipelines.report.diagram import mermaid, svg
from pipelines.report.scores import STAGES, score_table, tables_of
from pipelines.tracking.convert import masked
from pipelines.tracking.journal import read_curves
from pipelines.tracking.records import RunRecord, artifact_of, read_run

CHARTS = (
    ("Pretraining loss", "pretrain", ("loss", "val_loss")),
    ("Pretraining: hidden tokens said right", "pretrain", ("val_accuracy",)),
    ("Pretraining: validation bits per byte", "pretrain", ("val_bpb",)),
    ("SFT loss on replies", "sft", ("loss", "val_loss")),
    ("Reward model loss", "reward", ("loss", "val_loss")),
    ("PPO: reward", "ppo", ("score", "val_score")),
    ("PPO: KL to the SFT model", "ppo", ("kl", "val_kl")),
    ("Classifier: loss", "classify", ("loss", "val_loss")),
    ("Classifier: validation texts with the right label", "classify", ("val_accuracy",)),
    ("Translation: loss per token", "translate", ("loss", "val_loss")),
)
"""Title, step and metrics of each chart; a metric that a step does not log is left out."""

TOP_RULES = 4
MAX_SAMPLES = 12


@dataclass(frozen=True)
class Facts:
    """Everything a report is made of."""

    record: RunRecord
    status: RunStatus
    artifacts: Mapping[str, Found]
    store: Path

    def read(self, step: str, name: str) -> Any:  # noqa: ANN401
        """A JSON file of a step's artifact; None where there is none."""
        found = self.artifacts.get(step)
        path = found.path / name if found is not None and found.path is not None else None
        return json.loads(path.read_text(encoding="utf-8")) if path is not None and path.is_file() else None

    def curves(self, step: str) -> Mapping[str, Series]:
        """What a step logged, in this run or in the one that made its artifact.

        A run that continued an interrupted one logged only its part; validation values of the whole training are in
        the artifact.
        """
        status = self.status.steps.get(step)
        producer = status.producer_run if status is not None and status.producer_run else self.record.run_id
        curves = read_curves(step_folder(self.store / "runs" / producer, step) / "journal.jsonl")
        whole: dict[str, dict[int, float]] = {}
        for row in self.read(step, "curve.json") or []:
            for name in row.keys() - {"step"}:
                whole.setdefault(name, {})[int(row["step"])] = float(row[name])
        validation = {name: sorted(points.items()) for name, points in whole.items() if name.startswith("val_")}
        return curves | validation


def write_report(run_folder: Path, store: Path) -> Path:
    """Writes `report.html` and `report.md` into a run folder.

    Args:
        run_folder: Folder of the run, whatever state it is in.
        store: Root folder of the store.

    Returns:
        Path of the HTML page.
    """
    facts = gather(run_folder, store)
    title, blocks = f"Headwater run {facts.record.run_id}", list(sections(facts))
    publish_bytes(run_folder / "report.md", to_markdown(title, blocks).encode())
    publish_bytes(run_folder / "report.html", to_html(title, blocks).encode())
    return run_folder / "report.html"


def gather(run_folder: Path, store: Path) -> Facts:
    """Reads the records that a report shows."""
    record = read_run(run_folder)
    artifacts = {name: artifact_of(record, step) for name, step in record.steps.items()}
    return Facts(record, fold(run_folder), artifacts, store)


def sections(facts: Facts) -> Iterator[Block]:
    """The report, block by block."""
    yield Paragraph(outcome(facts.status))
    yield from _scores(facts)
    yield from _errors(facts)
    yield from _steps(facts)
    yield from _funnel(facts)
    yield from corpus_blocks(facts.read("card", "card.json"))
    yield from _charts(facts)
    yield from _samples(facts)
    yield from _provenance(facts)
    yield from _again(facts)


def outcome(status: RunStatus) -> str:
    """How the run ended, in a sentence."""
    states = [step.state for step in status.steps.values()]
    counts = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
    return f"Run {status.run_id} {status.state} after {duration(status.seconds)}: {counts or 'no step began'}."


def duration(seconds: float | None) -> str:
    """Seconds for a reader: "7 min 12 s"."""
    if seconds is None:
        return ""
    minutes, rest = divmod(seconds, 60)
    return f"{int(minutes)} min {rest:.0f} s" if minutes else f"{rest:.1f} s"


def _scores(facts: Facts) -> Iterator[Block]:
    for step in facts.record.steps:
        found = facts.artifacts.get(step)
        for table in tables_of(found.path) if found is not None and found.path is not None else ():
            yield Heading(table.title)
            yield Table(list(table.header), [list(row) for row in table.rows])
            if table.note:
                yield Paragraph(table.note)
    scores = facts.read("evaluate", "scores.json")
    if scores is None:
        return
    header, *rows = score_table(scores)
    yield Heading("Scores")
    yield Table(header, rows)
    yield Paragraph(
        "val bpb: bits per byte on validation documents, lower is better; unigram and order-n are byte models counted "
        "on the same training text. reply loss: nats per token on held-out replies. reward: the reward model's mean "
        "normalised score of replies to held-out prompts, +- one standard error. win rate and KL (nats per reply) are "
        "against SFT."
    )


def _errors(facts: Facts) -> Iterator[Block]:
    error = facts.status.error
    if error is not None:
        yield Heading("What went wrong")
        yield Code(str(error.to_error()))


def _steps(facts: Facts) -> Iterator[Block]:
    status, record = facts.status, facts.record
    producers = {name: step.producers for name, step in record.steps.items()}
    states = {name: step.state for name, step in status.steps.items()}
    notes = {name: duration(step.seconds) for name, step in status.steps.items()}
    text = mermaid(producers, states)
    yield Heading("Steps")
    yield Picture(svg(producers, states, notes), f"```mermaid\n{text}```")
    rows = [_step_row(step, record) for step in status.steps.values()]
    yield Table(["step", "state", "time", "made by", "key", "metrics"], rows)


def _step_row(step: StepStatus, record: RunRecord) -> list[str]:
    metrics = "  ".join(f"{name} {value:.4g}" for name, value in step.metrics.items())
    planned = record.steps[step.name]
    return [step.name, step.state, duration(step.seconds), step.producer_run, planned.key[:8], metrics]


def _funnel(facts: Facts) -> Iterator[Block]:
    rows = [row for name in facts.record.steps if (row := _funnel_row(name, facts.read(name, "summary.json")))]
    if rows:
        yield Heading("What became of the documents")
        yield Table(["step", "read", "kept", "dropped by", "languages"], rows)


def _funnel_row(step: str, summary: Any) -> list[str] | None:  # noqa: ANN401
    """A row for a step that counts documents, or for the crawl, which counts pages by state."""
    if not isinstance(summary, dict):
        return None
    if {"read", "kept", "dropped"} <= summary.keys():
        return [step, str(summary["read"]), str(summary["kept"]), _top(summary["dropped"]), _top(summary["languages"])]
    if isinstance(summary.get("pages"), dict) and "fetched" in summary["pages"]:
        pages = {state: sum(reasons.values()) for state, reasons in summary["pages"].items()}
        reasons = {f"{state}: {why}": count for state, by in summary["pages"].items() for why, count in by.items()}
        fetched = pages.pop("fetched")
        lost = {name: count for name, count in reasons.items() if not name.startswith("fetched:")}
        return [step, str(fetched + sum(pages.values())), str(fetched), _top(lost), ""]
    return None


def _top(counts: Mapping[str, int]) -> str:
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    more = f", {len(ranked) - TOP_RULES} more" if len(ranked) > TOP_RULES else ""
    return ", ".join(f"{name} {count}" for name, count in ranked[:TOP_RULES]) + more


def _charts(facts: Facts) -> Iterator[Block]:
    pictures = []
    for title, step, names in CHARTS:
        curves = facts.curves(step) if step in facts.record.steps else {}
        series = {name: curves[name] for name in names if name in curves}
        pictures.append(Picture(line_chart(title, "steps", series)))
    if any(picture.svg for picture in pictures):
        yield Heading("Curves")
        yield from (picture for picture in pictures if picture.svg)


def _samples(facts: Facts) -> Iterator[Block]:
    samples = facts.read("evaluate", "samples.json")
    if not samples:
        return
    stages = sorted(samples[0]["replies"], key=lambda stage: (STAGES.index(stage) if stage in STAGES else 99, stage))
    rows = [
        [f"{sample['prompt']}", *(f"{sample['replies'][stage]}\n({_score(sample, stage)})" for stage in stages)]
        for sample in samples[:MAX_SAMPLES]
    ]
    yield Heading("Replies side by side")
    yield Paragraph("The same held-out prompts and the same random numbers for every model; the judge's score below.")
    yield Table(["prompt", *stages], rows)


def _score(sample: Mapping[str, Any], stage: str) -> str:
    score = sample.get("scores", {}).get(stage)
    return f"{score:+.2f}" if score is not None else "not scored"


def _provenance(facts: Facts) -> Iterator[Block]:
    record = facts.record
    manifests = [found.manifest for found in facts.artifacts.values() if found.manifest is not None]
    git = f"{record.git['commit']}{' with changes' if record.git.get('dirty') else ''}" if record.git else "no checkout"
    rows = [
        ["run", record.run_id],
        ["recipe and preset", f"{record.recipe}, {record.preset}"],
        ["started", datetime.fromtimestamp(record.created, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")],
        ["command", masked(record.command)],
        ["code", git],
    ]
    if manifests:
        newest = max(manifests, key=lambda manifest: manifest.started)
        rows += [["packages", _packages(newest)], ["machine", _machine(newest)]]
    yield Heading("Provenance")
    yield Table(["", ""], rows)


def _packages(manifest: Manifest) -> str:
    return ", ".join(f"{name} {version}" for name, version in manifest.versions.items())


def _machine(manifest: Manifest) -> str:
    hardware = manifest.hardware
    memory = f"{float(str(hardware['memory_bytes'])) / 2**30:.0f} GiB" if "memory_bytes" in hardware else ""
    gpus = hardware.get("gpus")
    names = [str(gpu) for gpu in gpus] if isinstance(gpus, list) else []
    return ", ".join(part for part in (f"{hardware.get('cpus')} CPUs", memory, *names) if part)


def _again(facts: Facts) -> Iterator[Block]:
    record = facts.record
    lines: Sequence[str] = [f"git checkout {record.git['commit']}"] if record.git else []
    yield Heading("How to make it again")
    yield Code("\n".join([*lines, "make setup", masked(record.command)]))
    if record.git.get("dirty"):
        yield Paragraph("The code had changes that were not committed: the same commit may give other results.")
