"""The record that a person declared an artifact valid for newer code than made it.

It is needed where code is no part of the key (policies "warn" and "fail"): the artifact is found anyway, and the record
tells the plan that the change of code between exactly these two digests was looked at. It is created once and never
changed. Under the policy "rerun" an alias in the store says the same, see `accept`.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass

from pipelines.engine.identity import KEY_CHARS
from pipelines.engine.store import Store


@dataclass(frozen=True)
class Acceptance:
    """Who declared it and why.

    Attributes:
        by: Name of the user.
        reason: Why, in words; may be empty.
        time: Unix time.
        made: Digest of the code that made the artifact.
        accepted: Digest of the code it is declared valid for.
    """

    by: str
    reason: str
    time: float
    made: str
    accepted: str

    @property
    def text(self) -> str:
        """As the plan shows it."""
        return accepted_text(self.by, self.reason)


def accepted_text(by: str, reason: str) -> str:
    """How the plan tells of an acceptance."""
    return f"accepted by {by}" + (f": {reason}" if reason else "")


def find_acceptance(store: Store, step: str, key: str, made: str, now: str) -> Acceptance | None:
    """The record for an artifact and the code as it is now.

    Args:
        store: Where to look.
        step: Name of the step.
        key: Recipe key of the artifact.
        made: Digest of the code that made it.
        now: Digest of the code as it is now.
    """
    text = store.root.read(_name(step, key, made, now))
    if text is None:
        return None
    try:
        found = Acceptance(**json.loads(text))
    except (ValueError, TypeError):
        return None  # a damaged record accepts nothing
    return found if (found.made, found.accepted) == (made, now) else None


def record_acceptance(store: Store, step: str, key: str, made: str, now: str, by: str, reason: str) -> Acceptance:
    """Writes the record; one that is there already stays."""
    mine = Acceptance(by, reason, round(time.time(), 3), made, now)
    store.root.create(_name(step, key, made, now), json.dumps(asdict(mine), sort_keys=True).encode())
    return find_acceptance(store, step, key, made, now) or mine


def _name(step: str, key: str, made: str, now: str) -> str:
    return f"acceptances/{step}/{key[:KEY_CHARS]}/{made[:KEY_CHARS]}-{now[:KEY_CHARS]}.json"
