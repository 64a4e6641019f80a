"""An artifact is visible whole or not at all, whatever kind of store it lies in."""

from __future__ import annotations

import os
import threading
import uuid
from dataclasses import replace
from pathlib import Path

import pytest
from commit_help import CONTENT_KEY, DRAFT, KEY, built, held, made, write
from hypothesis import given
from hypothesis import strategies as st

from components.errors import ConfigError, MachineError, StepError
from pipelines.engine.lease import Lease, LeaseLost, Seen, decision
from pipelines.engine.manifest import FileRecord, Manifest, Origin
from pipelines.engine.root import Bucket
from pipelines.engine.store import Store, place_of

PLACE = place_of("clean", KEY)
OTHER = replace(DRAFT, key="b" * 64, content_key="c" * 64, run="amber-2")


@pytest.fixture(params=["folder", "memory", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "folder":
        return Store(tmp_path / "store")
    url = f"memory://{uuid.uuid4().hex}/store" if request.param == "memory" else request.getfixturevalue("s3_url")
    return Store(url, tmp_path / "workspace")


@pytest.fixture
def folder(tmp_path: Path) -> Store:
    """For what only a store in a folder can meet."""
    return Store(tmp_path / "store")


def test_nothing_is_found_before_the_commit(store: Store):
    lease = held(store)
    write(store.begin(lease))
    assert store.lookup("clean", KEY).manifest is None
    assert store.by_content("clean", CONTENT_KEY).manifest is None
    assert store.newest("clean") is None
    assert list(store.manifests()) == []


def test_a_commit_is_found_with_its_files_and_what_made_it(store: Store):
    committed = built(store)
    found = store.lookup("clean", KEY)
    assert found == committed
    assert found.manifest is not None
    assert {name: file.bytes for name, file in found.manifest.files.items()} == {"deep/a.txt": 5, "empty.txt": 0}
    assert found.manifest.inputs == DRAFT.inputs
    assert found.manifest.metrics == {"kept": 3.0}
    assert found.manifest.num_bytes == 5
    assert found.manifest.epoch == 1
    assert list(store.manifests()) == [found.manifest]


def test_the_files_of_a_commit_are_fetched_by_a_machine_that_has_none(store: Store, tmp_path: Path):
    manifest = made(store)
    elsewhere = Store(store.root.url, tmp_path / "elsewhere")
    path = elsewhere.fetch(manifest)
    assert (path / "deep" / "a.txt").read_text() == "hello"
    assert (path / "empty.txt").read_bytes() == b""
    assert elsewhere.fetch(manifest) == path


def test_an_artifact_is_found_by_the_bytes_it_was_made_of(store: Store):
    manifest = made(store)
    assert store.by_content("clean", CONTENT_KEY).manifest == manifest
    assert store.by_content("clean", "0" * 64).manifest is None


def test_a_lost_index_is_a_miss(store: Store):
    built(store)
    store.root.put(f"index/clean/{CONTENT_KEY[:16]}.json", b"")
    assert store.by_content("clean", CONTENT_KEY).manifest is None


def test_another_key_with_the_same_first_characters_is_another_artifact(store: Store):
    built(store)
    assert store.lookup("clean", KEY[:16] + "0" * 48).manifest is None


def test_scratch_goes_with_the_commit_and_not_before(store: Store):
    (store.scratch("clean", KEY) / "checkpoint").touch()
    assert store.has_scratch("clean", KEY)
    built(store)
    assert not store.has_scratch("clean", KEY)


def test_a_rebuild_takes_the_place_of_the_artifact_when_it_is_whole(store: Store):
    first = made(store)
    lease = held(store)
    attempt = store.begin(lease)
    write(attempt, {"new.txt": "new"})
    assert store.lookup("clean", KEY).manifest == first
    store.commit(lease, attempt, DRAFT)
    rebuilt = store.lookup("clean", KEY).manifest
    assert rebuilt is not None
    assert (rebuilt.epoch, list(rebuilt.files)) == (2, ["new.txt"])
    assert store.damaged(first) == []


def test_the_files_of_another_artifact_are_valid_for_a_key_too(store: Store, tmp_path: Path):
    source = made(store)
    lease = held(store, OTHER)
    alias = store.alias(lease, OTHER, source, Origin("equal", "clean", KEY, source.epoch)).manifest
    assert alias is not None
    found = store.lookup("clean", OTHER.key)
    assert found.manifest == alias
    assert (alias.data, alias.files, alias.run) == (source.data, source.files, "amber-1")
    assert alias.origin == Origin("equal", "clean", KEY, 1)
    path = Store(store.root.url, tmp_path / "elsewhere").fetch(alias)
    assert (path / "deep" / "a.txt").read_text() == "hello"


def test_what_is_discarded_leaves_nothing_but_the_record(store: Store):
    lease = held(store)
    attempt = store.begin(lease)
    write(attempt)
    store.discard(lease, attempt, "it failed")
    assert not attempt.exists()
    assert store.root.children(PLACE) == ["000001.json", "000001.lease"]
    assert store.look("clean", KEY) == Seen(1)
    assert store.lookup("clean", KEY).problem == ""


def test_a_commit_whose_answer_got_lost_survives_the_clean_up_of_its_writer(store: Store):
    lease = held(store)
    attempt = store.begin(lease)
    write(attempt)
    store.commit(lease, attempt, DRAFT)
    store.discard(lease, attempt, "the request timed out")
    found = store.lookup("clean", KEY)
    assert found.manifest is not None
    assert store.damaged(found.manifest) == []


def test_a_file_that_is_gone_makes_the_artifact_a_miss(store: Store):
    manifest = made(store)
    store.root.remove(f"{manifest.data}/deep/a.txt")
    found = store.lookup("clean", KEY)
    assert found.manifest is None
    assert found.problem == "artifact files are missing (deep/a.txt)"


def test_a_file_that_is_shorter_makes_the_artifact_a_miss(store: Store):
    manifest = made(store)
    store.root.put(f"{manifest.data}/deep/a.txt", b"hell")
    assert store.lookup("clean", KEY).problem == "artifact files are missing (deep/a.txt)"


def test_where_a_rebuild_lost_its_files_the_artifact_before_it_counts(store: Store):
    first, second = made(store), made(store)
    store.root.remove(second.data)
    assert store.lookup("clean", KEY).manifest == first


def test_a_changed_byte_is_found_by_verification(store: Store):
    manifest = made(store)
    assert store.damaged(manifest) == []
    store.root.put(f"{manifest.data}/deep/a.txt", b"jello")
    assert store.damaged(manifest) == ["deep/a.txt"]


def test_a_changed_object_is_never_handed_out(store: Store, tmp_path: Path):
    if store.is_local:
        pytest.skip("nothing is fetched from a folder")
    manifest = made(store)
    store.root.put(f"{manifest.data}/deep/a.txt", b"jello")
    elsewhere = Store(store.root.url, tmp_path / "elsewhere")
    with pytest.raises(
        MachineError, match=r"1 files of an artifact of clean are damaged in the store, first deep/a.txt"
    ):
        elsewhere.fetch(manifest)
    assert [path for path in (tmp_path / "elsewhere").rglob("*") if path.is_file()] == []


def test_stores_that_share_a_workspace_do_not_mix_their_copies(tmp_path: Path):
    stores = [Store(f"memory://{uuid.uuid4().hex}/store", tmp_path / "workspace") for _ in range(2)]
    manifests = [made(store, files={"a.txt": text}) for store, text in zip(stores, ("one", "two"), strict=True)]
    texts = [(store.fetch(m) / "a.txt").read_text() for store, m in zip(stores, manifests, strict=True)]
    assert texts == ["one", "two"]


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"{}", b'{"kind": "commit"}', b'{"schema": 99}', b"\xff", b"1"])
def test_a_damaged_manifest_is_a_miss_that_a_new_commit_heals(store: Store, text: bytes):
    built(store)
    store.root.put(decision(PLACE, 1), text)
    assert store.lookup("clean", KEY).problem == "artifact manifest is damaged"
    assert store.newest("clean") is None
    healed = made(store, files={"deep/a.txt": "again"})
    assert store.lookup("clean", KEY).manifest == healed


