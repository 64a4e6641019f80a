"""`headwater data tune RULE VALUE`: what another threshold would keep and drop, without running anything.

The step `score` stored every statistic of every document, and the step `clean` decides by them alone. So here the
decisions are made twice, with the threshold of the run and with the new one, by the very code of the step; only the
texts of the samples are read. Without a value the rule is compared with its absence: what it drops now, all alone.
"""

from __future__ import annotations

import argparse
import dataclasses
import difflib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from components.clean.config import CAPS, OVERRIDES, CleanConfig
from components.clean.profiles import RuleBook, builtin_rules, load_rules, with_thresholds
from components.documents import iter_ledger, shard_paths
from components.errors import ConfigError
from pipelines.config import Settings, build
from pipelines.engine.identity import content_digest
from pipelines.engine.manifest import Manifest
from pipelines.verbs.data_chain import Chain, chain_of
from pipelines.verbs.data_lookup import kept_row
from pipelines.verbs.data_text import aligned, as_json
from pipelines.verbs.data_tune_text import SAMPLE_CHARS, lines
from pipelines.verbs.planning import open_store, steps_of

if TYPE_CHECKING:
    import pyarrow as pa

OFF = "off"
OPT_OUT = "opt_out"
_EXTRA = {"max_toxicity": "toxic_word_share", "min_quality": "quality"}
_NUM_BINS = 12


@dataclass(frozen=True)
class Case:
    """What decides: the artifact of scores, and settings and rules of the step that judged by them.

    Attributes:
        scored: Folder of the step `score`.
        quality: Folder of the step `quality`; None where it did not run.
        config: Settings of the step `clean`.
        book: The rules as their file has them.
        judged: Folder of the step `clean`; its ledger knows who opted out.
    """

    scored: Path
    quality: Path | None
    config: CleanConfig
    book: RuleBook
    judged: Path


@dataclass
class Tally:
    """What a setting keeps: documents and characters, all together and by language."""

    documents: Counter[str] = field(default_factory=Counter)
    chars: Counter[str] = field(default_factory=Counter)

    def to_json(self) -> dict[str, int]:
        """For programs."""
        return {"documents": self.documents.total(), "chars": self.chars.total()}


@dataclass
class Outcome:
    """What changes between two settings."""

    read: Tally = field(default_factory=Tally)
    before: Tally = field(default_factory=Tally)
    after: Tally = field(default_factory=Tally)
    num_kept: int = 0
    num_dropped: int = 0
    kept: list[tuple[bytes, str]] = field(default_factory=list)
    dropped: list[tuple[bytes, str]] = field(default_factory=list)


def tune(settings: Settings, options: argparse.Namespace) -> int:
    """Compares a threshold with the one of the run; changes nothing.

    Raises:
        ConfigError: If there are no scores, no such rule, or the value is none.
    """
    chain = chain_of(open_store(settings), options.run_id)
    case = case_of(chain, settings)
    if options.rule is None:
        return _list_rules(case, options.json)
    check_rule(case, options.rule)
    before, after = _configs(case, options.rule, options.value)
    outcome = compared(case, before, after, options.num)
    record = _record(chain, case, options, (before, after), outcome)
    if options.json:
        print(as_json(record))
    else:
        print("\n".join(lines(record)))
    return 0


def case_of(chain: Chain, settings: Settings) -> Case:
    """What the run judged by.

    Raises:
        ConfigError: If it has no scores or did not judge by them yet, or its file of rules is not here.
    """
    judges = [link for link in chain.links.values() if {"thresholds", "languages"} <= link.made.config.keys()]
    for link in judges:
        scored = chain.links.get(link.sources.get("documents", ""))
        if scored is not None and scored.holds_scores:
            quality = chain.links.get(link.sources.get("quality", ""))
            config: CleanConfig = build(CleanConfig, dict(link.made.config), "clean.")
            rules = load_rules(_rules_file(link.made, settings))
            folders = (chain.folder(scored), chain.folder(quality) if quality else None)
            return Case(*folders, config, rules, chain.folder(link))
    raise ConfigError(f"run {chain.run} has no scores to decide by.", f"run {chain.run}", "headwater run --until clean")


