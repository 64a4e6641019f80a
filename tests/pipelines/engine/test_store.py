"""An artifact is visible whole or not at all, and exactly once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.errors import ConfigError, MachineError, StepError
from pipelines.engine.manifest import FileRecord, InputRecord, Manifest
from pipelines.engine.store import Store, Work

KEY = "0123456789abcdef" * 4
WORK = Work(
    step="clean",
    key=KEY,
    version=1,
    inputs={"pages": InputRecord("extract", "ff" * 32)},
    identity={"min_chars": 100},
    config={"min_chars": 100, "workers": 2},
    code_digest="cc" * 32,
    code_files={"components/clean/step.py": "aa"},
    code_policy="rerun",
    run="amber-1",
    started=1.0,
    seconds=2.0,
    metrics={"kept": 3.0},
)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def built(store: Store, text: str = "hello", work: Work = WORK) -> Path:
    attempt = store.begin(work.step, work.key)
    (attempt / "deep").mkdir()
    (attempt / "deep" / "a.txt").write_text(text)
    (attempt / "empty.txt").touch()
    found = store.commit(attempt, work)
    assert found.path is not None
    return found.path


def test_nothing_is_found_before_the_commit(store: Store):
    attempt = store.begin("clean", KEY)
    (attempt / "a.txt").write_text("a")
    assert store.lookup("clean", KEY).manifest is None
    assert store.newest("clean") is None


def test_a_commit_is_found_with_its_files_and_what_made_it(store: Store):
    path = built(store)
    found = store.lookup("clean", KEY)
    assert found.path == path
    assert found.manifest is not None
    assert {name: file.bytes for name, file in found.manifest.files.items()} == {"deep/a.txt": 5, "empty.txt": 0}
    assert found.manifest.inputs == WORK.inputs
    assert found.manifest.metrics == {"kept": 3.0}
    assert found.manifest.num_bytes == 5


def test_scratch_goes_with_the_commit_and_not_before(store: Store):
    (store.scratch("clean", KEY) / "checkpoint").touch()
    assert store.has_scratch("clean", KEY)
    built(store)
    assert not store.has_scratch("clean", KEY)


@pytest.mark.parametrize("damage", ["gone", "shorter", "folder gone"])
def test_a_hit_needs_the_bytes(store: Store, damage: str):
    path = built(store)
    if damage == "folder gone":
        (path / "deep" / "a.txt").unlink()
        (path / "deep").rmdir()
    elif damage == "gone":
        (path / "deep" / "a.txt").unlink()
    else:
        (path / "deep" / "a.txt").write_text("hell")
    found = store.lookup("clean", KEY)
    assert found.manifest is None
    assert found.problem == "artifact files are missing (deep/a.txt)"


def test_an_empty_artifact_is_missed_when_its_folder_is_gone(store: Store):
    attempt = store.begin("clean", KEY)
    store.commit(attempt, WORK)
    attempt.rmdir()
    assert store.lookup("clean", KEY).problem == "artifact files are missing"


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"{}", b'{"schema": 1}', b'{"schema": 99}', b"\xff"])
def test_a_damaged_manifest_is_a_miss_that_a_new_commit_heals(store: Store, text: bytes):
    path = built(store)
    (path.parent / "COMMIT.json").write_bytes(text)
    assert store.lookup("clean", KEY).problem == "artifact manifest is damaged"
    built(store, "again")
    assert store.lookup("clean", KEY).manifest is not None


def test_a_new_commit_heals_missing_files(store: Store):
    path = built(store)
    (path / "deep" / "a.txt").unlink()
    healed = built(store, "again")
    assert (healed / "deep" / "a.txt").read_text() == "again"


def test_the_loser_of_a_race_leaves_nothing_and_gets_the_winners_artifact(store: Store):
    winner = store.begin("clean", KEY)
    loser = winner.with_name("2")
    loser.mkdir()
    (winner / "a.txt").write_text("winner")
    (loser / "a.txt").write_text("loser")
    assert store.commit(winner, WORK).path == winner
    assert store.commit(loser, WORK).path == winner
    assert not loser.exists()


def test_of_many_writers_exactly_one_wins(store: Store):
    place = store.begin("clean", KEY).parent
    attempts = [place / str(number) for number in range(1, 9)]
    for attempt in attempts:
        attempt.mkdir(exist_ok=True)
        (attempt / "a.txt").write_text(attempt.name)
    results: list[Path | None] = []
    start = threading.Barrier(len(attempts))

    def write(attempt: Path) -> None:
        start.wait()
        results.append(store.commit(attempt, WORK).path)

    threads = [threading.Thread(target=write, args=(attempt,)) for attempt in attempts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 8
    assert len(set(results)) == 1
    assert [path.name for path in place.iterdir() if path.is_dir()] == [results[0].name if results[0] else ""]


CRASH = """
import os, signal, sys
from pathlib import Path
import components.publish, pipelines.engine.store
from test_store import WORK, KEY
from pipelines.engine.store import Store
store = Store(sys.argv[1])
attempt = store.begin("clean", KEY)
(attempt / "a.txt").write_text("a")
(attempt / "b.txt").write_text("b")
points = {
    "hash": (pipelines.engine.store, "sha256_of", 1),
    "flush": (components.publish, "flush", 0),
    "link": (os, "link", 0),
    "linked": (components.publish, "flush", 1),
    "scratch": (pipelines.engine.store.shutil, "rmtree", 0),
}
module, name, after = points[sys.argv[2]]
real, calls = getattr(module, name), []
def dying(*arguments):
    if len(calls) == after:
        os.kill(os.getpid(), signal.SIGKILL)
    calls.append(1)
    return real(*arguments)
