"""The rules, as data: a YAML file of profiles, each a list of bounds on statistics. `rules/default.yaml` is ours.

    languages: {en: en, zh: zh}      # the profile of a language
    otherwise: other                 # the profile of every other language
    profiles:
      base:
        rules:
          - {name: max_url_share, statistic: url_share, max: 0.2, why: lists of links}
      zh:
        like: base                   # begins with the rules of base; a rule of the same name takes its place
        without: [max_digit_share]   # leaves some of them out
        rules:
          - {name: min_chars, statistic: chars, min: 40, scale: 0.4, languages: [zh], why: stubs}

A profile "poems.zh" stands in for "poems" where a document is Chinese. `scale` is what a threshold from the command
line is multiplied with: `clean.min_chars=200` asks for 80 hanzi where the scale is 0.4. Rules are tried in the order of
the list; the first broken one drops. A file is read by hand here, with a sentence for each thing that may be wrong in
it, since users write their own.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

from components.clean.config import OVERRIDES, CleanConfig
from components.errors import ConfigError
from components.score.names import STATISTICS

QUALITY = "quality"
"""Statistic of the step `quality`; the others are those of the step `score`."""
_Node: TypeAlias = object
_RULE_KEYS = ("name", "statistic", "min", "max", "languages", "scale", "why")


@dataclass(frozen=True)
class Rule:
    """One bound on one statistic.

    Attributes:
        name: Name in the ledger, and on the command line.
        statistic: The bounded number, one of `components.score.names.STATISTICS` or "quality".
        threshold: The bound; a document at the bound is kept.
        upper: Whether the bound is an upper one.
        languages: Languages it holds for; empty for all.
        scale: What a threshold from the command line is multiplied with.
        why: What it is against.
    """

    name: str
    statistic: str
    threshold: float
    upper: bool
    languages: tuple[str, ...] = ()
    scale: float = 1.0
    why: str = ""

    def holds_for(self, lang: str) -> bool:
        """Tells whether the rule is for this language."""
        return not self.languages or lang in self.languages


@dataclass(frozen=True)
class RuleBook:
    """All profiles of a file.

    Attributes:
        profiles: Rules by profile, in the order they are tried.
        languages: Profile by language.
        otherwise: Profile of the languages that are not listed.
    """

    profiles: Mapping[str, tuple[Rule, ...]]
    languages: Mapping[str, str]
    otherwise: str

    def profile_of(self, source: str, lang: str, chosen: Mapping[str, str]) -> str:
        """The profile of a document: what the config chose for its source or its language, else what the file says.

        Where a profile has another one for this language ("poems.zh"), it is that.
        """
        profile = chosen.get(source) or chosen.get(lang) or self.languages.get(lang, self.otherwise)
        return f"{profile}.{lang}" if f"{profile}.{lang}" in self.profiles else profile


def builtin_rules(name: str = "default") -> Path:
    """The file of rules of that name that comes with the package.

    Raises:
        ConfigError: If there is none; names the nearest.
    """
    folder = Path(__file__).parent / "rules"
    known = sorted(path.stem for path in folder.glob("*.yaml"))
    if name not in known:
        raise _unknown("file of rules", name, known, f"rules {name}")
    return folder / f"{name}.yaml"


def load_rules(path: Path) -> RuleBook:
    """Reads a file of rules.

    Raises:
        ConfigError: If it cannot be read or says something that is no rule, with the place in the file.
    """
    import yaml

    try:
        node = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"The file of rules {path.name} cannot be read.", str(path), f"check it: {error}") from None
    except yaml.YAMLError as error:
        told = " ".join(str(error).split())
        raise ConfigError(f"The file of rules {path.name} is no YAML.", str(path), f"correct it: {told}") from None
    return _Reader(path).book(node)


def with_thresholds(book: RuleBook, config: CleanConfig) -> RuleBook:
    """The rules with the thresholds that the config sets in their place, and with those it switches off left out.

    Raises:
        ConfigError: If it names a rule or a profile that does not exist, with the nearest that does.
    """
    for who, profile in config.profiles.items():
        if profile not in book.profiles:
            raise _unknown("profile", profile, book.profiles, f"clean.profiles.{who}={profile}")
    profiles = {name: list(rules) for name, rules in book.profiles.items()}
    names = {rule.name for rules in profiles.values() for rule in rules}
    for name in OVERRIDES:
        value = getattr(config, name)
        if value is not None and name not in names:
            raise _unknown("rule", name, names, f"clean.{name}={value}")
        if value is not None:
            _override(profiles, profiles, name, float(value))
    for key, text in config.thresholds.items():
        profile, _, name = key.rpartition(".")
        where = f"clean.thresholds.{key}={text}"
        if profile and profile not in profiles:
            raise _unknown("profile", profile, profiles, where)
        known = {rule.name for rule in profiles[profile]} if profile else names
        if name not in known:
            raise _unknown("rule", name, known, where)
        _override(profiles, [profile] if profile else profiles, name, None if text == "off" else float(text))
    if config.min_quality is not None:
        floor = Rule("min_quality", QUALITY, config.min_quality, upper=False, why="what the classifier takes for junk")
        profiles = {name: [*rules, floor] for name, rules in profiles.items()}
    if config.max_toxicity is not None:
        cap = Rule("max_toxicity", "toxic_word_share", config.max_toxicity, upper=True, why="words of the user's list")
        profiles = {name: [*rules, cap] for name, rules in profiles.items()}
    return replace(book, profiles={name: tuple(rules) for name, rules in profiles.items()})


def _override(profiles: dict[str, list[Rule]], chosen: Iterable[str], name: str, value: float | None) -> None:
    """Sets a threshold in some profiles; in a single one as it is, in all of them scaled."""
    exact = isinstance(chosen, list)
    for profile in chosen:
        profiles[profile] = [
            rule if rule.name != name else replace(rule, threshold=(value or 0.0) * (1.0 if exact else rule.scale))
            for rule in profiles[profile]
            if rule.name != name or value is not None
        ]


class _Reader:
    """Reads the parts of one file, knowing where it is for the sake of its complaints."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def book(self, node: _Node) -> RuleBook:
        top = self._mapping(node, "the file", ("languages", "otherwise", "profiles"))
        written = self._mapping(top.get("profiles"), "profiles")
        profiles: dict[str, tuple[Rule, ...]] = {}
        for name in written:
            self._profile(name, written, profiles, ())
        languages = {
            lang: self._known_profile(name, profiles, f"languages.{lang}")
            for lang, name in self._mapping(top.get("languages", {}), "languages").items()
        }
        return RuleBook(profiles, languages, self._known_profile(top.get("otherwise"), profiles, "otherwise"))

    def _profile(
        self, name: str, written: Mapping[str, _Node], done: dict[str, tuple[Rule, ...]], within: tuple[str, ...]
    ) -> tuple[Rule, ...]:
        """The rules of a profile, those of the one it is like first."""
        if name in within:
            raise self._wrong(f"profiles.{name}", f"is like itself, by way of {' and '.join(within)}")
        if name not in done:
            where = f"profiles.{name}"
            node = self._mapping(written[name], where, ("like", "without", "rules"))
            rules: dict[str, Rule] = {}
            if "like" in node:
                parent = self._known_profile(node["like"], written, f"{where}.like")
                rules = {rule.name: rule for rule in self._profile(parent, written, done, (*within, name))}
            for leave in self._texts(node.get("without", []), f"{where}.without"):
                if leave not in rules:
                    raise self._wrong(f"{where}.without", f"leaves out {leave}, which it does not have", leave, rules)
                del rules[leave]
            own: set[str] = set()
            for number, item in enumerate(self._list(node.get("rules", []), f"{where}.rules")):
                rule = self._rule(item, f"{where}.rules[{number}]")
                if rule.name in own:
                    raise self._wrong(f"{where}.rules[{number}]", f"is a second rule {rule.name} of this profile")
                own.add(rule.name)
                rules[rule.name] = rule
            done[name] = tuple(rules.values())
        return done[name]

    def _rule(self, item: _Node, where: str) -> Rule:
        node = self._mapping(item, where, _RULE_KEYS)
        name, statistic = self._text(node.get("name"), f"{where}.name"), node.get("statistic")
        where = f"{where} ({name})"
        if statistic not in STATISTICS and statistic != QUALITY:
            raise self._wrong(where, f"speaks of the unknown statistic {statistic}", str(statistic), STATISTICS)
        if ("min" in node) == ("max" in node):
            raise self._wrong(where, "needs one of min and max")
        return Rule(
            name,
            str(statistic),
            self._number(node.get("min", node.get("max")), where),
            upper="max" in node,
            languages=tuple(self._texts(node.get("languages", []), f"{where}.languages")),
            scale=self._number(node.get("scale", 1), f"{where}.scale"),
            why=self._text(node.get("why", "-"), f"{where}.why"),
        )

    def _known_profile(self, name: _Node, known: Iterable[str], where: str) -> str:
        if name not in (known := list(known)):
            raise self._wrong(where, f"names the unknown profile {name}", str(name), known)
        return str(name)

    def _mapping(self, node: _Node, where: str, keys: Iterable[str] = ()) -> dict[str, _Node]:
        if not isinstance(node, dict):
            raise self._wrong(where, "must be a table of keys and values")
        for key in node:
            if not isinstance(key, str):
                raise self._wrong(where, f"has the key {key}, which YAML reads as no text: put it in quotes")
            if keys and key not in (known := list(keys)):
                raise self._wrong(where, f"has the unknown key {key}", key, known)
        return node

    def _list(self, node: _Node, where: str) -> list[_Node]:
        if not isinstance(node, list):
            raise self._wrong(where, "must be a list")
        return node

    def _texts(self, node: _Node, where: str) -> list[str]:
        return [self._text(item, where) for item in self._list(node, where)]

    def _text(self, node: _Node, where: str) -> str:
        if not isinstance(node, str) or not node:
            raise self._wrong(where, f"must be text, not {node}: put it in quotes")
        return node

    def _number(self, node: _Node, where: str) -> float:
        if isinstance(node, bool) or not isinstance(node, int | float) or not math.isfinite(node):
            raise self._wrong(where, f"must be a number, not {node}")
        return float(node)

    def _wrong(self, where: str, what: str, given: str = "", known: Iterable[str] = ()) -> ConfigError:
        return ConfigError(
            f"The file of rules {self._path.name} is refused: {where} {what}.", str(self._path), _nearest(given, known)
        )


def _unknown(kind: str, name: str, known: Iterable[str], where: str) -> ConfigError:
    return ConfigError(f"There is no {kind} {name}.", where, _nearest(name, known))


def _nearest(name: str, known: Iterable[str]) -> str:
    known = sorted(known)
    if not known:
        return "correct it there"
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
