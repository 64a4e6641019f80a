"""The step `score`: every document stays, normalised and masked, with one row of numbers beside it."""

from __future__ import annotations

import dataclasses
import random
from pathlib import Path

import pyarrow as pa
import pytest

from components.context import LocalContext, local_context
from components.documents import (
    BATCH_ROWS,
    Document,
    Outcome,
    make_doc_id,
    read_documents,
    read_dropped,
    shard_of,
    shard_paths,
    write_shard,
    write_summary,
)
from components.errors import ConfigError, Preempted, StepError
from components.publish import read_json
from components.score.config import ScoreConfig
from components.score.statistics import measure
from components.score.step import score
from components.score.table import SCORES, ScoreWriter, iter_rows, iter_scored, score_path

NUM_SHARDS = 3
ENGLISH = "The river rose two metres in one night, and by morning the lower street, number {}, was under water again."


def document(number: int, text: str, title: str = "") -> Document:
    url = f"http://example.org/{number}"
    return Document(make_doc_id("web", url, text.encode()), "web", url, "en", title, text)


def corpus() -> list[Document]:
    return [document(n, ENGLISH.format(n) * (1 + n % 3)) for n in range(40)]


def write(folder: Path, documents: list[Document]) -> Path:
    parts = [
        write_shard(folder, index, Outcome([d for d in documents if shard_of(d.doc_id, NUM_SHARDS) == index]))
        for index in range(NUM_SHARDS)
    ]
    write_summary(folder, parts)
    return folder


def run(folder: Path, documents: list[Document], config: ScoreConfig | None = None, toxic: Path | None = None) -> Path:
    context = local_context("score", folder)
    score(context, config or ScoreConfig(), documents=write(folder / "in", documents), toxic=toxic)
    return context.output


def rows_of(output: Path) -> list[dict[str, object]]:
    return [
        row
        for path in shard_paths(output)
        for batch in iter_rows(score_path(output, path))
        for row in batch.to_pylist()
    ]


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_every_document_has_one_row_of_scores_in_its_place(tmp_path: Path) -> None:
    output = run(tmp_path, corpus())
    documents, rows = list(read_documents(output)), rows_of(output)
    assert [one.doc_id for one in documents] == [row["doc_id"] for row in rows]
    assert len(documents) == 40
    for one, row in zip(documents, rows, strict=True):
        assert {name: row[name] for name in measure(one.text)} == pytest.approx(measure(one.text), rel=1e-6)


def test_texts_and_titles_are_normalised_and_masked_and_ids_stay(tmp_path: Path) -> None:
    text = ENGLISH.format(1).replace(" river ", " ri\u200bver \u00a0 ") + " Call 13812345678.\r\n\ufffd"
    raw = document(1, text, "Mail a@b.org")
    output = run(tmp_path, [raw])
    (kept,) = read_documents(output)
    assert kept == dataclasses.replace(raw, text=ENGLISH.format(1) + " Call [PHONE].", title="Mail [EMAIL]")
    (row,) = rows_of(output)
    assert (row["pii_phone"], row["pii_email"]) == (1, 0)  # the counts are those of the text
    assert row["mojibake_share"]  # what was lost is counted before its traces are taken away
    assert read_json(output / "masked.json") == {"phone": 1}


def test_kinds_that_are_not_asked_for_stay(tmp_path: Path) -> None:
    raw = document(1, ENGLISH.format(1) + " Call 13812345678 or write to a@b.org.")
    (kept,) = read_documents(run(tmp_path, [raw], ScoreConfig(mask=("email",))))
    assert kept.text.endswith("Call 13812345678 or write to [EMAIL].")


def test_a_document_without_any_text_is_dropped_and_told(tmp_path: Path) -> None:
    output = run(tmp_path, [*corpus(), document(99, " \u200b\n ")])
    (row,) = read_dropped(output)
    assert (row.url, row.rule, row.value, row.threshold) == ("http://example.org/99", "empty", "0", "1")
    assert read_json(output / "summary.json")["read"] == 41
    assert len(rows_of(output)) == 40


