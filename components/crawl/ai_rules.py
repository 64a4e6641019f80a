"""What a robots.txt says of use by AI, beyond who may fetch what.

Three lines are in use, and none is part of RFC 9309: `Content-Signal: ai-train=no` (contentsignals.org),
`Content-Usage: train-ai=n` (the IETF's aipref drafts) and `DisallowAITraining: /path`. Each belongs to the group of
user agents it stands in; the first two may begin with a path. Other owners write rules for the well-known collectors by
name: where a file names some of those and not us, what it refuses them it refuses us. A crawl for training keeps to all
of them: what is refused here is not fetched.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from components.crawl.robots import MAX_ROBOTS_BYTES, Robots

_REFUSES = re.compile(r"\b(?:ai-train|train-ai)\s*=\s*(no?|y(?:es)?)\b", re.IGNORECASE)


@dataclass(frozen=True)
class AiRules:
    """What one robots.txt says of training.

    Attributes:
        agents: Collectors it names, whose rules are ours too.
        training: Beginnings of paths -> whether what lies there may be trained on; the longest that fits counts.
    """

    agents: tuple[str, ...] = ()
    training: tuple[tuple[str, bool], ...] = ()

    def refuses(self, url: str, robots: Robots) -> bool:
        """Whether a normalised URL is refused; `robots` are the ordinary rules of the same file."""
        path = "/" + url.split("/", 3)[3]
        fitting = [(len(start), -allowed, allowed) for start, allowed in self.training if path.startswith(start)]
        if fitting and not max(fitting)[2]:
            return True
        return any(not robots.allows(url, agent) for agent in self.agents)


def read_ai_rules(body: bytes, agent: str, collectors: Sequence[str]) -> AiRules:
    """Reads a robots.txt.

    Args:
        body: The file.
        agent: Our own name in it.
        collectors: Names whose rules count where the file has none for us.
    """
    groups = _groups(body[:MAX_ROBOTS_BYTES].decode("utf-8", errors="replace").removeprefix("\ufeff"))
    named = {name for names, _ in groups for name in names}
    own = agent.lower() if agent.lower() in named else "*"
    training = tuple(rule for names, rules in groups if own in names for rule in rules)
    if own != "*":
        return AiRules((), training)
    return AiRules(tuple(one for one in collectors if one.lower() in named), training)


def _groups(text: str) -> list[tuple[set[str], list[tuple[str, bool]]]]:
    """User agents (in lower case) with what is said to them of training."""
    groups: list[tuple[set[str], list[tuple[str, bool]]]] = []
    in_names = False
    for line in text.splitlines():
        key, colon, value = line.partition("#")[0].partition(":")
        key, value = key.strip().lower(), value.strip()
        if not colon or key == "sitemap":
            continue
        if key == "user-agent":
            if not in_names:
                groups.append((set(), []))
            groups[-1][0].add(value.split("/")[0].strip().lower())
        elif groups:
            groups[-1][1].extend(_said(key, value))
        in_names = key == "user-agent"
    return groups


def _said(key: str, value: str) -> list[tuple[str, bool]]:
    if key == "disallowaitraining":
        return [(_start(value), False)] if value else []
    if key not in ("content-signal", "content-usage"):
        return []
    found = _REFUSES.search(value)
    return [(_start(value.split()[0]), found.group(1).lower().startswith("y"))] if found else []


def _start(path: str) -> str:
    """The fixed beginning of a path with wildcards; all paths where there is none."""
    return re.split(r"[*$]", path)[0] if path.startswith("/") else "/"
