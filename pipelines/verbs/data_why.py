"""`headwater data why`: what became of a document, from the WARC record to the optimizer steps that saw it; and back.

headwater data why http://example.org/a      by URL, in any spelling the crawler takes for the same
headwater data why 3f9a12c4                  by the beginning of its id
headwater data why --step 412                the documents of a training step: what made the loss jump
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence

from components.errors import ConfigError
from pipelines.config import Settings
from pipelines.verbs.data_chain import Chain, chain_of
from pipelines.verbs.data_lookup import (
    MIN_ID_CHARS,
    Name,
    is_id,
    names_with_prefix,
    names_with_url,
    near_urls,
    spellings,
)
from pipelines.verbs.data_text import as_json, harmless
from pipelines.verbs.data_trace import Station, fetched, trace
from pipelines.verbs.planning import open_store

MOST = 10
"""Documents told of at most: a beginning of an id may fit many."""


def why(settings: Settings, options: argparse.Namespace) -> int:
    """Tells the way of a document, or the documents of a training step; changes nothing.

    Raises:
        ConfigError: If nothing is known of it, or neither or both of document and step are given.
    """
    if (options.document is None) == (options.step is None):
        raise ConfigError("why needs a document or a step.", "headwater data why", "give a URL, an id, or --step N")
    chain = chain_of(open_store(settings), options.run_id)
    if options.step is not None:
        from pipelines.verbs.data_visits import seen_at

        return seen_at(chain, options.step, options.json)
    told = list(_told(chain, options.document))
    if options.json:
        records = [_record(name, stations) for name, stations in told]
        print(as_json({"run": chain.run, "documents": records}))
        return 0
    print(f"run {chain.run}")
    for name, stations in told:
        print("\n".join(_lines(name, stations)))
    return 0


def found(chain: Chain, text: str) -> list[Name]:
    """The documents of a run that a person may mean, in the order of their ids; of none of them a text is read."""
    names: set[Name] = set()
    for link in chain.of_kind("holds_documents"):
        folder = chain.folder(link)
        names |= names_with_prefix(folder, text) if is_id(text) else names_with_url(folder, spellings(text))
        if names:  # what a later step holds an earlier one has read
            break
    return sorted(names, key=lambda name: (name.doc_id, name.url))


def unknown(chain: Chain, text: str) -> ConfigError:
    """The refusal for a document nobody has heard of, with the nearest URLs."""
    links = [*chain.of_kind("holds_pages"), *chain.of_kind("holds_documents")[:1]]
    near = [] if is_id(text) else near_urls([chain.folder(link) for link in links], spellings(text)[-1])
    fix = f"nearest: {', '.join(near)}" if near else f"give a URL, or {MIN_ID_CHARS} to 32 hex digits of an id"
    return ConfigError(f"nothing is known of {harmless(text)} in run {chain.run}.", f"run {chain.run}", fix)


def _told(chain: Chain, text: str) -> Iterator[tuple[Name | None, Sequence[Station]]]:
    names = found(chain, text)
    if len(names) > MOST:
        shown = ", ".join(name.doc_id.hex() for name in names[:3])
        raise ConfigError(f"{len(names)} documents fit {text}.", text, f"give more of the id, such as {shown}")
    for name in names:
        yield name, list(_whole_way(chain, name))
    if not names:
        stations = [] if is_id(text) else list(fetched(chain, spellings(text)))
        if not stations:
            raise unknown(chain, text)
        yield None, stations


def _whole_way(chain: Chain, name: Name) -> Iterator[Station]:
    from pipelines.verbs.data_visits import visited

    for station in trace(chain, name):
        yield station
        if station.state == "encoded" and station.facts["split"] == "train":
            yield from visited(chain, name.doc_id)


def _record(name: Name | None, stations: Sequence[Station]) -> dict[str, object]:
    doc_id, url = (name.doc_id.hex(), name.url) if name else (None, stations[0].facts.get("url"))
    return {"doc_id": doc_id, "url": url, "stations": [station.to_json() for station in stations]}


def _lines(name: Name | None, stations: Sequence[Station]) -> Iterator[str]:
    record = _record(name, stations)
    yield f"{harmless(str(record['url']))}  {record['doc_id'] or 'never became a document'}"
    for station in stations:
        yield f"  {station.step:<14} {station.state:<9} {station.text}".rstrip()