def test_the_bytes_depend_on_the_documents_alone(tmp_path: Path) -> None:
    documents = corpus()
    first = run(tmp_path / "a", documents)
    random.Random(2).shuffle(documents)
    assert bytes_of(run(tmp_path / "b", documents, ScoreConfig(shards_at_once=1))) == bytes_of(first)


def test_the_users_list_of_words_is_counted(tmp_path: Path) -> None:
    words = tmp_path / "list.txt"
    words.write_text("# ours\nlower street\n\n", encoding="utf-8")
    output = run(tmp_path / "run", [document(1, ENGLISH.format(1))], toxic=words)
    assert rows_of(output)[0]["toxic_word_share"] == pytest.approx(2 / 20)


def test_a_list_of_words_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_bytes(b"\xff\xfe\x00x")
    with pytest.raises(StepError, match=r"list\.txt is no UTF-8 text"):
        run(tmp_path / "run", corpus(), toxic=tmp_path / "list.txt")


def test_a_corpus_without_text_is_refused_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(StepError, match="score was given 0 documents"):
        run(tmp_path, [])


def test_an_unknown_kind_of_personal_data_is_refused_with_those_there_are() -> None:
    with pytest.raises(ConfigError, match="must be one of email, phone"):
        ScoreConfig(mask=("mail",))


@dataclasses.dataclass(frozen=True)
class StopsAfterOneWave(LocalContext):
    """A context whose run is asked to stop once the first wave is reported."""

    def progress(self, done: int, total: int | None, unit: str, note: str = "") -> None:
        (self.channel.folder / "stop").touch()


def test_a_stopped_step_goes_on_with_the_shards_that_are_left(tmp_path: Path) -> None:
    whole = run(tmp_path / "whole", corpus())
    documents = write(tmp_path / "in", corpus())
    context = local_context("score", tmp_path / "stopped")
    stopping = StopsAfterOneWave(context.step, context.output, context.scratch, context.channel)
    with pytest.raises(Preempted):
        score(stopping, ScoreConfig(shards_at_once=1), documents=documents)
    done = {path: path.stat().st_mtime_ns for path in context.scratch.rglob("parts/*.json")}
    (context.channel.folder / "stop").unlink()
    score(context, ScoreConfig(), documents=documents)
    assert len(done) == 1
    assert all(path.stat().st_mtime_ns == time for path, time in done.items())
    assert bytes_of(context.output) == bytes_of(whole)


@pytest.mark.parametrize("steps", [[1] * 7, [5, 2], [7]])
def test_a_side_table_has_the_same_bytes_however_its_rows_came(tmp_path: Path, steps: list[int]) -> None:
    num = 3 * BATCH_ROWS // 7
    ids = [bytes([n // 256, n % 256]) + bytes(14) for n in range(7 * num)]

    def made(name: str, steps: list[int]) -> bytes:
        with ScoreWriter(tmp_path / name) as writer:
            start = 0
            for step in steps:
                rows = ids[start : start + step * num]
                columns = {column: [float(start)] * 0 + [float(row[1]) for row in rows] for column in SCORES.names[1:]}
                writer.add(rows, {column: pa.array(values).to_numpy() for column, values in columns.items()})
                start += step * num
        return (tmp_path / name).read_bytes()

    assert made("a", steps) == made("b", [3, 4])
    batches = list(iter_rows(tmp_path / "a"))
    assert [batch.num_rows for batch in batches[:-1]] == [BATCH_ROWS] * (len(batches) - 1)
    assert [one for batch in batches for one in batch.column("doc_id").to_pylist()] == ids


def test_scores_of_other_documents_are_refused(tmp_path: Path) -> None:
    first, second = run(tmp_path / "a", corpus()), run(tmp_path / "b", corpus()[:30])
    path = shard_paths(first)[0]
    with pytest.raises(StepError, match="are not of these documents"):
        list(iter_scored(path, score_path(second, path)))
