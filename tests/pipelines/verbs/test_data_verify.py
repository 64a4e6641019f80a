"""`data verify` finds what vanished, what is in the wrong place and what was changed."""

# ruff: noqa: F811  (fixtures come by import)
from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
from corpus_help import Headwater, artifact, composed, corpus, data, own_corpus  # noqa: F401  (fixtures)

from components.documents import (
    DOCUMENTS,
    Document,
    ShardWriter,
    iter_ledger,
    iter_shard,
    read_documents,
    shard_of,
    shard_paths,
)
from components.errors import StepError
from components.publish import publish_json, read_json
from pipelines.cli import make_parser
from pipelines.verbs.data import act
from pipelines.verbs.data_checks import documents_faults, handover_faults, side_faults, tokens_faults


@pytest.fixture
def unique(corpus: Path, tmp_path: Path) -> Path:
    """A copy of the artifact of dedup that a test may spoil."""
    shutil.copytree(artifact(corpus, "dedup"), tmp_path / "dedup")
    return tmp_path / "dedup"


def write_raw(path: Path, documents: Iterable[Document], schema: pa.Schema = DOCUMENTS) -> None:
    """Writes a shard whose rows may be in any order."""
    rows = [vars(document) for document in documents]
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, schema) as out:
        out.write_batch(pa.RecordBatch.from_pylist(rows, schema=schema))


def fullest(folder: Path) -> tuple[Path, list[Document]]:
    """The shard with most documents, and those."""
    return max(((path, list(iter_shard(path))) for path in shard_paths(folder)), key=lambda found: len(found[1]))


def test_a_sound_run_is_well(data: Headwater) -> None:
    found = json.loads(data("verify", "--json"))
    assert found["faults"] == 0
    assert {name.partition("@")[0] for name in found["artifacts"]} == {
        "crawl", "extract", "score", "quality", "clean", "sketch", "dedup", "tokenizer",
        "tokens", "pack", "card",
    }  # fmt: skip
    assert "11 artifacts checked, 0 faults." in data("verify")


def test_a_flipped_byte_is_found_and_its_file_named(data: Headwater, own_corpus: Path) -> None:
    path = next((artifact(own_corpus, "tokens") / "train").glob("shard-*.arrow"))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    told = data("verify", "tokens", store=own_corpus, code=1)
    assert f"train/{path.name} does not hold the bytes that were committed" in told
    assert "1 artifacts checked, 1 faults." in told


def test_named_artifacts_alone_are_checked(data: Headwater) -> None:
    assert "1 artifacts checked" in data("verify", "clean")


def test_a_sound_artifact_of_documents_has_no_faults(unique: Path) -> None:
    assert list(documents_faults(unique)) == []


def test_rows_out_of_order_are_found(unique: Path) -> None:
    path, documents = fullest(unique)
    write_raw(path, reversed(documents))
    assert any("not in the order" in fault for fault in documents_faults(unique))


def test_a_document_that_is_there_twice_is_found(unique: Path) -> None:
    path, documents = fullest(unique)
    write_raw(path, [documents[0], *documents])
    assert any("not in the order" in fault for fault in documents_faults(unique))


def test_a_document_in_the_wrong_shard_is_found(unique: Path) -> None:
    first, second = shard_paths(unique)[:2]
    (moved, *_), rest = iter_shard(first), list(iter_shard(second))
    assert shard_of(moved.doc_id, 4) == 0
    write_raw(second, [moved, *rest])
    assert f"documents/{second.name} holds documents of another shard" in list(documents_faults(unique))


def test_another_schema_is_found(unique: Path) -> None:
    path, documents = fullest(unique)
    write_raw(path, documents, pa.schema([field for field in DOCUMENTS if field.name != "licence"]))
    assert any("another schema" in fault and "licence" in fault for fault in documents_faults(unique))


def test_a_summary_that_says_another_number_is_found(unique: Path) -> None:
    summary = read_json(unique / "summary.json")
    publish_json(unique / "summary.json", summary | {"kept": 1, "dropped": {"near_duplicate": 99}})
    faults = " ".join(documents_faults(unique))
    assert "1 documents were kept, the shards hold" in faults
    assert "the ledger differ on exact_duplicate, near_duplicate" in faults


