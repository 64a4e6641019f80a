"""What a running step says while it runs, and what it can be told: a folder that any of its processes can reach.

The step, its map workers and its ranks append JSON lines to one journal; the driver reads that journal for the live
table and the tracking upload. In the other direction there are two words, each a file: `stop`, and `save` (save what
you have, and go on). A folder rather than a connection: it survives the death of either side, and a component needs no
orchestrator to speak.

Journal lines:
    {"kind": "metrics", "time": s, "step": n, "values": {"loss": 3.1, ...}}
    {"kind": "progress", "time": s, "done": n, "total": n or null, "unit": "pages", "note": "kept 498"}
    {"kind": "text", "time": s, "name": "sample", "step": n, "text": "..."}
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Channel:
    """The folder of one step in one run. Picklable; every process of the step holds its own copy."""

    folder: Path

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Appends metrics at a step of the stage's own axis. Non-finite values are kept as text, never dropped."""
        values = {name: float(value) if math.isfinite(value) else str(value) for name, value in metrics.items()}
        self._append({"kind": "metrics", "step": step, "values": values})

    def progress(self, done: int, total: int | None, unit: str, note: str = "") -> None:
        """Appends how far the step is; `total` is None while it is unknown."""
        self._append({"kind": "progress", "done": done, "total": total, "unit": unit, "note": note})

    def text(self, name: str, text: str, step: int) -> None:
        """Appends a piece of text worth reading, such as a sample of what the model writes."""
        self._append({"kind": "text", "name": name, "step": step, "text": text})

    def should_stop(self) -> bool:
        """True once the run was asked to stop: save, then raise `Preempted`."""
        return (self.folder / "stop").exists()

    def take_save(self) -> bool:
        """True once for each time that the step was asked to save and go on: its driver is about to leave it."""
        try:
            (self.folder / "save").unlink()
        except FileNotFoundError:
            return False
        return True

    def _append(self, event: dict[str, object]) -> None:
        line = json.dumps({"time": round(time.time(), 3), **event}, ensure_ascii=False) + "\n"
        self.folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.folder / "journal.jsonl", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            os.write(descriptor, line.encode())
        finally:
            os.close(descriptor)
