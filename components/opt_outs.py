"""The opt-out list: hosts, pages and documents whose owners want no part in a corpus.

A text file, one entry a line, "#" begins a remark:
    example.org                          the host and all hosts below it
    https://example.org/private/         the page and all pages below it, by http or https
    3f9a12c4d5e6f708192a3b4c5d6e7f80     one document by its id: this very version of it

`headwater data forget --apply` writes it into the workspace, the crawler and the step `clean` read it: the one asks for
nothing that is listed, the other drops what was collected before it was.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from components.crawl.urls import normalise
from components.errors import ConfigError

FILE = "opt_out.txt"
"""Its name in a workspace."""
_ID = re.compile(r"[0-9a-f]{32}")


class OptOuts:
    """What an opt-out list covers.

    Args:
        entries: Its entries, without remarks.

    Raises:
        ConfigError: If one is no host, no URL and no id.
    """

    def __init__(self, entries: Iterable[str]) -> None:
        self._ids: dict[bytes, str] = {}
        self._hosts: dict[str, str] = {}
        self._places: dict[str, str] = {}
        for entry in entries:
            if _ID.fullmatch(entry.lower()):
                self._ids[bytes.fromhex(entry)] = entry
            elif "/" in entry:
                self._places[_place(entry, entry if "://" in entry else f"http://{entry}")] = entry
            else:
                self._hosts[_place(entry, f"http://{entry.removeprefix('*.').strip('.')}/").rstrip("/")] = entry

    def __bool__(self) -> bool:
        return bool(self._ids or self._hosts or self._places)

    def entry_for(self, url: str, doc_id: bytes = b"") -> str:
        """The entry that covers a document; empty if none does.

        Args:
            url: Its URL, normalised, or the key of the row it was read from.
            doc_id: Its id.
        """
        if not self:
            return ""
        if doc_id in self._ids:
            return self._ids[doc_id]
        scheme, _, place = url.partition("://")
        if scheme not in ("http", "https"):
            return ""
        for host in _hosts_of(place.partition("/")[0]):
            if host in self._hosts:
                return self._hosts[host]
        return next((entry for prefix, entry in self._places.items() if is_below(place, prefix)), "")


def read_entries(path: Path) -> list[str]:
    """The entries of a list.

    Raises:
        ConfigError: If it cannot be read as text.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeError) as error:
        raise ConfigError(f"the opt-out list cannot be read: {error}.", str(path), "give a UTF-8 text file") from None
    return [entry for line in lines if (entry := line.partition("#")[0].strip())]


def is_below(place: str, prefix: str) -> bool:
    """Whether a URL without its scheme is another one, or lies below it."""
    return place.startswith(prefix) and (prefix.endswith("/") or place[len(prefix) :][:1] in ("", "/", "?"))


def _hosts_of(host: str) -> Iterator[str]:
    """A host with its port, without it, and every domain that it is in."""
    yield host
    name = host.rpartition(":")[0] or host
    while name:
        yield name
        name = name.partition(".")[2]


def _place(entry: str, url: str) -> str:
    """A URL without its scheme, in the one spelling."""
    found = normalise(url)
    if found is None:
        raise ConfigError(f"{entry} is no host, no URL and no id.", "the opt-out list", "write example.org, or a URL")
    return found.partition("://")[2]
