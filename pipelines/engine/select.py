"""Which steps of a graph a run may touch: `--from --until --only --skip --force --force-downstream`.

Pure functions over step names and their producers; the store plays no part. What a left-out step means for the steps
that need it depends on whether it is cached, which the plan knows. A name may carry a plus: "+dedup" is dedup with all
it needs, "dedup+" is dedup with all that is made of it, "+dedup+" is both.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TypeAlias, cast

from components.context import Json
from components.errors import ConfigError

Graph: TypeAlias = Mapping[str, Sequence[str]]
"""The producers of each step."""

OPTIONS = {
    "start": "--from",
    "until": "--until",
    "only": "--only",
    "skip": "--skip",
    "force": "--force",
    "force_downstream": "--force-downstream",
}


@dataclass(frozen=True)
class Selection:
    """What a user asked for; each a list of names, which may carry a plus.

    Attributes:
        start: Only these steps and all below them (`--from`).
        until: Only these steps and all they need.
        only: Only these steps.
        skip: All but these steps, and but those that need one of them which is not cached.
        force: These steps run although they are cached.
        force_downstream: These steps and all below them run although they are cached.
    """

    start: tuple[str, ...] = ()
    until: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()
    force: tuple[str, ...] = ()
    force_downstream: tuple[str, ...] = ()

    @staticmethod
    def of(words: Mapping[str, Iterable[str] | None]) -> Selection:
        """Reads options as they were typed: repeated and separated by commas."""
        lists = {
            name: tuple(part for word in words.get(name) or () for part in word.split(",") if part) for name in OPTIONS
        }
        return Selection(**lists)

    @staticmethod
    def from_json(record: object) -> Selection:
        """Reads what `to_json` wrote."""
        lists = cast("Mapping[str, Sequence[str]]", record)
        return Selection(**{name: tuple(lists.get(name, ())) for name in OPTIONS})

    def words(self) -> list[str]:
        """As it would be typed."""
        lists = asdict(self)
        return [word for name, option in OPTIONS.items() if lists[name] for word in (option, ",".join(lists[name]))]

    def to_json(self) -> dict[str, Json]:
        """As `plan.json` keeps it; options that were not used are left out."""
        return {name: list(words) for name, words in asdict(self).items() if words}


EVERYTHING = Selection()


@dataclass(frozen=True)
class Selected:
    """What a selection comes to in one graph.

    Attributes:
        steps: Steps that may run.
        left_out: The option that leaves a step out, by the steps it leaves out.
        forced: Steps that run although they are cached.
    """

    steps: frozenset[str]
    left_out: Mapping[str, str] = field(default_factory=dict)
    forced: frozenset[str] = frozenset()


def select(selection: Selection, graph: Graph) -> Selected:
    """Applies a selection to a graph.

    Args:
        selection: What was asked for.
        graph: The producers of each step.

    Raises:
        ConfigError: If a step does not exist, if nothing is left, or if a forced step is left out.
    """
    readers = _readers(graph)
    names = frozenset(graph)
    allowed = {
        "--from": _closure(_expand(selection.start, graph, readers, "--from"), readers) if selection.start else names,
        "--until": _closure(_expand(selection.until, graph, readers, "--until"), graph) if selection.until else names,
        "--only": _expand(selection.only, graph, readers, "--only") if selection.only else names,
        "--skip": names - _expand(selection.skip, graph, readers, "--skip"),
    }
    left_out = {
        name: next(option for option, kept in allowed.items() if name not in kept)
        for name in graph
        if not all(name in kept for kept in allowed.values())
    }
    steps = names - left_out.keys()
    if names and not steps:
        raise ConfigError("The selection leaves no step.", " ".join(selection.words()), "select less narrowly")
    return Selected(steps, left_out, _forced(selection, graph, readers, steps, left_out))


def above(names: Iterable[str], graph: Graph) -> frozenset[str]:
    """Steps and all that they need."""
    return _closure(frozenset(names), graph)


def below(names: Iterable[str], graph: Graph) -> frozenset[str]:
    """Steps and all that is made of them."""
    return _closure(frozenset(names), _readers(graph))


def _forced(
    selection: Selection, graph: Graph, readers: Graph, steps: frozenset[str], left_out: Mapping[str, str]
) -> frozenset[str]:
    named = _expand(selection.force, graph, readers, "--force")
    roots = _expand(selection.force_downstream, graph, readers, "--force-downstream")
    for option, chosen in (("--force", named), ("--force-downstream", roots)):
        lost = sorted(chosen - steps)
        if lost:
            raise ConfigError(
                f"{option} asks for {lost[0]}, which {left_out[lost[0]]} leaves out.",
                f"{option} {lost[0]}",
                f"drop one of {option} and {left_out[lost[0]]}",
            )
    return (named | _closure(roots, readers)) & steps


def _expand(words: Iterable[str], graph: Graph, readers: Graph, option: str) -> frozenset[str]:
    found: set[str] = set()
    for word in words:
        name = word.removeprefix("+").removesuffix("+")
        if name not in graph:
            near = difflib.get_close_matches(name, graph, n=1)
            fix = f"did you mean {near[0]}?" if near else f"the steps are {', '.join(graph)}"
            raise ConfigError(f"There is no step {name or word}.", f"{option} {word}", fix)
        found.add(name)
        if word.startswith("+"):
            found |= _closure(frozenset({name}), graph)
        if word.endswith("+"):
            found |= _closure(frozenset({name}), readers)
    return frozenset(found)


def _closure(names: frozenset[str], edges: Graph) -> frozenset[str]:
    """All that can be reached along edges, the start included."""
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting.extend(edges[name])
    return frozenset(found)


def _readers(graph: Graph) -> dict[str, list[str]]:
    readers: dict[str, list[str]] = {name: [] for name in graph}
    for name, producers in graph.items():
        for producer in producers:
            readers[producer].append(name)
    return readers
