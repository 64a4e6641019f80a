"""The watchdog of a rank: tells when no step ends any more, which rank the others wait for, and where it stands.

A thread beside the training writes a heartbeat every few seconds: how many places of the loop the rank has passed, and
the name of the last one. All ranks pass the same places in the same order, so of ranks that stand still the one that
passed fewest is the one that hangs; the others wait for it. After `training.hang_timeout_s` without the end of a step
(or of a save) each rank leaves the stacks of its threads in `scratch/heartbeats/` and on standard error, the first of
them names who hangs, and all end: a rank that waits for ever holds its machines for ever.

An evaluation or a rollout has no length that a limit could know. There every forward pass of a model is progress
(`following`): the time begins anew with it, and of ranks at one place the one that is behind in passes is named.

Python's own thread needs the interpreter. Where something holds it, a timer in C (`faulthandler`), wound up anew at
every heartbeat, writes the stacks; the process is ended by its launcher when another rank names it and ends, or at once
where there is no other.

The heartbeat of rank 0 also outlives a kill: the next session reads how far that one came, and how long it took.
"""

from __future__ import annotations

import faulthandler
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Event, Thread
from types import TracebackType

from torch import nn

from components.context import Rank
from components.launching import RankHung, record_failure
from components.publish import publish_new

BEAT_S = 5.0
VERDICT_WAIT_S = 10.0
EXIT_HUNG = 70
"""EX_SOFTWARE of sysexits.h."""


@dataclass(frozen=True)
class Beat:
    """What a rank's heartbeat says.

    Attributes:
        rank: Number of the rank.
        passed: Places of the loop that it has passed since training began.
        step: Steps done.
        place: Name of the last place it passed.
        standing_s: Seconds since then.
        wall_s: Seconds of this training so far, over all sessions.
        time: When this was written.
        within: Forward passes since that place.
    """

    rank: int
    passed: int
    step: int
    place: str
    standing_s: float
    wall_s: float
    time: float
    within: int = 0


