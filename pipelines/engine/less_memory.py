"""What to change about a step that ran out of memory: settings that bound memory and never change the result.

A config dataclass says so itself, with a method `with_less_memory()` that returns a copy of it or None. Only runtime
fields may differ, which is checked: the artifact keeps its key, and the global batch its size.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, cast

from pipelines.engine.identity import identity_of

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


def with_less_memory(config: DataclassInstance) -> DataclassInstance | None:
    """A copy of a step's config that needs less memory, nested configs included; None if none of them can.

    Raises:
        AssertionError: If a config's own method changed its identity: a defect of ours.
    """
    method = getattr(config, "with_less_memory", None)
    smaller = config if method is None else cast("DataclassInstance", method() or config)
    changes = {}
    for field in dataclasses.fields(smaller):
        value = getattr(smaller, field.name)
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            inner = with_less_memory(value)
            if inner is not None:
                changes[field.name] = inner
    result = dataclasses.replace(smaller, **changes) if changes else smaller
    if result == config:
        return None
    assert identity_of(result) == identity_of(config), f"{type(config).__name__} changed what it computes"
    return result


def difference(before: DataclassInstance, after: DataclassInstance, prefix: str = "") -> str:
    """The fields that differ, as "training.micro_batch 8 -> 4"."""
    parts = []
    for field in dataclasses.fields(before):
        old, new = getattr(before, field.name), getattr(after, field.name)
        if dataclasses.is_dataclass(old) and not isinstance(old, type):
            parts.append(difference(old, new, f"{prefix}{field.name}."))
        elif old != new:
            parts.append(f"{prefix}{field.name} {old} -> {new}")
    return ", ".join(part for part in parts if part)
