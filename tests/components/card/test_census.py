"""The census counts what a loop over the documents would count."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.card.census import GROUPS, PERCENTILES, Census, count_all, merged, top_of
from components.documents import Document, ShardWriter, make_doc_id, shard_of, shard_paths

WORDS = st.sampled_from(["", "en", "zh", "CC-BY-4.0", "robots noai"])
DOCUMENTS = st.lists(
    st.builds(
        Document,
        doc_id=st.binary(min_size=16, max_size=16),
        source=st.sampled_from(["web", "books"]),
        url=st.sampled_from(
            ["http://a.test/x", "https://a.test:81/", "rows.jsonl:3", "http://b.test/?q=http://a.test"]
        ),
        lang=st.sampled_from(["en", "zh"]),
        title=st.just(""),
        text=st.text(max_size=30).filter(lambda text: text.isprintable()),
        script=WORDS,
        date=st.sampled_from(["", "2021-03-04", "1999-12-31"]),
        licence=WORDS,
        opt_out=WORDS,
        cluster_size=st.integers(1, 4),
    ),
    unique_by=lambda document: document.doc_id,
    max_size=40,
)


def written(folder: Path, documents: list[Document], num_shards: int) -> list[Path]:
    for index in range(num_shards):
        with ShardWriter(folder, index) as writer:
            for document in sorted(documents, key=lambda document: document.doc_id):
                if shard_of(document.doc_id, num_shards) == index:
                    writer.keep(document)
    return shard_paths(folder)


def host_of(url: str) -> str:
    return url.split("/")[2] if "://" in url else ""


@settings(max_examples=15)  # each writes and flushes files
@given(DOCUMENTS)
def test_every_count_is_that_of_a_loop(tmp_path_factory: pytest.TempPathFactory, documents: list[Document]) -> None:
    found = count_all(written(tmp_path_factory.mktemp("census"), documents, 3))
    assert found.documents == len(documents)
    assert found.chars == sum(len(document.text) for document in documents)
    for group in GROUPS:
        values = [host_of(one.url) if group == "host" else getattr(one, group) for one in documents]
        assert {value: row["documents"] for value, row in found.by(group).items()} == dict(Counter(values))
    assert found.lengths == Counter(len(document.text) for document in documents)
    assert found.clusters == Counter(document.cluster_size for document in documents)
    dates = [document.date for document in documents if document.date]
    assert (found.first_date, found.last_date) == (min(dates, default=""), max(dates, default=""))


def documents_of(sizes: list[int]) -> list[Document]:
    return [
        Document(make_doc_id("web", str(number), b""), "web", f"http://a.test/{number}", "en", "", "x" * size)
        for number, size in enumerate(sizes)
    ]


@given(st.lists(st.integers(0, 999), min_size=1, max_size=60))
def test_percentiles_of_short_texts_are_exact(sizes: list[int]) -> None:
    found = Census(documents=len(sizes), lengths=Counter(sizes)).percentiles()
    ordered = sorted(sizes)
    wanted = {f"p{name}": ordered[max(1, -(-name * len(sizes) // 100)) - 1] for name in PERCENTILES}
    assert found == wanted


@given(st.integers(1, 10_000_000))
def test_lengths_are_kept_to_one_in_a_hundred(size: int) -> None:
    from components.card.census import _rounded

    (kept,) = _rounded([size])
    assert kept <= size < kept * 1.01 + 1


def test_no_documents_have_no_percentiles() -> None:
    assert Census().percentiles() == {}


def test_the_digest_is_of_the_bytes_and_their_places(tmp_path: Path) -> None:
    documents = documents_of([10, 20, 30, 40])
    first = count_all(written(tmp_path / "a", documents, 2))
    assert count_all(written(tmp_path / "b", documents, 2)).digest == first.digest
    assert count_all(written(tmp_path / "c", documents, 1)).digest != first.digest
    assert count_all(written(tmp_path / "d", documents[:3], 2)).digest != first.digest


def test_the_order_in_which_shards_were_counted_does_not_matter_but_their_names_do() -> None:
    parts = [Census(documents=1, digest="a"), Census(documents=2, digest="b")]
    assert merged(["x", "y"], parts).documents == 3
    assert merged(["x", "y"], parts).digest != merged(["y", "x"], parts).digest


def test_rows_beyond_the_limit_are_added_up() -> None:
    table = {name: {"documents": count, "chars": 10 * count} for name, count in (("a", 5), ("b", 3), ("c", 1))}
    assert top_of(table, 1) == {"a": {"documents": 5, "chars": 50}, "(2 others)": {"documents": 4, "chars": 40}}
    assert top_of(table, 3) == table
