"""Garbage collection deletes what nothing needs, says why the rest stays, and never what somebody still reads."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
from commit_help import DRAFT, held, made, write

from components.errors import ConfigError
from components.publish import publish_json
from pipelines.engine.gc import DAY_S, Roots, Sweep, apply, sweep
from pipelines.engine.lease import Lease, Seen
from pipelines.engine.manifest import InputRecord, Manifest, Origin
from pipelines.engine.pins import pin, pins, unpin
from pipelines.engine.store import Store, place_of


@pytest.fixture(params=["folder", "memory", pytest.param("s3", marks=pytest.mark.slow)])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "folder":
        return Store(tmp_path / "store")
    url = f"memory://{uuid.uuid4().hex}/store" if request.param == "memory" else request.getfixturevalue("s3_url")
    return Store(url, tmp_path / "workspace")


@pytest.fixture
def folder(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def draft(step: str, digit: str, *sources: Manifest, run: str = "amber-1") -> Manifest:
    inputs = {source.step: InputRecord(source.step, source.key, source.content) for source in sources}
    return replace(DRAFT, step=step, key=digit * 64, content_key=f"c{digit}" * 32, inputs=inputs, run=run)


def make(
    store: Store, step: str, digit: str, *sources: Manifest, text: str = "hello", run: str = "amber-1"
) -> Manifest:
    return made(store, draft(step, digit, *sources, run=run), {"a.txt": text})


def run_of(store: Store, name: str, *manifests: Manifest) -> Path:
    steps = [{"name": one.step, "key": one.key, "made": None} for one in manifests]
    publish_json(store.run_folder(name) / "plan.json", {"steps": steps})
    return store.run_folder(name)


def deleted(planned: Sweep) -> dict[str, str]:
    """What goes, but for copies: those of an object store go with what they are copies of."""
    return {item.name: item.why for item in planned.delete if item.kind != "copy"}


def kept(planned: Sweep) -> dict[str, str]:
    return {item.name.partition("@")[0]: item.why for item in planned.keep}


def collect(store: Store, runs: Iterable[Path] = (), **roots: object) -> Sweep:
    planned = sweep(store, Roots(tuple(runs), **roots))  # type: ignore[arg-type]
    assert apply(store, planned, lambda: nullcontext(True))
    return planned


def test_what_no_run_needs_is_listed_with_its_size_and_nothing_is_deleted_yet(store: Store):
    one = make(store, "crawl", "1")
    planned = sweep(store, Roots())
    assert deleted(planned) == {"crawl@1111111111111111": "no run that is kept needs it"}
    assert [item.num_bytes for item in planned.delete] == [5] * len(planned.delete)
    assert store.lookup("crawl", one.key).manifest == one


def test_what_was_collected_is_gone_and_the_store_says_so(store: Store):
    one = make(store, "crawl", "1")
    collect(store)
    found = store.lookup("crawl", one.key)
    assert found.manifest is None
    assert found.problem == f"artifact was deleted: gc {time.strftime('%Y-%m-%d', time.gmtime())}"
    assert store.root.children(place_of("crawl", one.key)) == ["000001.json", "000001.lease"]
    assert sweep(store, Roots()) == Sweep((), ())


def test_the_epoch_of_what_was_collected_is_not_given_out_again(store: Store):
    make(store, "crawl", "1")
    collect(store)
    assert make(store, "crawl", "1").epoch == 2


def test_the_artifacts_of_a_run_that_is_kept_stay_with_all_they_were_made_of(store: Store):
    crawl = make(store, "crawl", "1")
    extract = make(store, "extract", "2", crawl)
    clean = make(store, "clean", "3", extract)
    make(store, "clean", "4", extract)
    planned = collect(store, [run_of(store, "amber-9", clean)])
    assert kept(planned) == {
        "crawl": "extract@2222222222222222 was made of it",
        "extract": "clean@3333333333333333 was made of it",
        "clean": "run amber-9",
    }
    assert deleted(planned) == {"clean@4444444444444444": "no run that is kept needs it"}
    assert [store.damaged(one) for one in (crawl, extract, clean)] == [[], [], []]


def test_what_a_run_found_under_another_key_stays(store: Store):
    one = make(store, "clean", "3")
    steps = [{"name": "clean", "key": "9" * 64, "made": {"key": one.key, "epoch": 1, "content": one.content}}]
    publish_json(store.run_folder("amber-9") / "plan.json", {"steps": steps})
    assert kept(collect(store, [store.run_folder("amber-9")])) == {"clean": "run amber-9"}


def test_an_epoch_that_was_built_again_goes_unless_something_was_made_of_its_bytes(store: Store):
    old = make(store, "crawl", "1", text="old")
    extract = make(store, "extract", "2", old)
    make(store, "crawl", "1", text="newer")
    new = make(store, "crawl", "1", text="newest")
    planned = collect(store, [run_of(store, "amber-9", new, extract)])
    assert deleted(planned) == {"crawl@1111111111111111 epoch 2": "superseded by epoch 3"}
    assert store.damaged(old) == store.damaged(new) == []


def test_an_alias_keeps_the_artifact_whose_files_it_shares(store: Store):
    source = make(store, "clean", "3")
    wanted = draft("clean", "4")
    alias = store.alias(held(store, wanted), wanted, source, Origin("equal", "clean", source.key, 1)).manifest
    assert alias is not None
    planned = collect(store, [run_of(store, "amber-9", alias)])
    assert deleted(planned) == {}
    assert store.lookup("clean", "4" * 64).manifest == alias


def test_an_alias_that_goes_frees_nothing_and_leaves_the_files_to_their_owner(store: Store):
    source = make(store, "clean", "3")
    wanted = draft("clean", "4")
    store.alias(held(store, wanted), wanted, source, Origin("equal", "clean", source.key, 1))
    planned = collect(store, [run_of(store, "amber-9", source)])
    assert deleted(planned) == {"clean@4444444444444444": "no run that is kept needs it"}
    assert planned.num_bytes == 0
    assert store.damaged(source) == []


def test_what_was_made_of_the_same_bytes_is_still_found_by_them(store: Store):
    source = make(store, "clean", "3")
    wanted = replace(draft("clean", "4"), content_key=source.content_key)
    store.alias(held(store, wanted), wanted, source, Origin("equal", "clean", source.key, 1))
    collect(store, [run_of(store, "amber-9", source)])
    assert store.by_content("clean", source.content_key).manifest == source


def test_files_that_somebody_comes_to_share_during_the_collection_stay(store: Store):
    source = make(store, "clean", "3")
    wanted = draft("clean", "4")
    planned = sweep(store, Roots())

    def accept_meanwhile() -> AbstractContextManager[bool]:
        store.alias(held(store, wanted), wanted, source, Origin("accepted", "clean", source.key, 1))
        return nullcontext(True)

    apply(store, planned, accept_meanwhile)
    alias = store.lookup("clean", wanted.key).manifest
    assert alias is not None
    assert store.damaged(alias) == []
    assert sweep(store, Roots((run_of(store, "amber-9", alias),))).delete == ()


def test_a_pin_keeps_an_artifact_with_all_it_was_made_of_until_it_is_taken_away(store: Store):
    crawl = make(store, "crawl", "1")
    pin(store, make(store, "extract", "2", crawl), "paper", "figures of section 4")
    assert kept(collect(store)) == {"extract": "pinned as paper", "crawl": "extract@2222222222222222 was made of it"}
    unpin(store, "paper")
    assert len(deleted(collect(store))) == 2


def test_a_pin_holds_its_epoch_through_a_rebuild(store: Store):
    old = make(store, "crawl", "1", text="old")
    pin(store, old, "paper", "")
    new = make(store, "crawl", "1", text="new")
    collect(store, [run_of(store, "amber-9", new)])
    assert store.damaged(old) == []


def test_a_name_pins_one_artifact(store: Store):
    pin(store, make(store, "crawl", "1"), "paper", "")
    with pytest.raises(ConfigError, match="there is a pin paper already"):
        pin(store, make(store, "crawl", "2"), "paper", "")
    assert [found.key for found in pins(store)] == ["1" * 64]


@pytest.mark.parametrize("name", ["", "../runs", "a/b", ".hidden", "a" * 65])
def test_a_name_that_is_no_file_name_pins_nothing(folder: Store, name: str):
    with pytest.raises(ConfigError, match="is no name for a pin"):
        pin(folder, make(folder, "crawl", "1"), name, "")


def test_a_damaged_pin_stops_the_collection(folder: Store):
    make(folder, "crawl", "1")
    folder.root.put("pins/paper.json", b"{")
    with pytest.raises(ConfigError, match=r"the pin paper.json is damaged"):
        sweep(folder, Roots())


def test_what_the_registry_has_an_alias_for_stays(store: Store):
    by_key, by_path = make(store, "ppo", "1"), make(store, "ppo", "2")
    names = frozenset({by_key.key, f"/mnt/store/{by_path.data}/model"})
    make(store, "ppo", "3")
    planned = collect(store, registered=names)
    assert [item.why for item in planned.keep] == ["the model registry has an alias for it"] * 2
    assert deleted(planned) == {"ppo@3333333333333333": "no run that is kept needs it"}


def test_no_model_is_deleted_while_the_registry_cannot_be_asked(store: Store):
    made(store, draft("ppo", "1"), {"model/config.json": "{}"})
    make(store, "clean", "2")
    planned = collect(store, registered=None)
    assert kept(planned) == {"ppo": "it holds a model, and the registry cannot be asked whether that is in use"}
    assert deleted(planned) == {"clean@2222222222222222": "no run that is kept needs it"}


def test_what_is_young_stays(store: Store):
    one = make(store, "crawl", "1")
    assert kept(sweep(store, Roots(younger_than_s=2 * DAY_S), one.committed + DAY_S)) == {
        "crawl": "younger than 2 days"
    }
    assert len(deleted(sweep(store, Roots(younger_than_s=2 * DAY_S), one.committed + 3 * DAY_S))) == 1


def test_what_is_being_built_stays_with_what_its_run_planned_on(store: Store):
    crawl = make(store, "crawl", "1")
    old = make(store, "extract", "2", crawl)
    other = make(store, "tokenizer", "5")
    run_of(store, "amber-9", crawl, old, other)
    lease = held(store, draft("extract", "2", run="amber-9"))
    write(store.begin(lease))
    planned = collect(store)
    assert deleted(planned) == {}
    assert kept(planned)["tokenizer"] == "run amber-9"
    assert store._attempt(lease).is_dir()


def test_a_run_whose_plan_is_not_here_is_named(store: Store):
    held(store, draft("extract", "2", run="amber-9"))
    assert sweep(store, Roots()).strangers == ("amber-9",)
    run_of(store, "amber-9")
    assert sweep(store, Roots()).strangers == ()


def test_items_stay_with_the_step_that_gathered_them(store: Store):
    make(store, "sweep.item", "1")
    make(store, "sweep.item", "2", text="of another sweep")
    whole = make(store, "sweep", "3")
    planned = collect(store, [run_of(store, "amber-9", whole)])
    assert kept(planned)["sweep.item"] == "an item of sweep@3333333333333333"
    assert deleted(planned) == {"sweep.item@2222222222222222": "no run that is kept needs it"}


def test_files_of_attempts_that_published_nothing_go(store: Store):
    one = make(store, "crawl", "1")
    lease = held(store, draft("crawl", "1"))
    store.begin(lease)
    store.root.put(f"{lease.place}/000002/half.txt", b"half")
    assert isinstance(store.acquire("crawl", one.key, "amber-2", stale_epoch=2), Lease)
    store.acquire("crawl", one.key, "amber-2", stale_epoch=3).release("x")  # type: ignore[union-attr]
    planned = collect(store, [run_of(store, "amber-9", one)])
    attempts = [(item.name, item.why, item.num_bytes) for item in planned.delete if item.kind == "attempt"]
    assert attempts == [("crawl@1111111111111111 epoch 2", "nothing was published", 4)]
    assert "000002" not in store.root.children(lease.place)


def test_what_a_collection_left_that_was_cut_off_goes_with_the_next(store: Store, monkeypatch: pytest.MonkeyPatch):
    one = make(store, "crawl", "1")
    remove = store.root.remove

    def fail(name: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(store.root, "remove", fail)
    with pytest.raises(KeyboardInterrupt):
        apply(store, sweep(store, Roots()), lambda: nullcontext(True))
    monkeypatch.setattr(store.root, "remove", remove)
    assert "was deleted" in store.lookup("crawl", one.key).problem
    assert deleted(collect(store)) == {"crawl@1111111111111111 epoch 1": "deleted before, but for its files"}
    assert "000001" not in store.root.children(place_of("crawl", one.key))


def test_files_under_a_damaged_record_are_left_alone(store: Store):
    one = make(store, "crawl", "1")
    store.root.put(f"{place_of('crawl', one.key)}/000001.json", b"{")
    assert deleted(collect(store)) == {}
    assert store.root.sizes(one.data) == {"a.txt": 5}


def test_scratch_goes_where_the_artifact_is_there_and_stays_where_work_was_given_up(store: Store):
    one = make(store, "crawl", "1")
    make(store, "crawl", "2")
    held(store, draft("crawl", "2")).release("stopped")
    for key in (one.key, "2" * 64, "3" * 64):
        (store.scratch("crawl", key) / "checkpoint").write_text("12345678")
    planned = collect(store, [run_of(store, "amber-9", one)], younger_than_s=DAY_S)
    assert deleted(planned) == {"scratch of crawl@1111111111111111": "its artifact is there"}
    assert planned.num_bytes == 8
    assert not store.has_scratch("crawl", one.key)
    assert store.has_scratch("crawl", "2" * 64)


def test_copies_of_what_is_not_kept_go(store: Store):
    if store.is_local:
        pytest.skip("a store in a folder makes no copies")
    keep, drop = make(store, "crawl", "1", text="keep"), make(store, "crawl", "2", text="drop")
    collect(store, [run_of(store, "amber-9", keep)])
    assert store.path_of(keep).is_dir()
    assert not store.path_of(drop).exists()


def test_the_rest_of_a_write_that_was_cut_off_goes_after_a_day(folder: Store):
    one = make(folder, "crawl", "1")
    runs = [run_of(folder, "amber-9", one)]
    rest = Path(folder.root.url) / place_of("crawl", one.key) / ".000002.json.abcd1234.tmp"
    rest.write_text("half")
    assert collect(folder, runs).delete == ()
    os.utime(rest, (time.time() - 2 * DAY_S,) * 2)
    assert [item.kind for item in collect(folder, runs).delete] == ["rest"]
    assert not rest.exists()


def test_a_run_that_begins_meanwhile_stops_the_collection(store: Store):
    first, second = make(store, "crawl", "1"), make(store, "crawl", "2")
    answers = iter([True, False])
    assert not apply(store, sweep(store, Roots()), lambda: nullcontext(next(answers)))
    assert store.lookup("crawl", first.key).manifest is None
    assert store.lookup("crawl", second.key).manifest == second


def test_a_key_that_is_taken_before_its_turn_is_left_alone(store: Store):
    one = make(store, "crawl", "1")
    planned = sweep(store, Roots())
    assert isinstance(store.acquire("crawl", one.key, "amber-2"), Lease | Seen)
    apply(store, planned, lambda: nullcontext(True))
    assert store.lookup("crawl", one.key).manifest == one
