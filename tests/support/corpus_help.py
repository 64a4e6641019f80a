"""A whole data path, really run: from a crawled sample website to packed rows, and a model that says what it read.

The steps run in this process, one after the other, under a recipe of their own, so that the `data` verbs find a run as
`headwater run` leaves it. Nothing is trained: the model is a folder with the order in which training would have read
the rows, which is what a real one leaves beside its weights.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

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
from components.extract.config import ExtractConfig
from components.extract.step import extract
from components.pack.config import PackConfig
from components.pack.step import pack
from components.publish import publish_json
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
from pipelines.config import load_settings
from pipelines.engine import events
from pipelines.engine.draft import draft
from pipelines.engine.lease import Lease
from pipelines.engine.plan import make_plan
from pipelines.engine.step import Recipe
from pipelines.engine.store import Store
from pipelines.runs import create_run

VERSION = 1
LENGTH = 64
STEPS = 60

Declare = Callable[[Recipe], None]


@dataclass(frozen=True)
class ReadConfig:
    """A model's settings, as far as they tell what it read."""

    training: TrainingConfig = field(default_factory=lambda: TrainingConfig(steps=STEPS, batch_size=4, micro_batch=2))
    length: int = LENGTH
    seed: int = 17


def pretrain(ctx: Context, config: ReadConfig, tokens: Path, rows: Path) -> Metrics:
    """Leaves the order in which a training would read the rows."""
    schedule = Schedule(ctx.seed("rows"), config.training.batch_size, config.length)
    publish_json(ctx.output / "order.json", schedule.to_json())
    return {"steps": float(config.training.steps)}


def whole_path(run: Recipe, judged: CleanConfig) -> None:
    """Declares the path."""
    small = SampleConfig(
        conversations=120, questions=60, articles=10, digests=3, reviews=120, duplicates=3, near_duplicates=3, junk=2,
        private=2, slow_s=0.0,
    )  # fmt: skip
    pages = run.step(crawl, CrawlConfig(delay_s=0.0, backoff_s=0.05), site=run.step(site, small))
    text = run.step(extract, ExtractConfig(shards=4), pages=pages)
    scored = run.step(score, ScoreConfig(), documents=text)
    kept = run.step(clean, judged, documents=scored)
    sketches = run.step(sketch, SketchConfig(), documents=scored)
    unique = run.step(dedup, DedupConfig(), documents=kept, sketches=sketches)
    vocabulary = run.step(tokenizer, TokenizerConfig(vocab_size=512), documents=unique)
    ids = run.step(tokens, TokensConfig(val_fraction=0.1, min_val_documents=2), documents=unique, tokenizer=vocabulary)
    plan = run.step(pack, PackConfig(length=LENGTH), tokens=ids)
    run.step(pretrain, ReadConfig(), tokens=ids, rows=plan)
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
    folder = create_run(store, settings, [], make_plan(recipe.steps, opened), run_id)
    events.append(folder, "run_started", session=1)
    for name in [entry.name for entry in make_plan(recipe.steps, opened).entries]:
        entry = make_plan(recipe.steps, opened)[name]
        if entry.made is None:
            _run_step(opened, recipe, folder, name)
        events.append(folder, "done", name, session=1, attempt=1, key=entry.key)
    events.append(folder, "run_ended", session=1, state="done")
    return folder


def _run_step(store: Store, recipe: Recipe, folder: Path, name: str) -> None:
    plan = make_plan(recipe.steps, store)
    entry = plan[name]
    lease = store.acquire(name, entry.key, folder.name)
    assert isinstance(lease, Lease), lease
    output = store.begin(lease)
    inputs = {what: plan[artifact.name].artifact for what, artifact in entry.step.inputs.items()}
    seed = int(getattr(entry.step.config, "seed", 0))
    channel = Channel(events.step_folder(folder, name))
    context = LocalContext(name, output, store.scratch(name, entry.key), channel, seed)
    metrics = entry.step.fn(context, entry.step.config, **inputs)
    made = replace(draft(entry, entry.contents or {}, folder.name, {}), seconds=1.0, metrics=dict(metrics))
    assert store.commit(lease, output, made).manifest is not None
