"""Helpers for step configs: frozen dataclasses, validated once in `__post_init__`, with a sentence naming key and fix.

Allowed field types are those a structured config can check: bool, int, float, str, `X | None`, `tuple[str, ...]`,
`dict[str, str]` and nested config dataclasses. A field is part of the step's identity unless it is made by
`runtime(...)`: runtime fields (workers, micro-batch, paths, log level) may change without invalidating an artifact.

A field that is added to a config later is declared with `added(...)`: while it has the value that the code had before
there was a field, it stays out of the identity, so that the artifacts from before keep their keys.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Final, TypeVar

from components.errors import ConfigError

T = TypeVar("T")


class _Same:
    """Stands for the default."""


SAME: Final = _Same()


def runtime(default: T) -> T:
    """Declares a config field that never enters a step's identity."""
    return dataclasses.field(default=default, metadata={"runtime": True})


def is_runtime(field: dataclasses.Field[object]) -> bool:
    """Tells whether a config field was declared with `runtime`."""
    return bool(field.metadata.get("runtime", False))


def added(default: T, keeps: T | _Same = SAME) -> T:
    """Declares a config field that its config did not have at first.

    Args:
        default: Value where none is set. A nested config must be a frozen dataclass.
        keeps: The value that does what the code did before the field was there; it leaves old keys as they are. It
            never changes, not even when the default does: pass it then.
    """
    return dataclasses.field(default=default, metadata={"keeps": default if isinstance(keeps, _Same) else keeps})


def was_added(field: dataclasses.Field[object]) -> bool:
    """Tells whether a config field was declared with `added`."""
    return "keeps" in field.metadata


def require(condition: bool, key: str, value: object, rule: str, fix: str) -> None:
    """Refuses a config value.

    Args:
        condition: What must hold.
        key: Dotted config key, as typed on the command line.
        value: The value found there.
        rule: What must hold, in words: "must be at least 1".
        fix: A setting that works: "clean.min_chars=100".

    Raises:
        ConfigError: If the condition does not hold.
    """
    if not condition:
        raise ConfigError(f"{key}={value} {rule}.", where=key, fix=f"set {fix}")


def require_choice(key: str, value: str, choices: Sequence[str]) -> None:
    """Refuses a value that is not one of the choices; names them all."""
    require(value in choices, key, value, f"must be one of {', '.join(choices)}", f"{key}={choices[0]}")