class Watchdog:
    """Watches one rank for the time of a `with` block.

    Args:
        rank: This process.
        folder: Where heartbeats live; all ranks can read it.
        timeout_s: Seconds in which a step must end; 0 waits for ever.
        clock: Seconds since some moment.
        leave: Ends the process.
    """

    def __init__(
        self,
        rank: Rank,
        folder: Path,
        timeout_s: float,
        clock: Callable[[], float] = time.monotonic,
        leave: Callable[[int], object] = os._exit,
    ) -> None:
        self._rank, self._folder, self._timeout_s, self._clock, self._leave = rank, folder, timeout_s, clock, leave
        self._interval = min(BEAT_S, timeout_s / 4) if timeout_s else BEAT_S
        self._began = self._since = self._passed_at = clock()
        self._passed, self._within, self._step, self._place = 0, 0, 0, "starting"
        self._ended = Event()
        self._thread = Thread(target=self._watch, name="watchdog", daemon=True)
        self._stacks = folder / f"rank-{rank.rank}.stacks.txt"
        before = read_beat(folder, 0)
        self.wall_before_s = before.wall_s if before else 0.0
        self.step_before = before.step if before else 0

    def __enter__(self) -> Watchdog:
        self._folder.mkdir(parents=True, exist_ok=True)
        (self._folder / "verdict.json").unlink(missing_ok=True)
        self._beat()
        self._file = self._stacks.open("w")
        self._wind_up()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
        faulthandler.cancel_dump_traceback_later()
        self._file.close()
        self._beat()

    def at(self, place: str, step: int, anew: bool = False) -> None:
        """The rank passes a place.

        Args:
            place: What it does from here on, to be read after "rank 1 was": "reading data".
            step: Steps done.
            anew: The time in which a step must end begins here.
        """
        now = self._clock()
        self._passed, self._within = self._passed + 1, 0
        self._step, self._place, self._passed_at = step, place, now
        if anew:
            self._since = now

    @contextmanager
    def following(self, *modules: nn.Module) -> Iterator[None]:
        """Within the block every forward pass of these modules is progress."""
        hooks = [module.register_forward_pre_hook(lambda *_: self._goes_on()) for module in modules]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def _goes_on(self) -> None:
        self._within += 1
        self._since = self._passed_at = self._clock()

    def _watch(self) -> None:
        while not self._ended.wait(self._interval):
            self._beat()
            if self._timeout_s and self._left_s() < 0:
                self._give_up()
                return
            self._wind_up()

    def _left_s(self) -> float:
        return self._timeout_s - (self._clock() - self._since)

    def _wind_up(self) -> None:
        """Sets the timer in C to a little after this thread would give up, if it could run."""
        if self._timeout_s:
            alone = self._rank.world_size == 1
            faulthandler.dump_traceback_later(self._left_s() + 1.5 * self._interval, exit=alone, file=self._file)

    def _beat(self) -> None:
        now = self._clock()
        wall_s = self.wall_before_s + now - self._began
        place = (self._passed, self._step, self._place, now - self._passed_at)
        beat = Beat(self._rank.rank, *place, wall_s, time.time(), self._within)
        draft = self._folder / f".rank-{self._rank.rank}.json"
        draft.write_text(json.dumps(asdict(beat)), encoding="utf-8")  # not flushed: a lost beat is no loss
        os.replace(draft, _path(self._folder, self._rank.rank))

    def _give_up(self) -> None:
        faulthandler.cancel_dump_traceback_later()
        self._beat()
        faulthandler.dump_traceback(self._file, all_threads=True)
        print(f"rank {self._rank.rank} stands still:\n{self._stacks.read_text()}", file=sys.stderr, flush=True)
        sentence = self._verdict()
        if self._rank.folder is not None:
            record_failure(self._rank.folder, self._rank.rank, RankHung(sentence))
        self._leave(EXIT_HUNG)

    def _verdict(self) -> str:
        """Who hangs, in a sentence: rank 0's, unless it cannot tell; then that of the first who waited long enough."""
        path = self._folder / "verdict.json"
        if self._rank.rank == 0:
            time.sleep(min(2 * self._interval, VERDICT_WAIT_S / 2))  # the others' next heartbeats
        else:
            _wait_for(path, VERDICT_WAIT_S)
        beats = [read_beat(self._folder, rank) for rank in range(self._rank.world_size)]
        sentence = describe_hang(beats, self._timeout_s, time.time() - max(4 * self._interval, VERDICT_WAIT_S))
        if publish_new(path, json.dumps(sentence).encode()):
            self._rank.channel.text("training", f"{sentence} Stacks: {self._folder}", self._step)
        told: str = json.loads(path.read_text(encoding="utf-8"))
        return told


def describe_hang(beats: Sequence[Beat | None], timeout_s: float, silent_before: float) -> str:
    """Names the ranks that hang.

    Args:
        beats: The last heartbeat of each rank; None where there is none.
        timeout_s: How long nothing ended.
        silent_before: A heartbeat older than this is of a process that does not even beat.
    """
    silent = [rank for rank, beat in enumerate(beats) if beat is None or beat.time < silent_before]
    living = [beat for beat in beats if beat is not None]
    fewest = min(((beat.passed, beat.within) for beat in living), default=(0, 0))
    behind = [beat for beat in living if (beat.passed, beat.within) == fewest]
    if silent:
        who = f"{_named(silent)} gave no sign of life"
    elif len(behind) == len(beats) and len(beats) > 1:
        who = f"all ranks were {behind[0].place} in step {behind[0].step + 1}"
    else:
        who = f"{_named([beat.rank for beat in behind])} was {behind[0].place} in step {behind[0].step + 1}"
    return f"No step ended within training.hang_timeout_s={timeout_s:g}: {who}."


def read_beat(folder: Path, rank: int) -> Beat | None:
    """The last heartbeat of a rank; None if there is none, or it was cut off by a machine that went down."""
    try:
        return Beat(**json.loads(_path(folder, rank).read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError, TypeError):
        return None


def _named(ranks: Sequence[int]) -> str:
    return f"rank{'s' if len(ranks) > 1 else ''} {', '.join(map(str, ranks))}"


def _path(folder: Path, rank: int) -> Path:
    return folder / f"rank-{rank}.json"


def _wait_for(path: Path, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.1)