def _rules_file(made: Manifest, settings: Settings) -> Path:
    """The file of rules of a run: that of the package, or the one that the settings name, if it is still the same."""
    record = made.inputs.get("rules")
    if record is None or content_digest(builtin_rules()) == record.key:
        return builtin_rules()
    for step in steps_of(settings):
        given = step.inputs.get("rules")
        if given is not None and given.path is not None and given.digest == record.key:
            return given.path
    raise ConfigError(
        "the file of rules that the run judged by is not the one of these settings.",
        f"{made.step}@{made.key[:8]}",
        "name it as the run did, or run again: headwater run --until clean",
    )


def check_rule(case: Case, rule: str) -> None:
    """Refuses a rule that is none, with the nearest one."""
    profile, _, name = rule.rpartition(".")
    known = {one.name for rules in case.book.profiles.values() for one in rules} | {*CAPS, *_EXTRA}
    if profile:
        known = {f"{profile}.{one.name}" for one in case.book.profiles.get(profile, ())}
        known = known or {f"{one}.{name}" for one in case.book.profiles}
    if rule not in known:
        near = difflib.get_close_matches(rule, sorted(known), n=1)
        fix = f"did you mean {near[0]}?" if near else "headwater data tune lists the rules"
        raise ConfigError(f"there is no rule {rule}.", f"headwater data tune {rule}", fix)


def with_value(config: CleanConfig, rule: str, value: str) -> CleanConfig:
    """The settings with another threshold of a rule; `OFF` switches it off.

    Raises:
        ConfigError: If the value is no number, or the step would refuse it.
    """
    try:
        bound = None if value == OFF else float(value)
    except ValueError:
        raise ConfigError(
            f"{value} is no threshold.", f"headwater data tune {rule}", f'give a number, or "{OFF}"'
        ) from None
    if rule in CAPS:
        return replace(config, **{rule: None if bound is None else int(bound)})  # type: ignore[arg-type]
    thresholds = {name: text for name, text in config.thresholds.items() if name != rule}
    if rule in _EXTRA or (rule in OVERRIDES and bound is not None):
        return replace(config, thresholds=thresholds, **{rule: _as_field(rule, bound)})  # type: ignore[arg-type]
    if rule in OVERRIDES:
        return replace(config, thresholds=thresholds | {rule: OFF}, **{rule: None})  # type: ignore[arg-type]
    return replace(config, thresholds=thresholds | {rule: value})


def _as_field(rule: str, bound: float | None) -> float | int | None:
    whole = {one.name for one in dataclasses.fields(CleanConfig) if "int" in str(one.type)}
    return int(bound) if bound is not None and rule in whole else bound


def _configs(case: Case, rule: str, value: str | None) -> tuple[CleanConfig, CleanConfig]:
    if value is None:
        return with_value(case.config, rule, OFF), case.config
    return case.config, with_value(case.config, rule, value)


def compared(case: Case, before: CleanConfig, after: CleanConfig, num_samples: int) -> Outcome:
    """Decides on every document twice.

    Args:
        case: Scores and rules.
        before: The settings to compare with.
        after: The new settings.
        num_samples: Documents remembered of those newly kept, and of those newly dropped.
    """
    from components.score.table import iter_scored

    outcome, judges = Outcome(), (_Judge(case, before), _Judge(case, after))
    for path in shard_paths(case.scored):
        opted_out = {row.doc_id for row in iter_ledger(case.judged / "dropped" / path.name) if row.rule == OPT_OUT}
        sides = [folder / "scores" / path.name for folder in (case.scored, case.quality) if folder]
        for documents, scores, *quality in iter_scored(path, *sides):
            rules = [judge.rules(documents, scores, quality, opted_out) for judge in judges]
            _note(outcome, documents, scores, rules[0], rules[1], num_samples)
    return outcome


