"""`headwater graph`: the DAG as text, Mermaid or SVG; of the plan, or of a run."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from components.publish import publish_bytes
from pipelines.config import Settings, load_settings
from pipelines.engine.events import StepStatus, fold
from pipelines.report import diagram
from pipelines.runs import find_run
from pipelines.verbs.planning import STATES, duration, plan_of, selection_of


@dataclass(frozen=True)
class Picture:
    """What a picture shows: the steps in order with the steps each reads from, their states, and a few words each."""

    producers: dict[str, list[str]]
    states: dict[str, str]
    notes: dict[str, str]

    def drawn(self, form: str) -> str:
        """The picture as "text", "mermaid" or "svg"."""
        if form == "mermaid":
            return diagram.mermaid(self.producers, self.states)
        if form == "svg":
            return diagram.svg(self.producers, self.states, self.notes)
        return diagram.text(self.producers, self.states, self.notes)


def graph(overrides: Sequence[str], options: argparse.Namespace) -> int:
    """Prints the picture, or writes it to a file."""
    settings = load_settings(overrides)
    picture = of_run(settings, options.run_id) if options.run_id else of_plan(settings, options)
    text = json.dumps(picture.__dict__, ensure_ascii=False) + "\n" if options.json else picture.drawn(options.format)
    if options.output is None:
        print(text, end="" if text.endswith("\n") else "\n")
    else:
        publish_bytes(Path(options.output), text.encode())
    return 0


def of_plan(settings: Settings, options: argparse.Namespace) -> Picture:
    """The steps as they are planned."""
    _, plan = plan_of(settings, selection_of(options))
    return Picture(
        {entry.name: list(dict.fromkeys(entry.step.producers)) for entry in plan.entries},
        {entry.name: STATES[entry.state] for entry in plan.entries},
        {entry.name: f"~{duration(entry.estimate_s)}" for entry in plan.entries if entry.estimate_s},
    )


def of_run(settings: Settings, run_id: str) -> Picture:
    """The steps of a run as they stand."""
    folder = find_run(settings.folder, run_id, settings.store)
    planned = json.loads((folder / "plan.json").read_text(encoding="utf-8"))["steps"]
    steps = fold(folder).steps
    return Picture(
        {step["name"]: list(dict.fromkeys(step["producers"])) for step in planned},
        {step["name"]: _state(step, steps.get(step["name"])) for step in planned},
        {name: duration(step.seconds) for name, step in steps.items() if step.seconds},
    )


def _state(planned: dict[str, str], status: StepStatus | None) -> str:
    """How a step stands; as planned where it takes no part in the run."""
    return status.state if status else STATES[planned["state"]]
