"""From a document to its steps and back: both agree with what the loader really serves."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import pytest

from components.context import local_context
from components.pack.config import PackConfig
from components.pack.step import pack
from components.publish import read_json
from components.shards.config import MixtureConfig
from components.shards.inverse import Visit, documents_at, visits
from components.shards.loader import Loader
from components.shards.schedule import Schedule
from tests.components.shards.toy import Toy, doc_id, row_of, varied, write_tokens

STEPS, BATCH, LENGTH = 60, 4, 16
MIXED = MixtureConfig({"en": "0.7", "zh": "0.3"}, {"20": "en=1,zh=3"})
PLANS: dict[str, dict[str, object] | None] = {
    "no plan": None,
    "concat by language": {"group": "lang", "repeat": "sqrt"},
    "best fit": {"strategy": "best_fit", "window": 20},
    "best fit by language": {"strategy": "best_fit", "group": "lang", "repeat": "log"},
    "documents": {"strategy": "document", "group": "source"},
}


@pytest.fixture(scope="module")
def toys() -> list[Toy]:
    return varied(80, 11, langs=("en", "zh"))


@pytest.fixture(scope="module")
def tokens(toys: list[Toy], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokens")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("components.shards.format.BATCH_TOKENS", 200)
        return write_tokens(folder, train=[toys[:30], [], toys[30:]])


@pytest.fixture(scope="module", params=PLANS)
def plan(request: pytest.FixtureRequest, tokens: Path, tmp_path_factory: pytest.TempPathFactory) -> Path | None:
    settings = PLANS[request.param]
    if settings is None:
        return None
    ctx = local_context("pack", tmp_path_factory.mktemp("pack"))
    pack(ctx, PackConfig(**({"length": LENGTH} | settings)), tokens)
    return ctx.output


@pytest.fixture(scope="module")
def schedule(plan: Path | None) -> Schedule:
    grouped = plan is not None and read_json(plan / "plan.json")["group"] == "lang"
    return Schedule(5, BATCH, LENGTH, MIXED if grouped else MixtureConfig())


def test_the_documents_of_every_step_are_the_ids_it_serves(
    tokens: Path, toys: list[Toy], plan: Path | None, schedule: Schedule
):
    numbers = {doc_id(number): number for number in range(len(toys))}
    loader = Loader.open(tokens, schedule, plan)
    for step in range(STEPS):
        ids = loader.batch(step).ids
        rebuilt = [[0] * (LENGTH + 1) for _ in range(BATCH)]
        for seen in documents_at(tokens, plan, schedule, step):
            visit, text = seen.visit, row_of(toys[numbers[seen.doc_id]])
            assert visit.step == step
            rebuilt[visit.sample][visit.slot : visit.slot + visit.size] = text[visit.offset : visit.offset + visit.size]
        assert rebuilt == ids.tolist()


def test_the_visits_of_every_document_are_the_steps_that_read_it(
    tokens: Path, toys: list[Toy], plan: Path | None, schedule: Schedule
):
    expected: dict[bytes, list[Visit]] = defaultdict(list)
    for step in range(STEPS):
        for seen in documents_at(tokens, plan, schedule, step):
            expected[seen.doc_id].append(seen.visit)
    for number in range(len(toys)):
        assert visits(tokens, plan, doc_id(number), schedule, STEPS) == expected[doc_id(number)]


def test_a_document_that_is_not_in_training_was_never_read(tokens: Path):
    assert visits(tokens, None, doc_id(10**6), Schedule(5, BATCH, LENGTH), STEPS) == []
    assert visits(tokens, None, doc_id(3), Schedule(5, BATCH, LENGTH), 0) == []


def test_a_schedule_comes_back_from_its_json():
    schedule = Schedule(2**62, 8, 128, MIXED)
    assert Schedule.from_json({**schedule.to_json(), "steps": 9}) == schedule
