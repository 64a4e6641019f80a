"""The place a store lives in, as five operations on relative names; the only module that knows what kind it is.

This cut supports local folders (and what is mounted as one) through fsspec's local file system. An object store joins
by implementing the same operations: `create` is then a conditional put, and `local` a staging folder.
"""

from __future__ import annotations

import os
from pathlib import Path

from components.errors import ConfigError, MachineError
from components.publish import publish_new


class Root:
    """A local folder given as a path or as a `file://` URL.

    Args:
        url: Where the store is. The folder is made, readable by its owner alone, if it is missing.

    Raises:
        ConfigError: If the URL is of another kind.
        MachineError: If the folder cannot be made or written.
    """

    def __init__(self, url: str | Path) -> None:
        from fsspec.core import url_to_fs

        text = os.fspath(url)
        protocol = text.partition("://")[0] if "://" in text else "file"
        if protocol not in ("file", "local"):
            raise ConfigError(
                f"The store {text} is of kind {protocol}; this version keeps artifacts in folders.",
                "store",
                "set store to a folder, for a cluster one that all nodes mount",
            )
        self.files, path = url_to_fs(text if "://" in text else os.path.abspath(os.path.expanduser(text)))
        self.path = Path(path)
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

    def local(self, name: str) -> Path:
        """The path under which this machine's processes read and write a name."""
        return self.path / name

    def create(self, name: str, content: bytes) -> bool:
        """Creates a file only if none is there; whole or not at all. True if this call did it."""
        return publish_new(self.path / name, content)

    def read(self, name: str) -> bytes | None:
        """The bytes of a file; None if there is none."""
        try:
            content: bytes = self.files.cat_file(str(self.path / name))
        except (FileNotFoundError, NotADirectoryError):
            return None
        return content

    def size(self, name: str) -> int | None:
        """The size of a file in bytes; None if there is none."""
        try:
            return int(self.files.size(str(self.path / name)))
        except (FileNotFoundError, NotADirectoryError):
            return None

    def newest_first(self, pattern: str) -> list[str]:
        """Names that match a glob pattern, the most recently written first."""
        found = self.files.glob(str(self.path / pattern), detail=True)
        ranked = sorted(found.items(), key=lambda item: (item[1]["mtime"], item[0]), reverse=True)
        return [str(Path(path).relative_to(self.path)) for path, _ in ranked]

    def set_aside(self, name: str, new_name: str) -> None:
        """Moves a file out of the way."""
        self.files.mv(str(self.path / name), str(self.path / new_name))

    def remove(self, name: str) -> None:
        """Deletes a file or a whole folder; nothing happens if it is gone."""
        path = str(self.path / name)
        if self.files.exists(path):
            self.files.rm(path, recursive=True)
