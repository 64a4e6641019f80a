"""A whole data path, really run: from a crawled sample website to packed rows, and a model that says what it read.

The steps run in this process, one after the other, under a recipe of their own, so that the `data` verbs find a run as
`headwater run` leaves it. Nothing is trained: the model is a folder with the order in which training would have read
the rows, which is what a real one leaves beside its weights.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

import pytest

from components.card.config import CardConfig
from components.card.step import card
from components.channel import Channel
from components.clean.config import CleanConfig
from components.clean.step import clean
from components.context import Context, LocalContext, Metrics
from components.crawl.config import CrawlConfig
from components.crawl.step import crawl
from components.dedup.config import DedupConfig
from components.dedup.step import dedup
from components.errors import HeadwaterError
from components.extract.config import ExtractConfig
from components.extract.step import extract
from components.pack.config import PackConfig
from components.pack.step import pack
from components.publish import publish_json
from components.quality.config import QualityConfig
from components.quality.step import quality
from components.sample.config import SampleConfig
from components.sample.step import site
from components.score.config import ScoreConfig
from components.score.step import score
from components.shards.config import TokensConfig
from components.shards.schedule import Schedule
from components.shards.step import tokens
from components.sketch.config import SketchConfig
from components.sketch.step import sketch
from components.tokenizer.config import TokenizerConfig
from components.tokenizer.step import tokenizer
from components.training.config import TrainingConfig
from pipelines.cli import make_parser, report
from pipelines.config import Settings, load_settings
from pipelines.engine import events
from pipelines.engine.draft import draft
from pipelines.engine.lease import Lease
from pipelines.engine.manifest import Manifest
from pipelines.engine.plan import PlanEntry, make_plan
from pipelines.engine.step import Recipe
from pipelines.engine.store import Store
from pipelines.runs import create_run
from pipelines.verbs.data import act

VERSION = 1
LENGTH = 64
STEPS = 60


@dataclass(frozen=True)
class ReadConfig:
    """A model's settings, as far as they tell what it read."""

    training: TrainingConfig = field(default_factory=lambda: TrainingConfig(steps=STEPS, batch_size=4, micro_batch=2))
    length: int = LENGTH
    seed: int = 17


def pretrain(ctx: Context, config: ReadConfig, tokens: Path, rows: Path) -> Metrics:
    """Leaves the order in which a training would read the rows."""
    schedule = Schedule(ctx.seed("rows"), config.training.batch_size, config.length)
    publish_json(ctx.output / "order.json", {**schedule.to_json(), "steps": config.training.steps})
    publish_json(ctx.output / "model" / "config.json", {})
    return {"steps": float(config.training.steps)}


@dataclass(frozen=True)
class TunedConfig:
    """A model made of another has no settings that matter here."""


def sft(ctx: Context, config: TunedConfig, base: Path) -> Metrics:
    """Leaves a model that was made of another."""
    publish_json(ctx.output / "model" / "config.json", {})
    return {}


def whole_path(run: Recipe, judged: CleanConfig) -> None:
    """Declares the path."""
    small = SampleConfig(
        conversations=120, questions=60, articles=10, digests=3, reviews=120, duplicates=3, near_duplicates=3, junk=2,
        private=2, slow_s=0.0,
    )  # fmt: skip
    pages = run.step(crawl, CrawlConfig(delay_s=0.0, backoff_s=0.05), site=run.step(site, small))
    text = run.step(extract, ExtractConfig(shards=4), pages=pages)
    scored = run.step(score, ScoreConfig(), documents=text)
    liked = run.step(quality, QualityConfig(), documents=scored)
    kept = run.step(clean, judged, documents=scored, quality=liked)
    sketches = run.step(sketch, SketchConfig(), documents=scored)
    unique = run.step(dedup, DedupConfig(), documents=kept, sketches=sketches)
    vocabulary = run.step(tokenizer, TokenizerConfig(vocab_size=512), documents=unique)
    ids = run.step(tokens, TokensConfig(val_fraction=0.1, min_val_documents=2), documents=unique, tokenizer=vocabulary)
    plan = run.step(pack, PackConfig(length=LENGTH), tokens=ids)
    run.step(sft, TunedConfig(), base=run.step(pretrain, ReadConfig(), tokens=ids, rows=plan))
    run.step(
        card, CardConfig(), crawl=pages, extract=text, score=scored, clean=kept, dedup=unique, tokenizer=vocabulary,
        tokens=ids, pack=plan,
    )  # fmt: skip


