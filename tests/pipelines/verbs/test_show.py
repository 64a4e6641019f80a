"""Following a run and a log until the run ends."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pipelines.engine import events
from pipelines.engine.lock import try_lock

from .conftest import Headwater


@contextmanager
def driven(folder: Path, then: Callable[[], None]) -> Iterator[None]:
    """A run that is being driven: something happens in it, and then it ends well."""

    def drive() -> None:
        time.sleep(0.5)
        then()
        time.sleep(0.5)
        events.append(folder, "run_ended", session=2, state="done")

    with try_lock(folder / events.DRIVER_LOCK) as mine:
        assert mine
        events.append(folder, "run_started", session=2)
        thread = threading.Thread(target=drive)
        thread.start()
        yield
        thread.join(timeout=10)


def test_a_log_is_printed(headwater: Headwater) -> None:
    assert headwater("logs", "clean") == "clean ran\n"
    assert json.loads(headwater("logs", "clean", "--run-id", "amber-1", "--json"))["run"] == "amber-1"


def test_a_followed_log_is_printed_as_it_grows_until_the_run_ends(headwater: Headwater, store: Path) -> None:
    folder = store / "runs" / "birch-2"
    log = folder / "steps" / "clean" / "log.txt"

    def grow() -> None:
        with log.open("ab") as file:
            file.write(b"half a l" + "世".encode()[:2])
            file.flush()
            time.sleep(0.4)
            file.write("世".encode()[2:] + b"ine\n")

    with driven(folder, grow):
        assert headwater("logs", "clean", "-f") == "clean ran\nhalf a l世ine\n"


def test_a_log_that_is_not_there_yet_is_waited_for(headwater: Headwater, store: Path) -> None:
    folder = store / "runs" / "birch-2"
    log = folder / "steps" / "crawl" / "log.txt"
    log.parent.mkdir()

    with driven(folder, lambda: log.write_text("crawled\n") and None):
        assert headwater("logs", "crawl", "-f") == "crawled\n"


def test_a_followed_log_of_a_run_that_ended_is_printed_whole(headwater: Headwater) -> None:
    assert headwater("logs", "clean", "-f", "--run-id", "amber-1") == "clean ran\n"


def test_following_has_no_json_form(headwater: Headwater) -> None:
    assert "leave out --json" in headwater("logs", "clean", "-f", "--json", code=2)


def test_a_watched_run_is_shown_until_it_ends(headwater: Headwater, store: Path) -> None:
    folder = store / "runs" / "birch-2"

    def work() -> None:
        events.append(folder, "done", "clean", session=2, attempt=1, seconds=3.0)

    with driven(folder, work):
        out = headwater("status", "-w")
    assert "clean        done     0:03" in out
    assert "run birch-2: done" in out


def test_a_run_whose_driver_is_gone_is_not_watched_for_ever(headwater: Headwater, store: Path) -> None:
    events.append(store / "runs" / "birch-2", "run_started", session=2)
    headwater("status", "--watch", code=3)
