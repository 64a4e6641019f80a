"""A published file is seen whole or not at all."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from components.publish import publish, publish_bytes, publish_json, publish_new, read_json, sha256_of


def test_a_failing_writer_leaves_the_old_file_and_no_debris(tmp_path: Path):
    target = tmp_path / "file"
    publish_bytes(target, b"old")

    def half() -> None:
        with publish(target) as temporary:
            temporary.write_bytes(b"ne")
            raise ValueError("no more")

    with pytest.raises(ValueError, match="no more"):
        half()
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("name", ["fsync", "replace"])
def test_a_writer_killed_at_any_point_leaves_the_old_file(tmp_path: Path, name: str):
    target = tmp_path / "file"
    publish_bytes(target, b"old")
    program = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from components.publish import publish_bytes\n"
        "setattr(os, sys.argv[2], lambda *rest: os.kill(os.getpid(), signal.SIGKILL))\n"
        "publish_bytes(Path(sys.argv[1]), b'new')\n"
    )
    run = subprocess.run([sys.executable, "-c", program, str(target), name])
    assert run.returncode == -signal.SIGKILL
    assert target.read_bytes() == b"old"


def test_of_many_exclusive_writers_one_wins_and_its_bytes_stay(tmp_path: Path):
    target = tmp_path / "file"
    wins: list[bytes] = []
    start = threading.Barrier(16)

    def write(number: int) -> None:
        content = f"writer {number}".encode() * 1000
        start.wait()
        if publish_new(target, content):
            wins.append(content)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wins == [target.read_bytes()]
    assert os.listdir(tmp_path) == ["file"]


def test_json_is_sorted_readable_and_reads_back(tmp_path: Path):
    publish_json(tmp_path / "a.json", {"b": 1, "a": "你好"})
    assert (tmp_path / "a.json").read_text() == '{\n  "a": "你好",\n  "b": 1\n}\n'
    assert read_json(tmp_path / "a.json") == {"a": "你好", "b": 1}


def test_json_that_is_no_object_is_refused_by_name(tmp_path: Path):
    publish_json(tmp_path / "a.json", [1])
    with pytest.raises(ValueError, match=r"a\.json does not hold a JSON object"):
        read_json(tmp_path / "a.json")


def test_sha256_is_of_the_bytes(tmp_path: Path):
    (tmp_path / "a").write_bytes(b"abc")
    assert sha256_of(tmp_path / "a") == hashlib.sha256(b"abc").hexdigest()
