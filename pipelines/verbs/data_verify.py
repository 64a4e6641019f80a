"""`headwater data verify`: nothing vanished, nothing is in the wrong place, no byte has changed.

Of a run: each step of the data path by itself (schema, order, shards, counts, hashes of all files), each step against
the one before it (every document that was kept there was kept or dropped here), the tables beside the documents, and
the token shards (every document in one split, no cluster of near duplicates in two). Of named artifacts: the same, each
against what it was made of, as far as that is still in the store.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from components.card.funnel import Stage, faults_of, read_stage
from components.errors import StepError
from pipelines.config import Settings
from pipelines.engine.manifest import Manifest
from pipelines.engine.store import Store
from pipelines.verbs.artifacts import find_artifact
from pipelines.verbs.data_chain import UPSTREAM, Link, chain_of, holds
from pipelines.verbs.data_checks import documents_faults, handover_faults, side_faults, tokens_faults
from pipelines.verbs.data_text import as_json, harmless
from pipelines.verbs.planning import open_store

DATA_FOLDERS = ("warc", "documents", "scores", "sketches", "train")
DATA_FILES = {"tokenizer.json", "plan.json", "card.json"}


def verify(settings: Settings, options: argparse.Namespace) -> int:
    """Checks artifacts of the data path.

    Returns:
        0 if all is well, 1 otherwise.
    """
    store = open_store(settings)
    if options.artifacts:
        found = [find_artifact(store, name) for name in options.artifacts]
    else:
        chain = chain_of(store, options.run_id)
        found = [link.made for link in chain.links.values()]
    checked = {Link(made.step, made).name: list(_faults(store, made)) for made in found if _is_data(made)}
    num_faults = sum(map(len, checked.values()))
    if options.json:
        print(as_json({"artifacts": checked, "faults": num_faults}))
    else:
        print("\n".join(_lines(checked, num_faults)))
    return 1 if num_faults else 0


def _lines(checked: Mapping[str, list[str]], num_faults: int) -> Iterator[str]:
    for name, faults in checked.items():
        yield f"{name}: {'well' if not faults else f'{len(faults)} faults'}"
        yield from (f"  {harmless(fault)}" for fault in faults)
    yield f"{len(checked)} artifacts checked, {num_faults} faults."


def _is_data(made: Manifest) -> bool:
    return any(holds(made, folder) for folder in DATA_FOLDERS) or not DATA_FILES.isdisjoint(made.files)


def _faults(store: Store, made: Manifest) -> Iterator[str]:
    """All that is wrong with an artifact, by itself and beside what it was made of."""
    damaged = store.damaged(made)
    yield from (f"{name} does not hold the bytes that were committed" for name in damaged)
    if damaged:
        return
    folder, above = store.fetch(made), _upstream(store, made)
    source = store.fetch(above) if above else None
    if holds(made, "documents"):
        yield from _read(documents_faults, folder)
    if holds(made, "scores") or holds(made, "sketches"):
        beside = folder if holds(made, "documents") else source
        yield from _read(side_faults, folder, beside) if beside else ()
    if holds(made, "train"):
        yield from _read(tokens_faults, folder, source)
    elif above is not None and source is not None:
        yield from _between(above, source, made, folder)


def _between(above: Manifest, source: Path, made: Manifest, folder: Path) -> Iterator[str]:
    stages = [stage for stage in (read_stage(above.step, source), read_stage(made.step, folder)) if stage is not None]
    if len(stages) == 2:
        yield from _handed(stages[0], stages[1])
    if holds(above, "documents") and holds(made, "documents"):
        yield from _read(handover_faults, source, folder)


def _handed(before: Stage, after: Stage) -> Iterator[str]:
    """Where two steps disagree on a number; what is wrong inside either is told with its own artifact."""
    own = {*faults_of([before]), *faults_of([after])}
    return (fault for fault in faults_of([before, after]) if fault not in own)


def _read(check: Callable[..., Iterator[str]], *folders: Path | None) -> Iterator[str]:
    """A check's findings; that a file cannot be read at all is one of them."""
    import pyarrow as pa

    try:
        yield from check(*folders)
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        yield f"cannot be read: {error}"
    except StepError as error:
        yield error.what


def _upstream(store: Store, made: Manifest) -> Manifest | None:
    """The artifact of pages or documents that a step read, if it is still there."""
    for name in UPSTREAM:
        record = made.inputs.get(name)
        above = store.lookup(record.step, record.key).manifest if record else None
        if above is not None and (holds(above, "documents") or holds(above, "warc")):
            return above
    return None
