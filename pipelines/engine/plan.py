"""What a run would do, before it does anything: each step cached, to run or left out, why, and what it will take.

The plan needs the recipe, the store and the source files; it imports neither Ray nor torch, so a fully cached run is
over in a fraction of a second. The reason for a run is the difference to the artifact of the same step that comes
closest: the config fields that changed, the inputs that changed, the source files that changed.

Whether code is part of a key is the step's own policy; the run-wide one (`code=fail`) only says what a change of code
does to artifacts that are there, so that keys are the same in every run. A step below one that runs is planned to run
too: the driver looks again once its inputs are there, and keeps its artifact where their bytes came out equal.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal, TypeAlias

from components.context import Json
from components.errors import ConfigError
from pipelines.engine.acceptance import accepted_text, find_acceptance
from pipelines.engine.code_digest import CodeDigest, Sources, code_digest
from pipelines.engine.estimate import Cost, History, cost_of
from pipelines.engine.identity import content_key, recipe_key, redacted
from pipelines.engine.manifest import InputRecord, Manifest
from pipelines.engine.reasons import Basis, Reason, differences, nearest, one_line, shortened
from pipelines.engine.select import EVERYTHING, Selected, Selection, select
from pipelines.engine.step import CodePolicy, Step, ordered
from pipelines.engine.store import Found, Store

PlanState: TypeAlias = Literal["cached", "runs", "left_out"]
RunPolicy: TypeAlias = Literal["step", "rerun", "warn", "fail"]

_SKIP = "--skip"


@dataclass(frozen=True)
class PlanEntry:
    """What happens to one step.

    Attributes:
        name: The step.
        key: Recipe key, 64 hex characters; tables and paths show the first 16.
        state: "cached", "runs", or "left_out" by the selection with no artifact to show for it.
        reasons: Why it runs or is left out; for a cached step what is worth knowing, or nothing.
        estimate_s: Expected seconds; None if it never ran. 0 for a step that does not run.
        step: The step itself.
        identity: Identity fields of its config, secrets and all.
        input_keys: Recipe keys (content digests of external files) by input name.
        contents: Content digests of its inputs by name; None while one of them is still to be made.
        code: Digest of its code, file by file.
        made: The manifest of a cached step's artifact; its key differs where inputs with equal bytes made it.
        artifact: The artifact folder of a cached step.
        forced: It runs although there is an artifact that would do.
    """

    name: str
    key: str
    state: PlanState
    reasons: tuple[Reason, ...]
    estimate_s: float | None
    step: Step
    identity: Mapping[str, Json]
    input_keys: Mapping[str, str]
    contents: Mapping[str, str] | None
    code: CodeDigest
    made: Manifest | None = None
    artifact: Path | None = None
    forced: bool = False

    @property
    def reason(self) -> str:
        """The reasons on one line: "config min_chars 100 -> 200; input clean"."""
        return one_line(self.reasons)

    @property
    def producer_run(self) -> str:
        """The run that made the artifact of a cached step; else empty."""
        return self.made.run if self.made else ""

    @property
    def producer_s(self) -> float | None:
        """Seconds that took."""
        return self.made.seconds if self.made else None

    @property
    def metrics(self) -> Mapping[str, float]:
        """Final metrics of a cached step."""
        return self.made.metrics if self.made else {}

    @property
    def cost(self) -> Cost:
        """What it will take up; nothing where that is unknown."""
        return cost_of(self.step.resources, self.estimate_s or 0.0)


@dataclass(frozen=True)
class Plan:
    """The steps of a recipe in an order in which they can run.

    Attributes:
        entries: What happens to each.
        selection: What was asked for.
        code: What a change of code does in this run.
    """

    entries: tuple[PlanEntry, ...]
    selection: Selection = EVERYTHING
    code: RunPolicy = "step"

    def __getitem__(self, name: str) -> PlanEntry:
        """The entry of a step."""
        return self._by_name[name]

    def __contains__(self, name: object) -> bool:
        """Tells whether there is a step of that name."""
        return name in self._by_name

    @cached_property
    def _by_name(self) -> dict[str, PlanEntry]:
        return {entry.name: entry for entry in self.entries}

    @property
    def to_run(self) -> tuple[PlanEntry, ...]:
        """The entries that run."""
        return tuple(entry for entry in self.entries if entry.state == "runs")

    @property
    def untimed(self) -> tuple[PlanEntry, ...]:
        """The entries that run and of which nobody knows how long."""
        return tuple(entry for entry in self.to_run if entry.estimate_s is None)

    @property
    def estimate_s(self) -> float | None:
        """Seconds of all steps to run one after the other; None if the time of one is unknown."""
        return None if self.untimed else sum(entry.estimate_s or 0.0 for entry in self.to_run)

    @property
    def critical_s(self) -> float | None:
        """Seconds of the longest path through the steps to run; None if the time of one is unknown."""
        if self.untimed:
            return None
        ends: dict[str, float] = {}
        for entry in self.entries:
            ready = max((ends[name] for name in entry.step.producers), default=0.0)
            ends[entry.name] = ready + (entry.estimate_s or 0.0)
        return max(ends.values(), default=0.0)

    @property
    def cost(self) -> Cost:
        """What all steps to run take up, as far as that is known."""
        return sum((entry.cost for entry in self.to_run), Cost())

    def to_json(self) -> dict[str, Json]:
        """As `plan.json` of the run folder; source files are listed once per code digest."""
        return {
            "schema": 2,
            "steps": [_entry_json(entry) for entry in self.entries],
            "code": {entry.code.digest: dict(entry.code.files) for entry in self.entries},
            "code_policy": self.code,
            "selection": self.selection.to_json(),
        }


def make_plan(steps: Iterable[Step], store: Store, selection: Selection = EVERYTHING, code: RunPolicy = "step") -> Plan:
    """Decides which steps are cached and why the others run.

    Args:
        steps: The steps of a recipe, in any order.
        store: Where artifacts are looked for.
        selection: Which steps may run, and which run although they are cached.
        code: What a change of code does in this run: "step" leaves it to each step's own policy.

    Raises:
        ConfigError: If the steps form no graph, a config has no identity, a selected step needs one that is left out
            and not cached, or code changed where that is refused.
    """
    ordered_steps = ordered(steps)
    selected = select(selection, {step.name: step.producers for step in ordered_steps})
    sources = Sources(store.workspace / "cache" / "sources.json")
    planner = _Planner(store, History(store), selected, code)
    for step in ordered_steps:
        planner.add(_asked(step, planner.entries, sources))
    sources.keep()
    planner.refuse_changed_code()
    return Plan(tuple(planner.entries.values()), selection, code)


def usable(store: Store, step: str, key: str, wanted: str) -> Found:
    """The artifact a step would make of its inputs as they are now: under its own key, or under that of equal inputs.

    Args:
        store: Where to look.
        step: Name of the step.
        key: Its recipe key.
        wanted: Its content key: an artifact that was made of other bytes does not count.
    """
    found = store.lookup(step, key)
    if found.manifest is not None and found.manifest.content_key == wanted:
        return found
    equal = store.by_content(step, wanted)
    return equal if equal.manifest is not None else Found(problem=found.problem)


@dataclass(frozen=True)
class _Asked:
    """A step with all that identifies it; `content_key` is None while an input is still to be made."""

    step: Step
    identity: Mapping[str, Json]
    code: CodeDigest
    input_keys: Mapping[str, str]
    key: str
    contents: Mapping[str, str] | None
    content_key: str | None

    @property
    def basis(self) -> Basis:
        contents = self.contents or {}
        inputs = {
            name: InputRecord(artifact.name, self.input_keys[name], contents.get(name, ""))
            for name, artifact in self.step.inputs.items()
        }
        return Basis(self.step.version, redacted(self.identity), inputs, self.code.files)


def _asked(step: Step, before: Mapping[str, PlanEntry], sources: Sources) -> _Asked:
    identity, code = step.identity, code_digest(step.fn, sources)
    inputs = {name: artifact.digest or before[artifact.name].key for name, artifact in sorted(step.inputs.items())}
    contents = _contents(step, before)
    counted = code.digest if step.code == "rerun" else None
    key = recipe_key(step.name, step.version, identity, inputs, counted)
    wanted = None if contents is None else content_key(step.name, step.version, identity, contents, counted)
    return _Asked(step, identity, code, inputs, key, contents, wanted)


def _contents(step: Step, before: Mapping[str, PlanEntry]) -> dict[str, str] | None:
    """Content digests of the inputs; None while one of them is still to be made."""
    contents: dict[str, str] = {}
    for name, artifact in sorted(step.inputs.items()):
        made = None if artifact.digest else before[artifact.name].made
        if not artifact.digest and made is None:
            return None
        contents[name] = artifact.digest or (made.content if made else "")
    return contents


@dataclass
class _Planner:
    """Plans step after step, producers first."""

    store: Store
    history: History
    selected: Selected
    code: RunPolicy
    entries: dict[str, PlanEntry] = field(default_factory=dict)
    skipped: set[str] = field(default_factory=set)
    refused: dict[str, list[str]] = field(default_factory=dict)

    def add(self, asked: _Asked) -> None:
        name = asked.step.name
        active, forced = name in self.selected.steps, name in self.selected.forced
        found = self._find(asked, active)
        changed, notes = self._drift(asked, found.manifest)
        rebuilt = bool(changed) and active and self._policy(asked.step) == "rerun"
        if found.manifest is not None and not forced and not rebuilt:
            if changed and active and self._policy(asked.step) == "fail":
                self.refused[name] = [reason.name for reason in changed]
            self.entries[name] = self._entry(asked, "cached", notes, made=found)
        elif left_out := self._left_out(asked, active):
            self.entries[name] = self._entry(asked, "left_out", [left_out])
        else:
            reasons = self._why(asked, found, changed if rebuilt else [], forced)
            self.entries[name] = self._entry(asked, "runs", reasons, forced=forced or rebuilt)

    def refuse_changed_code(self) -> None:
        """Ends a plan in which code changed that must not."""
        if not self.refused:
            return
        names = list(self.refused)
        files = "; ".join(f"{name}: {shortened(files)}" for name, files in self.refused.items())
        where = f"code={self.code}" if self.code == "fail" else f"the policy code=fail of step {names[0]}"
        raise ConfigError(
            f"The code of {', '.join(names)} changed since the artifact was made ({files}).",
            where,
            f"`headwater accept {' '.join(names)}` keeps what is there, `headwater run --force {','.join(names)}` "
            "builds it again",
        )

    def _policy(self, step: Step) -> CodePolicy:
        return step.code if self.code == "step" else self.code

    def _find(self, asked: _Asked, active: bool) -> Found:
        """The artifact that would do. Where an input is left out and gone, the recipe key alone has to do."""
        name = asked.step.name
        if asked.content_key is None:
            gone = any(self.entries[producer].state == "left_out" for producer in asked.step.producers)
            return self.store.lookup(name, asked.key) if gone or not active else Found()
        found = usable(self.store, name, asked.key, asked.content_key)
        if found.manifest is None and asked.step.code == "rerun" and self._policy(asked.step) != "rerun":
            return self._of_other_code(asked) or found
        return found

    def _of_other_code(self, asked: _Asked) -> Found | None:
        for manifest in self.history.of(asked.step.name):
            if not differences(Basis.of(manifest), asked.basis, with_code=False):
                found = self.store.lookup(manifest.step, manifest.key)
                if found.manifest is not None and found.manifest.epoch == manifest.epoch:
                    return found
        return None

    def _drift(self, asked: _Asked, made: Manifest | None) -> tuple[list[Reason], list[Reason]]:
        """Source files that changed since and that nobody accepted; and what to tell of a cached step."""
        if made is None:
            return [], []
        before, now = made.code_files, asked.code.files
        if made.code_digest == asked.code.digest:
            accepted = made.origin is not None and made.origin.kind == "accepted"
            told = accepted_text(made.origin.by, made.origin.reason) if accepted and made.origin else ""
            return [], [Reason("accepted", told)] if told else []
        for key in (made.key, made.origin.key) if made.origin else (made.key,):
            record = find_acceptance(self.store, made.step, key, made.code_digest, asked.code.digest)
            if record is not None:
                return [], [Reason("accepted", record.text)]
        names = asked.code.changed(before)
        return (
            [Reason("code", name, before.get(name), now.get(name)) for name in names],
            [Reason("kept", name, before.get(name), now.get(name)) for name in names],
        )

    def _left_out(self, asked: _Asked, active: bool) -> Reason | None:
        """Why a step that is not cached cannot run here; None if it can.

        Raises:
            ConfigError: If it was selected and what it needs was not.
        """
        name = asked.step.name
        blocking = [producer for producer in asked.step.producers if self.entries[producer].state == "left_out"]
        if not active:
            option = self.selected.left_out[name]
            if option == _SKIP:
                self.skipped.add(name)
            return Reason("left_out", f"by {option}")
        if not blocking:
            return None
        if all(producer in self.skipped for producer in blocking):
            self.skipped.add(name)
            return Reason("left_out", f"needs {blocking[0]}, which is left out and not cached")
        missing = next(producer for producer in blocking if producer not in self.skipped)
        option = self.selected.left_out.get(missing, "the selection")
        raise ConfigError(
            f"Step {name} needs the artifact of {missing}, which {option} leaves out and which is not cached.",
            f"step {name}",
            f"run {missing} first (headwater run --until {missing}), or select it too",
        )

    def _why(self, asked: _Asked, found: Found, changed: Sequence[Reason], forced: bool) -> list[Reason]:
        if changed:
            return list(changed)
        own = found if found.manifest is not None else self.store.lookup(asked.step.name, asked.key)
        if forced and own.manifest is not None:
            return [Reason("forced", "forced")]
        reasons = self._missing(asked, own)
        if self.store.has_scratch(asked.step.name, asked.key):
            reasons.append(Reason("scratch"))
        return reasons

    def _missing(self, asked: _Asked, own: Found) -> list[Reason]:
        """Why there is no artifact that would do, given what lies under the step's own key."""
        if own.problem:
            return [Reason("missing", own.problem)]
        if own.manifest is not None and asked.content_key is None:
            waiting = [name for name in asked.step.producers if self.entries[name].state == "runs"]
            return [Reason("rebuilt", name) for name in dict.fromkeys(waiting)]
        known = [own.manifest] if own.manifest else self.history.of(asked.step.name)
        if not known:
            return [Reason("never")]
        with_code = asked.step.code == "rerun"
        return nearest([differences(Basis.of(made), asked.basis, with_code) for made in known]) or [Reason("absent")]

    def _entry(
        self,
        asked: _Asked,
        state: PlanState,
        reasons: Sequence[Reason],
        made: Found | None = None,
        forced: bool = False,
    ) -> PlanEntry:
        step = asked.step
        return PlanEntry(
            name=step.name,
            key=asked.key,
            state=state,
            reasons=tuple(reasons),
            estimate_s=self.history.seconds_of(step.name, step.resources) if state == "runs" else 0.0,
            step=step,
            identity=asked.identity,
            input_keys=asked.input_keys,
            contents=asked.contents,
            code=asked.code,
            made=made.manifest if made else None,
            artifact=made.path if made else None,
            forced=forced,
        )


def _entry_json(entry: PlanEntry) -> dict[str, Json]:
    made = entry.made
    resources = entry.step.resources
    return {
        "name": entry.name,
        "key": entry.key,
        "state": entry.state,
        "reason": entry.reason,
        "reasons": [reason.to_json() for reason in entry.reasons],
        "forced": entry.forced,
        "producer_run": entry.producer_run,
        "made": {"key": made.key, "epoch": made.epoch, "content": made.content} if made else None,
        "estimate_s": entry.estimate_s,
        "resources": {"cpus": resources.total_cpus, "gpus": resources.total_gpus, "ranks": resources.ranks},
        "version": entry.step.version,
        "identity": redacted(entry.identity),
        "code": entry.code.digest,
        "policy": entry.step.code,
        "inputs": dict(entry.input_keys),
        "sources": {name: artifact.name for name, artifact in entry.step.inputs.items()},
        "producers": list(entry.step.producers),
    }
