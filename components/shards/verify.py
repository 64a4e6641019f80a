"""Whether a tokens artifact is whole: nothing is trained on shards that are not the ones that were written.

Two depths. `quick` looks at names, sizes and the footers, which takes a few milliseconds a shard and finds what was
cut off, mixed up or left out. `full` also hashes every byte and finds a flipped one, at the speed of SHA-256: 0.7 s per
GB on one core with the SHA instructions (measured), several shards at once where there are cores.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from components.errors import StepError
from components.publish import sha256_of
from components.shards.format import FORMAT, SPLITS, token_schema

META = "meta.json"
FIX = "delete the artifact of the tokens step and run again; it is made anew"


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong.

    Attributes:
        path: The file, relative to the artifact: "train/shard-00003.arrow".
        what: What is wrong with it, as the rest of a sentence: "is missing".
    """

    path: str
    what: str

    def __str__(self) -> str:
        return f"{self.path} {self.what}"


def verify_tokens(folder: Path, full: bool = True, splits: Sequence[str] = SPLITS) -> list[Fault]:
    """Looks at every shard of a tokens artifact.

    Args:
        folder: The artifact.
        full: Hashes every byte; otherwise names, sizes and footers are compared.
        splits: Splits that are looked at.

    Returns:
        What is wrong, in the order of the files; empty if all is well.
    """
    meta, wrong = _read(folder / META)
    if wrong:
        return [Fault(META, wrong)]
    work = [
        (folder / split / entry["name"], entry, meta["dtype"]) for split in splits for entry in _entries(meta, split)
    ]
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # hashing holds no lock
        found = pool.map(lambda item: _fault_of(item[0], item[1], item[2], full), work)
        faults = [
            Fault(str(path.relative_to(folder)), what) for (path, *_), what in zip(work, found, strict=True) if what
        ]
    return sorted([*faults, *_strangers(folder, meta, splits)], key=str)


def check_tokens(folder: Path, full: bool, splits: Sequence[str] = SPLITS) -> dict[str, Any]:
    """Refuses a tokens artifact that is not whole.

    Args:
        folder: The artifact.
        full: See `verify_tokens`.
        splits: Splits that matter.

    Returns:
        `meta.json`.

    Raises:
        StepError: Naming the first shard that is not as it was written.
    """
    meta = read_meta(folder)
    faults = verify_tokens(folder, full, splits)
    if faults:
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        raise StepError(f"The token shard {faults[0]}{more}.", where=str(folder / faults[0].path), fix=FIX)
    return meta


def read_meta(folder: Path) -> dict[str, Any]:
    """`meta.json` of a tokens artifact.

    Raises:
        StepError: If it is missing, damaged or of another version.
    """
    meta, wrong = _read(folder / META)
    if wrong:
        raise StepError(f"The {META} of the token shards {wrong}.", where=str(folder / META), fix=FIX)
    return meta


def _read(path: Path) -> tuple[dict[str, Any], str]:
    """What `meta.json` holds, and what is wrong with it."""
    try:
        meta = dict(json.loads(path.read_text(encoding="utf-8")))
        if meta["format"] != FORMAT:
            return meta, f"is of format {meta['format']}, and this version reads format {FORMAT}"
        token_schema(meta["dtype"])
        for split in SPLITS:
            for entry in _entries(meta, split):
                _check_entry(entry)
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException) as error:
        return {}, f"cannot be read ({error})"
    return meta, ""


def _check_entry(entry: Mapping[str, Any]) -> None:
    name, digest = entry["name"], entry["sha256"]
    if not (isinstance(name, str) and Path(name).name == name and isinstance(digest, str)):
        raise ValueError(f"{name!r} is no name of a shard")
    for key in ("size", "documents", "tokens", "bytes"):
        if not isinstance(entry[key], int):
            raise ValueError(f"{name} has {entry[key]!r} as its {key}")


def _entries(meta: Mapping[str, Any], split: str) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = meta["shards"][split]
    return entries


def _fault_of(path: Path, entry: Mapping[str, Any], dtype: str, full: bool) -> str:
    if not path.is_file():
        return "is missing"
    size = path.stat().st_size
    if size != entry["size"]:
        return f"has {size} bytes and was written with {entry['size']}"
    if full:
        return (
            "" if sha256_of(path) == entry["sha256"] else "does not hold the bytes that were written (SHA-256 differs)"
        )
    try:
        with pa.ipc.open_file(pa.memory_map(str(path))) as file:
            if not file.schema.equals(token_schema(dtype)):
                return "has other columns than a token shard of this artifact"
            rows = sum(file.get_batch(number).num_rows for number in range(file.num_record_batches))
    except (pa.ArrowException, OSError) as error:
        return f"cannot be read: {error}"
    return "" if rows == entry["documents"] else f"has {rows} documents and was written with {entry['documents']}"


def _strangers(folder: Path, meta: Mapping[str, Any], splits: Sequence[str]) -> Iterator[Fault]:
    for split in splits:
        known = {entry["name"] for entry in _entries(meta, split)}
        for path in sorted((folder / split).glob("*")):
            if path.name not in known:
                yield Fault(f"{split}/{path.name}", "is no shard of this artifact")
