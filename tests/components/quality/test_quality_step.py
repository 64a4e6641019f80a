"""The classifier tells prose from junk, learns from given texts, and gives the same numbers on every run."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest

from components.clean.config import CleanConfig
from components.clean.step import clean
from components.context import LocalContext, local_context
from components.documents import (
    Document,
    Outcome,
    make_doc_id,
    read_documents,
    read_dropped,
    read_shard,
    shard_of,
    shard_paths,
    write_shard,
    write_summary,
)
from components.errors import ConfigError, Preempted, StepError
from components.publish import read_json
from components.quality.config import QualityConfig
from components.quality.model import load_model
from components.quality.step import quality, score_texts
from components.score.config import ScoreConfig
from components.score.step import score
from components.score.table import iter_rows, score_path

NUM_SHARDS = 3
PLACES = ("street", "mill", "river", "gate", "market", "bridge", "tower", "field", "harbour", "garden", "church")
HANZI_PLACES = ("街", "河", "桥", "塔", "市场", "花园", "码头", "车站", "学校", "田野")
SPAM = ("cheap", "buy", "online", "casino", "bonus", "deal", "sale", "click", "price", "watches")
ENGLISH = (
    "The water came up to the {a} in the night, and we carried what we had to the {b}. By morning it was over. "
    "My brother said that he had never seen the {a} so quiet, and that the people of the {b} would talk of it."
)
CHINESE = (
    "昨天夜里水一直涨到了{a}，我们把能拿的东西都搬到了{b}。到了早上水就退了。"
    "我弟弟说他从来没有见过这么安静的{a}，住在{b}的人还会说上很多年。"
)


def document(source: str, number: int, lang: str, text: str) -> Document:
    url = f"http://{source}.org/{number}"
    return Document(make_doc_id(source, url, text.encode()), source, url, lang, "", text)


def corpus() -> list[Document]:
    """Prose in two languages, keyword spam that the rules drop, and a little German."""
    draw, found = random.Random(5), []
    for number in range(150):
        a, b = draw.sample(PLACES, 2)
        found.append(document("web", number, "en", ENGLISH.format(a=a, b=b)))
        a, b = draw.sample(HANZI_PLACES, 2)
        found.append(document("web", 1000 + number, "zh", CHINESE.format(a=a, b=b)))
        spam = " ".join(draw.choices(SPAM, k=80))
        found.append(document("web", 2000 + number, "en", spam))
    found.append(document("web", 3000, "de", "Das Wasser stieg in der Nacht bis an das Tor, und wir gingen. " * 3))
    return found


def scored(folder: Path, documents: list[Document]) -> Path:
    parts = [
        write_shard(folder / "in", index, Outcome([d for d in documents if shard_of(d.doc_id, NUM_SHARDS) == index]))
        for index in range(NUM_SHARDS)
    ]
    write_summary(folder / "in", parts)
    context = local_context("score", folder / "score")
    score(context, ScoreConfig(), documents=folder / "in")
    return context.output


@pytest.fixture(scope="module")
def documents(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return scored(tmp_path_factory.mktemp("scored"), corpus())


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def write_texts(path: Path, texts: list[str]) -> Path:
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
    return path


def test_good_and_bad_documents_are_told_apart_without_any_given_text(tmp_path: Path, documents: Path) -> None:
    context = local_context("quality", tmp_path)
    metrics = quality(context, QualityConfig(), documents=documents)
    assert metrics["auc"] > 0.99
    assert metrics["positives"] == 300
    assert metrics["negatives"] == 300  # 150 that the rules drop, and as many in disorder
    assert metrics["held_out"] > 20
    assert read_json(context.output / "examples.json")["auc"] == metrics["auc"]
    model = load_model(context.output / "model.safetensors")
    prose, spam, disorder = score_texts(
        model,
        [
            ENGLISH.format(a="mill", b="tower"),
            "buy cheap watches online casino bonus price deal " * 5,
            " ".join(random.Random(1).sample(ENGLISH.split(), len(ENGLISH.split()))),
        ],
        1000,
    )
    assert prose > 0.9
    assert spam < 0.1
    assert disorder < 0.5


def test_every_document_has_a_score_in_its_place_but_those_of_other_languages(tmp_path: Path, documents: Path) -> None:
    context = local_context("quality", tmp_path)
    quality(context, QualityConfig(), documents=documents)
    rows = [
        (row["doc_id"], row["quality"])
        for path in shard_paths(documents)
        for batch in iter_rows(score_path(context.output, path))
        for row in batch.to_pylist()
    ]
    known = list(read_documents(documents))
    assert [doc_id for doc_id, _ in rows] == [one.doc_id for one in known]
    for one, (_, value) in zip(known, rows, strict=True):
        assert np.isnan(value) == (one.lang == "de")
        assert one.lang == "de" or 0 <= value <= 1


def test_a_language_without_good_examples_is_not_judged(tmp_path: Path) -> None:
    few = [one for one in corpus() if one.lang != "zh" or "300" in one.url or "1001" in one.url]
    artifact = scored(tmp_path / "scored", [*few, document("web", 1, "zh", "太短。")])
    context = local_context("quality", tmp_path / "run")
    quality(context, QualityConfig(), documents=artifact)
    assert read_json(context.output / "examples.json")["languages"] == ["en"]
    scores = {
        one.lang: value
        for path in shard_paths(artifact)
        for one, value in zip(
            read_shard(path),
            [
                row
                for batch in iter_rows(score_path(context.output, path))
                for row in batch.column("quality").to_pylist()
            ],
            strict=True,
        )
    }
    assert np.isnan(scores["zh"])
    assert 0 <= scores["en"] <= 1


def test_clean_drops_what_scores_low_and_writes_the_scores_down(tmp_path: Path, documents: Path) -> None:
    context = local_context("quality", tmp_path / "quality")
    quality(context, QualityConfig(), documents=documents)
    rules = tmp_path / "none.yaml"
    rules.write_text("otherwise: all\nprofiles: {all: {rules: []}}\n", encoding="utf-8")
    cleaned = local_context("clean", tmp_path / "clean")
    config = CleanConfig(languages=(), min_quality=0.5)
    metrics = clean(cleaned, config, documents=documents, rules=rules, quality=context.output)
    kept = list(read_documents(cleaned.output))
    assert metrics["kept"] == 301  # all prose, and the German that nobody judged
    assert {one.quality is None for one in kept if one.lang == "de"} == {True}
    assert min(one.quality for one in kept if one.quality is not None) >= 0.5
    assert {row.rule for row in read_dropped(cleaned.output)} == {"min_quality"}


def test_given_texts_say_what_is_good(tmp_path: Path, documents: Path) -> None:
    draw = random.Random(3)
    wanted = [CHINESE.format(a=a, b=b) for a, b in (draw.sample(HANZI_PLACES, 2) for _ in range(80))]
    context = local_context("quality", tmp_path / "run")
    metrics = quality(
        context,
        QualityConfig(languages=("en",), corrupted_share=0.0),
        documents=documents,
        positives=write_texts(tmp_path / "good.jsonl", wanted),
    )
    model = load_model(context.output / "model.safetensors")
    chinese, english = score_texts(model, [CHINESE.format(a="河", b="塔"), ENGLISH.format(a="mill", b="gate")], 1000)
    assert chinese > 0.9 > 0.1 > english
    assert metrics["negatives"] == 300


def test_named_sources_are_the_good_ones(tmp_path: Path) -> None:
    other = [document("books", n, "zh", CHINESE.format(a="河", b=f"第{n}座塔")) for n in range(60)]
    artifact = scored(tmp_path / "scored", [*corpus(), *other])
    context = local_context("quality", tmp_path / "run")
    assert quality(context, QualityConfig(good_sources=("books",)), documents=artifact)["positives"] == 60


def test_plain_text_files_hold_a_text_between_empty_lines(tmp_path: Path, documents: Path) -> None:
    folder = tmp_path / "bad"
    folder.mkdir()
    (folder / "a.txt").write_text("\n\n".join(f"cheap {n} deal\nbuy now" for n in range(30)), encoding="utf-8")
    (folder / "b.jsonl").write_text('{"text": "click here now"}\n', encoding="utf-8")
    metrics = quality(
        local_context("quality", tmp_path / "run"), QualityConfig(), documents=documents, negatives=folder
    )
    assert metrics["negatives"] == 31


def test_the_bytes_depend_on_documents_and_settings_alone(tmp_path: Path) -> None:
    documents = corpus()
    first = scored(tmp_path / "a", documents)
    random.Random(1).shuffle(documents)
    second = scored(tmp_path / "b", documents)
    outputs = []
    for name, artifact, config in (
        ("one", first, QualityConfig()),
        ("two", second, QualityConfig(shards_at_once=1)),
        ("three", first, QualityConfig(max_examples=100)),
    ):
        context = local_context("quality", tmp_path / name)
        quality(context, config, documents=artifact)
        outputs.append(bytes_of(context.output))
    assert outputs[0] == outputs[1]
    assert outputs[0] != outputs[2]


class StopsOften(LocalContext):
    """A context whose run is asked to stop after every wave."""

    def progress(self, done: int, total: int | None, unit: str, note: str = "") -> None:
        (self.channel.folder / "stop").touch()


def test_a_run_stopped_after_every_wave_ends_with_the_same_bytes(tmp_path: Path, documents: Path) -> None:
    whole = local_context("quality", tmp_path / "whole")
    quality(whole, QualityConfig(), documents=documents)
    plain = local_context("quality", tmp_path / "stopped")
    stopping = StopsOften(plain.step, plain.output, plain.scratch, plain.channel)
    for _ in range(40):
        (plain.channel.folder / "stop").unlink(missing_ok=True)
        try:
            quality(stopping, QualityConfig(shards_at_once=1), documents=documents)
        except Preempted:
            if any(plain.output.rglob("*.json")):
                break
    (plain.channel.folder / "stop").unlink(missing_ok=True)
    quality(plain, QualityConfig(), documents=documents)
    assert bytes_of(plain.output) == bytes_of(whole.output)


def test_too_few_examples_are_refused_with_what_is_missing(tmp_path: Path) -> None:
    artifact = scored(tmp_path / "scored", [document("web", 1, "en", "Too short."), document("web", 2, "en", "Stub.")])
    with pytest.raises(StepError, match="quality has 0 good examples and needs 20"):
        quality(local_context("quality", tmp_path / "run"), QualityConfig(), documents=artifact)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b'{"text": "a"}\n{"body": "b"}\n', "Line 2 of good.jsonl"),
        (b'{"text": 3}\n', "Line 1 of good.jsonl"),
        (b"[1, 2\n", "Line 1 of good.jsonl"),
        (b"\xff\xfe\x00", "no UTF-8 text"),
        (b"", "no text among the examples"),
    ],
)
def test_files_of_examples_that_hold_none_are_refused_with_the_line(
    tmp_path: Path, documents: Path, content: bytes, told: str
) -> None:
    path = tmp_path / "good.jsonl"
    path.write_bytes(content)
    with pytest.raises(StepError, match=told):
        quality(local_context("quality", tmp_path / "run"), QualityConfig(), documents=documents, positives=path)


@pytest.mark.parametrize(
    ("setting", "key"),
    [
        ({"margin": 0.5}, "quality.margin"),
        ({"max_examples": 5}, "quality.max_examples"),
        ({"corrupted_share": 1.5}, "quality.corrupted_share"),
        ({"feature_bits": 40}, "quality.feature_bits"),
        ({"learning_rate": 0.0}, "quality.learning_rate"),
    ],
)
def test_an_impossible_setting_is_refused_by_its_key(setting: dict[str, float], key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        QualityConfig(**setting)
    assert caught.value.where == key
