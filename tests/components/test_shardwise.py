"""Work over shards: waves, parts that are done once, files that appear in the output."""

from __future__ import annotations

import dataclasses
import errno
import os
from pathlib import Path

import pytest

from components.configuring import runtime
from components.context import local_context
from components.publish import publish, publish_bytes
from components.shardwise import dropped_by_rule, link_tree, map_in_waves, metrics_of, once, rules_told, work_folder

SUMMARY: dict[str, object] = {
    "read": 10,
    "kept": 8,
    "chars": 800,
    "dropped": {"language": 1, "min_chars": 1, "max_chars": 0},
    "languages": {"en": 4, "zh": 2, "de": 1, "fr": 1},
}


@pytest.mark.parametrize("wave", [1, 3, 100])
def test_waves_of_any_size_give_the_results_in_order(tmp_path: Path, wave: int) -> None:
    context = local_context("step", tmp_path)
    assert map_in_waves(context, lambda item: item * 2, range(10), wave, "items") == [item * 2 for item in range(10)]


def test_work_with_a_part_is_not_done_again(tmp_path: Path) -> None:
    assert once(tmp_path / "part.json", lambda: {"kept": 1}) == {"kept": 1}
    assert once(tmp_path / "part.json", lambda: {"kept": 2}) == {"kept": 1}


def test_work_that_fails_leaves_no_part(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        once(tmp_path / "part.json", lambda: {"kept": 1 // 0})
    assert once(tmp_path / "part.json", lambda: {"kept": 2}) == {"kept": 2}


@pytest.mark.parametrize("links", [True, False])
def test_a_tree_appears_in_the_output_with_or_without_hard_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EXDEV, "another file system")

    if not links:
        monkeypatch.setattr(os, "link", refuse)
    (tmp_path / "work" / "documents").mkdir(parents=True)
    (tmp_path / "work" / "documents" / "shard").write_bytes(b"rows")
    link_tree(tmp_path / "work", tmp_path / "output")
    assert (tmp_path / "output" / "documents" / "shard").read_bytes() == b"rows"
    assert (tmp_path / "work" / "documents" / "shard").exists()


def test_what_a_killed_worker_had_not_finished_does_not_appear(tmp_path: Path) -> None:
    worker = os.fork()
    if not worker:
        with publish(tmp_path / "work" / "shard") as draft:
            draft.write_bytes(b"half")
            os._exit(0)
    os.waitpid(worker, 0)
    publish_bytes(tmp_path / "work" / "shard", b"rows")
    link_tree(tmp_path / "work", tmp_path / "output")
    assert len(list((tmp_path / "work").iterdir())) == 2
    assert [path.name for path in (tmp_path / "output").iterdir()] == ["shard"]


def test_metrics_tell_counts_and_the_shares_of_the_three_most_frequent_languages() -> None:
    shares = {"share_en": 0.5, "share_zh": 0.25, "share_de": 0.125}
    assert metrics_of(SUMMARY) == {"read": 10, "kept": 8, "dropped": 2, "chars": 800} | shares


def test_rules_are_told_by_how_much_they_dropped() -> None:
    summary = SUMMARY | {"dropped": {"a": 1, "b": 7, "c": 7, "d": 2}}
    assert dropped_by_rule(summary) == [("b", 7), ("c", 7), ("d", 2), ("a", 1)]
    assert rules_told(summary) == "rule b dropped 7, rule c dropped 7, rule d dropped 2"


@dataclasses.dataclass(frozen=True)
class Settings:
    """A config with an identity field and a runtime field."""

    threshold: int = 1
    workers: int = runtime(2)


def test_a_folder_of_work_belongs_to_one_version_setting_and_input(tmp_path: Path) -> None:
    context = local_context("step", tmp_path)
    shard = tmp_path / "shard"
    shard.write_bytes(b"rows")
    folder = work_folder(context, 1, Settings(), [shard])
    folder.mkdir()
    assert work_folder(context, 1, Settings(workers=9), [shard]) == folder
    assert folder.exists()
    assert work_folder(context, 2, Settings(), [shard]) != folder
    assert not folder.exists()
    assert work_folder(context, 1, Settings(threshold=2), [shard]) != folder
    shard.write_bytes(b"more rows")
    assert work_folder(context, 1, Settings(), [shard]) != folder
