"""What makes two pieces of work the same: the recipe key of a step and the content digest of files.

The recipe key is known before anything runs, so it addresses the artifact and makes the plan. It hashes canonical JSON:
keys sorted, floats spelt one way, 1 and 1.0 and true kept apart, NaN and unknown objects refused rather than turned
into text that could differ from run to run. Runtime fields, resources, paths, hosts, class names and dict order never
enter; a whole number in a float field is that float, so `0.5 * 2` and `1` make one key. A field that a config got
later (`configuring.added`) enters only once its value does something new.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
import typing
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import TYPE_CHECKING

from components.configuring import is_runtime, was_added
from components.context import Json
from components.errors import ConfigError
from components.publish import sha256_of

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

KEY_CHARS = 16
"""Characters of a key that paths and tables show."""

SECRET_FIELDS = frozenset(
    {"token", "auth_token", "access_token", "password", "passphrase", "secret", "api_key", "secret_key", "access_key"}
)
"""Config fields whose values are never written down. Exact names: `use_cls_token` and `max_tokens` are no secrets."""


def canonical_json(value: Json) -> bytes:
    """Serialises a JSON value the one way its hash is taken of.

    Raises:
        ConfigError: On NaN or an infinity, a key that is no text, or any other object.
    """
    _check(value, "")
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def recipe_key(
    step: str, version: int, identity: Mapping[str, Json], inputs: Mapping[str, str], code_digest: str | None
) -> str:
    """The key of a step's artifact, 64 hex characters.

    Args:
        step: Name of the step.
        version: Version of its function.
        identity: Identity fields of its config, from `identity_of`.
        inputs: Recipe keys (or content digests of external files) by input name.
        code_digest: Digest of its code, or None where the policy leaves code out.
    """
    parts: dict[str, Json] = {
        "schema": 1,
        "step": step,
        "version": version,
        "config": dict(identity),
        "inputs": dict(inputs),
        "code": code_digest,
    }
    return hashlib.sha256(canonical_json(parts)).hexdigest()


def content_key(
    step: str, version: int, identity: Mapping[str, Json], contents: Mapping[str, str], code_digest: str | None
) -> str:
    """As `recipe_key`, with the digests of the inputs' bytes instead of the keys they were made under.

    Known once the inputs are there. Two recipes that lead to the same bytes meet here: a step below an input that was
    built again and came out equal need not run (early cut-off).
    """
    return recipe_key(
        step, version, identity, {name: f"bytes:{digest}" for name, digest in contents.items()}, code_digest
    )


def identity_of(config: DataclassInstance) -> dict[str, Json]:
    """The identity fields of a config, nested configs included, runtime fields left out.

    Raises:
        ConfigError: If a field holds something that has no canonical form.
    """
    return _fields_of(config, "", keep_runtime=False, redact=False)


def describe_config(config: DataclassInstance) -> dict[str, Json]:
    """Every field of a config as JSON for a manifest or a page; secrets are replaced by "***"."""
    return _fields_of(config, "", keep_runtime=True, redact=True)


def redacted(identity: Mapping[str, Json]) -> dict[str, Json]:
    """A copy of an identity config that may be written down."""
    return {
        name: "***" if name in SECRET_FIELDS else redacted(value) if isinstance(value, dict) else value
        for name, value in identity.items()
    }


def content_digest(path: Path) -> str:
    """Digest of a file's bytes, or of a folder's relative names and bytes; hidden files do not count."""
    if path.is_file():
        return sha256_of(path)
    files = sorted(found.relative_to(path) for found in path.rglob("*") if found.is_file())
    return digest_of_files(
        {name.as_posix(): sha256_of(path / name) for name in files if not any(p.startswith(".") for p in name.parts)}
    )


def digest_of_files(hashes: Mapping[str, str]) -> str:
    """Digest of a set of files from their relative names and SHA-256."""
    return hashlib.sha256(canonical_json(dict(hashes))).hexdigest()


def _fields_of(config: DataclassInstance, prefix: str, keep_runtime: bool, redact: bool) -> dict[str, Json]:
    hints = _hints(type(config))
    result: dict[str, Json] = {}
    for field in dataclasses.fields(config):
        if is_runtime(field) and not keep_runtime:
            continue
        key = f"{prefix}{field.name}"
        if redact and field.name in SECRET_FIELDS:
            result[field.name] = "***"
            continue
        value = _value_of(getattr(config, field.name), hints[field.name], key, keep_runtime, redact)
        if was_added(field) and not keep_runtime:
            kept = _value_of(field.metadata["keeps"], hints[field.name], key, keep_runtime, redact)
            if canonical_json(value) == canonical_json(kept):
                continue
        result[field.name] = value
    return result


@cache
def _hints(kind: type) -> dict[str, object]:
    return typing.get_type_hints(kind)


def _value_of(value: object, hint: object, key: str, keep_runtime: bool, redact: bool) -> Json:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _fields_of(value, f"{key}.", keep_runtime, redact)
    return _plain(value, hint, key, exact=not keep_runtime)


def _plain(value: object, hint: object, key: str, exact: bool) -> Json:
    if isinstance(value, int) and not isinstance(value, bool) and _is_float(hint):
        value = float(value)
    if isinstance(value, float) and value == 0:
        value = 0.0  # there is a minus zero, which is the same number with another text
    if isinstance(value, tuple | list):
        return [_plain(item, _item_hint(hint), f"{key}[{index}]", exact) for index, item in enumerate(value)]
    if isinstance(value, Mapping):
        for name in value if exact else ():
            if not isinstance(name, str):
                raise _refusal(name, key)
        return {str(name): _plain(item, _item_hint(hint), f"{key}.{name}", exact) for name, item in value.items()}
    if isinstance(value, os.PathLike) and not exact:
        return os.fspath(str(value))
    if isinstance(value, float) and not math.isfinite(value) and not exact:
        return str(value)
    if not isinstance(value, bool | int | float | str | NoneType):
        raise _refusal(value, key)
    _check(value, key)
    return value


def _item_hint(hint: object) -> object:
    """What the items of a `tuple[X, ...]`, `list[X]` or `dict[str, X]` are, with or without `| None`."""
    for option in (hint, *typing.get_args(hint)):
        arguments = typing.get_args(option)
        if typing.get_origin(option) is tuple and Ellipsis in arguments:
            return arguments[0]
        if typing.get_origin(option) in (list, dict):
            return arguments[-1]
    return None


def _is_float(hint: object) -> bool:
    if isinstance(hint, UnionType) or typing.get_origin(hint) is typing.Union:
        return float in typing.get_args(hint) and int not in typing.get_args(hint)
    return hint is float


def _check(value: object, key: str) -> None:
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"{key or 'A value'} is {value}, which has no identity.", key, "set a finite number")
    if isinstance(value, dict):
        for name, item in value.items():
            if not isinstance(name, str):
                raise _refusal(name, key)
            _check(item, f"{key}.{name}" if key else name)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _check(item, f"{key}[{index}]")
    elif not isinstance(value, bool | int | float | str | NoneType):
        raise _refusal(value, key)


def _refusal(value: object, key: str) -> ConfigError:
    kind = type(value).__name__
    fix = "use bool, int, float, str, a tuple of them, or mark the field with runtime(...)"
    return ConfigError(f"{key or 'A value'} is a {kind}, which has no identity.", key, fix)
