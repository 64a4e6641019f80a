"""Files of rules: what they may say, what the config changes in them, and a sentence for everything that is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from components.clean.config import CleanConfig
from components.clean.profiles import RuleBook, builtin_rules, load_rules, with_thresholds
from components.errors import ConfigError

SMALL = """
languages: {en: plain, zh: hanzi}
otherwise: plain
profiles:
  plain:
    rules:
      - {name: min_chars, statistic: chars, min: 100, why: stubs}
      - {name: max_url_share, statistic: url_share, max: 0.2}
      - {name: max_digit_share, statistic: digit_share, max: 0.3}
  hanzi:
    like: plain
    without: [max_digit_share]
    rules:
      - {name: min_chars, statistic: chars, min: 40, scale: 0.4}
      - {name: min_words, statistic: words, min: 3, languages: [zh]}
"""


def book_of(folder: Path, text: str) -> RuleBook:
    path = folder / "rules.yaml"
    path.write_text(text, encoding="utf-8")
    return load_rules(path)


def thresholds(book: RuleBook, profile: str) -> dict[str, float]:
    return {rule.name: rule.threshold for rule in book.profiles[profile]}


def test_a_profile_takes_over_the_rules_of_the_one_it_is_like(tmp_path: Path) -> None:
    book = book_of(tmp_path, SMALL)
    assert thresholds(book, "hanzi") == {"min_chars": 40, "max_url_share": 0.2, "min_words": 3}
    assert book.profiles["hanzi"][0].name == "min_chars"
    assert book.profiles["hanzi"][2].languages == ("zh",)


def test_the_profile_is_that_of_the_source_then_of_the_language_then_the_common_one(tmp_path: Path) -> None:
    book = book_of(tmp_path, SMALL)
    assert book.profile_of("web", "zh", {}) == "hanzi"
    assert book.profile_of("web", "fr", {}) == "plain"
    assert book.profile_of("web", "fr", {"fr": "hanzi"}) == "hanzi"
    assert book.profile_of("verse", "zh", {"verse": "plain", "zh": "hanzi"}) == "plain"


def test_a_profile_may_have_another_one_for_a_language(tmp_path: Path) -> None:
    book = book_of(tmp_path, SMALL + "  verse: {like: plain}\n  verse.zh: {like: hanzi}\n")
    assert book.profile_of("mine", "en", {"mine": "verse"}) == "verse"
    assert book.profile_of("mine", "zh", {"mine": "verse"}) == "verse.zh"
    config = CleanConfig(thresholds={"verse.zh.min_chars": "7"})
    assert thresholds(with_thresholds(book, config), "verse.zh")["min_chars"] == 7


def test_a_field_of_the_config_sets_its_rule_in_all_profiles_scaled(tmp_path: Path) -> None:
    book = with_thresholds(book_of(tmp_path, SMALL), CleanConfig(min_chars=200))
    assert thresholds(book, "plain")["min_chars"] == 200
    assert thresholds(book, "hanzi")["min_chars"] == 80


def test_a_threshold_for_one_profile_is_taken_as_it_is(tmp_path: Path) -> None:
    config = CleanConfig(thresholds={"hanzi.min_chars": "30", "max_url_share": "0.5", "plain.max_digit_share": "off"})
    book = with_thresholds(book_of(tmp_path, SMALL), config)
    assert thresholds(book, "plain") == {"min_chars": 100, "max_url_share": 0.5}
    assert thresholds(book, "hanzi") == {"min_chars": 30, "max_url_share": 0.5, "min_words": 3}


def test_the_score_of_the_classifier_and_of_the_word_list_bound_every_profile(tmp_path: Path) -> None:
    book = with_thresholds(book_of(tmp_path, SMALL), CleanConfig(min_quality=0.5, max_toxicity=0.01))
    for profile in ("plain", "hanzi"):
        assert thresholds(book, profile)["min_quality"] == 0.5
        assert thresholds(book, profile)["max_toxicity"] == 0.01


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ("statistic: chars, min: 100", "statistic: char, min: 100", "did you mean chars?"),
        ("min: 100", "min: 100, max: 3", "one of min and max"),
        ("min: 100", "min: many", "must be a number"),
        ("min: 100", "min: .nan", "must be a number"),
        ("min: 100", "minimum: 100", "did you mean min?"),
        ("like: plain", "like: plane", "did you mean plain?"),
        ("like: plain", "like: hanzi", "is like itself"),
        ("[max_digit_share]", "[max_digits_share]", "did you mean max_digit_share?"),
        ("otherwise: plain", "otherwise: plan", "did you mean plain?"),
        ("otherwise: plain", "", "unknown profile None"),
        ("zh: hanzi", "zh: hanzis", "did you mean hanzi?"),
        ("en: plain", "no: plain", "put it in quotes"),
        ("name: max_url_share", "name: min_chars", "second rule min_chars"),
        ("name: max_url_share, ", "", "must be text"),
        ("languages: [zh]", "languages: zh", "must be a list"),
        ("profiles:", "profile:", "did you mean profiles?"),
        ("{name: min_chars, statistic: chars, min: 100, why: stubs}", "min_chars", "must be a table"),
        ("languages: {", "languages: {{", "is no YAML"),
        ("languages: {en", "languages: {!!python/object/apply:os.system [id]: a, en", "is no YAML"),
    ],
)
def test_a_wrong_file_is_refused_with_its_place_and_the_nearest_name(
    tmp_path: Path, before: str, after: str, told: str
) -> None:
    assert before in SMALL
    with pytest.raises(ConfigError) as caught:
        book_of(tmp_path, SMALL.replace(before, after, 1))
    assert told in str(caught.value)
    assert "rules.yaml" in caught.value.where


@pytest.mark.parametrize("content", [b"", b"- 1\n", b"\xff\xfe\x00", b"profiles: 3\n"])
def test_a_file_that_holds_no_rules_at_all_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "rules.yaml").write_bytes(content)
    with pytest.raises(ConfigError, match=r"rules\.yaml"):
        load_rules(tmp_path / "rules.yaml")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(text=st.one_of(st.text(max_size=80), st.integers(0, len(SMALL)).map(lambda cut: SMALL[:cut] + SMALL[cut + 3 :])))
def test_any_text_is_a_file_of_rules_or_refused_in_a_sentence(tmp_path: Path, text: str) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text(text, encoding="utf-8")
    assert isinstance(outcome_of(path), RuleBook | ConfigError)


def outcome_of(path: Path) -> RuleBook | ConfigError:
    try:
        return load_rules(path)
    except ConfigError as error:
        return error


@pytest.mark.parametrize(
    ("config", "told"),
    [
        (CleanConfig(thresholds={"max_urls_share": "0.1"}), "did you mean max_url_share?"),
        (CleanConfig(thresholds={"hanzy.min_chars": "1"}), "did you mean hanzi?"),
        (CleanConfig(thresholds={"plain.min_words": "1"}), "There is no rule min_words"),
        (CleanConfig(profiles={"verse": "hanzy"}), "did you mean hanzi?"),
        (CleanConfig(max_symbol_share=0.1), "There is no rule max_symbol_share"),
    ],
)
def test_a_setting_for_a_rule_that_does_not_exist_is_refused_with_the_nearest(
    tmp_path: Path, config: CleanConfig, told: str
) -> None:
    book = book_of(tmp_path, SMALL)
    with pytest.raises(ConfigError) as caught:
        with_thresholds(book, config)
    assert told in str(caught.value)
    assert caught.value.where.startswith("clean.")


def test_rules_that_do_not_come_with_the_package_are_refused_with_those_that_do() -> None:
    with pytest.raises(ConfigError, match="There is no file of rules defaults") as caught:
        builtin_rules("defaults")
    assert "did you mean default?" in caught.value.fix


@pytest.mark.parametrize(
    ("setting", "key"),
    [
        ({"min_chars": -1}, "clean.min_chars"),
        ({"min_chars": 500, "max_chars": 100}, "clean.min_chars"),
        ({"max_symbol_share": 1.2}, "clean.max_symbol_share"),
        ({"min_quality": 1.5}, "clean.min_quality"),
        ({"thresholds": {"zh.min_chars": "few"}}, "clean.thresholds.zh.min_chars"),
        ({"thresholds": {"zh.min_chars": "-1"}}, "clean.thresholds.zh.min_chars"),
        ({"max_documents_per_host": 0}, "clean.max_documents_per_host"),
        ({"shards_at_once": 0}, "clean.shards_at_once"),
    ],
)
def test_an_impossible_setting_is_refused_by_its_key(setting: dict[str, float], key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        CleanConfig(**setting)
    assert caught.value.where == key