class _Judge:
    """Decides as the step does, batch after batch; caps remember the batches before."""

    def __init__(self, case: Case, config: CleanConfig) -> None:
        from components.clean.caps import KINDS, is_capped

        self._config = config
        self._book = with_thresholds(case.book, config)
        self._seen: dict[str, dict[str, list[int]]] = {kind: {} for kind in KINDS if is_capped(config, kind)}

    def rules(
        self,
        documents: pa.RecordBatch,
        scores: pa.RecordBatch,
        quality: Sequence[pa.RecordBatch],
        opted_out: Set[bytes],
    ) -> list[str]:
        """The rule that drops each document; "" for those that are kept."""
        from components.clean.caps import apply_cap
        from components.clean.decide import decide

        numbers = quality[0].column("quality").to_numpy() if quality else None
        verdicts = decide(scores, documents, self._book, self._config, numbers)
        for row, doc_id in enumerate(documents.column("doc_id").to_pylist() if opted_out else ()):
            if doc_id in opted_out:
                verdicts.drop(row, OPT_OUT, "", "")
        for kind, seen in self._seen.items():
            apply_cap(documents, scores, verdicts, self._config, kind, seen)
        return verdicts.rules


def _note(
    outcome: Outcome,
    documents: pa.RecordBatch,
    scores: pa.RecordBatch,
    before: Sequence[str],
    after: Sequence[str],
    num_samples: int,
) -> None:
    langs, chars = documents.column("lang").to_pylist(), scores.column("chars").to_pylist()
    for row, (lang, size, old, new) in enumerate(zip(langs, chars, before, after, strict=True)):
        for tally, is_kept in ((outcome.read, True), (outcome.before, not old), (outcome.after, not new)):
            if is_kept:
                tally.documents[lang] += 1
                tally.chars[lang] += int(size)
        if bool(old) == bool(new):
            continue
        samples, rule = (outcome.dropped, new) if new else (outcome.kept, old)
        outcome.num_dropped += bool(new)
        outcome.num_kept += not new
        if len(samples) < num_samples:
            samples.append((documents.column("doc_id")[row].as_py(), rule))


def _list_rules(case: Case, is_json: bool) -> int:
    """Prints every rule with its thresholds."""
    book = with_thresholds(case.book, case.config)
    rules: dict[str, dict[str, Any]] = {}
    for profile in sorted({*book.languages.values(), book.otherwise}):
        for rule in book.profiles[profile]:
            entry = rules.setdefault(rule.name, {"statistic": rule.statistic, "why": rule.why, "thresholds": {}})
            entry["thresholds"][profile] = rule.threshold
    if is_json:
        print(as_json(rules))
        return 0
    rows = [["rule", "statistic", "threshold", "against"]]
    rows += [[name, one["statistic"], _thresholds_text(one["thresholds"]), one["why"]] for name, one in rules.items()]
    print("\n".join(aligned(rows, indent="")))
    return 0


def _thresholds_text(thresholds: Mapping[str, float]) -> str:
    if len(set(thresholds.values())) == 1:
        return f"{next(iter(thresholds.values())):g}"
    return ", ".join(f"{profile} {value:g}" for profile, value in thresholds.items())


def _record(
    chain: Chain, case: Case, options: argparse.Namespace, configs: tuple[CleanConfig, CleanConfig], outcome: Outcome
) -> dict[str, Any]:
    statistic = _statistic(case, options.rule)
    languages = {
        lang: {
            name: {"documents": tally.documents[lang], "chars": tally.chars[lang]}
            for name, tally in (("read", outcome.read), ("before", outcome.before), ("after", outcome.after))
        }
        for lang, _ in outcome.read.documents.most_common()
    }
    return {
        "run": chain.run,
        "rule": options.rule,
        "statistic": statistic,
        "thresholds": _both_thresholds(case, options.rule, configs),
        "read": outcome.read.to_json(),
        "before": outcome.before.to_json(),
        "after": outcome.after.to_json(),
        "tokens_per_char": _tokens_per_char(chain),
        "languages": languages,
        "histogram": list(_histogram(case, statistic)) if statistic else [],
        "num_newly_kept": outcome.num_kept,
        "num_newly_dropped": outcome.num_dropped,
        "newly_kept": [_sample(case, statistic, *sample) for sample in outcome.kept],
        "newly_dropped": [_sample(case, statistic, *sample) for sample in outcome.dropped],
        "override": override_of(options.rule, options.value) if options.value is not None else "",
    }


def _statistic(case: Case, rule: str) -> str:
    name = rule.rpartition(".")[2]
    found = [one.statistic for rules in case.book.profiles.values() for one in rules if one.name == name]
    return found[0] if found else _EXTRA.get(name, "")


