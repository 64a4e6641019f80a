"""The one way a file appears: written beside its name, flushed, then moved or linked into place.

A reader sees the whole file or none. `publish_new` is the exclusive form: exactly one of several writers wins.
"""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def publish(path: Path) -> Iterator[Path]:
    """Yields a temporary path; on a clean exit its bytes are flushed and take the place of `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        yield temporary
        flush(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    flush(path.parent)


def publish_bytes(path: Path, content: bytes) -> None:
    """Writes a whole file atomically."""
    with publish(path) as temporary:
        temporary.write_bytes(content)


def publish_json(path: Path, value: object) -> None:
    """Writes JSON atomically: sorted keys, two spaces, UTF-8 text kept readable."""
    publish_bytes(path, (json.dumps(value, sort_keys=True, indent=2, ensure_ascii=False) + "\n").encode())


def publish_new(path: Path, content: bytes, durable: bool = True) -> bool:
    """Writes a file only if none is there.

    Args:
        path: The file.
        content: Its bytes.
        durable: Wait until the bytes are on the disk. Otherwise a machine that goes down in the next seconds may leave
            none of the file, or an empty one.

    Returns:
        True if this call created it; False if another writer was first (its bytes stay).
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        temporary.write_bytes(content)
        if durable:
            flush(temporary)
        os.link(temporary, path)
    except FileExistsError:
        return False
    finally:
        temporary.unlink(missing_ok=True)
    if durable:
        flush(path.parent)
    return True


def is_draft(path: Path) -> bool:
    """Whether a file is one that has not taken its place: its writer is at work, or was killed."""
    return path.name.startswith(".") and path.name.endswith(".tmp")


def flush(path: Path) -> None:
    """Forces a file's or folder's bytes to disk (fsync)."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256_of(path: Path) -> str:
    """Hex SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_json(path: Path) -> dict[str, object]:
    """Reads a JSON object; raises `ValueError` naming the file if it holds anything else."""
    value = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(value, Mapping):
        raise ValueError(f"{path} does not hold a JSON object")
    return dict(value)
