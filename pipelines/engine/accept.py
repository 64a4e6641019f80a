"""Declares artifacts valid for the code as it is now: `headwater accept`.

A change of code that cannot change the result (a log line, a faster loop) need not cost a week of training. What may be
accepted is narrow: the same step, version, config and input bytes, and nothing but code differs. Who accepted it and
why is on record for good. Where code is part of the key, the record is an alias: a manifest under the new key that
names the old files. Where it is not, it is an acceptance of this change, from one digest to the other. Steps below need
nothing: they are found by the bytes they read.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from components.errors import ConfigError
from pipelines.engine.acceptance import record_acceptance
from pipelines.engine.draft import draft, source_state
from pipelines.engine.manifest import Manifest, Origin
from pipelines.engine.plan import Plan, PlanEntry, make_plan
from pipelines.engine.reasons import Reason
from pipelines.engine.step import Step
from pipelines.engine.store import Store


@dataclass(frozen=True)
class Accepted:
    """What was accepted.

    Attributes:
        step: The step.
        key: Recipe key it is valid under now.
        made: The manifest of the artifact, made by older code.
        files: Source files that changed since.
    """

    step: str
    key: str
    made: Manifest
    files: tuple[str, ...]


def accept(steps: Iterable[Step], store: Store, names: Iterable[str], by: str, reason: str) -> list[Accepted]:
    """Accepts the newest artifact of each named step for the code as it is now; all of them or none.

    Args:
        steps: The steps of the recipe, with the settings of the artifacts.
        store: Where the artifacts are.
        names: Steps to accept.
        by: Name of the user.
        reason: Why, in words.

    Raises:
        ConfigError: If anything but code differs, or nothing does.
        MachineError: If another run is building the artifact just now.
    """
    plan = make_plan(steps, store, code="warn")  # under which artifacts of other code are shown
    wanted = list(dict.fromkeys(names))
    for name in wanted:
        _check(plan, name)
    return [_accept(plan[name], store, by, reason) for name in wanted]


def changed_files(entry: PlanEntry) -> tuple[str, ...]:
    """Source files that changed since a kept artifact was made."""
    return tuple(reason.name for reason in entry.reasons if reason.kind == "kept")


def _check(plan: Plan, name: str) -> None:
    if name not in plan:
        known = ", ".join(entry.name for entry in plan.entries)
        raise ConfigError(f"There is no step {name}.", f"accept {name}", f"the steps are {known}")
    entry = plan[name]
    if entry.state == "cached" and not changed_files(entry):
        why = f"it is {entry.reason}" if entry.reason else "its artifact was made by this code"
        raise ConfigError(f"There is nothing to accept of {name}: {why}.", f"step {name}", "headwater plan")
    if entry.made is None:
        raise ConfigError(
            f"The artifact of {name} cannot be accepted, more than code differs: {_other(entry.reasons)}.",
            f"step {name}",
            f"headwater explain {name} tells all; give the settings it was made with, or run it",
        )


def _other(reasons: Iterable[Reason]) -> str:
    """What differs besides code."""
    others = [reason.text for reason in reasons if reason.kind not in ("code", "scratch")]
    return "; ".join(others) or "no artifact has this config and these inputs"


def _accept(entry: PlanEntry, store: Store, by: str, reason: str) -> Accepted:
    made = entry.made
    assert made is not None
    files = changed_files(entry)
    if made.key == entry.key:
        record_acceptance(store, entry.name, made.key, made.code_digest, entry.code.digest, by, reason)
    else:
        _alias(entry, made, store, by, reason)
    return Accepted(entry.name, entry.key, made, files)


def _alias(entry: PlanEntry, made: Manifest, store: Store, by: str, reason: str) -> None:
    lease = store.take(entry.name, entry.key, "accept", "accept")
    origin = Origin("accepted", made.step, made.key, made.epoch, by, reason)
    store.alias(lease, draft(entry, entry.contents or {}, made.run, source_state()), made, origin)
