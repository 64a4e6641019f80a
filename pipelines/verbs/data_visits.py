"""What training did with documents: the packed rows they are in, and the optimizer steps that read them; both ways.

Nothing was logged while it trained. Order and plan are pure functions of the token shards, the packing plan and
`order.json` beside the model, and `components.shards.inverse` walks them backwards.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.errors import ConfigError, StepError
from components.publish import read_json
from pipelines.engine.manifest import Manifest
from pipelines.engine.store import Store
from pipelines.verbs.data_chain import ORDER, Chain, Link
from pipelines.verbs.data_lookup import kept_row
from pipelines.verbs.data_text import aligned, as_json, harmless, number
from pipelines.verbs.data_trace import Station

if TYPE_CHECKING:
    from components.shards.inverse import Visit
    from components.shards.loader import Loader
    from components.shards.schedule import Schedule

_SHOWN = 12


@dataclass(frozen=True)
class Training:
    """A model that was trained on token shards, with all that tells what it read when.

    Attributes:
        made: Manifest of the model.
        tokens: Folder of the token shards.
        plan: Folder of the packing plan; None where there was none.
        schedule: What determined the order of the rows.
        num_steps: Optimizer steps that it did.
    """

    made: Manifest
    tokens: Path
    plan: Path | None
    schedule: Schedule
    num_steps: int

    @cached_property
    def loader(self) -> Loader:
        """The rows in the order they were read."""
        from components.shards.loader import Loader

        return Loader.open(self.tokens, self.schedule, self.plan)

    def visits(self, doc_id: bytes) -> list[Visit]:
        """The steps that read a document."""
        from components.shards.inverse import visits_in

        return visits_in(self.loader, doc_id, self.num_steps)


def training_of(store: Store, made: Manifest) -> Training | None:
    """How a model was trained; None if it was not trained on token shards, or those are gone."""
    if ORDER not in made.files or "tokens" not in made.inputs:
        return None
    inputs = {name: store.lookup(record.step, record.key).manifest for name, record in made.inputs.items()}
    tokens, plan = inputs["tokens"], inputs.get("rows")
    if tokens is None or ("rows" in made.inputs and plan is None):
        return None
    schedule, num_steps = _order_of(store.fetch(made) / ORDER, made)
    return Training(made, store.fetch(tokens), store.fetch(plan) if plan else None, schedule, num_steps)


def _order_of(path: Path, made: Manifest) -> tuple[Schedule, int]:
    """What a model says of the order it read its rows in, and how many steps it did."""
    from components.shards.schedule import Schedule

    try:
        order = read_json(path)
        return Schedule.from_json(order), int(str(order.get("steps", int(made.metrics.get("steps", 0)))))
    except (KeyError, TypeError, ValueError) as error:
        fix = f"headwater run --force {made.step} makes it again"
        raise StepError(f"{ORDER} of {made.step} is damaged: {error}.", str(path), fix) from error


def visited(chain: Chain, doc_id: bytes) -> Iterator[Station]:
    """What the models of a run did with a document of the training split."""
    for link in chain.of_kind("is_trained"):
        training = training_of(chain.store, link.made)
        if training is not None:
            found = training.visits(doc_id)
            yield _packed(chain, link, training, doc_id)
            facts = {"steps": steps_of(found), "visits": [asdict(visit) for visit in found]}
            yield Station(link.step, link.name, "trained", _visits_text(training, found), facts)


def steps_of(visits: Sequence[Visit]) -> list[int]:
    """The steps, each once."""
    return sorted({visit.step for visit in visits})


def listed(numbers: Sequence[int], shown: int = _SHOWN) -> str:
    """Some numbers for a reader: the first ones and how many more."""
    more = f" and {number(len(numbers) - shown)} more" if len(numbers) > shown else ""
    return ", ".join(number(one) for one in numbers[:shown]) + more


def seen_at(chain: Chain, step: int, is_json: bool) -> int:
    """Prints the documents of one optimizer step's batch.

    Raises:
        ConfigError: If the run has no model that tells, or it did fewer steps.
    """
    training = _only_training(chain)
    if not 0 <= step < training.num_steps:
        last = training.num_steps - 1
        raise ConfigError(
            f"{training.made.step} of run {chain.run} did {training.num_steps} steps.",
            f"--step {step}",
            f"steps are counted from 0: give 0 to {last}",
        )
    records = list(_documents_of(chain, training, step))
    if is_json:
        print(as_json({"run": chain.run, "model": training.made.step, "step": step, "documents": records}))
    else:
        print("\n".join(_step_lines(chain, training, step, records)))
    return 0


def _only_training(chain: Chain) -> Training:
    found = [training for link in chain.of_kind("is_trained") if (training := training_of(chain.store, link.made))]
    if not found:
        raise ConfigError(
            f"run {chain.run} has no model that says in what order it read its rows.",
            f"run {chain.run}",
            "headwater run --until pretrain",
        )
    return found[0]


def _packed(chain: Chain, link: Link, training: Training, doc_id: bytes) -> Station:
    """The rows of the plan that hold a document."""
    import numpy as np

    plan = chain.links.get(link.sources.get("rows", ""))
    split, groups = training.loader.split, training.loader.plan.groups
    document = split.number_of(doc_id)
    rows: dict[str, list[int]] = {}
    if document is not None:
        rows = {name: np.asarray(group.holding(*split.extent(document))).tolist() for name, group in groups.items()}
    told = "; ".join(f"{f'group {name}: ' if name else ''}rows {listed(some)}" for name, some in rows.items() if some)
    step, name = (plan.step, plan.name) if plan else ("rows", training.made.step)
    return Station(step, name, "packed", told or "in no row: cropped, or in the tail", {"rows": rows})


def _visits_text(training: Training, found: Sequence[Visit]) -> str:
    steps = steps_of(found)
    if not steps:
        return f"not read in {number(training.num_steps)} steps"
    tokens = sum(visit.size for visit in found)
    of = f"{number(len(steps))} of {number(training.num_steps)} steps"
    return f"{of} read {number(tokens)} tokens of it: {listed(steps)}"


def _documents_of(chain: Chain, training: Training, step: int) -> Iterator[dict[str, Any]]:
    """What the step read of each document, in the order of the batch."""
    from components.shards.inverse import documents_in

    found: dict[bytes, list[Visit]] = {}
    for seen in documents_in(training.loader, step):
        found.setdefault(seen.doc_id, []).append(seen.visit)
    corpus = chain.folder(chain.path()[-1])
    for doc_id, visits in found.items():
        kept = kept_row(corpus, doc_id)
        about = {"url": kept[1].url, "lang": kept[1].lang, "title": kept[1].title} if kept else {}
        yield {"doc_id": doc_id.hex(), **about, "visits": [asdict(visit) for visit in visits]}


def _step_lines(chain: Chain, training: Training, step: int, records: Sequence[dict[str, Any]]) -> Iterator[str]:
    yield f"run {chain.run}, step {step} of {training.made.step}: {number(len(records))} documents in the batch"
    rows = [["document", "rows of the batch", "tokens", "url"]]
    for record in records:
        visits = record["visits"]
        samples = listed(sorted({visit["sample"] for visit in visits}))
        tokens = number(sum(visit["size"] for visit in visits))
        rows.append([record["doc_id"], samples, tokens, harmless(record.get("url", ""))])
    yield from aligned(rows)
