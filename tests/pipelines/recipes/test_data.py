"""The recipe `data` as a user meets it: run, asked again, with a threshold moved, from files, with a page withdrawn."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from components.documents import read_documents, read_dropped
from components.publish import read_json
from pipelines.cli import main
from pipelines.config import load_settings
from pipelines.engine.store import Store
from pipelines.verbs.planning import plan_of

EARLY = {"site", "crawl", "extract", "score", "sketch"}
QUICK = ["recipe=data", "preset=micro", "cluster=inprocess"]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The micro data path, run once, tracked."""
    folder = tmp_path_factory.mktemp("data")
    assert main(["run", *QUICK, f"store={folder}"]) == 0
    return folder


def to_run(store: Path, *overrides: str) -> set[str]:
    _, plan = plan_of(load_settings([*QUICK, f"store={store}", *overrides]))
    return {entry.name for entry in plan.to_run}


def artifact(store: Path, step: str) -> Path:
    opened = Store(store)
    made = opened.newest(step)
    assert made is not None
    return opened.fetch(made)


def in_mlflow(store: Path) -> dict[str, float]:
    """All metrics of all runs, as MLflow has them."""
    from pipelines.tracking.client import connect
    from pipelines.tracking.config import TrackingConfig

    client, experiment = connect(TrackingConfig(), store)
    return {name: value for run in client.search_runs([experiment]) for name, value in run.data.metrics.items()}


def test_the_same_again_runs_nothing(store: Path) -> None:
    assert to_run(store) == set()


def test_a_moved_threshold_fetches_extracts_measures_and_hashes_nothing_again(store: Path) -> None:
    again = to_run(store, "clean.min_chars=300")
    assert {"clean", "dedup", "tokens"} <= again
    assert not again & EARLY


def test_other_rules_are_another_corpus_although_their_path_is_no_setting(store: Path, tmp_path: Path) -> None:
    from components.clean.profiles import builtin_rules

    rules = tmp_path / "mine.yaml"
    rules.write_bytes(builtin_rules().read_bytes())
    assert to_run(store, f"source.rules={rules}") == set()
    rules.write_bytes(builtin_rules().read_bytes() + b"\n# one line more\n")
    assert "clean" in to_run(store, f"source.rules={rules}")


def test_a_rule_that_does_not_exist_is_refused_before_anything_runs(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", *QUICK, "clean.thresholds.max_url_shar=0.2", f"store={store}"]) == 2
    assert "max_url_share" in capsys.readouterr().err


def test_a_longer_row_packs_again_and_encodes_nothing(store: Path) -> None:
    assert to_run(store, "pretrain.length=64") <= {"pack", "card"}
    assert "pack" in to_run(store, "pretrain.length=64")


def test_every_step_reads_what_the_step_before_kept_in_manifest_card_and_mlflow(store: Path) -> None:
    opened = Store(store)
    manifests = {step: opened.newest(step) for step in ("extract", "score", "clean", "dedup")}
    metrics = {step: made.metrics for step, made in manifests.items() if made is not None}
    summaries = {step: read_json(artifact(store, step) / "summary.json") for step in metrics}
    card = read_json(artifact(store, "card") / "card.json")
    tracked = in_mlflow(store)
    for step, numbers in metrics.items():
        dropped = sum(json.loads(json.dumps(summaries[step]["dropped"])).values())
        assert numbers["read"] == summaries[step]["read"]
        assert numbers["kept"] == summaries[step]["kept"]
        assert numbers["read"] == numbers["kept"] + dropped
        assert len(read_dropped(artifact(store, step))) == dropped
        assert tracked[f"{step}/read"] == numbers["read"]
        assert tracked[f"{step}/kept"] == numbers["kept"]
    for before, after in (("extract", "score"), ("score", "clean"), ("clean", "dedup")):
        assert metrics[before]["kept"] == metrics[after]["read"]
    assert card["totals"]["documents"] == metrics["dedup"]["kept"]
    assert card["totals"]["faults"] == 0


def test_files_become_a_corpus_without_crawl_and_extract(tmp_path: Path) -> None:
    told = (
        "In house {} of the lower street the water stood {} inches high. Nobody was hurt, but {} chairs and the clock "
        "of {} had to be dried in the sun, and old Mrs. Number {} would not leave her kitchen until the boat came."
    )
    rows = [{"text": told.format(n, n * 7, n + 3, 1800 + 3 * n, n * n), "id": str(n)} for n in range(60)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    words = [*QUICK, "tracking=off", "source=files", f"source.paths=[{tmp_path / 'rows.jsonl'}]"]
    words += ["tokenizer.vocab_size=330", "dedup.near=false", "dedup.line_documents=0", "dedup.cut_passages=false"]
    assert main(["run", *words, f"store={tmp_path / 's'}"]) == 0
    assert len(list(read_documents(artifact(tmp_path / "s", "clean")))) == 60
    assert {step.name for step in (tmp_path / "s" / "artifacts").iterdir()} & {"crawl", "extract"} == set()


def test_a_page_that_is_withdrawn_is_in_no_later_corpus(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gone = next(read_documents(artifact(store, "dedup")))
    before = {step: artifact(store, step) for step in EARLY}
    assert main(["data", "forget", gone.url, "--rewrite", f"store={store}", *QUICK]) == 0
    assert to_run(store) == set()
    assert {step: artifact(store, step) for step in EARLY - {"crawl"}} | {"crawl": before["crawl"]} == before
    assert gone.url not in {document.url for document in read_documents(artifact(store, "dedup"))}
    assert [row.rule for row in read_dropped(artifact(store, "clean")) if row.url == gone.url] == ["opt_out"]
