"""The step `clean`: documents in, documents and ledger out, and a sentence where nothing is left."""

from __future__ import annotations

import dataclasses
import random
import shutil
from pathlib import Path

import pytest
from parallel_context import parallel_context

from components.clean.config import CleanConfig
from components.clean.profiles import builtin_rules
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
from components.errors import ConfigError, Preempted, StepError
from components.score.config import ScoreConfig
from components.score.step import score
from components.score.table import ScoreWriter

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
    """The documents as the step `score` leaves them."""
    parts = [
        write_shard(folder / "raw", index, Outcome([d for d in documents if shard_of(d.doc_id, NUM_SHARDS) == index]))
        for index in range(NUM_SHARDS)
    ]
    write_summary(folder / "raw", parts)
    context = local_context("score", folder / "score")
    score(context, ScoreConfig(), documents=folder / "raw")
    return context.output


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
    assert "clean.min_chars=null" in caught.value.fix


def test_a_rule_of_the_file_that_nothing_passes_is_named_with_its_threshold(tmp_path: Path) -> None:
    documents = write(tmp_path / "in", [document(1, "en", "Too short."), document(2, "zh", "太短。")])
    with pytest.raises(StepError) as caught:
        run(tmp_path / "run", documents)
    assert caught.value.where.startswith("the rule min_chars (")
    assert "clean.min_chars" in caught.value.fix


def test_a_corpus_in_other_languages_is_named_as_such(tmp_path: Path) -> None:
    documents = write(tmp_path / "in", [one for one in corpus() if one.lang == "de"])
    with pytest.raises(StepError, match=r"clean kept 0 of 2 documents \(rule language dropped 2\)") as caught:
        run(tmp_path / "run", documents)
    assert caught.value.where == "clean.languages=en,zh"


def test_no_documents_at_all_are_refused_in_a_sentence(tmp_path: Path) -> None:
    write_summary(tmp_path / "in", [write_shard(tmp_path / "in", 0, Outcome())])
    ScoreWriter(tmp_path / "in" / "scores" / "shard-00000.arrow").__enter__().__exit__(None, None, None)
    with pytest.raises(StepError, match="clean was given 0 documents"):
        run(tmp_path / "run", tmp_path / "in")


def test_documents_without_scores_are_refused_with_the_step_that_makes_them(tmp_path: Path) -> None:
    scored = write(tmp_path / "in", corpus())
    shutil.rmtree(scored / "scores")
    with pytest.raises(StepError, match=r"no scores beside shard-00000\.arrow") as caught:
        run(tmp_path / "run", scored)
    assert "step score" in caught.value.fix


def test_scores_of_other_documents_are_refused(tmp_path: Path) -> None:
    scored, other = write(tmp_path / "in", corpus()), write(tmp_path / "other", corpus()[:20])
    shutil.rmtree(scored / "scores")
    shutil.copytree(other / "scores", scored / "scores")
    with pytest.raises(StepError, match="are not of these documents"):
        run(tmp_path / "run", scored)


def test_documents_whose_site_opted_out_are_dropped_unless_told_otherwise(tmp_path: Path) -> None:
    asked = dataclasses.replace(corpus()[0], opt_out="robots noai")
    documents = write(tmp_path / "in", [asked, corpus()[1]])
    assert run(tmp_path / "a", documents)["kept"] == 1
    (row,) = read_dropped(tmp_path / "a" / "output")
    assert (row.rule, row.value, row.threshold) == ("opt_out", "robots noai", "none")
    assert run(tmp_path / "b", documents, CleanConfig(keep_opted_out=True))["kept"] == 2


def test_licences_are_kept_and_refused_by_pattern(tmp_path: Path) -> None:
    licences = ["CC-BY-4.0", "cc-by-nc-4.0", "https://creativecommons.org/licenses/by/4.0/", "", "MIT"]
    given = [dataclasses.replace(corpus()[n], licence=licence) for n, licence in enumerate(licences)]
    documents = write(tmp_path / "in", given)
    config = CleanConfig(licences=("CC-BY*", "https://creativecommons.org/*"), refused_licences=("*-NC*",))
    run(tmp_path / "run", documents, config)
    assert {one.licence for one in read_documents(tmp_path / "run" / "output")} == {licences[0], licences[2]}
    told = {row.value: row.threshold for row in read_dropped(tmp_path / "run" / "output") if row.rule == "licence"}
    assert sorted(told) == ["MIT", "cc-by-nc-4.0", "unknown"]
    assert told["MIT"] == "CC-BY*, https://creativecommons.org/*; not *-NC*"


def test_rules_of_the_users_file_take_the_place_of_ours(tmp_path: Path) -> None:
    rules = tmp_path / "mine.yaml"
    rules.write_text(
        "otherwise: all\nprofiles: {all: {rules: [{name: few_words, statistic: words, min: 19}]}}\n", encoding="utf-8"
    )
    documents = write(tmp_path / "in", corpus())
    clean(local_context("clean", tmp_path / "run"), CleanConfig(), documents=documents, rules=rules)
    dropped = {row.rule for row in read_dropped(tmp_path / "run" / "output")}
    assert dropped == {"few_words", "language"}


