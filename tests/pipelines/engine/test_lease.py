"""At most one holder of a key may publish, whoever is slow, stopped or dead, and whatever the clocks say."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from pipelines.engine.lease import Holder, Lease, LeaseLost, Seen, Watch, acquire, decision, look
from pipelines.engine.root import Folder, open_root

PLACE = "artifacts/clean/0123456789abcdef"
LEASE_S = 10.0


@pytest.fixture
def root(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def taken(root: Folder, stale_epoch: int | None = None, lease_s: float = LEASE_S) -> Lease:
    lease = acquire(root, PLACE, "amber-1", lease_s, stale_epoch)
    assert isinstance(lease, Lease)
    return lease


def test_a_held_key_is_refused_and_its_holder_named(root: Folder):
    taken(root)
    seen = acquire(root, PLACE, "amber-2")
    assert isinstance(seen, Seen)
    assert seen.holder is not None
    assert (seen.epoch, seen.held, seen.holder.pid, seen.holder.run) == (1, True, os.getpid(), "amber-1")


def test_a_released_key_is_free_with_the_next_epoch(root: Folder):
    taken(root).release("it failed")
    assert look(root, PLACE) == Seen(1)
    assert taken(root).epoch == 2


def test_what_an_epoch_ended_with_stays(root: Folder):
    lease = taken(root)
    lease.decide(b'{"kind": "commit"}')
    with pytest.raises(LeaseLost, match=f"The lease of {PLACE} was lost"):
        lease.decide(b'{"kind": "commit", "again": true}')
    assert root.read(decision(PLACE, 1)) == b'{"kind": "commit"}'


def test_a_stale_epoch_that_is_not_the_newest_is_not_taken_over(root: Folder):
    taken(root).release("done")
    taken(root)
    assert isinstance(acquire(root, PLACE, "amber-2", stale_epoch=1), Seen)


def test_the_holder_is_told_when_another_took_over(root: Folder):
    lost: list[bool] = []
    lease = taken(root, lease_s=0.06)
    lease.start_beating(lambda: lost.append(lease.is_lost))
    taken(root, stale_epoch=1)
    deadline = time.monotonic() + 10
    while not lost and time.monotonic() < deadline:
        time.sleep(0.01)
    assert lost == [True]
    with pytest.raises(LeaseLost):
        lease.check()


def test_the_holder_is_told_nothing_when_it_ends_the_epoch_itself(root: Folder):
    lost: list[bool] = []
    lease = taken(root, lease_s=0.03)
    lease.start_beating(lambda: lost.append(True))
    time.sleep(0.05)
    lease.decide(b"{}")
    time.sleep(0.05)
    assert lost == []
    assert root.children(PLACE) == ["000001.json", "000001.lease"]


def test_a_beating_holder_is_not_stale_and_one_that_stopped_is(root: Folder):
    now = 0.0
    watch = Watch(LEASE_S, lambda: now)
    lease = taken(root)
    for _ in range(5):
        lease.beat()
        assert not watch.is_stale(PLACE, look(root, PLACE))
        now += LEASE_S - 1
    assert not watch.is_stale(PLACE, look(root, PLACE))
    now += 1
    assert watch.is_stale(PLACE, look(root, PLACE))


def test_a_holder_whose_process_has_ended_is_taken_over_at_once(root: Folder):
    code = "import sys; from pipelines.engine.lease import *; from pipelines.engine.root import open_root\n"
    code += "assert isinstance(acquire(open_root(sys.argv[1]), sys.argv[2], 'amber-1'), Lease)"
    subprocess.run([sys.executable, "-c", code, root.url, PLACE], check=True, timeout=60)
    seen = look(root, PLACE)
    assert Watch(1e9).is_stale(PLACE, seen)
    assert taken(root).epoch == 2


def test_a_later_process_with_the_same_id_is_not_the_holder():
    holder = Holder.here("amber-1")
    assert not holder.is_gone
    assert dataclasses.replace(holder, born=holder.born - 1).is_gone


def test_a_holder_on_another_machine_is_never_known_to_be_gone():
    here = Holder.here("amber-1")
    assert not dataclasses.replace(here, machine="another", pid=1 << 22, born=1).is_gone
    assert not dataclasses.replace(here, machine="", pid=1 << 22, born=1).is_gone


def test_a_damaged_lease_is_held_until_time_tells(root: Folder):
    taken(root)
    root.put(f"{PLACE}/000001.lease", b"{")
    now = 0.0
    watch = Watch(LEASE_S, lambda: now)
    assert not watch.is_stale(PLACE, look(root, PLACE))
    assert isinstance(acquire(root, PLACE, "amber-2"), Seen)
    now = LEASE_S
    assert watch.is_stale(PLACE, look(root, PLACE))
    assert taken(root, stale_epoch=1).epoch == 2


def test_beats_that_fail_are_missed_and_not_the_end(root: Folder, monkeypatch: pytest.MonkeyPatch):
    lost: list[bool] = []
    lease = taken(root, lease_s=0.03)
    real, calls = root.put, []

    def failing(name: str, content: bytes, *, durable: bool = False) -> None:
        calls.append(name)
        if len(calls) < 3:
            raise OSError("the network is down")
        real(name, content, durable=durable)

    monkeypatch.setattr(root, "put", failing)
    lease.start_beating(lambda: lost.append(True))
    deadline = time.monotonic() + 10
    while look(root, PLACE).beat is None and time.monotonic() < deadline:
        time.sleep(0.01)
    lease.release("done")
    assert len(calls) >= 3
    assert lost == []


class Leases(RuleBasedStateMachine):
    """Holders that beat, stop, die and wake; readers with clocks of their own; a wall clock that jumps about."""

    @initialize(offsets=st.lists(st.integers(-(10**6), 10**6), min_size=1, max_size=3))
    def start(self, offsets: list[int]) -> None:
        self.root = open_root(f"memory://{uuid.uuid4().hex}")
        self.now, self.wall = 0.0, 1e9
        self.watches = [Watch(LEASE_S, self._clock(offset)) for offset in offsets]
        self.leases: list[Lease] = []
        self.last_sign: dict[int, float] = {}
        self.ended: dict[int, bytes] = {}

    def _clock(self, offset: int) -> Callable[[], float]:
        return lambda: self.now + offset

    def teardown(self) -> None:
        self.root.remove("artifacts")

    def _acquire(self, reader: int) -> Lease | Seen:
        watch = self.watches[reader % len(self.watches)]
        seen = look(self.root, PLACE)
        stale = seen.epoch if seen.held and watch.is_stale(PLACE, seen) else None
        with patch("time.time", lambda: self.wall):
            found = acquire(self.root, PLACE, f"run-{reader}", LEASE_S, stale)
        if isinstance(found, Lease):
            newest = max(self.last_sign, default=0)
            assert found.epoch == newest + 1
            if newest and newest not in self.ended:
                assert self.now - self.last_sign[newest] >= LEASE_S, "a live holder was taken over"
                self.ended[newest] = self.root.read(decision(PLACE, newest)) or b""
                assert json.loads(self.ended[newest])["kind"] == "fenced"
            self.leases.append(found)
            self.last_sign[found.epoch] = self.now
        return found

    @rule(reader=st.integers(0, 2))
    def want(self, reader: int) -> None:
        self._acquire(reader)

    @rule(seconds=st.integers(1, 10))
    def wait(self, seconds: int) -> None:
        self.now += seconds

    @rule(wall=st.floats(0, 4e9))
    def set_the_wall_clock(self, wall: float) -> None:
        self.wall = wall

    @precondition(lambda self: self.leases)
    @rule(index=st.integers(0, 5))
    def beat(self, index: int) -> None:
        lease = self.leases[-1 - index % len(self.leases)]
        assert lease.beat() == (lease.epoch not in self.ended)
        self.last_sign[lease.epoch] = self.now

    @precondition(lambda self: self.leases)
    @rule(index=st.integers(0, 5))
    def commit(self, index: int) -> None:
        lease = self.leases[-1 - index % len(self.leases)]
        record = json.dumps({"kind": "commit", "try": uuid.uuid4().hex}).encode()
        try:
            lease.decide(record)
        except LeaseLost:
            assert lease.epoch in self.ended, "a holder in good standing was refused"
            assert lease.is_lost
        else:
            assert lease.epoch not in self.ended, "an epoch was decided twice"
            self.ended[lease.epoch] = record

    @precondition(lambda self: self.leases)
    @rule(index=st.integers(0, 5))
    def release(self, index: int) -> None:
        lease = self.leases[-1 - index % len(self.leases)]
        lease.release("it failed")
        self.ended.setdefault(lease.epoch, self.root.read(decision(PLACE, lease.epoch)) or b"")

    @rule(reader=st.integers(0, 2))
    def outlive_a_silent_holder(self, reader: int) -> None:
        self._acquire(reader)
        self._acquire(reader)  # sees who holds it now, where the first call got it itself
        self.now += LEASE_S
        if look(self.root, PLACE).held:
            assert isinstance(self._acquire(reader), Lease), "a dead holder cannot be taken over"

    @rule(reader=st.integers(0, 2))
    def stand_by_a_holder_that_beats(self, reader: int) -> None:
        self._acquire(reader)
        held = [lease for lease in self.leases if lease.epoch not in self.ended]
        for _ in range(4 if held else 0):
            self.now += LEASE_S // 2
            assert held[0].beat()
            self.last_sign[held[0].epoch] = self.now
            assert isinstance(self._acquire(reader), Seen), "a live holder was taken over"

    @invariant()
    def every_decision_stays_as_it_was(self) -> None:
        for epoch, record in getattr(self, "ended", {}).items():
            assert self.root.read(decision(PLACE, epoch)) == record

    @invariant()
    def only_the_newest_epoch_may_be_held(self) -> None:
        if getattr(self, "last_sign", None):
            newest = max(self.last_sign)
            assert set(self.last_sign) - set(self.ended) <= {newest}
            assert look(self.root, PLACE).held == (newest not in self.ended)


TestLeases = Leases.TestCase
TestLeases.settings = settings(max_examples=60, stateful_step_count=40, deadline=None, derandomize=True)
