"""The uploader: a small process beside the driver that follows the run folder and keeps MLflow equal to it.

A process and not a thread, for three reasons. Importing MLflow takes two seconds of Python that would stall the driver
it shares a lock with; here it runs on another core while Ray starts. A server that hangs, or a client library that
crashes, cannot touch the run. And when the driver is killed without a word, somebody is left to notice: the pipe from
the driver ends, the driver's lock is free, and the run is closed in MLflow as KILLED within seconds. Should the
uploader itself be killed, the driver starts another one, which goes on from where MLflow stands.

The step's processes know nothing of this: they append to their journals. If MLflow is down the uploader tries again
with growing pauses, for as long as the run goes and `linger_s` after it; what is still missing then is sent by the next
`headwater status` or `replay`. All that goes wrong is in `<run>/tracking.log`; nothing is ever raised into the run.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from components.errors import MachineError
from components.publish import publish_json, read_json
from pipelines.engine.events import fold
from pipelines.engine.lock import try_lock
from pipelines.tracking.client import connect
from pipelines.tracking.config import TrackingConfig
from pipelines.tracking.convert import masked
from pipelines.tracking.mirror import PROGRESS_FILE, Mirror, last_sign

LOCK = "tracking.lock"
LOG = "tracking.log"
POLL_S = 1.0
SHORTEST_FLUSH_S = 1.0
LONGEST_PAUSE_S = 30.0
RESTARTS = 3
"""Uploaders started after one that died; a machine that kills each of them needs no fourth."""

QUIET_S = 2.0
"""A run whose driver was killed has ended once its steps have written nothing for so long."""

ORPHANS_S = 10.0
"""Longest wait for that."""

NICENESS = 5
PACKAGE_ROOT = Path(__file__).resolve().parents[2]


@contextmanager
def tracked(run_folder: Path, config: TrackingConfig, store: Path) -> Iterator[None]:
    """Tracks a run while the block drives it.

    At the end it waits for the last upload, at most `flush_s` and at most as long as the block itself took (a run that
    found everything cached is over at once); what takes longer goes on in the background.

    Args:
        run_folder: Folder of the run, with its records written.
        config: Where to track.
        store: Root folder of the store.
    """
    if not config.enabled:
        yield
        return
    try:
        _mark_incomplete(run_folder)
        keeper = _Keeper(run_folder, config, store)
    except OSError as error:
        print(f"headwater: this run is not tracked: {error}. `headwater status` sends it later", file=sys.stderr)
        yield
        return
    began = time.monotonic()
    try:
        yield
    finally:
        uploader = keeper.end()
        _wait(uploader, config.flush_s, time.monotonic() - began, run_folder / LOG)


def _mark_incomplete(run_folder: Path) -> None:
    """Says that MLflow lacks something of the run; how far an earlier session's journals were sent is kept."""
    progress: dict[str, object] = {"parent": None, "offsets": {}}
    if (run_folder / PROGRESS_FILE).exists():
        progress = read_json(run_folder / PROGRESS_FILE)
    publish_json(run_folder / PROGRESS_FILE, {**progress, "complete": False})


class _Keeper:
    """Keeps an uploader going while the driver drives: one that was killed is replaced within a second.

    Raises:
        OSError: If no process can be started.
    """

    def __init__(self, run_folder: Path, config: TrackingConfig, store: Path) -> None:
        self._order = (run_folder, config, store)
        self._uploader = start_uploader(*self._order)
        self._starts_left = RESTARTS
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="tracking keeper", daemon=True)
        self._thread.start()

    def end(self) -> subprocess.Popen[bytes]:
        """Tells the uploader that the run is over and returns it."""
        self._over.set()
        self._thread.join()
        self._replace_if_dead()
        release(self._uploader)
        return self._uploader

    def _watch(self) -> None:
        while not self._over.wait(POLL_S):
            self._replace_if_dead()

    def _replace_if_dead(self) -> None:
        if self._uploader.poll() in (None, 0) or self._starts_left == 0:
            return
        self._starts_left -= 1
        release(self._uploader)
        try:
            self._uploader = start_uploader(*self._order)
        except OSError as error:
            self._starts_left = 0
            print(f"headwater: tracking ended: {error}. `headwater status` sends the rest", file=sys.stderr)


