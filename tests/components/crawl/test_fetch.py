"""Requests against servers that behave badly on the wire."""

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest

from components.crawl.fetch import Answer, Fetcher, FetchError, Limits

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n"


@contextmanager
def _answering(reply: Callable[[socket.socket], None]) -> Iterator[int]:
    """A server that reads one request on each connection and then does what it likes."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with suppress(OSError):  # The listener is closed at the end.
            while True:
                connection, _ = listener.accept()
                with connection, suppress(OSError):
                    connection.recv(65536)
                    reply(connection)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(timeout=10)


def _get(port: int, timeout_s: float = 5.0) -> Answer:
    async def fetch() -> Answer:
        limits = Limits(body_bytes=1000, inflated_bytes=1000, timeout_s=timeout_s)
        async with Fetcher("Headwater/1", limits, True, {}, 1) as fetcher:
            return await fetcher.get(f"http://127.0.0.1:{port}/", ("text/html",))

    return asyncio.run(fetch())


def _endless(connection: socket.socket) -> None:
    connection.sendall(HEAD + b"\r\n")
    while True:
        connection.sendall(b"x" * 500)


def _endless_chunks(connection: socket.socket) -> None:
    connection.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
    while True:
        connection.sendall(b"1f4\r\n" + b"x" * 500 + b"\r\n")


@pytest.mark.parametrize("reply", [_endless, _endless_chunks])
def test_a_body_without_end_is_left_at_the_limit(reply: Callable[[socket.socket], None]):
    with _answering(reply) as port, pytest.raises(FetchError) as failure:
        _get(port)
    assert failure.value.reason == "too large"
    assert failure.value.refused


def _trickle(connection: socket.socket) -> None:
    connection.sendall(HEAD + b"\r\n")
    while True:
        connection.sendall(b"x")
        time.sleep(0.05)


def test_a_body_that_trickles_ends_at_the_deadline():
    with _answering(_trickle) as port, pytest.raises(FetchError) as failure:
        _get(port, timeout_s=0.4)
    assert failure.value.reason == "timeout"
    assert failure.value.transient


@pytest.mark.parametrize(
    "reply",
    [b"", b"nonsense\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nshort", b"HTTP/1.1 999999 \r\n\r\n"],
)
def test_a_broken_answer_is_a_network_failure_worth_another_try(reply: bytes):
    with _answering(lambda connection: connection.sendall(reply)) as port, pytest.raises(FetchError) as failure:
        _get(port)
    assert (failure.value.reason, failure.value.transient) == ("network", True)


def test_a_page_without_a_media_type_is_taken():
    with _answering(lambda connection: connection.sendall(b"HTTP/1.0 200 OK\r\n\r\nhello")) as port:
        answer = _get(port)
    assert (answer.body, answer.address, answer.status) == (b"hello", "127.0.0.1", 200)


def test_no_cookie_and_no_proxy_setting_is_used(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1/")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1/")
    with _answering(
        lambda connection: connection.sendall(HEAD + b"Set-Cookie: a=b\r\nContent-Length: 0\r\n\r\n")
    ) as port:
        names = {name.lower() for name, _ in _get(port).request_headers}
    assert names == {"host", "user-agent", "accept", "accept-encoding", "connection"}