def test_files_under_a_damaged_manifest_are_kept_for_those_that_share_them(store: Store):
    source = made(store)
    store.alias(held(store, OTHER), OTHER, source, Origin("equal", "clean", KEY, 1))
    store.root.put(decision(PLACE, 1), b"damaged")
    built(store)
    assert store.lookup("clean", OTHER.key).problem == ""


def test_an_artifact_without_files_is_an_artifact(store: Store):
    manifest = made(store, files={})
    assert store.lookup("clean", KEY).manifest == manifest


def test_an_empty_artifact_is_missed_when_its_folder_is_gone(folder: Store):
    found = built(folder, files={})
    assert found.path is not None
    found.path.rmdir()
    assert folder.lookup("clean", KEY).problem == "artifact files are missing"


def test_a_new_attempt_deletes_what_dead_ones_left(store: Store):
    lease = held(store)
    write(store.begin(lease))
    store.root.put(f"{PLACE}/000001/half.txt", b"half")
    taken = store.acquire("clean", KEY, "amber-2", stale_epoch=1)
    assert isinstance(taken, Lease)
    attempt = store.begin(taken)
    assert list(attempt.iterdir()) == []
    assert "000001" not in store.root.children(PLACE)


def test_a_holder_that_lost_its_lease_publishes_nothing_and_leaves_nothing(store: Store):
    lease = held(store)
    attempt = store.begin(lease)
    write(attempt)
    taken = store.acquire("clean", KEY, "amber-2", stale_epoch=1)
    assert isinstance(taken, Lease)
    with pytest.raises(LeaseLost):
        store.commit(lease, attempt, DRAFT)
    assert not attempt.exists()
    assert "000001" not in store.root.children(PLACE)
    assert store.lookup("clean", KEY).manifest is None
    new = store.begin(taken)
    write(new)
    assert store.commit(taken, new, DRAFT) == store.lookup("clean", KEY)


