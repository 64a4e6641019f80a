"""Who may publish the artifact of a key: a lease with an epoch, and one decision that ends each epoch.

All of it are files beside each other, so that one listing of a key's folder tells everything:

    <epoch>.lease    who holds the epoch; created by exactly one process
    <epoch>.beat     a counter that the holder raises while it lives
    <epoch>.json     how the epoch ended, created by exactly one process: the manifest of a commit, or that it was
                     released (its holder gave up) or fenced (another one took over)

An epoch without a decision is held. The decision is what makes a take-over safe: whoever takes over first creates the
fence of the old epoch, and the old holder's commit is the creation of that very file. So a process that was stopped,
lost its lease and is woken later finds the name taken and cannot publish, however late it comes and whatever it
checked before. This is the fencing token of distributed locks, honoured by the store itself through nothing but
exclusive creation.

Whether a holder is dead is judged by the reader's own clock: no change of the beat for a whole lease time. Clocks of
several machines are never compared. Where the reader shares the holder's machine it need not wait: a process that is
gone is gone. A lease is held by the process that writes, not by the driver.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Literal, TypeAlias

from components.errors import HeadwaterError, MachineError
from pipelines.engine.root import Root

Ending: TypeAlias = Literal["released", "fenced", "collected"]
BEATS_PER_LEASE = 3
DEFAULT_LEASE_S = 45.0


class LeaseLost(HeadwaterError):  # noqa: N818  (a state, not a fault)
    """Another process took the key over; what was written here is not published."""


@dataclass(frozen=True)
class Holder:
    """A process that holds leases.

    Attributes:
        host: Name of its machine.
        machine: Tells its machine, boot and process namespace from others; empty where that is unknown.
        pid: Its process id there.
        born: Start time of the process in clock ticks since boot, which tells it from a later one of the same id.
        run: The run it works for.
        token: Unique to one lease.
    """

    host: str
    machine: str
    pid: int
    born: int
    run: str
    token: str

    @staticmethod
    def here(run: str, token: str = "") -> Holder:
        """This process, with a new token if none is given."""
        pid = os.getpid()
        return Holder(socket.gethostname(), _machine(), pid, _born(pid) or 0, run, token or uuid.uuid4().hex)

    @property
    def is_gone(self) -> bool:
        """True if the process is known to have ended: it was on this machine, and is not there any more."""
        if self.machine == "" or self.machine != _machine():
            return False
        born = _born(self.pid)
        return not _runs(self.pid) if born is None else born != self.born


@dataclass(frozen=True)
class Seen:
    """The newest epoch of a key, as a listing shows it.

    Attributes:
        epoch: Its number; 0 if there was never one.
        held: It has no decision yet.
        holder: Who holds it, where it is held.
        beat: The holder's counter; None before the first.
    """

    epoch: int
    held: bool = False
    holder: Holder | None = None
    beat: bytes | None = None

    def is_held_by(self, token: str) -> bool:
        """Tells whether the attempt of a token holds it."""
        return self.held and self.holder is not None and self.holder.token == token


class Lease:
    """An epoch held by this process; made by `acquire`.

    Attributes:
        epoch: Its number, from 1; larger than that of every earlier holder.
    """

    def __init__(self, root: Root, place: str, epoch: int, holder: Holder, lease_s: float) -> None:
        self.place, self.epoch = place, epoch
        self._root, self._holder, self._period_s = root, holder, lease_s / BEATS_PER_LEASE
        self._over, self._lost = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None
        self._count = 0

    @property
    def is_lost(self) -> bool:
        """True once the holder knows that another process took over."""
        return self._lost.is_set()

    def start_beating(self, on_lost: Callable[[], None]) -> None:
        """Raises the counter from now on, in a thread; calls `on_lost` once if the lease is lost meanwhile."""
        self._thread = threading.Thread(target=self._keep_beating, args=(on_lost,), name="lease", daemon=True)
        self._thread.start()

    def beat(self) -> bool:
        """Raises the counter once. False if the epoch is over: then nothing is written."""
        if self._root.read(decision(self.place, self.epoch)) is not None:
            return False
        self._count += 1
        self._root.put(f"{self.place}/{self.epoch:06d}.beat", str(self._count).encode())
        return True

    def decide(self, record: bytes) -> None:
        """Ends the epoch with a record, such as the manifest of a commit.

        Raises:
            LeaseLost: If another process ended it before.
        """
        self._over.set()
        mine = self._root.create(decision(self.place, self.epoch), record)
        self._tidy()
        if not mine:
            raise self._loss()

    def check(self) -> None:
        """Looks whether the lease is still held.

        Raises:
            LeaseLost: If it is not; going on would be work for nothing.
        """
        if self.is_lost or self._root.read(decision(self.place, self.epoch)) is not None:
            raise self._loss()

    def release(self, why: str) -> None:
        """Ends the epoch with nothing published; it may have been ended by others already."""
        self._over.set()
        self._root.create(decision(self.place, self.epoch), ending("released", why, self._holder))
        self._tidy()

    def _loss(self) -> LeaseLost:
        self._lost.set()
        return LeaseLost(
            f"The lease of {self.place} was lost to another process while this one was working.",
            f"epoch {self.epoch}",
            "nothing: the other process builds the artifact, and this run shares it",
        )

    def _tidy(self) -> None:
        """The decision alone says it all; a beat that comes late or is left by a crash is harmless."""
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(self._period_s)
        self._root.remove(f"{self.place}/{self.epoch:06d}.beat")

    def _keep_beating(self, on_lost: Callable[[], None]) -> None:
        while not self._over.wait(self._period_s):
            try:
                held = self.beat()
            except (OSError, MachineError) as error:  # out of reach: a missed beat, which a lease is there to bear
                print(f"lease of {self.place}: a beat failed: {error}", flush=True)
                continue
            if not held:
                if not self._over.is_set():
                    self._lost.set()
                    on_lost()
                return


def acquire(
    root: Root,
    place: str,
    run: str,
    lease_s: float = DEFAULT_LEASE_S,
    stale_epoch: int | None = None,
    token: str = "",
) -> Lease | Seen:
    """Takes the lease of a key if it is free; never waits.

    Whoever gets it looks for the artifact once more before building: it may have been committed a moment ago, even by
    the holder that was just found dead.

    Args:
        root: The store's root.
        place: Folder of the key.
        run: The run that wants it.
        lease_s: Time without a heartbeat after which others may take over.
        stale_epoch: An epoch that a `Watch` found stale: it is taken over if it is still the newest.
        token: Unique to the attempt; made up if empty.

    Returns:
        The lease; or who holds it, if somebody does or was faster.
    """
    seen = look(root, place)
    holder = Holder.here(run, token)
    if seen.held:
        dead = seen.epoch == stale_epoch or (seen.holder is not None and seen.holder.is_gone)
        if not dead:
            return seen
        root.create(decision(place, seen.epoch), ending("fenced", "its holder gave no sign of life", holder))
    epoch = seen.epoch + 1
    if not root.create(f"{place}/{epoch:06d}.lease", json.dumps(asdict(holder)).encode()):
        return look(root, place)
    if root.read(decision(place, epoch)) is not None:  # the listing was old: that epoch is over
        return look(root, place)
    return Lease(root, place, epoch, holder, lease_s)


def look(root: Root, place: str) -> Seen:
    """The newest epoch of a key."""
    names = root.children(place)
    epoch = max((int(name[:6]) for name in names if name[:6].isdecimal()), default=0)
    if epoch == 0 or f"{epoch:06d}.json" in names:
        return Seen(epoch)
    return Seen(epoch, True, holder_of(root, place, epoch), root.read(f"{place}/{epoch:06d}.beat"))


def holder_of(root: Root, place: str, epoch: int) -> Holder | None:
    """Who holds an epoch, or held it; None if the record is damaged, and only time can tell whether it is alive."""
    try:
        return Holder(**json.loads(root.read(f"{place}/{epoch:06d}.lease") or b""))
    except (ValueError, TypeError):
        return None


def decision(place: str, epoch: int) -> str:
    """Name of the file that ends an epoch."""
    return f"{place}/{epoch:06d}.json"


def ending(kind: Ending, why: str, by: Holder) -> bytes:
    """The record of an epoch that published nothing, or whose files were collected."""
    record = {"kind": kind, "why": why, "by": asdict(by), "time": round(time.time(), 3)}
    return json.dumps(record, sort_keys=True).encode()


class Watch:
    """Finds holders that are dead, by the reader's own clock.

    Args:
        lease_s: Time without a change after which a holder counts as dead.
        clock: Seconds since some moment.
    """

    def __init__(self, lease_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._lease_s, self._clock = lease_s, clock
        self._since: dict[str, tuple[Seen, float]] = {}

    def is_stale(self, place: str, seen: Seen) -> bool:
        """Tells whether a held epoch may be taken over; asked again and again, it remembers what it saw.

        Args:
            place: Folder of the key.
            seen: What `look` found there just now.
        """
        if seen.holder is not None and seen.holder.is_gone:
            return True
        before = self._since.get(place)
        if before is None or before[0] != seen:
            self._since[place] = (seen, self._clock())
            return False
        return self._clock() - before[1] >= self._lease_s


@cache
def _machine() -> str:
    """Boot and process namespace: within both, process ids mean the same to all. Empty where /proc has neither."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}:{os.stat('/proc/self/ns/pid').st_ino}"
    except OSError:
        return ""


def _born(pid: int) -> int | None:
    """Start time of a process; 0 if it has ended and is a zombie, None if /proc does not show it."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return 0 if fields[0] == "Z" else int(fields[19])


def _runs(pid: int) -> bool:
    """Asks the kernel: /proc may hide the processes of other users."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
