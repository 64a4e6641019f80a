"""The step `dedup`: recall and precision in both languages, winners, ledger, and order that does not matter."""

from __future__ import annotations

import dataclasses
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from dedup_help import bytes_of, kept_urls, run, sketched
from made_texts import edited as edit
from made_texts import make_document as document
from made_texts import make_text
from parallel_context import parallel_context

from components.context import LocalContext, local_context
from components.dedup.config import DedupConfig
from components.dedup.step import dedup
from components.documents import Document, read_documents, read_dropped
from components.errors import ConfigError, Preempted, StepError

Write = Callable[..., Path]

SIZES = {"en": (200, 600, 3000), "zh": (80, 300, 1500)}


@pytest.fixture
def corpus() -> list[Document]:
    documents = []
    for lang in ("en", "zh"):
        for seed in range(12):
            text = make_text(lang, seed, 400)
            documents.append(document(f"{lang}/{seed}", text, lang))
            if seed % 3 == 0:
                documents.append(document(f"{lang}/{seed}/copy", text, lang))
            if seed % 4 == 0:
                documents.append(document(f"{lang}/{seed}/edited", edit(text, 0.02, seed), lang))
    return documents


@pytest.mark.parametrize(
    ("lang", "rate", "least"),
    [("en", 0.03, 0.99), ("zh", 0.03, 0.99), ("en", 0.06, 0.9), ("zh", 0.06, 0.97)],
)
def test_texts_with_scattered_edits_are_found(
    tmp_path: Path,
    lang: str,
    rate: float,
    least: float,
    write: Write,
) -> None:
    documents = []
    for seed in range(120):
        text = make_text(lang, seed, SIZES[lang][seed % 3])
        documents += [document(f"{seed}/a", text, lang), document(f"{seed}/b", edit(text, rate, seed), lang)]
    metrics = run(tmp_path / "run", write(documents))
    assert metrics["dropped"] >= least * 120
    assert {url.split("/")[0] for url in kept_urls(tmp_path / "run")} == {str(seed) for seed in range(120)}


def test_unrelated_texts_all_stay(tmp_path: Path, write: Write) -> None:
    documents = [
        document(f"{lang}/{seed}", make_text(lang, seed, SIZES[lang][seed % 3]), lang)
        for lang in ("en", "zh")
        for seed in range(250)
    ]
    assert run(tmp_path / "run", write(documents))["kept"] == 500


def test_long_texts_must_be_more_alike_than_their_language_is(tmp_path: Path, write: Write) -> None:
    text = make_text("en", 1, 3000)
    documents = [document("a", text), document("b", edit(text, 0.06, 1)), document("c", text + " and a line more")]
    config = DedupConfig(long_chars=1000, threshold_long=0.9)
    run(tmp_path / "run", write(documents), config)
    assert kept_urls(tmp_path / "run") == {"b", "c"}


def test_one_paragraph_more_or_less_is_the_same_text(tmp_path: Path, write: Write) -> None:
    whole, extra = make_text("zh", 1, 600), make_text("zh", 2, 60)
    documents = [document("whole", whole + extra, "zh"), document("print", whole, "zh")]
    run(tmp_path / "run", write(documents))
    assert kept_urls(tmp_path / "run") == {"whole"}


def test_the_longest_text_wins_then_the_one_with_fewest_marks_then_the_first_url(tmp_path: Path, write: Write) -> None:
    text, other = make_text("en", 1, 500), make_text("en", 2, 500)
    documents = [document("a", text), document("b", text + " And one more line."), document("c", text)]
    documents += [document("z", other), document("y", other), document("x", other.upper())]
    documents.append(document("w", "( " + other.replace(" ", " ... ")))
    run(tmp_path / "run", write(documents))
    assert kept_urls(tmp_path / "run") == {"b", "x"}


