"""From our records to what MLflow takes: names, parameters and sizes within its limits."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

T = TypeVar("T")

MAX_PARAM_CHARS = 6000
MAX_TAG_CHARS = 8000
MAX_KEY_CHARS = 250
PARAMS_PER_BATCH = 100
METRICS_PER_BATCH = 1000

_UNSAFE = re.compile(r"[^\w\-. :/]")
_PASSWORD = re.compile(r"://[^/@\s]+@")


def key_of(*parts: str) -> str:
    """A metric or parameter name such as "pretrain/loss", with what MLflow refuses replaced."""
    return _UNSAFE.sub("_", "/".join(parts))[:MAX_KEY_CHARS]


def flat_params(config: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Every setting of a config by its dotted name; text as it is, the rest as JSON, passwords in URLs masked."""
    params: dict[str, str] = {}
    for name, value in config.items():
        if isinstance(value, Mapping) and value:
            params |= flat_params(value, f"{prefix}{name}.")
        else:
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            params[key_of(f"{prefix}{name}")] = masked(text)[:MAX_PARAM_CHARS]
    return params


def masked(text: str) -> str:
    """The text without user names and passwords in URLs."""
    return _PASSWORD.sub("://***@", text)


def tag_text(value: object) -> str:
    """A tag's value: text, shortened to what MLflow takes."""
    return masked(str(value))[:MAX_TAG_CHARS]


def batches(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """Slices of at most `size` items, in order."""
    for start in range(0, len(items), size):
        yield items[start : start + size]
