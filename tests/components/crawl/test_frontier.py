"""The frontier: every URL once, in order, with its end."""

from pathlib import Path

import pytest

from components.crawl.frontier import FEED, PAGE, SITEMAP, End, Found, Frontier, Position
from components.crawl.step import full_database
from components.errors import MachineError

HOST = "e.com"


@pytest.fixture
def frontier(tmp_path: Path) -> Frontier:
    return Frontier(tmp_path / "frontier.sqlite")


def _urls(*names: str) -> list[str]:
    return [f"http://{HOST}/{name}" for name in names]


def _add(frontier: Frontier, *names: str, depth: int = 0) -> dict[str, int]:
    return frontier.add(Found(url, depth) for url in _urls(*names))


def test_a_url_is_added_once(frontier: Frontier):
    assert _add(frontier, "a", "b", "a") == {HOST: 50}
    assert _add(frontier, "b") == {}
    assert frontier.number(PAGE, "pending") == 2


def test_shallow_pages_come_first_then_the_order_of_discovery(frontier: Frontier):
    _add(frontier, "deep", depth=3)
    _add(frontier, "b", "a", depth=1)
    taken = [frontier.take(HOST, 2, 9, 0.0), frontier.take(HOST, 2, 9, 0.0), frontier.take(HOST, 2, 9, 0.0)]
    assert [[entry.url for entry in some] for some in taken] == [_urls("b", "a"), _urls("deep"), []]


def test_rank_comes_before_depth(frontier: Frontier):
    _add(frontier, "shallow", depth=1)
    assert frontier.add([Found(_urls("ranked")[0], 3, priority=70)]) == {HOST: 70}
    assert [entry.url for entry in frontier.take(HOST, 2, 9, 0.0)] == _urls("ranked", "shallow")


def test_a_page_that_is_named_as_a_list_becomes_one(frontier: Frontier):
    _add(frontier, "feed")
    frontier.end(frontier.take(HOST, 1, 9, 0.0)[0], End("refused", "content type"))
    frontier.add([Found(_urls("feed")[0], 1, FEED)])
    assert [entry.kind for entry in frontier.take(HOST, 2, 9, 0.0)] == [FEED]
    assert (frontier.number(PAGE, "refused"), frontier.number(FEED, "active")) == (0, 1)


def test_what_is_for_others_is_sent_once_unless_it_gets_better(frontier: Frontier):
    other = "http://o.com/a"
    frontier.send([Found(other, 5), Found(other, 7)])
    assert [(one.url, one.depth) for one in frontier.unsent()] == [(other, 5)]
    frontier.mark_sent()
    frontier.send([Found(other, 6)])
    assert list(frontier.unsent()) == []
    frontier.send([Found(other, 2)])
    assert [(one.url, one.depth) for one in frontier.unsent()] == [(other, 2)]


def test_a_page_with_a_shorter_way_is_told_once(frontier: Frontier):
    _add(frontier, "a", depth=5)
    frontier.end(frontier.take(HOST, 1, 9, 0.0)[0], End("fetched"))
    _add(frontier, "a", depth=3)
    assert [way[:3] for way in frontier.shorter_ways(9)] == [(_urls("a")[0], 3, "fetched")]
    assert frontier.shorter_ways(9) == []


def test_a_shorter_way_to_a_pending_page_counts(frontier: Frontier):
    _add(frontier, "a", depth=5)
    _add(frontier, "a", depth=2)
    _add(frontier, "a", depth=4)
    assert frontier.take(HOST, 1, 2, 0.0)[0].depth == 2


def test_what_lies_too_deep_or_is_not_due_is_not_handed_out(frontier: Frontier):
    _add(frontier, "a", depth=5)
    assert frontier.take(HOST, 1, 4, 0.0) == []
    entry = frontier.take(HOST, 1, 5, 0.0)[0]
    frontier.put_back(entry, due=100.0, attempts=1)
    assert frontier.take(HOST, 1, 5, 99.0) == []
    assert frontier.next_due(HOST, 5) == 100.0
    assert frontier.take(HOST, 1, 5, 100.0)[0].attempts == 1


def test_a_refused_url_is_only_noted(frontier: Frontier):
    assert frontier.add([Found(_urls("a")[0], 0, refusal="scope")]) == {}
    assert frontier.take(HOST, 1, 9, 0.0) == []
    assert frontier.summary(PAGE)["refused"] == {"scope": 1}


def test_counts_by_reason_survive_reopening(tmp_path: Path, frontier: Frontier):
    _add(frontier, "a", "b", "c", "d")
    frontier.add([Found(_urls("s")[0], 0, SITEMAP)])
    for entry in frontier.take(HOST, 3, 9, 0.0):
        reason = "status 404" if entry.url.endswith("b") else ""
        frontier.end(entry, End("failed" if reason else "fetched", reason, body_bytes=7))
    frontier.refuse_rest("page cap")
    before = frontier.summary(PAGE), frontier.summary(SITEMAP), frontier.body_bytes()
    frontier.close()
    again = Frontier(tmp_path / "frontier.sqlite")
    assert (again.summary(PAGE), again.summary(SITEMAP), again.body_bytes()) == before
    assert before[0] == {
        "fetched": {"ok": 2},
        "failed": {"status 404": 1},
        "refused": {"page cap": 1},
        "redirected": {},
    }
    assert before[2] == 14


def test_what_was_on_its_way_in_a_crash_is_pending_again(tmp_path: Path, frontier: Frontier):
    _add(frontier, "a", "b")
    frontier.commit()
    frontier.take(HOST, 1, 9, 0.0)
    frontier.commit()
    frontier.take(HOST, 1, 9, 0.0)  # Not committed, and the connection is dropped.
    again = Frontier(tmp_path / "other.sqlite")
    again.close()
    reopened = _reopened(tmp_path / "frontier.sqlite", frontier)
    assert [entry.url for entry in reopened.take(HOST, 5, 9, 0.0)] == _urls("a", "b")


def _reopened(path: Path, frontier: Frontier) -> Frontier:
    frontier._database.rollback()
    frontier._database.close()
    return Frontier(path)


def test_pages_whose_records_were_lost_are_fetched_again(frontier: Frontier):
    _add(frontier, "a", "b")
    for number, entry in enumerate(frontier.take(HOST, 2, 9, 0.0)):
        frontier.end(entry, End("fetched", position=Position("p-1.warc.gz", number * 10, number * 10 + 10)))
    assert frontier.recorded() == {"p-1.warc.gz": 20}
    frontier.forget_records("p-1.warc.gz", 15)
    assert frontier.recorded() == {"p-1.warc.gz": 10}
    assert [entry.url for entry in frontier.take(HOST, 5, 9, 0.0)] == _urls("b")


def test_a_full_disk_is_told_in_a_sentence(frontier: Frontier, tmp_path: Path):
    frontier._database.execute("PRAGMA max_page_count = 20")
    with pytest.raises(MachineError, match="disk is full"), full_database(tmp_path):
        _add(frontier, *(f"{number:0>1000}" for number in range(1000)))
