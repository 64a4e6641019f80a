"""The files that a list of paths (`source.paths`) names, wherever they lie, and one word for what they hold.

A file is known by its name below the folder or glob that found it, never by where that lies: moving a corpus changes
neither rows nor keys. Local files are opened as such, all else through fsspec (S3, GCS, Azure ...), which asks for the
package of that store when it is first used.
"""

from __future__ import annotations

import glob
import hashlib
import io
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, BinaryIO, cast

from components.errors import ConfigError, MachineError, StepError

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

_TEXT = (".jsonl", ".ndjson", ".json", ".txt", ".md")
ENDINGS = {
    "warc": (".warc.gz", ".warc", ".warc.zst"),
    "files": (*(name + packing for name in _TEXT for packing in ("", ".gz", ".zst")), ".parquet"),
}
"""Endings of the files that each step reads."""

_WHOLE_BYTES = 64 << 20
_EDGE_BYTES = 1 << 20
_BUFFER_BYTES = 1 << 20
_MARKS = ("ETag", "etag", "md5Hash", "content_md5", "crc32c", "checksum", "sha256")
_TIMES = ("LastModified", "mtime", "updated", "last_modified", "created")
_GLOB = "*?["


@dataclass(frozen=True)
class Source:
    """One file to read.

    Attributes:
        url: Local path or fsspec URL.
        name: Name below the folder or glob that found it, with slashes.
        size: Its bytes; -1 if the store does not say.
        mark: What changes when its content does.
    """

    url: str
    name: str
    size: int
    mark: str

    @property
    def is_local(self) -> bool:
        """Whether it lies on a disk of this machine."""
        return "://" not in self.url


def find_sources(paths: Sequence[str], kind: str) -> list[Source]:
    """The files that some paths name, each once, by name and content: the same list in whatever order they are given.

    Args:
        paths: Files, folders (searched through), globs or fsspec URLs.
        kind: "warc" or "files": files with other endings are passed over.

    Raises:
        ConfigError: If a path names no such file.
        MachineError: If the package for a kind of store is missing.
    """
    if not paths:
        raise ConfigError("No input is named.", where="source.paths", fix="set source.paths=[/data/corpus/*]")
    found: dict[str, Source] = {}
    for path in paths:
        sources = _remote(path, ENDINGS[kind]) if "://" in path else _local(path, ENDINGS[kind])
        if not sources:
            raise ConfigError(
                f"{path} names no file that can be read.",
                where="source.paths",
                fix=f"check the path; known endings are {', '.join(ENDINGS[kind])}",
            )
        found.update((source.url, source) for source in sources)
    return sorted(found.values(), key=lambda source: (source.name, source.mark, source.url))


def fingerprint(paths: Sequence[str], kind: str) -> str:
    """One word for the names and contents of all files some paths name; where they lie does not enter.

    A local file of up to 64 MiB is hashed whole; of a larger one size, time of change, first and last MiB count, so
    that a plan over a terabyte is made at once. Of a remote one counts what the store says: ETag or checksum, else size
    and time.

    Args:
        paths: See `find_sources`.
        kind: See `find_sources`.

    Raises:
        ConfigError: If a path names no file.
    """
    return _word_for(find_sources(paths, kind))


def check_unchanged(planned: str, sources: Sequence[Source]) -> str:
    """The fingerprint of the files as they are.

    Raises:
        StepError: If the run was planned over others.
    """
    now = _word_for(sources)
    if planned and planned != now:
        raise StepError(
            "The input files have changed since the run was planned.",
            where="source.paths",
            fix="run again, when nobody writes to them any more",
        )
    return now


def _word_for(sources: Sequence[Source]) -> str:
    marks = sorted((source.name, source.mark) for source in sources)
    return hashlib.sha256(repr(marks).encode()).hexdigest()[:32]


