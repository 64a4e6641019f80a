"""Ranks on this machine: one result, one error, no orphans."""

from __future__ import annotations

import errno
import functools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import toy_steps as toy

from components.context import Json, Rank, local_context
from components.errors import ConfigError, MachineError, StepError
from components.launching import RankFailed, RankLost, read_failure, record_failure

PARENT = """
import functools, sys
from pathlib import Path
import toy_steps as toy
from components.context import local_context
if __name__ == "__main__":
    local_context("toy", Path(sys.argv[1])).launch(functools.partial(toy.rank_lingers, folder=sys.argv[1]), 2)
"""

LAUNCHER = """
import sys
from pathlib import Path
import toy_steps as toy
from components.context import local_context
from components.launching import RankFailed
if __name__ == "__main__":
    context = local_context("toy", Path(sys.argv[1]))
    try:
        context.launch(toy.rank_leaves, 2)
    except RankFailed as failure:
        print(context.device(), failure, "torch" in sys.modules)
"""


def test_ranks_form_a_group_and_rank_0_gives_the_result(tmp_path: Path):
    context = local_context("toy", tmp_path)
    result = context.launch(functools.partial(toy.rank_sum, base=10.0), 2)
    assert result == {"sum": 21.0, "world": 2, "device": "cpu"}
    assert '"sum": 21.0' in (tmp_path / "journal.jsonl").read_text()
    assert list(context.scratch.iterdir()) == []


def test_one_rank_runs_in_this_process(tmp_path: Path):
    def body(rank: Rank) -> Json:
        return [rank.world_size, os.getpid()]

    environment = dict(os.environ)
    try:
        assert local_context("toy", tmp_path).launch(body, 1) == [1, os.getpid()]
    finally:
        os.environ.clear()
        os.environ.update(environment)


def test_the_error_of_a_rank_arrives_whole_and_ends_the_group(tmp_path: Path):
    with pytest.raises(StepError) as caught:
        local_context("toy", tmp_path).launch(toy.rank_fails, 2)
    assert (caught.value.what, caught.value.where, caught.value.fix) == ("Rank 1 has bad data.", "row 9", "mend row 9")


def test_a_killed_rank_is_told_apart_from_the_peers_that_lost_it(tmp_path: Path):
    body = functools.partial(toy.rank_killed_once, mark=str(tmp_path / "mark"))
    with pytest.raises(RankLost, match="rank 1 was killed by signal 9"):
        local_context("toy", tmp_path).launch(body, 2)
    assert local_context("toy", tmp_path).launch(body, 2) == 2.0


def test_who_launches_ranks_hears_of_one_that_left_and_does_not_import_torch(tmp_path: Path):
    words = [sys.executable, "-c", LAUNCHER, str(tmp_path)]
    said = subprocess.run(words, check=True, capture_output=True, text=True).stdout
    assert said == "cpu rank 1 ended with exit code 3; its log tells why False\n"


def test_ranks_die_with_their_parent(tmp_path: Path):
    with subprocess.Popen([sys.executable, "-c", PARENT, str(tmp_path)]) as parent:
        deadline = time.monotonic() + 120
        while len(list(tmp_path.glob("rank-*"))) < 2:
            assert time.monotonic() < deadline, "the ranks did not start"
            time.sleep(0.05)
        ranks = [int(path.read_text()) for path in tmp_path.glob("rank-*")]
        parent.send_signal(signal.SIGKILL)
    for pid in ranks:
        while Path(f"/proc/{pid}").exists() and "Z" not in Path(f"/proc/{pid}/stat").read_text().split(")")[1][:3]:
            assert time.monotonic() < deadline, "a rank outlived its parent"
            time.sleep(0.05)


def test_the_first_failure_of_a_group_is_the_one_that_is_read(tmp_path: Path):
    record_failure(tmp_path, 1, ConfigError("first"))
    record_failure(tmp_path, 0, ConfigError("second"))
    failure = read_failure(tmp_path)
    assert isinstance(failure, ConfigError)
    assert failure.what == "first"


def test_any_other_failure_tells_rank_and_exception_in_its_first_line(tmp_path: Path):
    record_failure(tmp_path, 3, ValueError("wrong\nand more"))
    failure = read_failure(tmp_path)
    assert isinstance(failure, RankFailed)
    assert str(failure).splitlines()[0] == "rank 3 raised ValueError: wrong"


def test_a_disk_that_filled_up_on_a_rank_is_told_as_such(tmp_path: Path):
    record_failure(tmp_path, 1, OSError(errno.ENOSPC, "No space left on device", "/data/x"))
    failure = read_failure(tmp_path)
    assert isinstance(failure, MachineError)
    assert failure.where == "/data/x"


def test_no_failure_reads_as_none(tmp_path: Path):
    assert read_failure(tmp_path) is None