def test_the_ledger_tells_how_similar_to_what(tmp_path: Path, write: Write) -> None:
    text = make_text("en", 1, 600)
    documents = [
        document("a", text),
        document("b", text.replace(" ", "  ")[:599]),
        document("c", edit(text, 0.02, 1)[:590]),
    ]
    documents[1] = document("b", text.title())
    metrics = run(tmp_path / "run", write(documents))
    rows = {row.url: row for row in read_dropped(tmp_path / "run" / "output")}
    assert (rows["b"].rule, rows["b"].value, rows["b"].threshold) == ("exact_duplicate", "1.000", "1, kept a")
    assert (rows["c"].rule, rows["c"].threshold) == ("near_duplicate", "0.5, kept a")
    assert 0.5 <= float(rows["c"].value) < 1
    assert (metrics["exact"], metrics["near"], metrics["largest"]) == (1, 1, 3)


def test_short_texts_are_not_taken_for_one_another(tmp_path: Path, write: Write) -> None:
    texts = ["ok", "no", "是", "否", "…", "!!!", "hi there", "好的"]
    run(tmp_path / "run", write([document(text, text, "zh" if text > "\u2fff" else "en") for text in texts]))
    assert kept_urls(tmp_path / "run") == set(texts)


def test_what_is_read_is_kept_or_in_the_ledger(tmp_path: Path, corpus: list[Document], write: Write) -> None:
    metrics = run(tmp_path / "run", write(corpus))
    assert metrics["read"] == len(corpus) == metrics["kept"] + metrics["dropped"]
    assert metrics["dropped"] == metrics["exact"] + metrics["near"] == len(read_dropped(tmp_path / "run" / "output"))
    assert (metrics["exact"], metrics["near"]) == (8, 6)


def test_the_bytes_depend_on_the_documents_alone(tmp_path: Path, corpus: list[Document], write: Write) -> None:
    run(tmp_path / "a", write(corpus))
    shuffled = random.Random(9).sample(corpus, len(corpus))
    run(tmp_path / "b", write(shuffled), DedupConfig(shards_at_once=1))
    assert bytes_of(tmp_path / "a" / "output") == bytes_of(tmp_path / "b" / "output")


@pytest.mark.parametrize("num_shards", [1, 7])
def test_who_stays_does_not_depend_on_the_number_of_shards(
    tmp_path: Path, corpus: list[Document], write: Write, num_shards: int
) -> None:
    run(tmp_path / "three", write(corpus))
    run(tmp_path / "other", write(corpus, num_shards))
    assert kept_urls(tmp_path / "three") == kept_urls(tmp_path / "other")


def test_what_is_unique_stays_unique(tmp_path: Path, corpus: list[Document], write: Write) -> None:
    run(tmp_path / "once", write(corpus))
    again = run(tmp_path / "twice", tmp_path / "once" / "output")
    assert again["dropped"] == 0


@pytest.mark.parametrize(("exact", "near", "kept"), [(False, False, 38), (True, False, 30), (False, True, 24)])
def test_either_search_can_be_switched_off(
    tmp_path: Path, corpus: list[Document], write: Write, exact: bool, near: bool, kept: int
) -> None:
    assert run(tmp_path / "run", write(corpus), DedupConfig(exact=exact, near=near, cut_passages=False))["kept"] == kept


@dataclasses.dataclass(frozen=True)
class StopsAfter(LocalContext):
    """A context whose run is asked to stop once so many waves are reported."""

    waves: list[int] = dataclasses.field(default_factory=list)

    def progress(self, done: int, total: int | None, unit: str, note: str = "") -> None:
        self.waves[0] -= 1
        if not self.waves[0]:
            (self.channel.folder / "stop").touch()