@contextmanager
def open_source(source: Source) -> Iterator[BinaryIO]:
    """Opens a file for reading, seekable.

    Raises:
        StepError: If it cannot be opened.
    """
    if source.is_local:
        with Path(source.url).open("rb") as file:
            yield file
        return
    files, path = _file_system(source.url)
    with files.open(path, "rb") as file:
        # fsspec's own `readline` knows no limit; Python's does.
        yield cast(BinaryIO, io.BufferedReader(file, _BUFFER_BYTES))


def _local(path: str, endings: Sequence[str]) -> list[Source]:
    plain = Path(path).absolute()
    if plain.is_dir():
        found = [(one, one.relative_to(plain).as_posix()) for one in plain.rglob("*") if one.is_file()]
    elif plain.is_file():
        found = [(plain, plain.name)]
    else:
        fixed = _fixed_part(PurePosixPath(plain))
        files = (Path(one) for one in glob.glob(str(plain), recursive=True))
        found = [(one, one.relative_to(fixed).as_posix()) for one in files if one.is_file()]
    wanted = [(one, name) for one, name in found if name.lower().endswith(tuple(endings)) and not _hidden(name)]
    return [Source(str(one), name, one.stat().st_size, _mark(one)) for one, name in wanted]


def _hidden(name: str) -> bool:
    """Left by editors, downloads and our own unfinished writes."""
    return any(part.startswith(".") for part in name.split("/"))


def _fixed_part(path: PurePosixPath) -> PurePosixPath:
    """The folders before the first that holds a wildcard."""
    parts = list(path.parts)
    first = next((number for number, part in enumerate(parts) if any(char in part for char in _GLOB)), len(parts) - 1)
    return PurePosixPath(*parts[:first])


def _mark(path: Path) -> str:
    """The digest of a file, or of what of a large one can be read at once."""
    digest = hashlib.sha256()
    size = path.stat().st_size
    with path.open("rb") as file:
        if size <= _WHOLE_BYTES:
            return hashlib.file_digest(file, "sha256").hexdigest()
        digest.update(f"{size} {path.stat().st_mtime_ns}".encode())
        digest.update(file.read(_EDGE_BYTES))
        file.seek(-_EDGE_BYTES, os.SEEK_END)
        digest.update(file.read(_EDGE_BYTES))
    return digest.hexdigest()


def _remote(url: str, endings: Sequence[str]) -> list[Source]:
    files, path = _file_system(url)
    scheme = url.partition("://")[0]
    try:
        if any(char in path for char in _GLOB):
            paths, below = files.glob(path), str(_fixed_part(PurePosixPath(path)))
        elif files.isdir(path):
            paths, below = files.find(path), path
        else:
            paths, below = ([path] if files.exists(path) else []), str(PurePosixPath(path).parent)
        found = [Source(*_described(files, scheme, one, below)) for one in paths if not files.isdir(one)]
    except (OSError, ValueError) as error:
        raise StepError(
            f"{url} cannot be listed: {error}.", "source.paths", "check the URL and the access to it"
        ) from error
    return [one for one in found if one.name.lower().endswith(tuple(endings)) and not _hidden(one.name)]


def _described(files: AbstractFileSystem, scheme: str, path: str, below: str) -> tuple[str, str, int, str]:
    about = files.info(path)
    name = PurePosixPath(path)
    folder = PurePosixPath(below)
    short = name.relative_to(folder) if name.is_relative_to(folder) else PurePosixPath(name.name)
    marks = [str(about[key]) for key in _MARKS if about.get(key)] or [str(about[key]) for key in _TIMES if key in about]
    size = about.get("size")
    return f"{scheme}://{path.lstrip('/')}", short.as_posix(), -1 if size is None else int(size), f"{size} {marks[:1]}"


def _file_system(url: str) -> tuple[AbstractFileSystem, str]:
    from fsspec.core import url_to_fs

    try:
        files, path = url_to_fs(url)
    except ImportError as error:
        raise MachineError(f"{url} needs a package: {error}.", "source.paths", "install it (for S3: s3fs)") from error
    except ValueError as error:
        raise ConfigError(
            f"{url} is of no known kind: {error}.", "source.paths", "use s3://, gs://, az:// or a path"
        ) from error
    return files, str(path)
