"""The data path of a run, as the `data` verbs walk it: from pages to documents to tokens to the models that saw them.

An artifact is known by what lies in it, not by the name of its step: `warc/` is a crawl, `documents/` a step over
documents, `scores/` statistics of them, `train/` token shards. What reads what is read from the run's plan, so another
recipe's path is walked as well as the main one's.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from components.errors import ConfigError
from pipelines.engine.identity import KEY_CHARS
from pipelines.engine.manifest import Manifest
from pipelines.engine.store import Store
from pipelines.runs import all_runs, find_run

ORDER = "order.json"
"""What a model leaves that was trained on token shards: in what order it read them."""
UPSTREAM = ("documents", "pages", "corpus")
"""Names of the inputs that lead one step up the path."""


@dataclass(frozen=True)
class Link:
    """One step of a run with its artifact.

    Attributes:
        step: Name of the step in the recipe.
        made: Manifest of its artifact.
        sources: The step that each input comes from, by the input's name.
    """

    step: str
    made: Manifest
    sources: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """STEP@KEY."""
        return f"{self.made.step}@{self.made.key[:KEY_CHARS]}"

    @property
    def holds_pages(self) -> bool:
        """Whether WARC files lie in it."""
        return holds(self.made, "warc")

    @property
    def holds_documents(self) -> bool:
        """Whether document shards lie in it."""
        return holds(self.made, "documents")

    @property
    def holds_scores(self) -> bool:
        """Whether a table of statistics lies in it."""
        return holds(self.made, "scores")

    @property
    def holds_tokens(self) -> bool:
        """Whether token shards lie in it."""
        return holds(self.made, "train") and "meta.json" in self.made.files

    @property
    def holds_plan(self) -> bool:
        """Whether it is a plan of training rows."""
        return "tokens" in self.made.inputs and "plan.json" in self.made.files

    @property
    def is_trained(self) -> bool:
        """Whether it is a model that says in what order it read token shards."""
        return "tokens" in self.made.inputs and ORDER in self.made.files


@dataclass(frozen=True)
class Chain:
    """The steps of a run that have an artifact, in the order of its plan.

    Attributes:
        store: Where the artifacts are.
        run: Name of the run.
        links: Steps by name.
    """

    store: Store
    run: str
    links: Mapping[str, Link]

    def folder(self, link: Link) -> Path:
        """Where the files of a step's artifact are on this machine, brought here if they must be."""
        return self.store.fetch(link.made)

    def path(self) -> list[Link]:
        """From the pages, or the first documents, to the last documents: each link reads the one before.

        Raises:
            ConfigError: If the run has no documents.
        """
        upstream = {name: self._upstream(link) for name, link in self.links.items() if link.holds_documents}
        read = {above.step for above in upstream.values() if above is not None}
        ends = [name for name in upstream if name not in read]
        if not ends:
            raise ConfigError(f"run {self.run} has no documents yet.", f"run {self.run}", "headwater run --until clean")
        longest: list[Link] = max((self._up_from(self.links[end]) for end in ends), key=len)
        return longest

    def of_kind(self, kind: str) -> list[Link]:
        """The links of which a property holds, such as "holds_tokens"."""
        return [link for link in self.links.values() if getattr(link, kind)]

    def _up_from(self, link: Link) -> list[Link]:
        found = [link]
        while (above := self._upstream(found[0])) is not None:
            found.insert(0, above)
        return found

    def _upstream(self, link: Link) -> Link | None:
        for name in UPSTREAM:
            above = self.links.get(link.sources.get(name, ""))
            if above is not None and (above.holds_documents or above.holds_pages):
                return above
        return None


def chain_of(store: Store, run: str | None = None) -> Chain:
    """The chain of a run; of the newest run that has any documents or pages if none is named.

    Raises:
        ConfigError: If there is no such run, or none that got so far.
    """
    folders = [find_run(store.workspace, run, store.root.url)] if run else all_runs(store.workspace)
    for folder in folders:
        chain = Chain(store, folder.name, dict(_links(store, folder)))
        if any(link.holds_documents or link.holds_pages for link in chain.links.values()):
            return chain
    if run:
        raise ConfigError(f"run {run} has neither pages nor documents yet.", f"run {run}", "headwater status")
    raise ConfigError("no run has made documents yet.", f"store={store.root.url}", "headwater run --until clean")


def holds(made: Manifest, folder: str) -> bool:
    """Tells whether an artifact has files in a folder."""
    return any(name.startswith(f"{folder}/") for name in made.files)


def _links(store: Store, run_folder: Path) -> Iterator[tuple[str, Link]]:
    plan = json.loads((run_folder / "plan.json").read_text(encoding="utf-8"))
    for entry in plan["steps"]:
        made = store.lookup(entry["name"], entry["key"]).manifest
        if made is not None:
            yield entry["name"], Link(entry["name"], made, entry["sources"])
