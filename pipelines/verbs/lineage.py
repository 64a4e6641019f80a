"""`headwater lineage ARTIFACT`: what an artifact was made of, or what was made of it, as a tree.

Manifests name their inputs by step, key and content, so nothing is needed but the store: the answer is the same whether
the runs are remembered or not. An input that was rebuilt since is found by its content where that is still there. An
alias hangs beside the artifact whose files it names. What several steps read is told once and referred to after that.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from pipelines.config import load_settings
from pipelines.engine.identity import KEY_CHARS
from pipelines.engine.manifest import InputRecord, Manifest
from pipelines.engine.store import Store
from pipelines.verbs.artifacts import find_artifact
from pipelines.verbs.planning import open_store


@dataclass(frozen=True)
class Node:
    """An artifact, or an external file.

    Attributes:
        step: Its step; what an external file is.
        key: Its recipe key; the content digest of an external file.
        content: Digest of its bytes.
        kind: "artifact", "file" (from outside), or "gone": an artifact that is not in the store any more.
        made: Its manifest where there is one.
    """

    step: str
    key: str
    content: str
    kind: str = "artifact"
    made: Manifest | None = None

    @property
    def id(self) -> str:
        """Tells it from all others: STEP@KEY, and the epoch where there is one."""
        return f"{self.step}@{self.key[:KEY_CHARS]}" + (f"/{self.made.epoch:06d}" if self.made else "")


Edge: TypeAlias = tuple[str, Node]
"""The name of an input, or "alias" and its kind; and what hangs there."""


@dataclass(frozen=True)
class Lineage:
    """An artifact and all that hangs on it in one direction; shared nodes are there once."""

    root: Node
    nodes: dict[str, Node]
    edges: dict[str, list[Edge]]

    def to_json(self) -> dict[str, object]:
        """For programs: nodes by id, and edges between them."""
        edges = [
            {"from": source, "link": link, "to": node.id} for source in self.edges for link, node in self.edges[source]
        ]
        return {"root": self.root.id, "nodes": [_record(node) for node in self.nodes.values()], "edges": edges}

    def lines(self) -> list[str]:
        """The tree as text."""
        found: list[str] = []
        told: set[str] = set()
        waiting: list[tuple[str, str, Edge]] = [("", "", ("", self.root))]
        while waiting:
            before, inner, (link, node) = waiting.pop()
            again = node.id in told and bool(self.edges[node.id])
            found.append(f"{before}{f'{link}: ' if link else ''}{_text(node)}{', see above' if again else ''}")
            if node.id in told:
                continue
            told.add(node.id)
            edges = self.edges[node.id]
            for number, edge in reversed(list(enumerate(edges))):
                last = number == len(edges) - 1
                waiting.append((f"{inner}{'`- ' if last else '|- '}", f"{inner}{'   ' if last else '|  '}", edge))
        return found


@dataclass(frozen=True)
class Manifests:
    """All manifests of a store, by what they are looked up with."""

    by_key: dict[tuple[str, str], list[Manifest]] = field(default_factory=dict)
    by_input: dict[tuple[str, str], list[tuple[str, Manifest]]] = field(default_factory=dict)
    by_origin: dict[tuple[str, str], list[Manifest]] = field(default_factory=dict)

    @staticmethod
    def of(store: Store) -> Manifests:
        """Reads them all."""
        found = Manifests()
        for made in store.manifests():
            found.by_key.setdefault((made.step, made.key), []).append(made)
            for name, record in made.inputs.items():
                found.by_input.setdefault((record.step, record.key), []).append((name, made))
            if made.origin is not None and made.origin.key:
                found.by_origin.setdefault((made.origin.step, made.origin.key), []).append(made)
        return found

    def up(self, node: Node) -> Iterator[Edge]:
        """What a node was made of."""
        made = node.made
        if made is None:
            return
        if made.origin is not None and made.origin.key:
            known = self.by_key.get((made.origin.step, made.origin.key), [])
            source = next((other for other in known if other.epoch == made.origin.epoch), None)
            if source is not None:
                yield f"alias, {made.origin.kind}", _node(source)
                return
        for name, record in made.inputs.items():
            yield name, self._input(record)

    def down(self, node: Node) -> Iterator[Edge]:
        """What was made of a node."""
        for name, reader in self.by_input.get((node.step, node.key), []):
            if reader.inputs[name].content == node.content:
                yield name, _node(reader)
        for other in self.by_origin.get((node.step, node.key), []):
            if node.made and other.origin and other.origin.epoch == node.made.epoch:
                yield f"alias, {other.origin.kind}", _node(other)

    def _input(self, record: InputRecord) -> Node:
        """The artifact that an input was: of its key, and where that has several epochs, of its content."""
        known = self.by_key.get((record.step, record.key), [])
        same = next((made for made in known if made.content == record.content), None)
        if same is not None:
            return _node(same)
        return Node(record.step, record.key, record.content, "file" if record.key == record.content else "gone")


def lineage(overrides: Sequence[str], options: argparse.Namespace) -> int:
    """Prints the tree of an artifact."""
    store = open_store(load_settings(overrides))
    made = find_artifact(store, options.artifact)
    manifests = Manifests.of(store)
    found = walked(_node(made), manifests.down if options.down else manifests.up)
    print(json.dumps(found.to_json(), ensure_ascii=False) if options.json else "\n".join(found.lines()))
    return 0


def walked(root: Node, edges_of: Callable[[Node], Iterator[Edge]]) -> Lineage:
    """All that can be reached from a node.

    Args:
        root: Where to begin.
        edges_of: What hangs on a node.
    """
    found = Lineage(root, {}, {})
    waiting = [root]
    while waiting:
        node = waiting.pop()
        if node.id not in found.nodes:
            found.nodes[node.id] = node
            found.edges[node.id] = list(edges_of(node))
            waiting += [child for _, child in found.edges[node.id]]
    return found


def _node(made: Manifest) -> Node:
    return Node(made.step, made.key, made.content, "artifact", made)


def _record(node: Node) -> dict[str, object]:
    made, origin = node.made, node.made.origin if node.made else None
    return {
        "id": node.id,
        "step": node.step,
        "key": node.key,
        "content": node.content,
        "kind": node.kind,
        "run": made.run if made else None,
        "epoch": made.epoch if made else None,
        "origin": {"kind": origin.kind, "by": origin.by, "reason": origin.reason} if origin else None,
    }


def _text(node: Node) -> str:
    content = f"content {node.content[:KEY_CHARS]}"
    if node.kind == "file":
        return f"{node.step}, a file from outside, {content}"
    name = f"{node.step}@{node.key[:KEY_CHARS]}"
    if node.made is None:
        return f"{name}  {content}, not in the store any more"
    origin = node.made.origin
    how = f", {origin.kind}{f' by {origin.by}' if origin.by else ''}" if origin else ""
    return f"{name}  {content}, run {node.made.run}{how}"
