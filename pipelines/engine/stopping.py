"""How a run is asked to stop, and how that reaches the steps.

A signal only sets an event; a thread writes the `stop` file of every running step, also of those that start a moment
later. The steps save what they have and end as preempted. A second signal interrupts the waiting itself. SIGTERM has a
meaning of its own on a cluster that outlives the driver: detached steps are asked to save, and are left to go on.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


def request_stop(stop: threading.Event) -> None:
    """Asks for a stop, as a first signal does; asks to hurry if that was done before.

    Raises:
        KeyboardInterrupt: If a stop was already asked for.
    """
    if stop.is_set():
        raise KeyboardInterrupt
    stop.set()


@contextmanager
def signals_set(stop: threading.Event, leave: threading.Event | None = None) -> Iterator[None]:
    """Lets SIGINT and SIGTERM ask for a stop during the block; outside the main thread it changes nothing.

    Enter it after `ray.init`, which installs handlers of its own.

    Args:
        stop: Set by the signals.
        leave: Set by SIGTERM in its place, where given.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(number: int, frame: FrameType | None) -> None:
        if number == signal.SIGTERM and leave is not None and not leave.is_set():
            leave.set()
        else:
            request_stop(stop)

    before = {number: signal.signal(number, handle) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def stop_files(stop: threading.Event, folders: Callable[[], Iterable[Path]]) -> Iterator[None]:
    """During the block, writes `stop` into the folders of running steps once the event is set.

    Args:
        stop: The event.
        folders: Channel folders of the steps that run at the time of the call.
    """
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.1):
            if stop.is_set():
                for folder in folders():
                    folder.mkdir(parents=True, exist_ok=True)
                    (folder / "stop").touch()

    thread = threading.Thread(target=watch, name="stop-files", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