def test_a_source_can_have_a_profile_of_its_own(tmp_path: Path) -> None:
    short = dataclasses.replace(document(90, "en", "Too short."), source="stubs")
    documents = write(tmp_path / "in", [*corpus(), short])
    text = builtin_rules().read_text(encoding="utf-8") + "  free: {rules: []}\n"
    rules = tmp_path / "mine.yaml"
    rules.write_text(text, encoding="utf-8")
    config = CleanConfig(profiles={"stubs": "free"})
    metrics = clean(local_context("clean", tmp_path / "run"), config, documents=documents, rules=rules)
    assert metrics["kept"] == 41


def test_an_unknown_profile_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="There is no profile englisch"):
        run(tmp_path / "run", write(tmp_path / "in", corpus()), CleanConfig(profiles={"web": "englisch"}))


def hosts() -> list[Document]:
    """Eighty good documents: sixty of one host, twenty of others, of two sources."""
    found = []
    for number in range(80):
        host = "big.org" if number < 60 else f"small-{number}.org"
        url = f"http://{host}/{number}"
        text = ENGLISH.format(number)
        source = "web" if number % 2 else "news"
        found.append(Document(make_doc_id(source, url, text.encode()), source, url, "en", "", text))
    return found


def test_a_host_keeps_the_first_documents_of_all_by_id(tmp_path: Path) -> None:
    documents = hosts()
    metrics = run(tmp_path / "run", write(tmp_path / "in", documents), CleanConfig(max_documents_per_host=7))
    kept = {one.doc_id for one in read_documents(tmp_path / "run" / "output")}
    big = sorted(one.doc_id for one in documents if "big.org" in one.url)
    assert kept == {*big[:7], *(one.doc_id for one in documents if "small" in one.url)}
    assert metrics["dropped_max_documents_per_host"] == 53


def test_characters_of_a_host_are_capped_too(tmp_path: Path) -> None:
    config = CleanConfig(max_chars_per_host=4 * len(ENGLISH.format(10)))
    metrics = run(tmp_path / "run", write(tmp_path / "in", hosts()), config)
    assert 20 + 4 <= metrics["kept"] <= 20 + 5
    assert metrics["dropped_max_chars_per_host"] == 80 - metrics["kept"]


def test_a_source_counts_what_the_hosts_left(tmp_path: Path) -> None:
    config = CleanConfig(max_documents_per_host=10, max_documents_per_source=12)
    run(tmp_path / "run", write(tmp_path / "in", hosts()), config)
    kept = list(read_documents(tmp_path / "run" / "output"))
    assert {source: sum(one.source == source for one in kept) for source in ("web", "news")} == {"web": 12, "news": 12}


def test_dropped_documents_take_no_place_under_a_cap(tmp_path: Path) -> None:
    stubs = [document(n, "en", "Too short.") for n in range(30)]
    good = [document(n, "en", ENGLISH.format(n)) for n in range(30, 34)]
    documents = write(tmp_path / "in", stubs + good)
    assert run(tmp_path / "run", documents, CleanConfig(max_documents_per_host=4))["kept"] == 4


def test_a_lowest_quality_without_the_step_that_judges_it_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StepError, match="quality") as caught:
        run(tmp_path / "run", write(tmp_path / "in", corpus()), CleanConfig(min_quality=0.5))
    assert "clean.min_quality=null" in caught.value.fix


def test_the_users_opt_out_list_wins_over_every_setting(tmp_path: Path) -> None:
    documents = hosts()
    listed = tmp_path / "opt_out.txt"
    listed.write_text(f"big.org  # asked on Monday\n{documents[70].doc_id.hex()}\n", encoding="utf-8")
    context = local_context("clean", tmp_path / "run")
    scored = write(tmp_path / "in", documents)
    metrics = clean(context, CleanConfig(keep_opted_out=True), documents=scored, opt_out=listed)
    assert metrics["kept"] == 19
    rows = read_dropped(context.output)
    assert {(row.rule, row.threshold) for row in rows} == {("opt_out", "the opt-out list")}
    assert {row.value for row in rows} == {"big.org", documents[70].doc_id.hex()}


def test_a_wrong_entry_of_the_opt_out_list_is_refused(tmp_path: Path) -> None:
    (tmp_path / "opt_out.txt").write_text("http:///\n", encoding="utf-8")
    context = local_context("clean", tmp_path / "run")
    with pytest.raises(ConfigError, match="no host, no URL and no id"):
        clean(context, CleanConfig(), documents=write(tmp_path / "in", corpus()), opt_out=tmp_path / "opt_out.txt")


def test_workers_and_their_order_change_no_byte_even_under_caps(tmp_path: Path) -> None:
    documents = write(tmp_path / "in", hosts())
    config = CleanConfig(max_documents_per_host=7, max_documents_per_source=12)
    run(tmp_path / "one", documents, config)
    with parallel_context("clean", tmp_path / "two", 2) as context:
        clean(context, config, documents=documents)
    assert bytes_of(tmp_path / "two" / "output") == bytes_of(tmp_path / "one" / "output")
