"""Serves the sample website on loopback, on a free port, misbehaving where `behaviours.json` says so.

A thread per connection from the standard library: the crawler keeps a handful of connections open, so that is cheap,
and a slow page holds up nobody but the one who asked. Files are read once and kept.
"""

from __future__ import annotations

import math
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.utils import formatdate
from functools import cached_property
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

from components.publish import read_json
from components.sample.step import file_of

_KINDS = {
    ".html": "text/html; charset=utf-8",
    ".txt": "text/plain; charset=utf-8",
    ".css": "text/css",
    ".xml": "application/xml",
    ".gz": "application/gzip",
}


@dataclass(frozen=True)
class Hit:
    """One request in the access log.

    Attributes:
        path: Path with query, as requested.
        time: `time.monotonic()` at which the request had been read.
        status: Status answered.
        host: The Host header.
        agent: The User-Agent header.
    """

    path: str
    time: float
    status: int
    host: str
    agent: str


@contextmanager
def serve(folder: Path, log: list[Hit] | None = None) -> Iterator[int]:
    """Serves a site artifact while the block runs.

    Args:
        folder: Artifact of the step `site`: `www/` and `behaviours.json`.
        log: Gets one entry for each request.

    Yields:
        The port on 127.0.0.1.
    """
    server = _Server(folder, [] if log is None else log)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.closing.set()
        server.shutdown()
        server.server_close()
        thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, folder: Path, log: list[Hit]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.root = (folder / "www").resolve()
        self.behaviours = read_json(folder / "behaviours.json")
        self.log = log
        self.closing = threading.Event()
        self._kept: dict[str, bytes | None] = {}
        self._requests: Counter[str] = Counter()
        self._lock = threading.Lock()

    def behaviour(self, path: str) -> dict[str, object]:
        """How this request to a path is to misbehave."""
        found = self.behaviours.get(path)
        if not isinstance(found, dict):
            return {}
        with self._lock:
            self._requests[path] += 1
            return {} if self._requests[path] > found.get("times", math.inf) else found

    def content(self, path: str) -> bytes | None:
        """The bytes behind a URL path; None if there are none."""
        if path not in self._kept:
            target = (self.root / file_of(unquote(path))).resolve()
            inside = target.is_relative_to(self.root)
            self._kept[path] = target.read_bytes() if inside and target.is_file() else None
        return self._kept[path]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "Riverbank"
    disable_nagle_algorithm = True
    wbufsize = -1
    server: _Server

    @cached_property
    def _date(self) -> str:
        return formatdate(usegmt=True)

    def do_GET(self) -> None:
        """Answers one request as the files and the behaviours have it."""
        arrived = time.monotonic()
        path = urlsplit(self.path).path
        settings = self.server.behaviour(path)
        self.server.closing.wait(_number(settings.get("delay_s")))
        content = self.server.content(path)
        headers = self._headers(path, settings)
        status = int(_number(settings.get("status"))) or (
            HTTPStatus.OK if content is not None else HTTPStatus.NOT_FOUND
        )
        if status == HTTPStatus.OK and "ETag" in headers and self.headers.get("If-None-Match") == headers["ETag"]:
            status, content = HTTPStatus.NOT_MODIFIED, b""
        if content is None:
            content, headers["Content-Type"] = f"<h1>{status}</h1>\n".encode(), "text/html; charset=utf-8"
        log = Hit(self.path, arrived, int(status), self.headers.get("Host", ""), self.headers.get("User-Agent", ""))
        self.server.log.append(log)
        self._send(int(status), headers, content)

    def do_HEAD(self) -> None:
        """As `do_GET`, without the body."""
        self.do_GET()

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing: the access log is the list given to `serve`."""

    def _headers(self, path: str, settings: dict[str, object]) -> dict[str, str]:
        headers = {"Content-Type": _KINDS.get(Path(path).suffix, _KINDS[".html"])}
        given = settings.get("headers")
        return headers | ({name: str(value) for name, value in given.items()} if isinstance(given, dict) else {})

    def _send(self, status: int, headers: dict[str, str], content: bytes) -> None:
        self.send_response_only(status)
        self.send_header("Date", self._date)
        for name, value in headers.items():
            self.send_header(name, value)
        if status != HTTPStatus.NOT_MODIFIED:
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD" and status != HTTPStatus.NOT_MODIFIED:
            self.wfile.write(content)


def _number(value: object) -> float:
    return float(value) if isinstance(value, (int, float)) else 0.0
