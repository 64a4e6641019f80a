"""A web server out of raw sockets that does all that servers must not do, each trick under a URL of its own.

One loopback address is a site: `MAIN` has the tricks that one answer can play, others have a bad robots.txt or a trap
that needs a site to itself. Every site has good pages beside them (`/good/<n>`), which a crawler must still get.

    with hostile_server() as server:
        crawl http://{server.main}/ with hosts server.hosts

A trick is bytes, sent as they are before the connection closes, or a function that does with the connection what it
likes.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import socket
import struct
import threading
import zlib
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

GOOD_PAGES = 5
HTML = "Content-Type: text/html; charset=utf-8"


@dataclass(frozen=True)
class Request:
    """What was asked: path with query, host with port, headers in lower case, how often this path was asked before."""

    path: str
    host: str
    headers: dict[str, str]
    number: int

    @property
    def port(self) -> str:
        return self.host.rpartition(":")[2]


Respond = Callable[[Request, asyncio.StreamWriter], Awaitable[None]]


@dataclass(frozen=True)
class Trick:
    """One thing a server does.

    Attributes:
        path: Where.
        answer: What is sent, or what sends it.
        fates: What may become of the URL, as the frontier has it: "state reason".
        also: Further URLs (paths, or whole ones with {port}) and what becomes of them.
        linked: Whether the main page links to it.
    """

    path: str
    answer: bytes | Respond
    fates: tuple[str, ...]
    also: dict[str, str] = field(default_factory=dict)
    linked: bool = True


def page(body: bytes | str = b"<p>page</p>", *headers: str, status: str = "200 OK", length: int | None = None) -> bytes:
    """A whole answer with a Content-Length, and HTML unless other headers are given."""
    content = body.encode() if isinstance(body, str) else body
    lines = [
        f"HTTP/1.1 {status}",
        *(headers or (HTML,)),
        f"Content-Length: {len(content) if length is None else length}",
    ]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + content


def head(*headers: str, status: str = "200 OK") -> bytes:
    """An answer's head, without any Content-Length."""
    return "\r\n".join([f"HTTP/1.1 {status}", *(headers or (HTML,))]).encode("latin-1") + b"\r\n\r\n"


def redirect(location: str) -> bytes:
    return page(b"", f"Location: {location}", status="302 Found")


def _bomb(pack: Callable[[bytes], bytes], mebibytes: int = 16) -> bytes:
    return pack(bytes(mebibytes << 20))