def start_uploader(run_folder: Path, config: TrackingConfig, store: Path) -> subprocess.Popen[bytes]:
    """Starts the uploader of a run; it knows that its driver goes on by the open pipe to it.

    It has a session of its own: an interrupt at the terminal is for the driver.
    """
    order = {"run_folder": str(run_folder.resolve()), "store": str(store.resolve()), "config": asdict(config)}
    with (run_folder / LOG).open("ab") as log:
        uploader = subprocess.Popen(
            [sys.executable, "-m", "pipelines.tracking.mlflow_sink"],
            cwd=PACKAGE_ROOT,
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    assert uploader.stdin is not None
    uploader.stdin.write(json.dumps(order).encode() + b"\n")
    uploader.stdin.flush()
    return uploader


def release(uploader: subprocess.Popen[bytes]) -> None:
    """Tells an uploader that the run is over; it sends the rest and ends."""
    assert uploader.stdin is not None
    uploader.stdin.close()


def _wait(uploader: subprocess.Popen[bytes], flush_s: float, run_s: float, log: Path) -> None:
    try:
        code = uploader.wait(min(flush_s, max(run_s, SHORTEST_FLUSH_S)))
    except subprocess.TimeoutExpired:
        if run_s >= flush_s:
            print(f"headwater: tracking goes on in the background, see {log}", file=sys.stderr)
        return
    if code != 0:
        print(f"headwater: tracking is not complete, see {log}; `headwater status` tries again", file=sys.stderr)


def replay(run_folder: Path, config: TrackingConfig, store: Path) -> None:
    """Sends what MLflow lacks of a run, now and in this process. Sending twice changes nothing.

    Raises:
        MachineError: If another process is at it, or MLflow cannot be reached.
    """
    with try_lock(run_folder / LOCK) as mine:
        if not mine:
            raise MachineError(f"run {run_folder.name} is being uploaded.", str(run_folder / LOG), "wait for it to end")
        try:
            _mirror(run_folder, config, store).update(over=True)
        except Exception as error:
            raise MachineError(
                f"run {run_folder.name} could not be sent to MLflow: {masked(str(error))}",
                "tracking.uri",
                "start the server, or unset tracking.uri for the embedded one",
            ) from error


def follow(run_folder: Path, config: TrackingConfig, store: Path, over: threading.Event) -> bool:
    """Keeps MLflow equal to a run folder until the run is over and everything is sent; the caller holds its lock.

    Args:
        run_folder: Folder of the run.
        config: Where to track.
        store: Root folder of the store.
        over: Set once the driver is gone.

    Returns:
        False if it gave up `linger_s` after the end, with something unsent.
    """
    _mark_incomplete(run_folder)  # again, for the uploader before may have been closing an earlier session
    mirror: Mirror | None = None
    failures, deadline = 0, float("inf")
    while True:
        ending = over.is_set()
        if ending and deadline == float("inf"):
            deadline = time.monotonic() + config.linger_s
        try:
            if ending:
                _wait_for_orphans(run_folder)
            mirror = mirror or _mirror(run_folder, config, store)
            if mirror.update(ending):
                return True
            failures = 0
        except Exception:  # whatever MLflow does, the run goes on: it is written down here and tried again
            mirror = None
            failures += 1
            _say(f"failure {failures}, trying again:\n{traceback.format_exc()}")
        if ending and failures == 0:
            _say("the run is driven by another process, which tracks it")
            return True
        if time.monotonic() >= deadline:
            _say("giving up for now; headwater status sends the rest")
            return False
        pause = POLL_S if failures == 0 else min(2.0**failures * POLL_S / 2, LONGEST_PAUSE_S)
        if ending:
            time.sleep(min(pause, max(0.0, deadline - time.monotonic())))
        else:
            over.wait(pause)


def _wait_for_orphans(run_folder: Path) -> None:
    """Lets the steps of a driver that was killed write their last lines; they outlive it by a moment."""
    deadline = time.monotonic() + ORPHANS_S
    while fold(run_folder).state == "interrupted" and time.time() - last_sign(run_folder) < QUIET_S:
        if time.monotonic() >= deadline:
            return
        time.sleep(POLL_S / 4)


def main() -> int:
    """The uploader process: its order is one line of standard input, whose end is the end of the driver."""
    os.nice(NICENESS)
    order = json.loads(sys.stdin.readline())
    over = threading.Event()
    threading.Thread(target=_watch_driver, args=(over,), daemon=True).start()
    run_folder, store = Path(order["run_folder"]), Path(order["store"])
    config = TrackingConfig(**order["config"])
    while True:
        with try_lock(run_folder / LOCK) as mine:
            if mine:
                return 0 if follow(run_folder, config, store, over) else 1
        if over.wait(POLL_S):
            _say("another uploader is at it")
            return 0


def _watch_driver(over: threading.Event) -> None:
    sys.stdin.read()
    over.set()


def _mirror(run_folder: Path, config: TrackingConfig, store: Path) -> Mirror:
    client, experiment_id = connect(config, store)
    return Mirror(client, experiment_id, run_folder, store, _say)


def _say(text: str) -> None:
    stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime())
    print(f"{stamp} {masked(text)}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
