"""One request over HTTP, within limits: bytes on the wire, bytes after inflation, seconds, media type.

Redirects are not followed here: each hop goes back through the frontier, so that scope, robots.txt, the gap and the
page count hold for it as for any other URL.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from types import TracebackType

import httpcore
import httpx

from components.crawl.encodings import ACCEPTED, BadEncoding, TooLarge, inflate
from components.crawl.guard import AddressRefused, GuardedBackend, GuardedTransport

_CONNECT_S = 10.0


class FetchError(Exception):
    """A request that gave no usable answer.

    Args:
        reason: Short name of the kind of failure, for counting.
        detail: What happened.
        transient: Whether another attempt may succeed.
        refused: Whether it is our rule that ended it, not the server or the network.
    """

    def __init__(self, reason: str, detail: str, transient: bool = False, refused: bool = False) -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail
        self.transient = transient
        self.refused = refused


@dataclass(frozen=True)
class Limits:
    """Bounds of one request; see `CrawlConfig`."""

    body_bytes: int
    inflated_bytes: int
    timeout_s: float
    inflation: float = 0.0


@dataclass(frozen=True)
class Answer:
    """A complete response.

    Attributes:
        url: URL asked for.
        status: Status code.
        phrase: Reason phrase.
        headers: Headers as sent, in order.
        request_headers: Headers of the request as sent.
        wire: Body as transferred, without chunked framing.
        body: Body with content encodings undone.
        address: IP address that answered.
    """

    url: str
    status: int
    phrase: str
    headers: list[tuple[str, str]]
    request_headers: list[tuple[str, str]]
    wire: bytes
    body: bytes
    address: str

    def header(self, name: str) -> str:
        """The first value of a header; empty if it is absent. `name` in lower case."""
        return next((value for key, value in self.headers if key.lower() == name), "")


class Fetcher:
    """The HTTP client of a crawl; an asynchronous context manager.

    Args:
        user_agent: Value of the User-Agent header.
        limits: Bounds of every request.
        allow_loopback: See `GuardedBackend`.
        mapped: See `GuardedBackend`.
        connections: Most connections open at once.
    """

    def __init__(
        self, user_agent: str, limits: Limits, allow_loopback: bool, mapped: Mapping[str, int], connections: int
    ) -> None:
        self._limits = limits
        self._headers = {
            "User-Agent": user_agent,
            "Accept": "text/html,application/xhtml+xml;q=0.9,*/*;q=0.1",
            "Accept-Encoding": ACCEPTED,
            "Connection": "keep-alive",
        }
        timeout = httpx.Timeout(limits.timeout_s, connect=min(_CONNECT_S, limits.timeout_s))
        self._extensions = {"timeout": timeout.as_dict()}
        # The transport alone, without httpx's client: that would carry cookies from page to page and follow redirects.
        self._transport = GuardedTransport(GuardedBackend(allow_loopback, mapped), connections)

    async def __aenter__(self) -> Fetcher:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._transport.aclose()

    async def get(
        self, url: str, media_types: Collection[str] = (), validators: Mapping[str, str] | None = None
    ) -> Answer:
        """Fetches a URL.

        Args:
            url: Normalised URL.
            media_types: Media types wanted of an answer with status 200; empty for any.
            validators: Further headers, which ask for the body only if it has changed.

        Raises:
            FetchError: If there is no complete answer within the limits.
        """
        try:
            async with asyncio.timeout(self._limits.timeout_s):
                return await self._get(url, media_types, {**self._headers, **(validators or {})})
        except AddressRefused as error:
            raise FetchError("address", str(error), refused=True) from error
        except BadEncoding as error:
            raise FetchError("content encoding", str(error)) from error
        except TooLarge as error:
            raise FetchError("too large", str(error), refused=True) from error
        except (TimeoutError, httpcore.TimeoutException) as error:
            raise FetchError("timeout", f"no answer in {self._limits.timeout_s:g} s", transient=True) from error
        except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.ProxyError, OSError) as error:
            raise FetchError("network", f"{type(error).__name__}: {error}", transient=True) from error
        except (httpx.InvalidURL, httpcore.UnsupportedProtocol, UnicodeError) as error:
            raise FetchError("bad URL", str(error), refused=True) from error

    async def _get(self, url: str, media_types: Collection[str], headers: Mapping[str, str]) -> Answer:
        request = httpx.Request("GET", url, headers=headers, extensions=self._extensions)
        response = await self._transport.handle_async_request(request)
        address = response.extensions["network_stream"].get_extra_info("server_addr")
        try:
            if response.status_code == 200 and media_types:
                _check_media_type(response.headers.get("content-type", ""), media_types)
            wire = await self._read(response)
        finally:
            await response.aclose()
        return Answer(
            url=url,
            status=response.status_code,
            phrase=response.extensions.get("reason_phrase", b"").decode("ascii", errors="replace"),
            headers=_text(response.headers.raw),
            request_headers=_text(request.headers.raw),
            wire=wire,
            body=inflate(
                wire,
                response.headers.get("content-encoding", ""),
                self._limits.inflated_bytes,
                self._limits.inflation,
            ),
            address=str(address[0]),
        )

    async def _read(self, response: httpx.Response) -> bytes:
        limit = self._limits.body_bytes
        declared = response.headers.get("content-length", "")
        if declared.isdecimal() and int(declared) > limit:
            raise FetchError("too large", f"declares {declared} bytes, more than {limit}", refused=True)
        chunks: list[bytes] = []
        size = 0
        async for chunk in response.aiter_raw():
            size += len(chunk)
            if size > limit:
                raise FetchError("too large", f"sent more than {limit} bytes", refused=True)
            chunks.append(chunk)
        return b"".join(chunks)


def _check_media_type(header: str, wanted: Collection[str]) -> None:
    """A missing type passes: the parser copes with anything."""
    found = header.partition(";")[0].strip().lower()
    if found and found not in wanted:
        raise FetchError("content type", found[:100], refused=True)


def _text(headers: list[tuple[bytes, bytes]]) -> list[tuple[str, str]]:
    return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers]