def _forever(first: bytes, again: bytes, every_s: float = 0.0) -> Respond:
    async def respond(request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(first)
        while True:
            writer.write(again)
            await writer.drain()
            await asyncio.sleep(every_s)

    return respond


async def _silent(request: Request, writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(3600)


async def _half_head(request: Request, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text")
    await asyncio.sleep(3600)


def _reset(first: bytes) -> Respond:
    async def respond(request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(first)
        await writer.drain()
        await asyncio.sleep(0.05)
        found = writer.get_extra_info("socket")
        found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()

    return respond


def _on(make: Callable[[Request], bytes]) -> Respond:
    async def respond(request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(make(request))

    return respond


def _links(*targets: str) -> bytes:
    return page("".join(f'<a href="{target}">x</a>' for target in targets))


CHUNKED = "Transfer-Encoding: chunked"
NETWORK, TIMEOUT, LARGE = "failed network", "failed timeout", "refused too large"
ENCODING, FETCHED = "failed content encoding", "fetched"
DEEP = b"<div>" * 100_000 + b"<a href=/good/0>x</a>"
MANY_LINKS = b"".join(b"<a href=//x.test/%d>" % number for number in range(100_000))
GIANT_TAG = b"<a " + b" ".join(b"x%d=y" % number for number in range(250_000)) + b">"
GIANT_LINKS = b"".join(b"<a href=/%s>" % (b"x" * 500_000) for number in range(5)) + b"<a href=/good/1>"


def _answers() -> list[Trick]:
    """Tricks of one answer."""
    zipped = gzip.compress(b"<p>zipped</p>" * 50)
    plain = {
        # Too slow, too long.
        "slow-body": (_forever(head(), b"x", 0.05), TIMEOUT),
        "slow-head": (_forever(b"HTTP/1.1 200 OK\r\nX: ", b"x", 0.05), TIMEOUT),
        "silent": (_silent, TIMEOUT),
        "half-head": (_half_head, TIMEOUT),
        # Cut off by size or by time, whichever a busy machine comes to first.
        "endless-body": (_forever(head(), b"x" * 65_536), (LARGE, TIMEOUT)),
        "endless-chunks": (_forever(head(HTML, CHUNKED), b"10000\r\n" + b"x" * 65_536 + b"\r\n"), (LARGE, TIMEOUT)),
        "endless-headers": (_forever(b"HTTP/1.1 200 OK\r\n", b"X-Header: value\r\n" * 100), NETWORK),
        "endless-informational": (_forever(b"", b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" * 50, 0.01), TIMEOUT),
        "giant-header": (page(b"x", HTML, "X: " + "y" * 1_000_000), NETWORK),
        "many-headers": (page(b"x", HTML, *(f"X-{number}: y" for number in range(1000))), FETCHED),
        "declares-a-terabyte": (page(b"x", length=10**12), LARGE),
        # Bodies that grow.
        "gzip-bomb": (page(_bomb(gzip.compress), HTML, "Content-Encoding: gzip"), LARGE),
        "deflate-bomb": (page(_bomb(zlib.compress), HTML, "Content-Encoding: deflate"), LARGE),
        "nested-bomb": (
            page(gzip.compress(_bomb(gzip.compress)), HTML, "Content-Encoding: gzip, gzip"),
            LARGE,
        ),
        "four-encodings": (page(zipped, HTML, "Content-Encoding: " + "gzip, " * 3 + "gzip"), ENCODING),
        "encoding-nobody-offered": (page(b"\x0b\x02\x80", HTML, "Content-Encoding: br"), ENCODING),
        "encoding-of-another-name": (page(b"x", HTML, "Content-Encoding: utf-8"), ENCODING),
        "gzip-that-is-none": (page(b"<p>plain</p>", HTML, "Content-Encoding: gzip"), ENCODING),
        "gzip-with-a-tail": (page(zipped + b"garbage", HTML, "Content-Encoding: gzip"), FETCHED),
        "raw-deflate": (page(zlib.compress(b"<p>x</p>")[2:-4], HTML, "Content-Encoding: deflate"), FETCHED),
        # Lies about the length.
        "longer-than-declared": (page(b"<p>page and more</p>", length=8), FETCHED),
        "shorter-than-declared": (page(b"<p>page</p>", length=5000), NETWORK),
        "negative-length": (page(b"x", length=-5), NETWORK),
        "length-that-is-none": (page(b"x", HTML, "Content-Length: many"), NETWORK),
        "two-lengths": (page(b"xx", HTML, "Content-Length: 1"), NETWORK),
        "length-and-chunks": (page(b"2\r\nhi\r\n0\r\n\r\n", HTML, CHUNKED), (FETCHED, NETWORK)),
        "no-length": (head() + b"<p>until the end</p>", FETCHED),
        # Lies about the kind.
        "picture-called-html": (page(b"\x89PNG\r\n\x1a\n" + bytes(range(256))), FETCHED),
        "html-called-picture": (page(b"<p>x", "Content-Type: image/png"), "refused content type"),
        "charset-that-is-another": (page("<p>中文</p>".encode("gbk")), FETCHED),
        "charset-nobody-knows": (page(b"<p>x", "Content-Type: text/html; charset=klingon"), FETCHED),
        "charset-that-is-a-codec": (page(b"<p>x", "Content-Type: text/html; charset=zip"), FETCHED),
        "no-content-type": (page(b"<p>x", "X: y"), FETCHED),
        "type-beyond-ascii": (page(b"<p>x", "Content-Type: t\xe9xt/html"), "refused content type"),
        # Heads.
        "bad-status-line": (b"HELLO\r\n\r\n", NETWORK),
        "http-0.9": (b"<html><p>no head at all</p></html>", NETWORK),
        "http-2-preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", NETWORK),
        "status-of-two-digits": (b"HTTP/1.1 20 OK\r\n\r\n", NETWORK),
        "status-999": (page(b"x", status="999 Denied"), ("failed status 999", NETWORK)),
        "status-without-a-phrase": (b"HTTP/1.1 200\r\nContent-Length: 1\r\n\r\nx", FETCHED),
        "phrase-beyond-ascii": (page(b"x", status="200 \xe9\xff"), (FETCHED, NETWORK)),
        "bare-line-feeds": (b"HTTP/1.1 200 OK\nContent-Length: 1\n\nx", (FETCHED, NETWORK)),
        "header-without-a-colon": (page(b"x", HTML, "no colon here"), NETWORK),
        "header-with-nul": (page(b"x", HTML, "X: a\x00b"), NETWORK),
        "folded-header": (page(b"x", HTML, "X: a\r\n b"), (FETCHED, NETWORK)),
        "headers-beyond-ascii": (page(b"x", HTML, "X-Name: \xe9\xe4\xff"), FETCHED),
        "header-twice": (
            page(b"x", HTML, "Content-Type: image/png", "ETag: a", "ETag: b"),
            (FETCHED, "refused content type"),
        ),
        "tls-on-a-plain-port": (b"\x15\x03\x03\x00\x02\x02\x28", NETWORK),
        "nothing-at-all": (b"", NETWORK),
        "switching-protocols": (
            head("Upgrade: x", "Connection: upgrade", status="101 Switching"),
            ("failed status 101", NETWORK, TIMEOUT),
        ),
        # Chunks.
        "chunk-size-that-is-none": (head(HTML, CHUNKED) + b"zz\r\nhi\r\n", NETWORK),
        "chunk-size-negative": (head(HTML, CHUNKED) + b"-5\r\nhi\r\n", NETWORK),
        "chunk-size-beyond-all": (head(HTML, CHUNKED) + b"F" * 30 + b"\r\nhi\r\n", NETWORK),
        "chunks-without-end": (head(HTML, CHUNKED) + b"2\r\nhi\r\n", NETWORK),
        "chunks-and-garbage": (head(HTML, CHUNKED) + b"2\r\nhi\r\n0\r\n\r\ngarbage", FETCHED),
        "chunk-longer-than-it-says": (head(HTML, CHUNKED) + b"2\r\nhello\r\n0\r\n\r\n", NETWORK),
        "coding-nobody-knows": (head(HTML, "Transfer-Encoding: zip") + b"x", NETWORK),
        # Connections.
        "reset-in-the-body": (_reset(page(b"<p>half", length=5000)), NETWORK),
        "reset-at-once": (_reset(b""), NETWORK),
        "keep-alive-then-close": (page(b"x", HTML, "Connection: keep-alive"), FETCHED),
        # Statuses.
        "no-content-with-a-body": (page(b"<p>x</p>", HTML, status="204 No Content"), ("failed status 204", NETWORK)),
        "not-modified-unasked": (head("ETag: x", status="304 Not Modified"), "failed status 304"),
        "partial-unasked": (page(b"x", HTML, "Content-Range: bytes 0-0/9", status="206 Partial"), "failed status 206"),
        "empty": (page(b""), FETCHED),
        "error-called-ok": (page(b"<h1>404 Not Found</h1>"), FETCHED),
        "not-found": (page(b"x", status="404 Not Found"), "failed status 404"),
        # Redirects.
        "to-itself": (redirect("to-itself"), "failed redirect"),
        "to-nowhere": (page(b"", HTML, status="302 Found"), "failed redirect"),
        "to-a-file": (redirect("file:///etc/passwd"), "failed redirect"),
        "to-gopher": (redirect("gopher://127.0.0.1:70/"), "failed redirect"),
        "to-garbage": (redirect("http://[::"), "failed redirect"),
        "cookie-loop": (
            page(b"", HTML, "Set-Cookie: a=b", "Location: cookie-loop", status="302 Found"),
            "failed redirect",
        ),
    }
    return [
        Trick(f"/t/{name}", answer, (fates,) if isinstance(fates, str) else fates)
        for name, (answer, fates) in plain.items()
    ]


def _ways() -> list[Trick]:
    """Tricks with where a page leads."""
    loop = {"/t/loop-b": "redirected"}
    chain = {"/t/chain-2": "redirected", "/t/chain-3": "failed redirects", "/t/chain-4": "never heard of"}
    controls = 'a%00b" href="/t/c\x01\x7f&#0;d'
    long = "/t/" + "x" * 3000
    return [
        Trick("/t/loop-a", redirect("/t/loop-b"), ("redirected",), loop),
        Trick("/t/loop-b", redirect("/t/loop-a"), ("redirected",)),
        Trick("/t/chain-0", redirect("/t/chain-1"), ("redirected",), chain),
        *(Trick(f"/t/chain-{n}", redirect(f"/t/chain-{n + 1}"), ("redirected",), linked=False) for n in (1, 2)),
        Trick("/t/chain-3", redirect("/t/chain-4"), ("failed redirects",), linked=False),
        Trick("/t/to-private", redirect("http://10.0.0.1/x"), ("redirected",), {"http://10.0.0.1/x": "refused scope"}),
        Trick(
            "/t/to-private-in-scope",
            redirect("http://192.168.7.7/x"),
            ("redirected",),
            {"http://192.168.7.7/x": "refused robots unreachable"},
        ),
        Trick("/t/long-url", _links(long), (FETCHED,), {long: "refused URL length"}),
        Trick("/t/control-characters", _links(controls, "/t/e\x00f"), (FETCHED,)),
        Trick(
            "/t/base-elsewhere",
            page('<base href="http://elsewhere.test/"><a href="a">x</a>'),
            (FETCHED,),
            {"http://elsewhere.test/a": "refused scope"},
        ),
        Trick(
            "/t/refreshes-itself", page('<meta http-equiv="refresh" content="0;url=/t/refreshes-itself">x'), (FETCHED,)
        ),
        Trick("/t/hundred-thousand-links", page(MANY_LINKS), (FETCHED,), {"http://x.test/9999": "refused scope"}),
        Trick("/t/giant-tag", page(GIANT_TAG), (FETCHED,)),
        Trick("/t/giant-links", page(GIANT_LINKS), (FETCHED,)),
        Trick("/t/deeply-nested", page(DEEP), (FETCHED,)),
        Trick("/t/https-on-a-plain-port", _on(lambda r: _links(f"https://{r.host}/secure")), (FETCHED,)),
    ]


SITEMAPS = {
    "/s/bomb.xml.gz": page(_bomb(gzip.compress), "Content-Type: application/gzip"),
    "/s/laughs.xml": page(
        '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>'
        "<urlset><url><loc>http://x.test/&b;</loc></url></urlset>"
    ),
    "/s/xxe.xml": page(
        '<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]><urlset><url><loc>http://x/&e;</loc></url></urlset>'
    ),
    "/s/index.xml": _on(
        lambda r: page(f"<sitemapindex><sitemap><loc>http://{r.host}/s/index.xml</loc></sitemap></sitemapindex>")
    ),
    "/s/indexes.xml": _on(
        lambda r: page(
            f"<sitemapindex><sitemap><loc>http://{r.host}/s/indexes.xml?n={r.number}</loc></sitemap></sitemapindex>"
        )
    ),
    "/s/million.txt": page("".join(f"http://x.test/{number}\n" for number in range(100_000))),
    "/s/elements.xml": page(b"<urlset>" + b"<a/>" * 700_000),
    "/s/deep.xml": page(b"<urlset>" + b"<a>" * 700_000),
    "/s/binary.xml": page(bytes(range(256)) * 100),
    "/s/endless.xml": _forever(head(), b"<url><loc>http://x.test/</loc></url>" * 100),
}


class HostileServer:
    """The sites and what they do. `main` is host and port of the first one."""

    def __init__(self) -> None:
        self.port = 0
        self.asked: Counter[str] = Counter()
        self.tricks = [*_answers(), *_ways()]
        self._sites = _sites()
        self._tricks = {trick.path: trick.answer for trick in self.tricks} | SITEMAPS

    @property
    def main(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def hosts(self) -> tuple[str, ...]:
        """All sites, and a private address that is in scope by mistake."""
        return (*(f"{address}:{self.port}" for address in self._sites), "192.168.7.7")

    def site(self, name: str) -> str:
        """Host and port of a site by what it does."""
        return next(f"{address}:{self.port}" for address, (known, _) in self._sites.items() if known == name)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answers one connection, once."""
        quiet = (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, asyncio.CancelledError)
        with contextlib.suppress(*quiet):  # the last of them when the server ends
            text = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            first, *lines = text.split("\r\n")
            fields = dict(line.lower().split(": ", 1) for line in lines if ": " in line)
            path = first.split(" ")[1]
            host = fields.get("host", "")
            self.asked[host + path] += 1
            request = Request(path, host, fields, self.asked[host + path])
            answer = self._answer(request)
            if isinstance(answer, bytes):
                writer.write(answer)
            else:
                await answer(request, writer)
            await writer.drain()
        with contextlib.suppress(OSError):
            writer.close()
            await writer.wait_closed()

    def _answer(self, request: Request) -> bytes | Respond:
        path = request.path.partition("?")[0]
        address = request.host.rpartition(":")[0]
        if path.startswith("/good/"):
            return page(f"<p>good page {path}</p>")
        if address in self._sites:
            return self._sites[address][1](request)
        if path == "/":
            goods = [f"/good/{number}" for number in range(GOOD_PAGES)]
            sites = [f"http://{address}:{self.port}/" for address in self._sites]
            return _links(*(trick.path for trick in self.tricks if trick.linked), *goods, *sites)
        if path == "/robots.txt":
            lines = [f"Sitemap: http://{self.main}{name}" for name in SITEMAPS]
            return page("\n".join(["User-agent: *", "Disallow:", *lines]), "Content-Type: text/plain")
        return self._tricks.get(path, page(b"x", status="404 Not Found"))


Site = Callable[[Request], "bytes | Respond"]


def _robots(answer: bytes | Respond) -> Site:
    """A site with such a robots.txt, a page that it may forbid, and good ones."""

    def respond(request: Request) -> bytes | Respond:
        if request.path == "/robots.txt":
            return answer
        return _links("/private/x", *(f"/good/{number}" for number in range(GOOD_PAGES)))

    return respond


def _trap(more: Callable[[Request], list[str]]) -> Site:
    """A site that always has more pages."""

    def respond(request: Request) -> bytes | Respond:
        if request.path == "/robots.txt":
            return page(b"", status="404 Not Found")
        return _links(*(f"/good/{number}" for number in range(GOOD_PAGES)), *more(request))

    return respond


def _busy(retry_after: str, status: str) -> Site:
    """A site that is always busy, but for its good pages."""

    def respond(request: Request) -> bytes | Respond:
        if request.path == "/robots.txt":
            return page(b"", status="404 Not Found")
        if request.path == "/":
            return _links("/busy", *(f"/good/{number}" for number in range(GOOD_PAGES)))
        return page(b"busy", HTML, f"Retry-After: {retry_after}", status=status)

    return respond


def _liar(request: Request) -> bytes:
    """A site that says "not modified" to whoever asks conditionally, and to those who do not from the third time on."""
    if request.path == "/robots.txt":
        return page(b"", status="404 Not Found")
    if "if-none-match" in request.headers or (request.path == "/unasked" and request.number > 1):
        return head('ETag: "other"', status="304 Not Modified")
    return page(f"<p>{request.path} {request.number}</p><a href=/a>a</a><a href=/unasked>b</a>", HTML, 'ETag: "same"')


def _next_day(request: Request) -> list[str]:
    day = int(request.path.rpartition("/")[2] or 0) if request.path.startswith("/day/") else 0
    return [f"/day/{day + 1}"]


def _sites() -> dict[str, tuple[str, Site]]:
    rules = b"User-agent: *\nDisallow: /private/\n"
    filler = b"".join(b"Disallow: /private/%d\n" % number for number in range(30_000))
    wild = b"User-agent: *\nDisallow: /" + b"*g" * 40 + b"*z$\nDisallow: /private/\n"
    text = "Content-Type: text/plain"
    made = {
        "robots huge": _robots(page(rules + filler, text)),
        "robots slow": _robots(_forever(head(text), b"#", 0.05)),
        "robots silent": _robots(_silent),
        "robots endless": _robots(_forever(head(text), b"Disallow: /private/\n" * 1000)),
        "robots 503": _robots(page(b"", text, status="503 Busy")),
        "robots loop": _robots(redirect("/robots.txt")),
        "robots to private": _robots(redirect("http://10.0.0.1/robots.txt")),
        "robots binary": _robots(page(bytes(range(256)) * 500, text)),
        "robots wild": _robots(page(wild, text)),
        "robots bomb": _robots(page(_bomb(gzip.compress), text, "Content-Encoding: gzip")),
        "robots delay": _robots(
            page(b"User-agent: *\nCrawl-delay: -5\nRequest-rate: 0/0\nDisallow: /private/\n", text)
        ),
        "calendar": _trap(_next_day),
        "sessions": _trap(
            lambda r: [f"/?sid={r.path[-40:].strip('/?=').replace('sid=', '')}{letter}" for letter in "abc"]
        ),
        "folders": _trap(lambda r: [r.path.rstrip("/") + "/deeper/"]),
        "liar": _liar,
        "busy for years": _busy("999999999", "503 Busy"),
        "busy since long": _busy("-5", "503 Busy"),
        "busy until": _busy("Fri, 31 Dec 9999 23:59:59 GMT", "429 Slow down"),
        "busy somehow": _busy("soon, \xe9", "429 Slow down"),
    }
    return {f"127.0.0.{number}": (name, site) for number, (name, site) in enumerate(made.items(), start=10)}


@contextmanager
def hostile_server() -> Iterator[HostileServer]:
    """Runs the sites in a thread of their own, on one port of all loopback addresses."""
    server = HostileServer()
    loop = asyncio.new_event_loop()
    listening = threading.Event()
    tasks: list[asyncio.Server] = []

    async def listen() -> None:
        found = await asyncio.start_server(server.serve, "0.0.0.0", 0, limit=1 << 20)
        server.port = found.sockets[0].getsockname()[1]
        tasks.append(found)
        listening.set()

    def run() -> None:
        asyncio.set_event_loop(loop)
        loop.run_until_complete(listen())
        loop.run_forever()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    listening.wait(10)
    try:
        yield server
    finally:

        async def end() -> None:
            tasks[0].close()
            mine = asyncio.current_task()
            others = [task for task in asyncio.all_tasks() if task is not mine]
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(end(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()