def test_a_document_that_vanished_is_found(corpus: Path, unique: Path) -> None:
    assert list(handover_faults(artifact(corpus, "clean"), unique)) == []
    path, documents = fullest(unique)
    write_raw(path, documents[1:])
    (fault,) = handover_faults(artifact(corpus, "clean"), unique)
    assert fault == f"1 documents of {path.name} vanished, first {documents[0].doc_id.hex()}"


def test_a_document_from_nowhere_is_found(corpus: Path, unique: Path) -> None:
    path, documents = fullest(unique)
    stranger = replace(documents[0], doc_id=documents[0].doc_id[:-1] + bytes([documents[0].doc_id[-1] ^ 1]))
    write_raw(path, sorted([*documents, stranger], key=lambda document: document.doc_id))
    (fault,) = handover_faults(artifact(corpus, "clean"), unique)
    assert fault == f"1 documents of {path.name} come from nowhere, first {stranger.doc_id.hex()}"


def test_scores_of_other_documents_are_found(corpus: Path) -> None:
    scored = artifact(corpus, "score")
    assert list(side_faults(scored, scored)) == []
    assert all("has other rows than" in fault for fault in side_faults(scored, artifact(corpus, "clean")))
    assert list(side_faults(scored, artifact(corpus, "clean")))


def test_a_document_without_a_split_is_found(corpus: Path, unique: Path) -> None:
    tokens = artifact(corpus, "tokens")
    assert list(tokens_faults(tokens, unique)) == []
    path, documents = fullest(unique)
    stranger = replace(documents[0], doc_id=documents[0].doc_id[:-1] + bytes([documents[0].doc_id[-1] ^ 1]))
    write_raw(path, sorted([*documents[1:], stranger], key=lambda document: document.doc_id))
    faults = list(tokens_faults(tokens, unique))
    assert f"1 documents of {path.name} are in no split, first {stranger.doc_id.hex()}" in faults
    assert any("come from nowhere" in fault and documents[0].doc_id.hex() in fault for fault in faults)


def test_a_cluster_on_both_sides_of_the_split_is_found(corpus: Path, unique: Path) -> None:
    tokens = artifact(corpus, "tokens")
    cluster = next(read_documents(unique)).doc_id
    for path in shard_paths(unique):
        write_raw(path, [replace(document, cluster=cluster) for document in iter_shard(path)])
    assert any(f"cluster {cluster.hex()} is in" in fault for fault in tokens_faults(tokens, unique))


def test_a_file_that_cannot_be_read_is_a_fault_and_no_crash(data: Headwater, own_corpus: Path) -> None:
    folder = artifact(own_corpus, "clean")
    for path in shard_paths(folder):
        path.write_bytes(b"x" * path.stat().st_size)
    assert "does not hold the bytes that were committed" in data("verify", "clean", store=own_corpus, code=1)


def test_a_rewritten_shard_with_the_same_rows_is_sound(unique: Path) -> None:
    for index, path in enumerate(shard_paths(unique)):
        kept, dropped = list(iter_shard(path)), list(iter_ledger(unique / "dropped" / path.name))
        with ShardWriter(unique, index) as writer:
            for document in kept:
                writer.keep(document)
            for row in dropped:
                writer.drop(row)
    assert list(documents_faults(unique)) == []


@pytest.mark.parametrize("words", [("peek", "score"), ("stats", "score"), ("tune", "min_chars", "5"), ("why", "abcd")])
def test_damage_is_told_in_a_sentence_by_every_verb(own_corpus: Path, words: tuple[str, ...]) -> None:
    for path in artifact(own_corpus, "score").rglob("shard-*.arrow"):
        path.write_bytes(b"ARROW1\0\0" + b"x" * (path.stat().st_size - 8))
    for path in artifact(own_corpus, "extract").rglob("shard-*.arrow"):
        path.write_bytes(b"ARROW1\0\0" + b"x" * (path.stat().st_size - 8))
    options = make_parser().parse_args(["data", *words])
    with pytest.raises(StepError, match="is damaged") as caught:
        act(replace(composed(), store=str(own_corpus), workspace=str(own_corpus)), options)
    assert "headwater data verify" in caught.value.fix
