"""A host's lane: its queue, and the manners that it is owed.

What must outlive the process is in the frontier: when the host may be asked again, and what its robots.txt said. So a
crawl that is killed, or that goes on in another process, neither asks too soon nor asks for the rules again.
"""

from __future__ import annotations

import heapq
import math
import time
from collections import deque
from dataclasses import dataclass, field

from components.crawl.ai_rules import AiRules, read_ai_rules
from components.crawl.config import CrawlConfig
from components.crawl.frontier import Entry, Frontier, RobotsAnswer
from components.crawl.robots import Robots, read_robots

ROBOTS_HOLD_S = 86_400.0
"""How long a robots.txt holds before it is read again (RFC 9309, section 2.4)."""
_LONGEST_PAUSE_S = 3600.0


@dataclass(frozen=True)
class Manners:
    """What one robots.txt asks for; `read_at` in seconds since 1970."""

    robots: Robots
    ai: AiRules
    read_at: float

    def refusal(self, url: str, agent: str) -> str:
        """Why a URL may not be fetched; empty if it may."""
        if self.robots.closed:
            return "robots unreachable"
        if not self.robots.allows(url, agent):
            return "robots"
        return "robots ai" if self.ai.refuses(url, self.robots) else ""

    def hold(self, now: float) -> bool:
        """Whether they need not be asked for again."""
        return abs(now - self.read_at) < ROBOTS_HOLD_S


@dataclass
class Lane:
    """One host's queue and manners.

    Attributes:
        host: Host, with its port unless it is the default one.
        manners: By URL of the robots.txt (http and https may differ).
        gap_s: Least time between the end of an answer and the next request.
        ready_at: Not before this reading of the monotonic clock.
        in_flight: Requests on their way.
        pages_in_flight: Those of them that are for pages.
        lists_in_flight: Those for sitemaps and feeds, which may tell that a page has changed.
        fetched: Pages fetched from it.
        queue: URLs taken from the frontier, not yet started.
        look_at: When to look in the frontier again (seconds since 1970); None while there is nothing there.
    """

    host: str
    manners: dict[str, Manners] = field(default_factory=dict)
    gap_s: float = 0.0
    ready_at: float = 0.0
    in_flight: int = 0
    pages_in_flight: int = 0
    lists_in_flight: int = 0
    fetched: int = 0
    queue: deque[Entry] = field(default_factory=deque)
    look_at: float | None = 0.0

    def expect(self, due: float) -> None:
        """Notes that the frontier has something for this lane from `due` on."""
        self.look_at = due if self.look_at is None else min(due, self.look_at)

    def is_idle(self) -> bool:
        """Whether nothing is on its way or waiting, and nothing is known that is not in the frontier too."""
        unsure = any(manners.robots.closed for manners in self.manners.values())
        return not (self.in_flight or self.queue or unsure) and self.look_at is None

    def pause(self, seconds: float) -> None:
        """Asks nothing for so long."""
        self.ready_at = max(self.ready_at, time.monotonic() + seconds)

    def ready_in_s(self) -> float:
        """Seconds until it may be asked again; 0 or less if it may be asked now."""
        return self.ready_at - time.monotonic()


class Rota:
    """Which lanes are to be looked at, now or later: a crawl of many hosts cannot look at all of them all the time."""

    def __init__(self) -> None:
        self._now: dict[str, None] = {}
        self._later: list[tuple[float, str]] = []
        self._alarms: dict[str, float] = {}

    def nudge(self, host: str) -> None:
        """Puts a host at the end of those to be looked at now, unless it is there already."""
        self._now.setdefault(host)

    def nudge_in(self, host: str, seconds: float) -> None:
        """Puts a host there after so long."""
        at = time.monotonic() + seconds
        if at < self._alarms.get(host, math.inf):
            self._alarms[host] = at
            heapq.heappush(self._later, (at, host))

    def next(self) -> str | None:
        """Takes off the host that is to be looked at next; None if it is nobody's turn."""
        while self._later and self._later[0][0] <= time.monotonic():
            at, due = heapq.heappop(self._later)
            if self._alarms.get(due) == at:
                del self._alarms[due]
                self.nudge(due)
        host = next(iter(self._now), None)
        if host is not None:
            del self._now[host]
        return host

    def next_in_s(self) -> float:
        """Seconds until it is somebody's turn; infinite if nobody waits."""
        if self._now:
            return 0.0
        return max(0.0, self._later[0][0] - time.monotonic()) if self._later else math.inf


def open_lane(host: str, frontier: Frontier) -> Lane:
    """A host's lane, as it was left when it was closed, or when an earlier process ended."""
    lane = Lane(host, fetched=frontier.number_on(host))
    lane.pause(min(frontier.host_ready_at(host) - time.time(), _LONGEST_PAUSE_S))
    return lane


def read_manners(answer: RobotsAnswer, config: CrawlConfig) -> Manners:
    """What a robots.txt that was answered so asks for."""
    if answer.closed:
        return Manners(Robots(closed=answer.closed), AiRules(), answer.read_at)
    robots = read_robots(answer.status, answer.body)
    if robots.rules is None or not config.ai_rules:
        return Manners(robots, AiRules(), answer.read_at)
    return Manners(robots, read_ai_rules(answer.body, config.user_agent, config.ai_agents), answer.read_at)
