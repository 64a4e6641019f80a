"""The place a store lives in, as a few operations on relative names; the only module that knows what kind it is.

A folder and an object store differ in one thing that matters: how a name is created by exactly one of several writers.
A folder does it with a hard link of a whole file, S3 with a conditional PUT (If-None-Match). Not every server that
speaks S3 honours that condition, so the first creation in a bucket proves it, and a bucket that fails is refused.
Nothing is ever renamed and no listing is kept, so what one process created the next one sees. `put` overwrites and,
unless asked to be durable, may be lost when a machine goes down at that moment: it is for heartbeats and indexes,
never for what a commit rests on.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import threading
import time
import uuid
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from components.errors import ConfigError, HeadwaterError, MachineError, disk_full
from components.publish import flush, publish_bytes, publish_new

PROTOCOLS = ("file", "local", "s3", "memory")
PROBE = "exclusive-create.probe"
CONFLICT_S = 10.0
"""How long S3 may go on answering that another creation of a name is under way."""

_ONE_AT_A_TIME = threading.RLock()
"""fsspec's memory file system looks and creates in two steps; threads of a test must not come in between."""


class Root(Protocol):
    """Operations on names such as "artifacts/clean/1f/000001.json"; folders exist as soon as a name in them does."""

    url: str

    def create(self, name: str, content: bytes) -> bool:
        """Creates a file only if none is there; whole, durable, or not at all.

        Returns:
            True if the name now holds what this call brought. A request may be sent twice when its answer got lost,
            so the same content counts as this call's; where several writers compete, each brings its own.
        """

    def put(self, name: str, content: bytes, *, durable: bool = False) -> None:
        """Writes a file, whole, over whatever is there."""

    def read(self, name: str) -> bytes | None:
        """The bytes of a file; None if there is none."""

    def children(self, folder: str) -> list[str]:
        """Names directly in a folder, files and folders alike; empty if there is none."""

    def sizes(self, folder: str) -> dict[str, int]:
        """Sizes in bytes of all files below a folder, by path from it."""

    def changed(self, folder: str, depth: int) -> dict[str, float]:
        """Unix times at which the files at most `depth` names below a folder were written, by path from it."""

    def remove(self, name: str) -> None:
        """Deletes a file or a whole folder; nothing happens if it is gone."""


