"""Settings of the step `card`, and how the settings of the other steps get onto it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from components.configuring import is_runtime, require, runtime

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


@dataclass(frozen=True)
class CardConfig:
    """What the card says beyond what it counts.

    Attributes:
        name: Name of the data set.
        licence: Licence of the whole, as an SPDX id, where there is one; empty says "other": see the documents.
        top: Most hosts, sources, licences and rules listed by name; the others are added up.
        settings: Settings of the steps by dotted key, as the card shows them; see `settings_told`.
        shards_at_once: Shards between two looks at the clock; more of them keep more workers busy.
    """

    name: str = "headwater"
    licence: str = ""
    top: int = 20
    settings: dict[str, str] = field(default_factory=dict)
    shards_at_once: int = runtime(16)

    def __post_init__(self) -> None:
        require(bool(self.name.strip()), "card.name", repr(self.name), "must not be empty", "card.name=headwater")
        require(self.top >= 1, "card.top", self.top, "must be at least 1", "card.top=20")
        at_once = self.shards_at_once
        require(at_once >= 1, "card.shards_at_once", at_once, "must be at least 1", "card.shards_at_once=16")


def settings_told(configs: Mapping[str, DataclassInstance]) -> dict[str, str]:
    """The settings of some steps that differ from their defaults, by dotted key; runtime settings are left out.

    Args:
        configs: Config of each step by the step's name.
    """
    return {key: told for name, config in configs.items() for key, told in _differing(config, type(config)(), name)}


def _differing(config: DataclassInstance, default: object, prefix: str) -> Iterator[tuple[str, str]]:
    for one in dataclasses.fields(config):
        value, usual, key = getattr(config, one.name), getattr(default, one.name), f"{prefix}.{one.name}"
        if is_runtime(one):
            continue
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            yield from _differing(value, usual, key)
        elif value != usual:
            yield key, _told(value)


def _told(value: object) -> str:
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    if isinstance(value, dict):
        return ", ".join(f"{key}: {item}" for key, item in sorted(value.items()))
    return str(value)
