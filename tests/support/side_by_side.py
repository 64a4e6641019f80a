"""Programs that take turns: each trains a round while the others wait, so that all see the same machine.

The programs' half is `bench/peers/pacing.py`.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

BENCH = Path(__file__).resolve().parents[1] / "bench"
ROOT = BENCH.parents[1]


@dataclass(frozen=True)
class Entrant:
    """A program of `bench/peers`.

    Attributes:
        name: What the table calls it.
        command: Python, file and arguments.
        variables: Environment variables beside OMP_NUM_THREADS=1.
    """

    name: str
    command: Sequence[str | Path]
    variables: Mapping[str, str] = field(default_factory=dict)


def ours(name: str, file: str, *arguments: str) -> Entrant:
    """A program of `bench/peers` on this project's own Python."""
    path = os.pathsep.join([str(ROOT), str(BENCH / "peers")])
    return Entrant(name, [sys.executable, BENCH / "peers" / file, *arguments], {"PYTHONPATH": path})


def peer(name: str, environment: Path, file: str, *arguments: str) -> Entrant:
    """A program of `bench/peers` on the Python of a peer's environment."""
    return Entrant(name, [environment / "bin" / "python", BENCH / "peers" / file, *arguments])


def take_turns(entrants: Sequence[Entrant], rounds: int) -> dict[str, list[float]]:
    """Starts all, lets each warm up, then runs round after round.

    Returns:
        Seconds of CPU time of each round, by name.

    Raises:
        AssertionError: If a program ends early; with the end of what it wrote.
    """
    started = [_Started(entrant) for entrant in entrants]
    try:
        for program in started:
            program.wait_for("ready")
        took: dict[str, list[float]] = {program.name: [] for program in started}
        for _ in range(rounds):
            for program in started:
                took[program.name].append(program.go())
        return took
    finally:
        for program in started:
            program.leave()


class _Started:
    def __init__(self, entrant: Entrant) -> None:
        self.name = entrant.name
        outside = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}  # no hook of the tests
        variables = {**outside, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", **entrant.variables}
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115  (closed in `leave`)
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": self._errors}
        command = [str(part) for part in entrant.command]
        self._process = subprocess.Popen(command, env=variables, text=True, **pipes)  # type: ignore[call-overload]

    def wait_for(self, word: str) -> str:
        """The rest of the first line that begins with `word`."""
        said = []
        for line in self._process.stdout:
            if line.startswith(word):
                return str(line[len(word) :].strip())
            said.append(line)
        self._errors.seek(0)
        raise AssertionError(f"{self.name} ended: {''.join(said)[-1500:]} {self._errors.read()[-3000:]}")

    def go(self) -> float:
        """One round."""
        self._process.stdin.write("go\n")
        self._process.stdin.flush()
        return float(self.wait_for("took"))

    def leave(self) -> None:
        """Ends the program."""
        self._process.stdin.close()
        self._process.terminate()
        self._process.wait(timeout=60)
        self._process.stdout.close()
        self._errors.close()


def table(took: Mapping[str, Sequence[float]], per_round: float, unit: str, base: str) -> str:
    """A line for each: its best and median rate, and how often `base` is as fast, by both."""
    lines = []
    for name, seconds in took.items():
        best, median = min(seconds), statistics.median(seconds)
        ratios = f"{best / min(took[base]):5.3f} of minima, {median / statistics.median(took[base]):5.3f} of medians"
        rates = f"{per_round / best:8.0f} {unit} (median {per_round / median:8.0f})"
        lines.append(f"{name:34s} {rates}   {base} is {ratios}")
    return "\n".join(lines)


def shape_of(**values: object) -> str:
    """A shape as the programs read it."""
    return json.dumps(values)