def _both_thresholds(case: Case, rule: str, configs: tuple[CleanConfig, CleanConfig]) -> list[dict[str, Any]]:
    """The threshold of each profile that has the rule, in both settings; None where it is off."""
    if rule in CAPS:
        return [{"profile": "", "before": getattr(configs[0], rule), "after": getattr(configs[1], rule)}]
    profile, _, name = rule.rpartition(".")
    books = [with_thresholds(case.book, config) for config in configs]
    used = [profile] if profile else sorted({*case.book.languages.values(), case.book.otherwise})
    bounds = [{one: _bound(book, one, name) for one in used} for book in books]
    return [{"profile": one, "before": bounds[0][one], "after": bounds[1][one]} for one in used]


def _bound(book: RuleBook, profile: str, name: str) -> float | None:
    return next((rule.threshold for rule in book.profiles[profile] if rule.name == name), None)


def _tokens_per_char(chain: Chain) -> float | None:
    """Tokens a character became in this run; None where it has no tokens yet."""
    from components.card.describe import splits_of
    from components.publish import read_json

    tokens = next(iter(chain.of_kind("holds_tokens")), None)
    source = chain.links.get(tokens.sources.get("documents", "")) if tokens else None
    if tokens is None or source is None:
        return None
    chars = int(str(read_json(chain.folder(source) / "summary.json")["chars"]))
    total = sum(split["tokens"] for split in splits_of(chain.folder(tokens)).values())
    return total / chars if chars else None


def _histogram(case: Case, statistic: str) -> Iterator[dict[str, float]]:
    """Documents by the value of a statistic; bins grow in width where values spread over more than two decades."""
    folder = case.quality if statistic == "quality" else case.scored
    if folder is None:
        return
    low, high = _range(folder, statistic)
    wide = low >= 0 and high > 100
    edges = np.geomspace(max(low, 1.0), high, _NUM_BINS + 1) if wide else np.linspace(low, high, _NUM_BINS + 1)
    edges[0], edges[-1] = low, high
    counts = np.zeros(_NUM_BINS, dtype=np.int64)
    for values in _values(folder, statistic):
        counts += np.histogram(values, edges)[0]
    for start, end, count in zip(edges[:-1].tolist(), edges[1:].tolist(), counts.tolist(), strict=True):
        yield {"from": start, "to": end, "documents": count}


def _range(folder: Path, statistic: str) -> tuple[float, float]:
    ends = [(float(values.min()), float(values.max())) for values in _values(folder, statistic) if len(values)]
    low, high = min((end[0] for end in ends), default=0.0), max((end[1] for end in ends), default=1.0)
    return low, high if high > low else low + 1.0


def _values(folder: Path, statistic: str) -> Iterator[np.ndarray[tuple[int], np.dtype[np.float32]]]:
    from components.score.table import iter_rows

    for path in sorted((folder / "scores").glob("shard-*.arrow")):
        for batch in iter_rows(path, [statistic]):
            values = batch.column(statistic).to_numpy(zero_copy_only=False)
            yield values[np.isfinite(values)]


def _sample(case: Case, statistic: str, doc_id: bytes, rule: str) -> dict[str, Any]:
    """A document for a person to judge: the beginning of its text, and the number that decided."""
    from pipelines.verbs.data_lookup import side_row

    folder = case.quality if statistic == "quality" else case.scored
    found = kept_row(case.scored, doc_id)
    scores = side_row(folder, "scores", doc_id) if folder and statistic else None
    document = found[1] if found else None
    return {
        "doc_id": doc_id.hex(),
        "url": document.url if document else "",
        "lang": document.lang if document else "",
        "rule": rule,
        "value": scores[statistic] if scores else None,
        "text": document.text[:SAMPLE_CHARS] if document else "",
    }


def override_of(rule: str, value: str) -> str:
    """What to type to run with this threshold."""
    if rule in {one.name for one in dataclasses.fields(CleanConfig)} and value != OFF:
        return f"clean.{rule}={value}"
    if rule in CAPS or rule in _EXTRA:
        return f"clean.{rule}=null"
    return f"clean.thresholds.{rule}={value}"