def test_a_step_stopped_after_any_wave_goes_on_and_ends_the_same(
    tmp_path: Path, corpus: list[Document], write: Write
) -> None:
    documents = write(corpus)
    run(tmp_path / "whole", documents)
    plain = local_context("dedup", tmp_path / "stopped")
    stops = 0
    for waves in range(1, 99):
        context = StopsAfter(plain.step, plain.output, plain.scratch, plain.channel, waves=[waves])
        try:
            dedup(context, DedupConfig(), documents, sketched(documents))
            break
        except Preempted:
            stops += 1
            (context.channel.folder / "stop").unlink()
    assert stops > 5
    assert bytes_of(tmp_path / "stopped" / "output") == bytes_of(tmp_path / "whole" / "output")


def test_work_done_for_other_documents_is_not_taken_over(tmp_path: Path, write: Write) -> None:
    text = make_text("en", 1, 400)
    assert run(tmp_path / "run", write([document("a", text)]))["kept"] == 1
    shutil.rmtree(tmp_path / "run" / "output")
    assert run(tmp_path / "run", write([document("a", text), document("b", text)]))["dropped"] == 1


def test_no_documents_are_refused_in_a_sentence(tmp_path: Path, write: Write) -> None:
    with pytest.raises(StepError, match="dedup was given 0 documents"):
        run(tmp_path / "run", write([]))


