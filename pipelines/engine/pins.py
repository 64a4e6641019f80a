"""Pins: names under which people keep artifacts whatever garbage collection thinks of them.

A pin is one small file, `pins/<name>.json`, created by exactly one of several; it names a step, a key and an epoch, so
a later rebuild of the same key does not move it.
"""

from __future__ import annotations

import getpass
import json
import os
import re
import time
from dataclasses import asdict, dataclass

from components.errors import ConfigError
from pipelines.engine.manifest import Manifest
from pipelines.engine.store import Store

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True)
class Pin:
    """A kept artifact.

    Attributes:
        name: Name of the pin.
        step: Step of the artifact.
        key: Its recipe key.
        epoch: Its epoch.
        by: Who pinned it.
        reason: Why, in words.
        time: Unix time.
    """

    name: str
    step: str
    key: str
    epoch: int
    by: str
    reason: str
    time: float


def pin(store: Store, made: Manifest, name: str, reason: str) -> Pin:
    """Pins an artifact.

    Raises:
        ConfigError: If the name is taken or none that a file can have.
    """
    if not _NAME.fullmatch(name):
        raise ConfigError(f"'{name}' is no name for a pin.", "--name", "letters, digits, '.', '_' and '-', 64 at most")
    new = Pin(name, made.step, made.key, made.epoch, user(), reason, round(time.time(), 3))
    if not store.root.create(_file(name), json.dumps(asdict(new), sort_keys=True, ensure_ascii=False).encode()):
        raise ConfigError(f"there is a pin {name} already.", _file(name), f"headwater artifacts unpin {name}")
    return new


def unpin(store: Store, name: str) -> None:
    """Takes a pin away; the artifact stays until garbage collection finds no other reason for it.

    Raises:
        ConfigError: If there is none of that name.
    """
    if not _NAME.fullmatch(name) or store.root.read(_file(name)) is None:
        known = ", ".join(found.name for found in pins(store)) or "there are none"
        raise ConfigError(f"there is no pin {name}.", f"store={store.root.url}", f"pins: {known}")
    store.root.remove(_file(name))


def pins(store: Store) -> list[Pin]:
    """All pins, by name.

    Raises:
        ConfigError: If the file of one is damaged: what it kept cannot be told.
    """
    found = []
    for name in store.root.children("pins"):
        text = store.root.read(f"pins/{name}")
        if text is None:
            continue  # unpinned since it was listed
        try:
            found.append(Pin(**json.loads(text)))
        except (ValueError, TypeError):
            raise ConfigError(
                f"the pin {name} is damaged.", f"{store.root.url}/pins/{name}", "delete that file and pin again"
            ) from None
    return found


def user() -> str:
    """Who is at work; the bare number where it has no name, as in many containers."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"user {os.getuid()}"


def _file(name: str) -> str:
    return f"pins/{name}.json"