class Folder:
    """A local folder, or one that is mounted as such.

    Args:
        path: The folder; made, readable by its owner alone, if it is missing.

    Raises:
        MachineError: If the folder cannot be made or written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.url = str(path)
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise MachineError(
                f"The store folder {self.path} cannot be made: {error.strerror}.",
                "store",
                "set store to another folder",
            ) from None
        if not os.access(self.path, os.W_OK):
            raise MachineError(f"The store {self.path} is read-only.", "store", f"chmod u+w {self.path}, or set store")

    def create(self, name: str, content: bytes) -> bool:
        """See `Root.create`."""
        path = self.path / name
        with writing(path):
            make_folder(path.parent)
            return publish_new(path, content) or self.read(name) == content

    def put(self, name: str, content: bytes, *, durable: bool = False) -> None:
        """See `Root.put`."""
        path = self.path / name
        with writing(path):
            if durable:
                publish_bytes(path, content)
                return
            temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                temporary.write_bytes(content)
                os.replace(temporary, path)
            finally:
                temporary.unlink(missing_ok=True)

    def read(self, name: str) -> bytes | None:
        """See `Root.read`."""
        try:
            return (self.path / name).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def children(self, folder: str) -> list[str]:
        """See `Root.children`."""
        try:
            return sorted(name for name in os.listdir(self.path / folder) if not name.startswith("."))
        except (FileNotFoundError, NotADirectoryError):
            return []

    def sizes(self, folder: str) -> dict[str, int]:
        """See `Root.sizes`."""
        return {name: found.st_size for name, found in self._stats(folder, depth=1 << 30).items()}

    def changed(self, folder: str, depth: int) -> dict[str, float]:
        """See `Root.changed`; files that are still being written (".name.tmp") are among them."""
        return {name: found.st_mtime for name, found in self._stats(folder, depth).items()}

    def remove(self, name: str) -> None:
        """See `Root.remove`."""
        path = self.path / name
        with writing(path):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, onerror=_unless_gone)
            else:
                path.unlink(missing_ok=True)

    def _stats(self, folder: str, depth: int) -> dict[str, os.stat_result]:
        base = self.path / folder
        found = {}
        for parent, folders, names in os.walk(base):
            if len(Path(parent).relative_to(base).parts) + 1 >= depth:
                folders.clear()
            for name in names:
                path = Path(parent, name)
                with contextlib.suppress(FileNotFoundError):  # deleted since it was listed
                    found[path.relative_to(base).as_posix()] = path.stat()
        return found


class Bucket:
    """A prefix of an object store, through fsspec.

    Args:
        url: Such as "s3://bucket/prefix"; credentials and endpoint come from the usual AWS settings.

    Raises:
        MachineError: If it cannot be reached.
    """

    def __init__(self, url: str) -> None:
        from fsspec.core import url_to_fs

        self.url = url.rstrip("/")
        self._is_memory = self.url.startswith("memory:")
        self._proven = self._is_memory
        with self._reaching("open"):
            try:
                self._files, self._base = url_to_fs(self.url, use_listings_cache=False)
                if not self._is_memory:
                    bucket, _, prefix = self._base.partition("/")
                    self._files.call_s3("list_objects_v2", Bucket=bucket, Prefix=prefix, MaxKeys=1)
            except ImportError:
                raise MachineError(
                    "Stores in S3 need the package s3fs.", f"store={self.url}", "pip install 'headwater[s3]'"
                ) from None
            except FileNotFoundError:
                raise MachineError(
                    f"The store {self.url} does not exist.", "store", "create the bucket, or correct store=..."
                ) from None

    def create(self, name: str, content: bytes) -> bool:
        """See `Root.create`.

        Raises:
            MachineError: If the store cannot be reached, or gives a name to more than one writer.
        """
        self.prove_exclusive()
        return self._create(name, content)

    def put(self, name: str, content: bytes, *, durable: bool = False) -> None:
        """See `Root.put`; an object store is always durable."""
        del durable
        with self._reaching(name):
            self._files.pipe_file(self._path(name), content)

    def read(self, name: str) -> bytes | None:
        """See `Root.read`."""
        with self._reaching(name):
            try:
                content: bytes = self._files.cat_file(self._path(name))
            except FileNotFoundError:
                return None
            return content

    def children(self, folder: str) -> list[str]:
        """See `Root.children`."""
        with self._reaching(folder):
            try:
                listed: list[str] = self._files.ls(self._path(folder), detail=False)
            except FileNotFoundError:
                return []
            return sorted(path.rstrip("/").rpartition("/")[2] for path in listed)

    def sizes(self, folder: str) -> dict[str, int]:
        """See `Root.sizes`."""
        return {name: int(info["size"]) for name, info in self._infos(folder).items()}

    def changed(self, folder: str, depth: int) -> dict[str, float]:
        """See `Root.changed`."""
        infos = self._infos(folder)
        return {name: _written(info) for name, info in infos.items() if name.count("/") < depth}

    def remove(self, name: str) -> None:
        """See `Root.remove`."""
        with self._reaching(name), contextlib.suppress(FileNotFoundError):
            self._files.rm(self._path(name), recursive=True)

    def upload(self, path: Path, name: str) -> None:
        """Writes a local file to a name."""
        with self._reaching(name):
            self._files.put_file(str(path), self._path(name))

    def download(self, name: str, path: Path) -> None:
        """Writes a name to a local file.

        Raises:
            FileNotFoundError: If there is none.
        """
        with self._reaching(name):
            self._files.get_file(self._path(name), str(path))

    def prove_exclusive(self) -> None:
        """Finds out, once in a process, whether this store creates a name for one writer only.

        Raises:
            MachineError: If it does not; artifacts could then be published twice.
        """
        if self._proven:
            return
        tries = (uuid.uuid4().hex.encode(), uuid.uuid4().hex.encode())
        try:
            refused = not all(self._create(PROBE, content) for content in tries)
        except MachineError as error:
            if _http_status(error) != 501:
                raise
            refused = False  # "not implemented"
        if not refused:
            raise MachineError(
                f"The store {self.url} lets two writers create one name: its server ignores If-None-Match.",
                "store",
                "use S3 itself, a server that honours conditional PUT, or a folder",
            )
        self._proven = True

    def _create(self, name: str, content: bytes) -> bool:
        deadline = time.monotonic() + CONFLICT_S
        while True:
            try:
                with self._reaching(name):
                    self._files.pipe_file(self._path(name), content, mode="create")
                return True
            except FileExistsError:
                return self.read(name) == content
            except MachineError as error:
                status = _http_status(error)
                if status == 412:  # not every server names the condition that failed, which s3fs goes by
                    return self.read(name) == content
                if status != 409 or time.monotonic() > deadline:  # 409: another creation is just under way
                    raise
                time.sleep(0.05)

    def _path(self, name: str) -> str:
        return f"{self._base}/{name}"

    def _infos(self, folder: str) -> dict[str, dict[str, Any]]:
        base = self._path(folder)
        with self._reaching(folder):
            found: dict[str, dict[str, Any]] = self._files.find(base, detail=True)
        return {path[len(base) + 1 :]: info for path, info in found.items() if path.startswith(f"{base}/")}

    @contextlib.contextmanager
    def _reaching(self, name: str) -> Iterator[None]:
        """Every back end has errors of its own; but for a missing and an existing file all mean that it is no use."""
        try:
            with _ONE_AT_A_TIME if self._is_memory else contextlib.nullcontext():
                yield
        except (FileNotFoundError, FileExistsError, HeadwaterError):
            raise
        except Exception as error:
            reason = str(error).strip().partition("\n")[0] or type(error).__name__
            raise MachineError(
                f"The store {self.url} cannot be reached or used: {reason}",
                name,
                "check the URL, AWS_ENDPOINT_URL, the credentials and their rights, and run again",
            ) from error


def open_root(url: str | os.PathLike[str]) -> Folder | Bucket:
    """Opens a folder given as a path or `file://` URL, or an object store given as a URL.

    Raises:
        ConfigError: If the URL is of a kind that is not supported.
        MachineError: If it cannot be reached or written.
    """
    text = os.fspath(url)
    protocol, separator, rest = text.partition("://")
    if not separator:
        return Folder(Path(os.path.abspath(os.path.expanduser(text))))
    if protocol not in PROTOCOLS:
        raise ConfigError(
            f"The store {text} is of kind {protocol}; artifacts are kept in folders and in S3.",
            "store",
            "set store to a folder or to s3://bucket/prefix",
        )
    if protocol in ("file", "local"):
        return Folder(Path(rest if rest.startswith("/") else f"/{rest}"))
    return Bucket(text)


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Tells in a sentence that a disk is full or may not be written; other errors rise as they are."""
    try:
        yield
    except OSError as error:
        full = disk_full(error)
        if full is not None:
            raise MachineError(full.what, str(error.filename or path), full.fix) from error
        if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
            raise MachineError(
                f"The store cannot be written: {error.strerror}.",
                str(error.filename or path),
                "make it writable for this user, or set store to another folder",
            ) from error
        raise


def make_folder(path: Path) -> None:
    """Makes a folder and its parents so that they outlive a power cut, as what will be flushed in them must."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for folder in missing:
        flush(folder.parent)


def _unless_gone(_: object, __: str, problem: tuple[type[BaseException], BaseException, object]) -> None:
    """Two may delete the same folder at once."""
    if not isinstance(problem[1], FileNotFoundError):
        raise problem[1]


def _written(info: dict[str, Any]) -> float:
    moment = info.get("LastModified", info.get("created"))
    return moment.timestamp() if isinstance(moment, datetime) else float(moment or 0.0)


def _http_status(error: BaseException | None) -> int | None:
    """The status of the answer that is behind an error; None if there was none."""
    while error is not None:
        response = getattr(error, "response", None)
        if isinstance(response, dict):
            return int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)) or None
        error = error.__cause__
    return None
