"""Lanes and the rota: whose turn it is, and what is forgotten when nothing waits."""

import math
import time
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from components.crawl.config import CrawlConfig
from components.crawl.frontier import Frontier, RobotsAnswer
from components.crawl.lanes import ROBOTS_HOLD_S, Lane, Rota, open_lane, read_manners


@given(st.lists(st.sampled_from("abc")))
def test_everybody_has_one_turn_in_order(names: list[str]):
    rota = Rota()
    for name in names:
        rota.nudge(name)
    turns = []
    while (host := rota.next()) is not None:
        turns.append(host)
    assert turns == list(dict.fromkeys(names))
    assert rota.next_in_s() == math.inf


def test_a_later_turn_comes_when_its_time_has_come():
    rota = Rota()
    rota.nudge_in("late", 30.0)
    rota.nudge_in("soon", 0.05)
    rota.nudge_in("soon", 20.0)
    assert rota.next() is None
    assert 0 < rota.next_in_s() <= 0.05
    time.sleep(0.06)
    assert rota.next() == "soon"
    assert rota.next() is None
    assert 20 < rota.next_in_s() <= 30


def test_a_lane_that_is_closed_and_opened_again_keeps_its_pause(tmp_path: Path):
    frontier = Frontier(tmp_path / "frontier.sqlite")
    frontier.note_host("e.com", time.time() + 20)
    assert 15 < open_lane("e.com", frontier).ready_in_s() <= 20


def test_a_lane_is_idle_only_when_nothing_would_be_lost():
    lane = Lane("e.com")
    assert not lane.is_idle()
    lane.look_at = None
    assert lane.is_idle()
    closed = RobotsAnswer(0, b"", "robots.txt: no answer", time.time())
    lane.manners["http://e.com/robots.txt"] = read_manners(closed, CrawlConfig())
    assert not lane.is_idle()


def test_manners_hold_for_a_day():
    manners = read_manners(RobotsAnswer(200, b"", "", 1000.0), CrawlConfig())
    assert manners.hold(1000.0 + ROBOTS_HOLD_S - 1)
    assert not manners.hold(1000.0 + ROBOTS_HOLD_S + 1)


def test_rules_for_ai_are_read_only_where_the_settings_say_so():
    answer = RobotsAnswer(200, b"User-agent: *\nContent-Signal: ai-train=no\n", "", 0.0)
    assert read_manners(answer, CrawlConfig()).refusal("http://e.com/a", "Headwater") == "robots ai"
    assert read_manners(answer, CrawlConfig(ai_rules=False)).refusal("http://e.com/a", "Headwater") == ""
