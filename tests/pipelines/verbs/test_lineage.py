"""`lineage` follows artifacts up to external files and down to all that was made of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import toy_steps as toy
from engine_help import plan_of
from store_help import build
from toy_steps import ToyConfig

from pipelines.engine.draft import draft
from pipelines.engine.lease import Lease
from pipelines.engine.manifest import Manifest, Origin
from pipelines.engine.step import Recipe
from pipelines.engine.store import Store
from pipelines.verbs.lineage import Lineage, Manifests, Node, walked

from .conftest import Headwater


def diamond(document: Path) -> Recipe:
    """One file, read by one step, which two read, which one reads."""
    recipe = Recipe("toy")
    text = recipe.step(toy.source, ToyConfig(), name="text")
    copy = recipe.step(toy.read_file, ToyConfig(), name="copy", document=recipe.file(document, "corpus"))
    left = recipe.step(toy.join, ToyConfig(), name="left", left=text)
    right = recipe.step(toy.join, ToyConfig(text="-"), name="right", left=text)
    recipe.step(toy.join, ToyConfig(), name="both", left=left, right=right)
    recipe.step(toy.after, ToyConfig(), name="last", left=copy, right=text)
    return recipe


@pytest.fixture
def store_of_toys(tmp_path: Path) -> Store:
    (tmp_path / "file").write_text("one")
    store = Store(tmp_path / "toys")
    build(diamond(tmp_path / "file"), store)
    return store


def made_by(store: Store, step: str) -> Manifest:
    return next(store.manifests(step))


def follow(store: Store, step: str, down: bool = False) -> Lineage:
    manifests = Manifests.of(store)
    made = made_by(store, step)
    return walked(Node(made.step, made.key, made.content, "artifact", made), manifests.down if down else manifests.up)


def names(found: Lineage) -> list[str]:
    return sorted(node.step for node in found.nodes.values())


def test_up_reaches_all_it_was_made_of(store_of_toys: Store) -> None:
    assert names(follow(store_of_toys, "both")) == ["both", "left", "right", "text"]


def test_up_ends_at_external_files_with_their_content(store_of_toys: Store) -> None:
    found = follow(store_of_toys, "copy")
    (corpus,) = (node for node in found.nodes.values() if node.kind == "file")
    assert (corpus.step, corpus.content) == ("corpus", made_by(store_of_toys, "copy").inputs["document"].content)
    assert "`- document: corpus, a file from outside" in found.lines()[1]


def test_down_reaches_all_that_was_made_of_it(store_of_toys: Store) -> None:
    assert names(follow(store_of_toys, "text", down=True)) == ["both", "last", "left", "right", "text"]


def test_what_was_made_of_other_bytes_under_the_same_key_is_not_below(store_of_toys: Store) -> None:
    made = made_by(store_of_toys, "text")
    rebuilt = Node(made.step, made.key, "f" * 64, "artifact", made)
    assert names(walked(rebuilt, Manifests.of(store_of_toys).down)) == ["text"]


def test_what_two_steps_read_is_told_once(store_of_toys: Store) -> None:
    lines = follow(store_of_toys, "text", down=True).lines()
    below = [line for line in lines if "both@" in line]
    assert len(below) == 2
    edges = follow(store_of_toys, "text", down=True).to_json()["edges"]
    assert isinstance(edges, list)
    assert len(edges) == 5


def test_an_input_that_was_deleted_is_told_as_gone(store_of_toys: Store) -> None:
    store_of_toys.root.remove("artifacts/text")
    (gone,) = (node for node in follow(store_of_toys, "left").nodes.values() if node.kind == "gone")
    assert gone.step == "text"


def test_an_alias_hangs_on_the_artifact_whose_files_it_names(store_of_toys: Store, tmp_path: Path) -> None:
    source = made_by(store_of_toys, "text")
    recipe = Recipe("toy")
    recipe.step(toy.source, ToyConfig(seed=18), name="text")
    entry = plan_of(recipe, store_of_toys)["text"]
    lease = store_of_toys.acquire("text", entry.key, "run-2")
    assert isinstance(lease, Lease)
    origin = Origin("equal", source.step, source.key, source.epoch, "early cut-off")
    alias = store_of_toys.alias(lease, draft(entry, {}, "run-2", {}), source, origin).manifest
    assert alias is not None
    down = walked(Node("text", source.key, source.content, "artifact", source), Manifests.of(store_of_toys).down)
    assert any(f"alias, equal: text@{alias.key[:16]}" in line for line in down.lines())
    up = walked(Node("text", alias.key, alias.content, "artifact", alias), Manifests.of(store_of_toys).up)
    assert [node.key for node in up.nodes.values()] == [alias.key, source.key]


def test_a_chain_of_a_thousand_is_followed(tmp_path: Path) -> None:
    def chained(node: Node):
        number = int(node.key)
        return iter([("left", Node("s", str(number + 1), "", "gone"))] if number < 2000 else [])

    assert len(walked(Node("s", "0", "", "gone"), chained).lines()) == 2001


def test_the_verb_prints_a_tree_of_the_newest_run(headwater: Headwater) -> None:
    lines = headwater("lineage", "dedup").splitlines()
    assert [line.strip("`-| ").partition("@")[0].partition(",")[0] for line in lines] == [
        "dedup", "documents: clean", "documents: score", "documents: extract", "pages: crawl", "site: site",
        "rules: rules", "sketches: sketch", "documents: score",
    ]  # fmt: skip
    assert "run birch-2" in lines[0]
    assert "run amber-1" in lines[2]


def test_an_artifact_may_be_named_by_run_or_key(headwater: Headwater) -> None:
    record = json.loads(headwater("lineage", "amber-1:dedup", "--json"))
    key = record["root"].partition("@")[2].partition("/")[0]
    assert json.loads(headwater("lineage", f"dedup@{key[:8]}", "--json")) == record
    assert len(json.loads(headwater("lineage", f"dedup@{key[:8]}", "--down", "--json"))["nodes"]) == 11


def test_an_unknown_artifact_is_refused(headwater: Headwater) -> None:
    headwater("lineage", "nothing", code=2)
