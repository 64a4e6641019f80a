"""Why a step runs, as data and as words: the differences between what is wanted and what an artifact rests on.

The same comparison serves the plan (wanted against the artifact that comes closest), `explain` (every reason on its own
line) and `diff` (the plans of two runs).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from components.context import Json
from pipelines.engine.manifest import InputRecord, Manifest

Kind: TypeAlias = Literal[
    "never", "missing", "forced", "version", "config", "input", "bytes", "rebuilt", "code", "absent", "scratch",
    "kept", "accepted", "left_out",
]  # fmt: skip
ABSENT = "(absent)"
SHOWN = 3
"""Things of one kind that a line names; the rest is counted."""


@dataclass(frozen=True)
class Reason:
    """One reason why a step runs or does not.

    Attributes:
        kind: "never": it never ran. "missing": its artifact is gone or damaged. "forced": `--force` asks for it.
            "version", "config", "input", "code": the artifact that comes closest has another one. "bytes": an input of
            the same key has other bytes. "rebuilt": an input is built again, and the step is kept if that comes out
            equal. "absent": no artifact has its key. "scratch": it continues from an earlier attempt. "kept": its
            code changed since, which its policy allows. "accepted": a person declared it valid for the code as it is.
            "left_out": the selection leaves it out.
        name: The config field, the step of the input, the source file; else what there is to say.
        old: What the artifact has that comes closest.
        new: What is wanted.
    """

    kind: Kind
    name: str = ""
    old: Json = None
    new: Json = None

    @property
    def text(self) -> str:
        """The reason as one line of its own."""
        before, after = _shown(self.old, 200), _shown(self.new, 200)
        match self.kind:
            case "config":
                return f"config {self.name}: {before} -> {after}"
            case "input":
                return f"input {self.name}: {before[:12]} -> {after[:12]}"
            case "bytes":
                return f"input {self.name} has other bytes: {before[:12]} -> {after[:12]}"
            case "code":
                return f"code {self.name}: {before[:12]} -> {after[:12]}"
            case _:
                return one_line([self])

    def to_json(self) -> dict[str, Json]:
        """As `plan.json` keeps it."""
        return {"kind": self.kind, "name": self.name, "old": self.old, "new": self.new}


@dataclass(frozen=True)
class Basis:
    """What an artifact rests on.

    Attributes:
        version: Version of the step's function.
        identity: Identity fields of the config, secrets redacted.
        inputs: Inputs by name; `content` is empty while it is unknown.
        code: Digests of its source files.
    """

    version: int
    identity: Mapping[str, Json]
    inputs: Mapping[str, InputRecord]
    code: Mapping[str, str]

    @staticmethod
    def of(manifest: Manifest) -> Basis:
        """What a committed artifact rests on."""
        return Basis(manifest.version, manifest.identity, manifest.inputs, manifest.code_files)


def differences(old: Basis, new: Basis, with_code: bool) -> list[Reason]:
    """Everything that differs, in the order version, config, inputs, code.

    Args:
        old: What an artifact rests on.
        new: What is wanted.
        with_code: Whether code counts.
    """
    reasons: list[Reason] = []
    if old.version != new.version:
        reasons.append(Reason("version", "", old.version, new.version))
    reasons += changed_fields(old.identity, new.identity)
    reasons += _changed_inputs(old.inputs, new.inputs)
    if with_code:
        names = sorted(name for name in {*old.code, *new.code} if old.code.get(name) != new.code.get(name))
        reasons += [Reason("code", name, old.code.get(name, ABSENT), new.code.get(name, ABSENT)) for name in names]
    return reasons


def nearest(differing: Sequence[list[Reason]]) -> list[Reason]:
    """The shortest of several lists of differences, the first of those; code counts once, however many files it is."""

    def distance(reasons: list[Reason]) -> int:
        return sum(reason.kind != "code" for reason in reasons) + any(reason.kind == "code" for reason in reasons)

    return min(differing, key=distance)


def changed_fields(old: Mapping[str, Json], new: Mapping[str, Json], prefix: str = "") -> list[Reason]:
    """The config fields that differ; nested ones by their dotted names."""
    changes: list[Reason] = []
    for name in sorted({*old, *new}):
        before, after = old.get(name, ABSENT), new.get(name, ABSENT)
        if isinstance(before, dict) and isinstance(after, dict):
            changes += changed_fields(before, after, f"{prefix}{name}.")
        elif before != after or type(before) is not type(after):
            changes.append(Reason("config", f"{prefix}{name}", before, after))
    return changes


def one_line(reasons: Sequence[Reason]) -> str:
    """Reasons as a table shows them: those of one kind together, three at most of each."""
    groups: dict[Kind, list[Reason]] = {}
    for reason in reasons:
        groups.setdefault(reason.kind, []).append(reason)
    scratch = groups.pop("scratch", None)
    text = "; ".join(_group(kind, members) for kind, members in groups.items())
    return text + (", continues from its scratch" if text else "continues from its scratch") if scratch else text


def _changed_inputs(old: Mapping[str, InputRecord], new: Mapping[str, InputRecord]) -> list[Reason]:
    reasons = []
    for name in [*new, *(name for name in old if name not in new)]:
        before, after = old.get(name), new.get(name)
        if before is None or after is None:
            step = (after or before or InputRecord("", "", "")).step
            reasons.append(Reason("input", step, before.key if before else ABSENT, after.key if after else ABSENT))
        elif before.content and before.content == after.content:
            continue  # the same bytes under another key
        elif before.key != after.key:
            reasons.append(Reason("input", after.step, before.key, after.key))
        elif before.content and after.content:
            reasons.append(Reason("bytes", after.step, before.content, after.content))
    return list(dict.fromkeys(reasons))


def _group(kind: Kind, members: Sequence[Reason]) -> str:
    names = shortened(list(dict.fromkeys(member.name for member in members)))
    several = len(members) > 1
    match kind:
        case "never":
            return "never ran"
        case "version":
            return f"version {members[0].old} -> {members[0].new}"
        case "config":
            fields = [f"{member.name} {_shown(member.old, 40)} -> {_shown(member.new, 40)}" for member in members]
            return f"config {shortened(fields)}"
        case "input":
            return f"input {names}"
        case "bytes":
            return f"input {names} {'have' if several else 'has'} other bytes"
        case "rebuilt":
            ending = "are built again; kept if their" if several else "is built again; kept if its"
            return f"input {names} {ending} bytes come out equal"
        case "code":
            return f"code {names} changed"
        case "kept":
            return f"code {names} changed since, kept (code=warn)"
        case "absent":
            return "no artifact of this key"
        case "missing" | "forced" | "accepted" | "left_out" | "scratch":
            return names or kind


def shortened(items: Sequence[str]) -> str:
    """The first three of a list, and how many more there are."""
    more = f" and {len(items) - SHOWN} more" if len(items) > SHOWN else ""
    return ", ".join(items[:SHOWN]) + more


def _shown(value: Json, limit: int) -> str:
    text = json.dumps(value, ensure_ascii=False) if not isinstance(value, str) else value
    return text if len(text) <= limit else f"{text[: limit - 3]}..."
