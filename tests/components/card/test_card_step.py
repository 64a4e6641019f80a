"""The card agrees with the artifacts it is about, says so when they do not agree, and lets no page write on it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from components.card.config import CardConfig, settings_told
from components.card.markdown import to_markdown
from components.card.step import card
from components.clean.config import CleanConfig
from components.context import local_context
from components.dedup.config import DedupConfig
from components.documents import Document, Dropped, ShardWriter, make_doc_id, shard_of, write_summary
from components.errors import ConfigError, StepError
from components.publish import publish_json, read_json
from components.sketch.config import SketchConfig

TEXTS = {"en": "It rained all day.", "zh": "下了一整天的雨。"}


def document(number: int, lang: str = "en", **values: object) -> Document:
    url = f"http://{'ab'[number % 2]}.test/{number}"
    plain = Document(make_doc_id("web", url, b""), "web", url, lang, "", TEXTS[lang] * (number + 1))
    return replace(plain, **values)  # type: ignore[arg-type]


def artifact(folder: Path, kept: list[Document], dropped: list[tuple[Document, str]]) -> Path:
    parts = []
    for index in range(3):
        with ShardWriter(folder, index) as writer:
            for one in sorted(kept, key=lambda one: one.doc_id):
                if shard_of(one.doc_id, 3) == index:
                    writer.keep(one)
            for one, rule in sorted(dropped, key=lambda row: row[0].doc_id):
                if shard_of(one.doc_id, 3) == index:
                    writer.drop(Dropped(one.doc_id, one.url, rule, "1", "2"))
        parts.append(writer.part)
    write_summary(folder, parts)
    return folder


@pytest.fixture
def steps(tmp_path: Path) -> dict[str, Path]:
    """Three steps: 20 pages, 16 documents, 12 of them good."""
    every = [document(number, "zh" if number % 4 == 0 else "en") for number in range(20)]
    lost = [(one, "status") for one in every[16:]]
    bad = [(one, "opt_out" if number else "min_chars") for number, one in enumerate(every[12:16])]
    return {
        "extract": artifact(tmp_path / "extract", every[:16], lost),
        "clean": artifact(tmp_path / "clean", every[:12], bad),
    }


def made(tmp_path: Path, steps: dict[str, Path], config: CardConfig | None = None) -> tuple[dict, dict[str, float]]:
    ctx = local_context("card", tmp_path / "card")
    metrics = card(ctx, config or CardConfig(), **steps)
    return read_json(ctx.output / "card.json"), metrics


def test_totals_are_those_of_the_last_documents(tmp_path: Path, steps: dict[str, Path]) -> None:
    found, metrics = made(tmp_path, steps)
    summary = read_json(steps["clean"] / "summary.json")
    assert found["totals"]["documents"] == summary["kept"] == 12
    assert found["totals"]["chars"] == summary["chars"]
    assert found["totals"] == {name: int(value) for name, value in metrics.items()}
    assert {lang: row["documents"] for lang, row in found["groups"]["lang"].items()} == summary["languages"]
    assert (metrics["read"], metrics["hosts"], metrics["faults"]) == (20, 2, 0)


def test_the_funnel_is_every_steps_own_summary(tmp_path: Path, steps: dict[str, Path]) -> None:
    found, _ = made(tmp_path, steps)
    for stage in found["funnel"]:
        summary = read_json(steps[stage["step"]] / "summary.json")
        assert {name: stage[name] for name in ("read", "kept", "dropped", "chars", "languages")} == summary


def test_honoured_opt_outs_are_counted_over_all_steps(tmp_path: Path, steps: dict[str, Path]) -> None:
    assert made(tmp_path, steps)[0]["opt_outs"] == {"dropped": 3, "kept": {}}


def test_a_summary_that_differs_from_the_rows_is_a_fault(tmp_path: Path, steps: dict[str, Path]) -> None:
    summary = read_json(steps["clean"] / "summary.json")
    publish_json(steps["clean"] / "summary.json", summary | {"kept": 11})
    found, metrics = made(tmp_path, steps)
    assert metrics["faults"] == 2
    assert "clean says it kept 11 documents, but its shards hold 12" in found["faults"]
    assert "**Does not add up:** clean says it kept 11" in to_markdown(found)


def test_the_same_artifacts_give_the_same_bytes(tmp_path: Path, steps: dict[str, Path]) -> None:
    for name in ("one", "two"):
        card(local_context("card", tmp_path / name), CardConfig(shards_at_once=1 if name == "one" else 8), **steps)
    for file in ("card.json", "README.md"):
        assert (tmp_path / "one/output" / file).read_bytes() == (tmp_path / "two/output" / file).read_bytes()


def test_without_documents_there_is_no_card(tmp_path: Path) -> None:
    with pytest.raises(StepError, match="card was given no documents"):
        card(local_context("card", tmp_path), CardConfig())


def front_matter(text: str) -> dict:
    _, front, _ = text.split("---\n", 2)
    loaded: dict = yaml.safe_load(front)
    return loaded


def test_the_front_matter_is_what_hugging_face_reads(tmp_path: Path, steps: dict[str, Path]) -> None:
    config = CardConfig(name='rain: "wet" # dry', licence="CC-BY-4.0")
    text = to_markdown(made(tmp_path, steps, config)[0])
    assert front_matter(text) == {
        "pretty_name": 'rain: "wet" # dry',
        "language": ["en", "zh"],
        "license": "cc-by-4.0",
        "size_categories": ["n<1K"],
        "task_categories": ["text-generation"],
    }


def test_a_language_that_yaml_takes_for_false_stays_a_language(tmp_path: Path) -> None:
    kept = [replace(document(1), lang="no")]
    text = to_markdown(made(tmp_path, {"clean": artifact(tmp_path / "clean", kept, [])})[0])
    assert front_matter(text)["language"] == ["no"]


def test_no_page_can_write_mark_up_on_the_card(tmp_path: Path) -> None:
    evil = "x|y\n---\n# <script>[a](b)"
    kept = [document(1, licence=evil, script=evil, source=evil, opt_out=evil)]
    text = to_markdown(made(tmp_path, {"clean": artifact(tmp_path / "clean", kept, [])})[0])
    assert "<script>" not in text
    assert "[a](b)" not in text
    assert not any(line.startswith("# x") or line == "---" for line in text.splitlines()[10:])


def test_settings_are_told_where_they_differ_from_the_defaults() -> None:
    cleaning = CleanConfig(min_chars=200, languages=("zh",), shards_at_once=3)
    configs = {"clean": cleaning, "dedup": DedupConfig(), "sketch": SketchConfig()}
    assert settings_told(configs) == {"clean.min_chars": "200", "clean.languages": "zh"}


def test_settings_and_tokens_are_shown(tmp_path: Path, steps: dict[str, Path]) -> None:
    counts = {"documents": 10, "tokens": 400, "bytes": 1000}
    publish_json(tmp_path / "tokens" / "meta.json", {"vocab_size": 512, "train": counts, "shards": {"train": []}})
    config = CardConfig(settings={"clean.min_chars": "200"})
    found, metrics = made(tmp_path, steps | {"tokens": tmp_path / "tokens"}, config)
    assert found["splits"] == {"train": counts}
    assert found["tokenizer"] == {"vocab_size": 512, "bytes_per_token": 2.5}
    assert metrics["tokens"] == 400
    assert "| clean.min_chars | 200 |" in to_markdown(found)


def test_the_card_is_json_that_reads_back_to_the_same_page(tmp_path: Path, steps: dict[str, Path]) -> None:
    found, _ = made(tmp_path, steps)
    assert to_markdown(json.loads(json.dumps(found))) == (tmp_path / "card/output/README.md").read_text()


@pytest.mark.parametrize("values", [{"name": " "}, {"top": 0}, {"shards_at_once": 0}])
def test_impossible_settings_are_refused(values: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=r"card\."):
        CardConfig(**values)  # type: ignore[arg-type]