@pytest.mark.parametrize(
    ("setting", "key"),
    [
        ({"threshold": 0.0}, "dedup.threshold"),
        ({"threshold": 1.1}, "dedup.threshold"),
        ({"thresholds": {"zh": "much"}}, "dedup.thresholds.zh"),
        ({"thresholds": {"zh": "0"}}, "dedup.thresholds.zh"),
        ({"host_line_documents": -1}, "dedup.host_line_documents"),
        ({"rows_at_once": 1}, "dedup.rows_at_once"),
        ({"shards_at_once": 0}, "dedup.shards_at_once"),
    ],
)
def test_an_impossible_setting_is_refused_by_its_key(setting: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        DedupConfig(**setting)
    assert caught.value.where == key


def test_versions_of_one_url_leave_the_best(tmp_path: Path, write: Write) -> None:
    texts = [make_text("en", seed, 400 + 100 * seed) for seed in range(4)]
    urls = ["http://a.example/x", "https://a.example/x", "https://www.a.example/x/", "https://a.example/other"]
    documents = [document(url, text) for url, text in zip(urls, texts, strict=True)]
    documents.append(document("https://a.example/x", texts[0] + "!"))
    metrics = run(tmp_path / "run", write(documents))
    assert kept_urls(tmp_path / "run") == {urls[2], urls[3]}
    rows = read_dropped(tmp_path / "run" / "output")
    assert {row.rule for row in rows} == {"same_url"}
    assert {row.threshold for row in rows} == {f"1, kept {urls[2]}"}
    assert metrics["url"] == 3


def test_variants_of_a_url_count_as_others_where_that_is_wanted(tmp_path: Path, write: Write) -> None:
    urls = ["http://a.example/x", "https://a.example/x", "https://www.a.example/x/"]
    documents = [document(url, make_text("en", seed, 500)) for seed, url in enumerate(urls)]
    assert run(tmp_path / "run", write(documents), DedupConfig(url_variants=False))["kept"] == 3


def test_keys_of_rows_that_are_no_urls_are_never_the_same(tmp_path: Path, write: Write) -> None:
    documents = [dataclasses.replace(document(str(seed), make_text("en", seed, 400)), url="row") for seed in range(3)]
    assert run(tmp_path / "run", write(documents))["kept"] == 3


def test_a_text_that_is_only_in_an_older_version_is_not_its_copy(tmp_path: Path, write: Write) -> None:
    old, new = make_text("en", 1, 400), make_text("en", 2, 500)
    documents = [
        document("https://a.example/", old),
        document("https://a.example/", new),
        document("https://b.example/z", old),
    ]
    run(tmp_path / "run", write(documents))
    assert kept_urls(tmp_path / "run") == {"https://a.example/", "https://b.example/z"}
    assert sum(one.text == old for one in read_documents(tmp_path / "run" / "output")) == 1


def test_traditional_and_simplified_are_one_text(tmp_path: Path, write: Write) -> None:
    from components.sketch.folding import traditional_forms

    text = make_text("zh", 1, 400)
    other = "".join(traditional_forms().get(char, char) for char in text)
    assert other != text
    metrics = run(tmp_path / "run", write([document("a", text, "zh"), document("b", other, "zh")]))
    assert metrics["exact"] == 1


def test_clusters_are_marked_with_their_best_and_their_size(tmp_path: Path, write: Write) -> None:
    text = make_text("en", 1, 600)
    documents = [
        document("a", text + " more"),
        document("b", text),
        document("c", text.upper()),
        document("d", "alone " * 9),
    ]
    run(tmp_path / "run", write(documents))
    sizes = {one.url: (one.cluster, one.cluster_size) for one in read_documents(tmp_path / "run" / "output")}
    assert sizes == {"a": (b"", 3), "d": (b"", 1)}


def test_look_alikes_stay_marked_where_that_is_wanted(tmp_path: Path, write: Write) -> None:
    text = make_text("en", 1, 600)
    documents = [document("a", text + " more"), document("b", text), document("c", text.upper())]
    metrics = run(tmp_path / "run", write(documents), DedupConfig(drop_near=False))
    kept = {one.url: (one.cluster, one.cluster_size) for one in read_documents(tmp_path / "run" / "output")}
    assert kept == {"a": (b"", 3), "b": (documents[0].doc_id, 3)}
    assert (metrics["exact"], metrics["near"], metrics["dropped"]) == (1, 1, 1)


def test_a_language_may_have_a_threshold_of_its_own(tmp_path: Path, write: Write) -> None:
    documents = []
    for lang in ("en", "zh"):
        text = make_text(lang, 1, 1000)
        documents += [document(f"{lang}/a", text, lang), document(f"{lang}/b", edit(text, 0.04, 1), lang)]
    run(tmp_path / "run", write(documents), DedupConfig(thresholds={"zh": "0.97"}))
    assert len({url for url in kept_urls(tmp_path / "run") if url[:2] == "zh"}) == 2
    assert len({url for url in kept_urls(tmp_path / "run") if url[:2] == "en"}) == 1


def test_documents_that_were_dropped_meanwhile_take_no_part(
    tmp_path: Path, corpus: list[Document], write: Write
) -> None:
    scored, left = write(corpus), write(corpus[::2])
    run(tmp_path / "of-all", left, sketches=sketched(scored))
    run(tmp_path / "of-left", left)
    assert bytes_of(tmp_path / "of-all" / "output") == bytes_of(tmp_path / "of-left" / "output")


def test_a_document_without_a_sketch_is_refused(tmp_path: Path, corpus: list[Document], write: Write) -> None:
    with pytest.raises(StepError, match="has no sketch"):
        run(tmp_path / "run", write(corpus), sketches=sketched(write(corpus[:-1])))


def test_a_document_whose_text_changed_since_its_sketch_is_refused(tmp_path: Path, write: Write) -> None:
    one = document("a", make_text("en", 1, 400))
    with pytest.raises(StepError, match="has 404 characters, its sketch 400"):
        run(
            tmp_path / "run", write([dataclasses.replace(one, text=one.text + " end")]), sketches=sketched(write([one]))
        )


@pytest.mark.parametrize("workers", [2, pytest.param(5, marks=pytest.mark.slow)])
def test_the_bytes_do_not_depend_on_workers_or_sizes_of_tasks(
    tmp_path: Path, corpus: list[Document], write: Write, workers: int
) -> None:
    config = DedupConfig(keep_memory=True)
    run(tmp_path / "one", write(corpus), config)
    documents = write(random.Random(3).sample(corpus, len(corpus)))
    with parallel_context("dedup", tmp_path / "many", workers) as context:
        dedup(context, dataclasses.replace(config, rows_at_once=1000, shards_at_once=2), documents, sketched(documents))
    assert bytes_of(tmp_path / "one" / "output") == bytes_of(tmp_path / "many" / "output")