def run_path(store: Path, run_id: str = "amber-1", judged: CleanConfig | None = None) -> Path:
    """Runs the path in a store; returns the run's folder. Steps that are there already are taken as they are."""
    recipe = Recipe("corpus")
    whole_path(recipe, judged or CleanConfig())
    settings = load_settings([f"store={store}", "preset=micro"])
    opened = Store(store)
    plan = make_plan(recipe.steps, opened)
    folder = create_run(store, settings, [], plan, run_id)
    events.append(folder, "run_started", session=1)
    made: dict[str, Manifest] = {}
    for entry in plan.entries:
        made[entry.name] = opened.lookup(entry.name, entry.key).manifest or _run_step(opened, entry, folder, made)
        events.append(folder, "done", entry.name, session=1, attempt=1, key=entry.key)
    events.append(folder, "run_ended", session=1, state="done")
    return folder


def _run_step(store: Store, entry: PlanEntry, folder: Path, made: Mapping[str, Manifest]) -> Manifest:
    lease = store.acquire(entry.name, entry.key, folder.name)
    assert isinstance(lease, Lease), lease
    output = store.begin(lease)
    sources = {what: made[artifact.name] for what, artifact in entry.step.inputs.items()}
    seed = int(getattr(entry.step.config, "seed", 0))
    channel = Channel(events.step_folder(folder, entry.name))
    context = LocalContext(entry.name, output, store.scratch(entry.name, entry.key), channel, seed)
    inputs = {what: store.path_of(source) for what, source in sources.items()}
    metrics = entry.step.fn(context, entry.step.config, **inputs)
    contents = {what: source.content for what, source in sources.items()}
    filled = replace(draft(entry, contents, folder.name, {}), seconds=1.0, metrics=dict(metrics))
    found = store.commit(lease, output, filled).manifest
    assert found is not None
    return found


Headwater = Callable[..., str]
_made: list[Path] = []


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with the run amber-1 of the whole path; made once, whichever test file asks first. Read only."""
    if not _made:
        store = tmp_path_factory.mktemp("corpus") / "store"
        run_path(store)
        _made.append(store)
    return _made[0]


@pytest.fixture
def own_corpus(corpus: Path, tmp_path: Path) -> Path:
    """A copy of it that a test may change."""
    shutil.copytree(corpus, tmp_path / "store")
    return tmp_path / "store"


@cache
def composed() -> Settings:
    """The settings of a command line without overrides, composed once: that takes longer than most verbs."""
    return load_settings(["preset=micro"])


@pytest.fixture
def data(corpus: Path, capsys: pytest.CaptureFixture[str]) -> Headwater:
    """Does `headwater data ...` on the corpus, or on another `store`, and returns what it printed."""

    def call(*words: str, code: int = 0, store: Path = corpus, told: bool = False) -> str:
        capsys.readouterr()
        options = make_parser().parse_args(["data", *words])
        settings = replace(composed(), store=str(store), workspace=str(store))
        try:
            got = act(settings, options)
        except HeadwaterError as error:
            got = report(error, options.json)
        printed = capsys.readouterr()
        assert got == code, printed.out + printed.err
        return printed.err if told or code > 1 else printed.out

    return call


def artifact(store: Path, step: str) -> Path:
    """Folder of a step's only artifact."""
    made = Store(store).newest(step)
    assert made is not None
    return store / made.data
