"""Settings that are tables: set entry by entry or at once, from the command line."""

from __future__ import annotations

import pytest

from components.errors import ConfigError
from pipelines.config import all_tables, load_settings


def test_one_entry_is_set_by_its_name() -> None:
    settings = load_settings(["clean.thresholds.zh.min_chars=30", "pretrain.mixture.weights.en=0.7"])
    assert settings.clean.thresholds == {"zh.min_chars": "30"}
    assert settings.pretrain.mixture.weights == {"en": "0.7"}


def test_several_entries_are_set_at_once_and_numbers_are_text() -> None:
    settings = load_settings(
        ["pretrain.mixture.weights={en: 0.70, zh: 1/3}", 'pretrain.mixture.changes={"12": "en=1, zh=2"}']
    )
    assert settings.pretrain.mixture.weights == {"en": "0.70", "zh": "1/3"}
    assert settings.pretrain.mixture.changes == {"12": "en=1, zh=2"}


@pytest.mark.parametrize("text", ["3", "[a]", "{a: [1]}", "{a: "])
def test_what_is_no_table_is_refused_in_a_sentence(text: str) -> None:
    with pytest.raises(ConfigError, match="sets a table to something that is none"):
        load_settings([f"clean.thresholds={text}"])


def test_a_wrong_entry_is_refused_by_the_config_that_has_it() -> None:
    with pytest.raises(ConfigError, match="nothing_like_it"):
        load_settings(["ingest_files.fields.nothing_like_it=text"])


def test_every_table_is_a_field_of_some_step() -> None:
    assert {"clean.thresholds", "clean.profiles", "pretrain.mixture.weights", "dedup.thresholds"} <= set(all_tables())