def test_a_lease_lost_between_the_last_look_and_the_commit_is_still_lost(store: Store, monkeypatch: pytest.MonkeyPatch):
    lease = held(store)
    attempt = store.begin(lease)
    write(attempt)
    monkeypatch.setattr(lease, "check", lambda: store.acquire("clean", KEY, "amber-2", stale_epoch=1))
    with pytest.raises(LeaseLost):
        store.commit(lease, attempt, DRAFT)
    assert "000001" not in store.root.children(PLACE)


def test_of_many_that_want_a_key_one_gets_it(store: Store):
    results: list[Lease | Seen] = []
    start = threading.Barrier(8)

    def acquire() -> None:
        start.wait()
        results.append(store.acquire("clean", KEY, "amber-1"))

    threads = [threading.Thread(target=acquire) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 8
    assert len([result for result in results if isinstance(result, Lease)]) == 1


def test_the_newest_manifest_of_a_step_is_the_one_committed_last(folder: Store):
    first, second = made(folder), made(folder, OTHER)
    assert folder.newest("clean") == second
    os.utime(folder.root.path / decision(place_of("clean", KEY), 1), (4e9, 4e9))
    assert folder.newest("clean") == first


def test_a_link_in_the_output_is_refused(folder: Store, tmp_path: Path):
    for target in (str(tmp_path), __file__):
        lease = held(folder)
        attempt = folder.begin(lease)
        (attempt / "link").symlink_to(target)
        with pytest.raises(StepError, match="left a link in its output"):
            folder.commit(lease, attempt, DRAFT)
        folder.discard(lease, attempt, "refused")


def test_a_pipe_in_the_output_is_refused(folder: Store):
    lease = held(folder)
    attempt = folder.begin(lease)
    os.mkfifo(attempt / "pipe")
    with pytest.raises(StepError, match="left a pipe or device"):
        folder.commit(lease, attempt, DRAFT)


def test_an_output_folder_that_vanished_is_never_committed(store: Store):
    lease = held(store)
    attempt = store.begin(lease)
    attempt.rmdir()
    with pytest.raises(StepError, match="is gone"):
        store.commit(lease, attempt, DRAFT)


def test_a_new_store_is_readable_by_its_owner_alone(tmp_path: Path):
    Store(tmp_path / "store")
    assert (tmp_path / "store").stat().st_mode & 0o777 == 0o700


def test_a_store_of_another_kind_is_refused():
    with pytest.raises(ConfigError, match="of kind gs"):
        Store("gs://bucket/headwater")


def test_a_file_url_is_the_folder(tmp_path: Path):
    store = Store(f"file://{tmp_path}/store")
    assert store.root.url == str(tmp_path / "store")
    assert store.workspace == tmp_path / "store"


def test_a_store_in_s3_has_its_workspace_here(s3_url: str):
    store = Store(s3_url)
    assert isinstance(store.root, Bucket)
    assert store.workspace == Path.cwd() / ".headwater"


def test_a_store_that_cannot_be_made_is_told(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(MachineError, match="cannot be made"):
        Store(tmp_path / "file" / "store")


@given(
    files=st.dictionaries(st.text(min_size=1), st.builds(FileRecord, st.integers(min_value=0), st.text())),
    metrics=st.dictionaries(st.text(), st.floats(allow_nan=False)),
    origin=st.none() | st.builds(Origin, kind=st.text(), epoch=st.integers()),
)
def test_a_manifest_reads_back_as_it_was_written(files: dict, metrics: dict, origin: Origin | None):
    manifest = replace(DRAFT, files=files, metrics=metrics, origin=origin)
    assert Manifest.from_bytes(manifest.to_bytes()) == manifest
