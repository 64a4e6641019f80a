"""The report is a pure function of the run's records, whole and harmless whatever they hold."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path

import pytest

from components.context import Context, Metrics
from components.errors import StepError
from components.publish import publish_bytes, publish_json, read_json
from pipelines.engine.cluster import ClusterConfig
from pipelines.engine.driver import execute
from pipelines.engine.plan import make_plan
from pipelines.engine.step import Recipe
from pipelines.engine.store import Store
from pipelines.report.report import write_report

VERSION = 1
EVIL = "<script>alert('x')</script> | `a` & 你好，世界"
SCORES = {
    "base": {"bpb": 1.914, "reply_loss": 4.1, "score": -0.5, "score_error": 0.04, "distinct_2": 0.7},
    "sft": {"bpb": 1.95, "reply_loss": 3.2, "score": -0.12, "score_error": 0.03, "distinct_2": 0.61},
    "ppo": {
        "bpb": 1.97,
        "reply_loss": 3.3,
        "score": 0.35,
        "score_error": 0.03,
        "win_rate": 0.71,
        "kl_k1": 4.2,
        "distinct_2": 0.58,
    },
    "reward": {"accuracy": 0.63, "error": 0.02, "pairs": 480, "sources": {}},
    "baselines": {"unigram": 4.95, "order3": 2.35, "order3_bytes": 1000},
}


@dataclass(frozen=True)
class Nothing:
    """Settings of steps that have none."""

    fail: bool = False


def crawl(ctx: Context, config: Nothing) -> Metrics:
    pages = {"fetched": {"ok": 40}, "refused": {"robots": 7}, "failed": {"http 500": 3}, "pending": {}}
    publish_json(ctx.output / "summary.json", {"seeds": [], "pages": pages, "sitemaps": {}, "bytes": 1})
    return {"fetched": 40.0}


def clean(ctx: Context, config: Nothing, pages: Path) -> Metrics:
    dropped = {"min_chars": 6, "language": 4}
    summary = {"read": 40, "kept": 30, "dropped": dropped, "languages": {"en": 20, "zh": 10}, "chars": 9}
    publish_json(ctx.output / "summary.json", summary)
    return {"kept": 30.0}


def pretrain(ctx: Context, config: Nothing, documents: Path) -> Metrics:
    for step in range(50, 101, 10):
        ctx.log({"loss": 100.0 / step, "val_bpb": 200.0 / step}, step)
    publish_json(ctx.output / "curve.json", [{"step": step, "val_bpb": 200.0 / step} for step in range(10, 101, 10)])
    return {"val_bpb": 2.0}


def evaluate(ctx: Context, config: Nothing, policy: Path) -> Metrics:
    if config.fail:
        raise StepError(f"nothing to evaluate: {EVIL}", where="evaluate", fix="train <something> first")
    publish_json(ctx.output / "scores.json", SCORES)
    sample = {"prompt": EVIL, "replies": {"sft": EVIL, "ppo": "fine"}, "scores": {"sft": -1.0, "ppo": 0.5}}
    publish_json(ctx.output / "samples.json", [{"id": "a", "lang": "zh", "source": "s", **sample}])
    return {"ppo_score": 0.35}


def run(store: Path, run_id: str, fail: bool = False) -> Path:
    recipe = Recipe("small")
    text = recipe.step(clean, Nothing(), pages=recipe.step(crawl, Nothing()))
    recipe.step(evaluate, Nothing(fail), policy=recipe.step(pretrain, Nothing(), documents=text))
    plan = make_plan(recipe.steps, Store(store))
    folder = store / "runs" / run_id
    publish_bytes(folder / "config.yaml", b"{}\n")
    publish_json(folder / "plan.json", plan.to_json())
    command = f"headwater run 'a=\"{EVIL}\"' tracking.uri=postgresql://me:hunter2@db/x"
    record = {"id": run_id, "recipe": "small", "preset": "tiny", "created": 1.7e9, "command": command}
    publish_json(folder / "run.json", record | {"overrides": [], "git": {"commit": "c0ffee", "dirty": True}})
    execute(plan, Store(store), folder, ClusterConfig(kind="inprocess"), threading.Event())
    return folder


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = tmp_path_factory.mktemp("store")
    for run_id in ("amber-1", "amber-2"):
        write_report(run(store, run_id), store)
    write_report(run(store, "amber-3", fail=True), store)
    return store


class Page(HTMLParser):
    """Collects the cells, tags and attributes of a page, and checks that tags are closed in order."""

    void = ("meta", "line", "circle", "path", "rect", "polyline")

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str | None]] = []
        self.rows: list[list[str]] = []
        self.feed(path.read_text(encoding="utf-8"))
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += attrs
        if tag not in self.void:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("td", "th"):
            self.rows[-1][-1] += data


@pytest.fixture(scope="module")
def page(store: Path) -> Page:
    return Page(store / "runs/amber-1/report.html")


def test_text_of_pages_and_models_is_shown_and_never_becomes_markup(page: Page) -> None:
    assert "script" not in page.tags
    assert [EVIL, f"{EVIL}\n(-1.00)", "fine\n(+0.50)"] in page.rows


def test_the_page_needs_nothing_from_elsewhere(page: Page) -> None:
    assert page.tags.isdisjoint({"script", "link", "img", "iframe", "object", "a"})
    assert not [name for name, _ in page.attributes if name in ("src", "href", "onload", "onclick")]


def test_the_score_table_has_every_stage_with_its_error(page: Page) -> None:
    assert ["ppo", "1.970", "3.300", "0.35 +- 0.03", "0.71", "4.20", "0.58"] in page.rows
    assert ["sft", "1.950", "3.200", "-0.12 +- 0.03", "0.50", "0.00", "0.61"] in page.rows
    assert ["reward", "-", "-", "accuracy 0.63 +- 0.02 on 480 pairs", "-", "-", "-"] in page.rows
    assert ["order3", "2.350", "-", "-", "-", "-", "-"] in page.rows
    assert not any(row[0] == "order3_bytes" for row in page.rows)


def test_the_funnel_shows_what_was_read_kept_and_dropped_by_which_rule(page: Page) -> None:
    assert ["crawl", "50", "40", "refused: robots 7, failed: http 500 3", ""] in page.rows
    assert ["clean", "40", "30", "min_chars 6, language 4", "en 20, zh 10"] in page.rows


def test_the_validation_curve_is_that_of_the_whole_training(store: Path) -> None:
    html = (store / "runs/amber-1/report.html").read_text(encoding="utf-8")
    chart = html[html.index("Pretraining: validation bits per byte") :].partition("</svg>")[0]
    assert len(chart.partition('<polyline points="')[2].partition('"')[0].split()) == 10


def test_a_cached_run_shows_the_same_curves_as_the_run_that_made_them(store: Path) -> None:
    first, second = ((store / f"runs/{name}/report.html").read_text("utf-8") for name in ("amber-1", "amber-2"))
    charts = [
        [part.partition("</svg>")[0] for part in html.split("<title>Pretraining")[1:]] for html in (first, second)
    ]
    assert len(charts[0]) == 2
    assert charts[0] == charts[1]


def test_a_failed_run_says_what_went_wrong_and_keeps_what_there_is(store: Path) -> None:
    markdown = (store / "runs/amber-3/report.md").read_text(encoding="utf-8")
    assert "fix:   train <something> first" in markdown
    assert "amber-3 failed" in markdown
    assert "min\\_chars 6" in markdown


def test_making_the_report_again_gives_the_same_bytes(store: Path) -> None:
    folder = store / "runs/amber-1"
    before = [(folder / name).read_bytes() for name in ("report.html", "report.md")]
    time.sleep(0.01)
    write_report(folder, store)
    assert [(folder / name).read_bytes() for name in ("report.html", "report.md")] == before


def test_passwords_on_the_command_line_are_masked(store: Path) -> None:
    for name in ("report.html", "report.md"):
        text = (store / "runs/amber-1" / name).read_text(encoding="utf-8")
        assert "hunter2" not in text
        assert "postgresql://***@db/x" in text


def test_chinese_text_stays_readable_in_both_forms(store: Path) -> None:
    for name in ("report.html", "report.md"):
        assert "你好，世界" in (store / "runs/amber-1" / name).read_text(encoding="utf-8")


def test_a_markdown_row_keeps_its_columns_whatever_a_cell_holds(store: Path) -> None:
    text = (store / "runs/amber-1/report.md").read_text(encoding="utf-8")
    (row,) = [line for line in text.splitlines() if line.startswith("|") and "(+0.50)" in line]
    assert row.replace("\\|", "").count("|") == 4


def test_a_run_without_evaluation_has_a_report_without_scores(store: Path) -> None:
    assert "## Scores" not in (store / "runs/amber-3/report.md").read_text(encoding="utf-8")
    assert read_json(store / "runs/amber-3/run.json")["id"] == "amber-3"
