"""The step `clean`: documents in, documents and ledger out, and a sentence where nothing is left."""

from __future__ import annotations

import dataclasses
import random
import shutil
from pathlib import Path

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
    shard_of,
    write_shard,
    write_summary,
)
from components.errors import Preempted, StepError

NUM_SHARDS = 4
ENGLISH = "The river rose two metres in one night, and by morning the lower street, number {}, was under water again."
CHINESE = "昨天夜里河水涨了两米，到了早上，下街{}号已经全部泡在水里，不过没有人受伤，大家都在楼上等水退下去。"


def document(number: int, lang: str, text: str) -> Document:
    url = f"http://example.org/{number}"
    return Document(make_doc_id("web", url, text.encode()), "web", url, lang, f"Page {number}", text)


def corpus() -> list[Document]:
    documents = [document(n, "en", ENGLISH.format(n)) for n in range(20)]
    documents += [document(n, "zh", CHINESE.format(n)) for n in range(20, 40)]
    documents += [document(n, "en", "Too short.") for n in range(40, 44)]
    documents += [document(n, "de", ENGLISH.format(n)) for n in range(44, 46)]
    documents.append(document(46, "en", "buy it now " * 60))
    return documents


def write(folder: Path, documents: list[Document]) -> Path:
    parts = [
        write_shard(folder, index, Outcome([d for d in documents if shard_of(d.doc_id, NUM_SHARDS) == index]))
        for index in range(NUM_SHARDS)
    ]
    write_summary(folder, parts)
    return folder


def run(folder: Path, documents: Path, config: CleanConfig | None = None) -> dict[str, float]:
    return clean(local_context("clean", folder), config or CleanConfig(), documents=documents)


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_what_is_read_is_kept_or_in_the_ledger_with_its_reason(tmp_path: Path) -> None:
    metrics = run(tmp_path / "run", write(tmp_path / "in", corpus()))
    output = tmp_path / "run" / "output"
    ledger = {row.url.rsplit("/")[-1]: row for row in read_dropped(output)}
    assert metrics["read"] == 47 == metrics["kept"] + metrics["dropped"]
    assert metrics["kept"] == len(list(read_documents(output))) == 40
    assert metrics["dropped_min_chars"] == 4
    assert sorted(ledger) == [str(number) for number in range(40, 47)]
    assert (ledger["44"].rule, ledger["44"].value, ledger["44"].threshold) == ("language", "de", "en, zh")
    assert (ledger["40"].rule, ledger["40"].value, ledger["40"].threshold) == ("min_chars", "10", "100")
    assert all(row.rule and row.value and row.threshold for row in ledger.values())


def test_kept_texts_are_normalised_and_ids_stay(tmp_path: Path) -> None:
    raw = document(1, "en", ENGLISH.format(1).replace(" river ", " ri\u200bver \u00a0 ") + "\r\n\ufffd")
    run(tmp_path / "run", write(tmp_path / "in", [raw]), CleanConfig(max_mojibake_share=0.1))
    (kept,) = read_documents(tmp_path / "run" / "output")
    assert kept == dataclasses.replace(raw, text=ENGLISH.format(1))


def test_an_empty_list_of_languages_keeps_them_all(tmp_path: Path) -> None:
    metrics = run(tmp_path / "run", write(tmp_path / "in", corpus()), CleanConfig(languages=()))
    assert metrics["kept"] == 42


def test_the_bytes_depend_on_the_documents_alone(tmp_path: Path) -> None:
    documents = corpus()
    run(tmp_path / "a", write(tmp_path / "in-a", documents))
    random.Random(2).shuffle(documents)
    run(tmp_path / "b", write(tmp_path / "in-b", documents), CleanConfig(shards_at_once=1))
    assert bytes_of(tmp_path / "a" / "output") == bytes_of(tmp_path / "b" / "output")


@dataclasses.dataclass(frozen=True)
class StopsAfterOneWave(LocalContext):
    """A context whose run is asked to stop once the first wave is reported."""

    def progress(self, done: int, total: int | None, unit: str, note: str = "") -> None:
        (self.channel.folder / "stop").touch()


def test_a_stopped_step_goes_on_with_the_shards_that_are_left(tmp_path: Path) -> None:
    documents = write(tmp_path / "in", corpus())
    run(tmp_path / "whole", documents)
    context = local_context("clean", tmp_path / "stopped")
    stopping = StopsAfterOneWave(context.step, context.output, context.scratch, context.channel)
    with pytest.raises(Preempted):
        clean(stopping, CleanConfig(shards_at_once=2), documents=documents)
    parts = sorted(context.scratch.rglob("parts/*.json"))
    times = [part.stat().st_mtime_ns for part in parts]
    (context.channel.folder / "stop").unlink()
    run(tmp_path / "stopped", documents)
    assert len(parts) == 2
    assert [part.stat().st_mtime_ns for part in parts] == times
    assert bytes_of(tmp_path / "stopped" / "output") == bytes_of(tmp_path / "whole" / "output")


def test_shards_cleaned_under_other_thresholds_are_not_taken_over(tmp_path: Path) -> None:
    documents = write(tmp_path / "in", corpus())
    assert run(tmp_path / "run", documents, CleanConfig(min_chars=1))["kept"] == 44
    shutil.rmtree(tmp_path / "run" / "output")
    assert run(tmp_path / "run", documents)["kept"] == 40


def test_a_threshold_nothing_passes_is_named_with_its_value_and_the_fix(tmp_path: Path) -> None:
    documents = write(tmp_path / "in", [one for one in corpus() if one.lang != "de"])
    with pytest.raises(StepError) as caught:
        run(tmp_path / "run", documents, CleanConfig(min_chars=100_000))
    assert caught.value.what == "clean kept 0 of 45 documents (rule min_chars dropped 45)."
    assert caught.value.where == "clean.min_chars=100000"
    assert "clean.min_chars=100" in caught.value.fix


def test_a_corpus_in_other_languages_is_named_as_such(tmp_path: Path) -> None:
    documents = write(tmp_path / "in", [one for one in corpus() if one.lang == "de"])
    with pytest.raises(StepError, match=r"clean kept 0 of 2 documents \(rule language dropped 2\)") as caught:
        run(tmp_path / "run", documents)
    assert caught.value.where == "clean.languages=en,zh"


def test_no_documents_at_all_are_refused_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(StepError, match="clean was given 0 documents"):
        run(tmp_path / "run", write(tmp_path / "in", []))
