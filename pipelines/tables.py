"""Settings that are tables: any names on the left, text on the right, such as weights of a mixture.

Hydra's schema knows no names in advance and so takes none from the command line. Overrides of tables are therefore kept
from it and put into what it composed: one entry (`clean.thresholds.max_url_share=0.3`) or some
(`pretrain.mixture.weights={en: 0.7, zh: 0.3}`); the text is as it was typed.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from components.errors import ConfigError


@dataclass(frozen=True)
class Entries:
    """What an override puts into a table.

    Attributes:
        table: Dotted key of the table.
        entries: Text by name.
    """

    table: str
    entries: Mapping[str, str]


def table_of(key: str, tables: Collection[str]) -> str:
    """The table that a dotted key is, or is an entry of; empty if it is neither."""
    return next((table for table in tables if key == table or key.startswith(f"{table}.")), "")


def split_off(overrides: Sequence[str], tables: Collection[str]) -> tuple[list[str], list[Entries]]:
    """Tells overrides of tables from those that Hydra takes.

    Raises:
        ConfigError: If a table is set to something that is none.
    """
    others: list[str] = []
    found: list[Entries] = []
    for override in overrides:
        key, _, text = override.partition("=")
        table = table_of(key.lstrip("+"), tables)
        if not table:
            others.append(override)
        elif key.lstrip("+") == table:
            found.append(Entries(table, _read(override, text)))
        else:
            found.append(Entries(table, {key.lstrip("+")[len(table) + 1 :]: _unquoted(text)}))
    return others, found


def put(values: dict[str, object], found: Sequence[Entries]) -> None:
    """Puts entries into composed values."""
    for one in found:
        *groups, name = one.table.split(".")
        place = values
        for group in groups:
            place = cast(dict[str, object], place[group])
        place[name] = {**cast(Mapping[str, str], place[name]), **one.entries}


def _read(override: str, text: str) -> dict[str, str]:
    import yaml

    try:
        read = yaml.load(text, Loader=yaml.BaseLoader)
    except yaml.YAMLError:
        read = None
    if not isinstance(read, dict) or not all(isinstance(value, str) for value in read.values()):
        raise ConfigError(
            f"'{override}' sets a table to something that is none.",
            where=f"{override} (command line)",
            fix="write 'KEY={name: value, other: value}', or KEY.name=value",
        )
    return {str(name): value for name, value in read.items()}


def _unquoted(text: str) -> str:
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"" else text
