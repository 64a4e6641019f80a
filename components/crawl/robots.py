"""What a host's robots.txt permits, as RFC 9309 has it, plus Crawl-delay and Request-rate, which it leaves out.

A file that is not there (4xx) permits everything; one that cannot be had (5xx, 429, no connection) closes the host,
because a site in trouble must not be taken for one without rules.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from protego import Protego

MAX_ROBOTS_BYTES = 512_000


@dataclass(frozen=True)
class Robots:
    """The rules of one host.

    Attributes:
        rules: The parsed file; None where there is none.
        closed: Why nothing may be fetched; empty if the rules decide.
    """

    rules: Protego | None = None
    closed: str = ""

    def allows(self, url: str, agent: str) -> bool:
        """Whether `agent` may fetch a URL of this host."""
        return not self.closed and (self.rules is None or bool(self.rules.can_fetch(url, agent)))

    def gap_s(self, agent: str) -> float:
        """Least number of seconds between two requests that the file asks of `agent`."""
        if self.rules is None:
            return 0.0
        delay = self.rules.crawl_delay(agent) or 0.0
        rate = self.rules.request_rate(agent)
        if rate is not None and rate.requests > 0:
            delay = max(delay, rate.seconds / rate.requests)
        return max(0.0, delay) if math.isfinite(delay) else 0.0

    def sitemaps(self) -> list[str]:
        """URLs of the sitemaps the file names."""
        return [] if self.rules is None else list(self.rules.sitemaps)


def read_robots(status: int, body: bytes) -> Robots:
    """Reads an answer to a request for robots.txt (redirects already followed)."""
    from protego import Protego

    if status == 429 or status >= 500:
        return Robots(closed=f"robots.txt answered {status}")
    if not 200 <= status < 300:
        return Robots()
    text = body[:MAX_ROBOTS_BYTES].decode("utf-8", errors="replace").removeprefix("\ufeff")
    return Robots(rules=Protego.parse(text))
