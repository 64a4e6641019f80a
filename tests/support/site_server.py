"""A website on loopback out of a dictionary, with validators, an access log, and pages that can change meanwhile.

Every address 127.0.0.x is a host of its own, so a crawl of several hosts needs no names. Run as a program it serves a
folder: `python site_server.py FOLDER PORT-FILE` writes its port there.
"""

from __future__ import annotations

import hashlib
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

_KINDS = {".xml": "application/xml", ".txt": "text/plain", ".json": "application/json", ".png": "image/png"}


@dataclass(frozen=True)
class Request:
    """One line of the access log; `at` is a reading of the monotonic clock, `sent` the bytes of the body."""

    host: str
    path: str
    at: float
    status: int
    sent: int
    agent: str


@dataclass
class Site:
    """What is served.

    Attributes:
        pages: Bodies by path, or by host and path ("127.0.0.2/a") where hosts differ.
        headers: Further headers, by the same keys.
        statuses: Statuses other than 200, by the same keys.
        delays: Seconds to wait before the answer, by the same keys.
        validators: Whether pages have an ETag and a Last-Modified.
        log: What was asked.
        port: Where.
    """

    pages: dict[str, bytes] = field(default_factory=dict)
    headers: dict[str, dict[str, str]] = field(default_factory=dict)
    statuses: dict[str, int] = field(default_factory=dict)
    delays: dict[str, float] = field(default_factory=dict)
    validators: bool = True
    log: list[Request] = field(default_factory=list)
    port: int = 0

    def url(self, path: str = "/", host: int = 1) -> str:
        """URL of a path on host 127.0.0.`host`."""
        return f"http://127.0.0.{host}:{self.port}{path}"

    def asked(self, *but: str) -> list[str]:
        """Paths asked for, in order, but for some."""
        return [request.path for request in self.log if request.path not in but]


@contextmanager
def serve_site(site: Site, port: int = 0) -> Iterator[Site]:
    """Serves a site while the block runs; its `port` is set."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True
        wbufsize = -1

        def do_GET(self) -> None:
            at = time.monotonic()
            host = self.headers.get("Host", "").partition(":")[0]
            path = self.path.partition("?")[0]
            key = next((key for key in (f"{host}{path}", path) if key in site.pages or key in site.statuses), path)
            body = site.pages.get(key)
            status = site.statuses.get(key, 404 if body is None else 200)
            headers = {"Content-Type": _KINDS.get(Path(path).suffix, "text/html; charset=utf-8")}
            if status == 200 and site.validators:
                headers["ETag"] = f'"{hashlib.sha1(body or b"").hexdigest()}"'
                if self.headers.get("If-None-Match") == headers["ETag"]:
                    status = 304
            body = b"" if status == 304 else body if status == 200 and body is not None else b"<p>nothing</p>"
            site.log.append(Request(host, self.path, at, status, len(body), self.headers.get("User-Agent", "")))
            time.sleep(site.delays.get(key, 0.0))
            self.send_response(status)
            for name, value in {**headers, **site.headers.get(key, {})}.items():
                self.send_header(name, value)
            if status != 304:
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
            self.wfile.flush()

        def log_message(self, format: str, *args: object) -> None:
            return

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        block_on_close = False
        request_queue_size = 128

        def handle_error(self, request: object, client_address: object) -> None:
            """Says nothing: a crawler that is killed breaks its connections."""

    server = Server(("0.0.0.0", port), Handler)
    site.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield site
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def folder_of_pages(folder: Path) -> dict[str, bytes]:
    """The files below a folder by path; `index.html` stands for its folder too."""
    pages: dict[str, bytes] = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            name = "/" + path.relative_to(folder).as_posix()
            pages[name] = path.read_bytes()
            if path.name == "index.html":
                pages[name.removesuffix("index.html")] = pages[name]
    return pages


if __name__ == "__main__":
    with serve_site(Site(folder_of_pages(Path(sys.argv[1])))) as served:
        Path(sys.argv[2]).write_text(str(served.port))
        while True:
            time.sleep(60)
            served.log.clear()
