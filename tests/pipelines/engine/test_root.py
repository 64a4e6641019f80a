"""Folders, memory and S3 answer alike, and a name is created by exactly one writer."""

from __future__ import annotations

import threading
import uuid
from pathlib import Path

import pytest

from components.errors import ConfigError, MachineError
from pipelines.engine.root import PROBE, Bucket, Folder, open_root

KINDS = ["folder", "memory", "s3"]


@pytest.fixture(params=KINDS)
def root(request: pytest.FixtureRequest, tmp_path: Path) -> Folder | Bucket:
    if request.param == "folder":
        return open_root(tmp_path / "store")
    url = f"memory://{uuid.uuid4().hex}/store" if request.param == "memory" else request.getfixturevalue("s3_url")
    return open_root(url)


def test_what_was_created_is_read_and_listed(root: Folder | Bucket):
    assert root.create("a/b/000001.json", b"text")
    assert root.read("a/b/000001.json") == b"text"
    assert root.children("a/b") == ["000001.json"]
    assert root.children("a") == ["b"]


def test_what_is_not_there_is_none_and_empty(root: Folder | Bucket):
    assert root.read("a/b") is None
    assert root.children("a") == []
    assert root.sizes("a") == {}
    assert root.changed("a", 2) == {}
    root.remove("a")


def test_a_name_is_created_once_and_keeps_its_first_bytes(root: Folder | Bucket):
    assert root.create("a/name", b"first")
    assert not root.create("a/name", b"second")
    assert root.read("a/name") == b"first"


def test_creating_the_same_again_counts_as_the_same_request(root: Folder | Bucket):
    assert root.create("a/name", b"first")
    assert root.create("a/name", b"first")


def test_of_sixteen_writers_of_a_name_one_wins(root: Folder | Bucket):
    results: list[bool] = [False] * 16
    start = threading.Barrier(16)

    def create(number: int) -> None:
        start.wait()
        results[number] = root.create("a/name", str(number).encode())

    threads = [threading.Thread(target=create, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(results) == 1
    assert root.read("a/name") == str(results.index(True)).encode()


def test_a_listing_shows_at_once_what_another_client_created(root: Folder | Bucket):
    other = open_root(root.url)
    assert root.children("a") == []
    other.create("a/one", b"1")
    assert root.children("a") == ["one"]
    other.create("a/two", b"2")
    assert root.children("a") == ["one", "two"]
    other.remove("a/one")
    assert root.children("a") == ["two"]


@pytest.mark.parametrize("durable", [True, False])
def test_put_writes_over_what_is_there(root: Folder | Bucket, durable: bool):
    root.put("a/name", b"first", durable=durable)
    root.put("a/name", b"second", durable=durable)
    assert root.read("a/name") == b"second"
    assert root.children("a") == ["name"]


def test_a_folder_and_a_file_whose_names_begin_alike_are_kept_apart(root: Folder | Bucket):
    root.create("key/000001.json", b"record")
    root.put("key/000001/deep/a.txt", b"aa")
    root.put("key/0000012/b.txt", b"b")
    assert root.sizes("key/000001") == {"deep/a.txt": 2}
    root.remove("key/000001")
    assert root.children("key") == ["000001.json", "0000012"]
    root.remove("key/000001.json")
    assert root.children("key") == ["0000012"]


def test_times_are_told_down_to_a_depth(root: Folder | Bucket):
    root.create("step/key/000001.json", b"record")
    root.put("step/key/000001/a.txt", b"aa")
    assert list(root.changed("step", 2)) == ["key/000001.json"]
    assert set(root.changed("step", 3)) == {"key/000001.json", "key/000001/a.txt"}
    assert all(moment > 1e9 for moment in root.changed("step", 3).values())


def test_a_url_of_another_kind_is_refused():
    with pytest.raises(ConfigError, match="of kind gs"):
        open_root("gs://bucket/headwater")


def test_a_bucket_that_does_not_exist_is_told(s3_server: str):
    with pytest.raises(MachineError, match=r"The store s3://no-such-bucket/a does not exist"):
        open_root("s3://no-such-bucket/a")


def test_a_server_that_does_not_answer_is_told(s3_server: str, monkeypatch: pytest.MonkeyPatch):
    root = Bucket(f"{s3_server}/a")
    root._files = type(root._files)(
        endpoint_url="http://127.0.0.1:9", config_kwargs={"retries": {"max_attempts": 0}}, skip_instance_cache=True
    )
    root._files.retries = 1
    with pytest.raises(MachineError, match="cannot be reached or used") as caught:
        root.read("name")
    assert "AWS_ENDPOINT_URL" in caught.value.fix


def test_a_server_that_ignores_the_condition_is_found_out_at_the_first_creation(
    s3_url: str, monkeypatch: pytest.MonkeyPatch
):
    root = open_root(s3_url)
    assert isinstance(root, Bucket)
    plain = root._files.pipe_file
    monkeypatch.setattr(root._files, "pipe_file", lambda path, content, mode="overwrite": plain(path, content))
    with pytest.raises(MachineError, match="lets two writers create one name"):
        root.create("a/name", b"text")
    assert root.read("a/name") is None


def test_a_bucket_that_honours_the_condition_is_proven_once(s3_url: str):
    root = open_root(s3_url)
    root.create("a", b"1")
    probe = root.read(PROBE)
    root.create("b", b"1")
    open_root(s3_url).create("c", b"1")
    assert root.read(PROBE) == probe is not None


def test_two_may_delete_the_same_folder(tmp_path: Path):
    root = open_root(tmp_path)
    for number in range(300):
        root.put(f"a/{number}", b"")
    threads = [threading.Thread(target=root.remove, args=("a",)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert root.children("") == []
