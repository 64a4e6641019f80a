"""Kills, or fails, what a process does to a store at its first, second, third ... operation, until it survives.

A program: `fault_help.py SCENARIO FAULT URL WORKSPACE`. For every n it forks a child that does the scenario and meets
the fault at its n-th operation, then looks at the store as a reader and as the next run. Operations are what changes
a store: opening for writing, each half of a write, flush, link, rename, mkdir, unlink, rmdir, seen by Python's audit
hook; and for S3 each request that changes something, before it is sent and after it was answered. Every child gets a
store of its own, made ready by the parent.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import signal
import sys
import traceback
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import toy_steps
from commit_help import DRAFT, FILES, KEY, built, held, write

from components.errors import MachineError
from pipelines.engine.adopt import adopt
from pipelines.engine.gc import Roots, apply, sweep
from pipelines.engine.identity import digest_of_files
from pipelines.engine.lease import Lease
from pipelines.engine.manifest import Manifest, Origin
from pipelines.engine.pins import pin
from pipelines.engine.plan import PlanEntry, make_plan
from pipelines.engine.root import writing
from pipelines.engine.step import Recipe
from pipelines.engine.store import Store, place_of

FILE_EVENTS = {"os.link", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.truncate"}
FREEING = {"os.remove", "os.rmdir"}
REQUESTS = {"put_object", "delete_object", "delete_objects", "create_multipart_upload", "upload_part"}
MOST = 400
OLD = {"old.txt": "old"}
ALIAS = replace(DRAFT, key="a" * 64, content_key="b" * 64)
MORE = replace(DRAFT, key="d" * 64, content_key="e" * 64)


@dataclass
class Fault:
    """Meets the n-th operation: "kill", "full" (no space) or "read-only"."""

    kind: str
    at: int
    seen: int = 0
    armed: bool = False

    def point(self, event: str) -> None:
        if not self.armed:
            return
        if self.kind == "full" and event in FREEING:
            return
        self.seen += 1
        if self.kind == "kill" and self.seen == self.at:
            os.kill(os.getpid(), signal.SIGKILL)
        if self.kind == "full" and self.seen >= self.at:  # a disk stays full
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), event)
        if self.kind == "read-only" and self.seen >= self.at:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), event)

    def audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        writes = os.O_WRONLY | os.O_RDWR | os.O_CREAT
        if event in FILE_EVENTS or (event == "open" and isinstance(arguments[2], int) and arguments[2] & writes):
            self.point(event)


def arm(fault: Fault, is_local: bool) -> None:
    """Puts the fault into this process for good."""
    if is_local:
        sys.addaudithook(fault.audit)
        fsync = os.fsync

        def flush(descriptor: int) -> None:
            fault.point("fsync")
            fsync(descriptor)
            fault.point("fsynced")

        def write_in_halves(path: Path, content: bytes) -> int:
            with path.open("wb", buffering=0) as file:
                file.write(content[: len(content) // 2])
                fault.point("write")
                file.write(content[len(content) // 2 :])
            fault.point("written")
            return len(content)

        os.fsync, Path.write_bytes = flush, write_in_halves  # type: ignore[assignment]
    else:
        import s3fs

        call = s3fs.S3FileSystem._call_s3

        async def request(self: Any, method: Any, *arguments: Any, **named: Any) -> Any:
            name = method if isinstance(method, str) else method.__name__
            if name in REQUESTS:
                fault.point(name)
            answer = await call(self, method, *arguments, **named)
            if name in REQUESTS:
                fault.point(name)
            return answer

        s3fs.S3FileSystem._call_s3 = request
    fault.armed = True


def commit(store: Store) -> None:
    lease = held(store)
    try:
        attempt = store.begin(lease)
        with writing(attempt):
            write(attempt)
        store.commit(lease, attempt, DRAFT)
    except MachineError:
        store.discard(lease, store._attempt(lease), "it failed")
        raise


def alias(store: Store) -> None:
    source = store.lookup("clean", KEY).manifest
    assert source is not None
    store.alias(held(store, ALIAS), ALIAS, source, Origin("equal", "clean", KEY, source.epoch))


def discard(store: Store) -> None:
    lease = held(store)
    attempt = store.begin(lease)
    with writing(attempt):
        write(attempt)
    store.discard(lease, attempt, "it failed")


def nothing(_: Store) -> None:
    """An empty store."""


def old(store: Store) -> None:
    built(store, files=OLD)


def source(store: Store) -> None:
    built(store)


def garbage(store: Store) -> None:
    """One artifact that is kept, two that are not, and what a dead attempt left."""
    built(store)
    pin(store, store.lookup("clean", KEY).manifest or DRAFT, "paper", "")
    for draft in (ALIAS, MORE):
        built(store, draft)
    lease = held(store)
    store.begin(lease)
    store.root.put(f"{lease.place}/{lease.epoch:06d}/half.txt", b"half")
    lease.release("it failed")


def collect(store: Store) -> None:
    apply(store, sweep(store, Roots()), lambda: nullcontext(True))


def planned(store: Store) -> None:
    """A step that has no artifact, and files for it."""
    recipe = Recipe("toy")
    recipe.step(toy_steps.source, toy_steps.ToyConfig(), name="source")
    ENTRIES["source"] = make_plan(recipe.steps, store)["source"]
    write(store.workspace / "mine")


def adopt_files(store: Store) -> None:
    adopt(ENTRIES["source"], store, store.workspace / "mine", "me", "made by hand")


def check(store: Store, ready: str, draft: Manifest, killed: bool) -> None:
    """What a reader sees now, and what the next run makes."""
    check_reader(store, draft, {digest(FILES)} | ({digest(OLD)} if ready == "old" else set()), ready == "old")
    lease = store.acquire("clean", draft.key, "run-2")
    if not killed and not isinstance(lease, Lease):  # its holder could not even say that it gave up
        lease = store.acquire("clean", draft.key, "run-2", stale_epoch=lease.epoch)
    assert isinstance(lease, Lease), f"the key is still locked: {lease}"
    attempt = store.begin(lease)
    write(attempt)
    store.commit(lease, attempt, draft)
    check_again(store, draft)


def check_adopted(store: Store, ready: str, draft: Manifest, killed: bool) -> None:
    entry = ENTRIES["source"]
    draft = replace(draft, step="source", key=entry.key)
    check_reader(store, draft, {digest(FILES)}, False)
    adopt_files(store)
    check_again(store, draft)


def check_collected(store: Store, ready: str, draft: Manifest, killed: bool) -> None:
    kept = store.lookup("clean", KEY).manifest
    assert kept is not None, "a pinned artifact is gone"
    assert store.damaged(kept) == []
    for other in (ALIAS, MORE):
        found = store.lookup("clean", other.key)
        if found.manifest is None:
            assert found.problem.startswith("artifact was deleted: gc "), found.problem
        else:
            assert store.damaged(found.manifest) == []
    collect(store)
    assert sweep(store, Roots()).delete == (), "a second collection leaves something"
    assert store.damaged(kept) == []
    for other in (ALIAS, MORE):
        folders = [name for name in store.root.children(place_of("clean", other.key)) if name.isdecimal()]
        assert folders == []
        built(store, other)
        check_again(store, other)


def check_reader(store: Store, draft: Manifest, contents: set[str], was_there: bool) -> None:
    found = store.lookup(draft.step, draft.key)
    if found.manifest is not None:
        assert found.manifest.content in contents, "an artifact that nobody made"
        assert store.damaged(found.manifest) == []
    else:
        assert not was_there, "the artifact that was there before is gone"
        assert found.problem == "", found.problem
    for manifest in store.manifests():
        assert store.missing(manifest) == ""
        assert store.damaged(manifest) == []


def check_again(store: Store, draft: Manifest) -> None:
    """The run after the fault has made the same bytes, and cleaned up."""
    again = store.lookup(draft.step, draft.key)
    assert again.manifest is not None
    assert again.manifest.content == digest(FILES), "other bytes than before"
    assert store.damaged(again.manifest) == []
    epochs = {f"{manifest.epoch:06d}" for manifest in store.manifests(draft.step) if manifest.key == draft.key}
    folders = {name for name in store.root.children(place_of(draft.step, draft.key)) if name.isdecimal()}
    assert folders <= epochs, f"files of dead attempts stay: {folders - epochs}"
    assert not store.look(draft.step, draft.key).held


@dataclass(frozen=True)
class Scenario:
    """What is there before, what is done, and what must hold after any fault in it."""

    prepare: Callable[[Store], None]
    act: Callable[[Store], None]
    draft: Manifest
    check: Callable[[Store, str, Manifest, bool], None] = check


ENTRIES: dict[str, PlanEntry] = {}
SCENARIOS = {
    "commit": Scenario(nothing, commit, DRAFT),
    "rebuild": Scenario(old, commit, DRAFT),
    "discard": Scenario(old, discard, DRAFT),
    "alias": Scenario(source, alias, ALIAS),
    "adopt": Scenario(planned, adopt_files, DRAFT, check_adopted),
    "gc": Scenario(garbage, collect, DRAFT, check_collected),
}


def digest(files: dict[str, str]) -> str:
    return digest_of_files({name: hashlib.sha256(text.encode()).hexdigest() for name, text in files.items()})


def attempt_at(n: int, kind: str, url: str, workspace: str, act: Callable[[Store], None]) -> str:
    """Does the scenario in a child that meets the fault at its n-th operation: "survived", "killed" or "told"."""
    child = os.fork()
    if child == 0:
        store = Store(url, workspace)
        arm(Fault(kind, n), store.is_local)
        try:
            act(store)
            os._exit(0)
        except MachineError as error:
            words = {"full": "The disk is full.", "read-only": "The store cannot be written"}
            os._exit(3 if kind in words and words[kind] in str(error) else 4)
        except BaseException:
            traceback.print_exc()
            os._exit(5)
    status = os.waitpid(child, 0)[1]
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return "killed"
    code = os.WEXITSTATUS(status)
    assert code in (0, 3), f"operation {n}: exit {code}"
    return "survived" if code == 0 else "told"


def main(scenario: str, kind: str, url: str, workspace: str) -> None:
    chosen = SCENARIOS[scenario]
    for n in range(1, MOST):
        here, space = f"{url}/{n}", f"{workspace}/{n}"
        store = Store(here, space)
        chosen.prepare(store)
        how = attempt_at(n, kind, here, space, chosen.act)
        chosen.check(Store(here, space), chosen.prepare.__name__, chosen.draft, how == "killed")
        if store.is_local:
            shutil.rmtree(here)
        if how == "survived":
            print(n - 1)
            return
    raise AssertionError(f"still not over after {MOST} operations")


if __name__ == "__main__":
    main(*sys.argv[1:])