setattr(module, name, dying)
store.commit(attempt, WORK)
"""


@pytest.mark.parametrize(("point", "visible"), [("hash", 0), ("flush", 0), ("link", 0), ("linked", 1), ("scratch", 1)])
def test_a_writer_killed_while_committing_leaves_all_or_nothing(tmp_path: Path, point: str, visible: int):
    path = os.pathsep.join([str(Path(__file__).parent), os.environ["PYTHONPATH"], str(Path.cwd())])
    command = [sys.executable, "-c", CRASH, str(tmp_path / "store"), point]
    crashed = subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, capture_output=True)
    assert crashed.returncode == -signal.SIGKILL, crashed.stderr
    store = Store(tmp_path / "store")
    found = store.lookup("clean", KEY)
    assert (found.manifest is not None) == bool(visible)
    assert found.problem == ""
    if not visible:
        again = built(store)
        assert store.lookup("clean", KEY).path == again
        assert [folder for folder in again.parent.iterdir() if folder.is_dir()] == [again]


def test_the_newest_manifest_of_a_step_is_the_one_committed_last(store: Store):
    first = built(store)
    built(store, work=replace(WORK, key="b" * 64, run="amber-2"))
    os.utime(first.parent / "COMMIT.json", (1, 1))
    newest = store.newest("clean")
    assert newest is not None
    assert newest.run == "amber-2"


def test_a_link_in_the_output_is_refused(store: Store, tmp_path: Path):
    attempt = store.begin("clean", KEY)
    (attempt / "link").symlink_to(tmp_path)
    (attempt / "file").symlink_to(__file__)
    with pytest.raises(StepError, match="left a link in its output"):
        store.commit(attempt, WORK)


def test_an_output_folder_that_vanished_is_never_committed(store: Store):
    attempt = store.begin("clean", KEY)
    attempt.rmdir()
    with pytest.raises(StepError, match="is gone"):
        store.commit(attempt, WORK)


def test_a_new_store_is_readable_by_its_owner_alone(store: Store):
    assert store.root.path.stat().st_mode & 0o777 == 0o700


def test_a_store_of_another_kind_is_refused():
    with pytest.raises(ConfigError, match="of kind s3"):
        Store("s3://bucket/headwater")


def test_a_file_url_is_the_folder(tmp_path: Path):
    assert Store(f"file://{tmp_path}/store").root.path == tmp_path / "store"


def test_a_store_that_cannot_be_made_is_told(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(MachineError, match="cannot be made"):
        Store(tmp_path / "file" / "store")


@given(
    files=st.dictionaries(st.text(min_size=1), st.builds(FileRecord, st.integers(min_value=0), st.text())),
    metrics=st.dictionaries(st.text(), st.floats(allow_nan=False)),
)
def test_a_manifest_reads_back_as_it_was_written(files: dict, metrics: dict):
    manifest = Manifest(
        step="a", key=KEY, version=1, attempt="1", inputs=WORK.inputs, identity={}, config={}, code_digest="",
        code_files={}, code_policy="warn", files=files, content="", metrics=metrics, run="r", versions={}, hardware={},
        started=0.0, seconds=0.0,
    )  # fmt: skip
    assert Manifest.from_bytes(manifest.to_bytes()) == manifest
