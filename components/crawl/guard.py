"""Keeps the crawler out of the network it runs in (server-side request forgery).

A page, a redirect or a DNS answer may point at this machine, the local network or a cloud's metadata service. So names
are resolved here, once, every address is checked, and the connection goes to the checked address itself: nothing can
change between check and connect. The check sits below the HTTP client, so it holds for every hop, robots.txt and
sitemaps included. IPv6 forms that carry an IPv4 address (mapped, compatible, 6to4, Teredo, NAT64, ISATAP) are judged by
that address too.

The sample site is reached through `mapped`: its host name stands for a loopback port without any DNS, so what is
recorded carries the host name and never the port.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any

import httpcore
import httpx

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_COMPATIBLE = ipaddress.IPv6Network("::/96")
# Blocks of the IANA special-purpose registries that Python 3.11 takes for public, in whole or in part.
_SPECIAL = tuple(
    ipaddress.ip_network(block)
    for block in (
        "192.0.0.0/24",  # protocol assignments: relays and port control of the local network
        "192.31.196.0/24",  # AS112: whoever answers nearest
        "192.52.193.0/24",  # multicast tunnels, likewise
        "192.88.99.0/24",  # 6to4 relays, likewise
        "192.175.48.0/24",  # AS112
        "64:ff9b:1::/48",  # NAT64 of the local network
        "100:0:0:1::/64",  # dummy prefix
        "2001::/23",  # protocol assignments, Teredo among them
        "2620:4f:8000::/48",  # AS112
        "3fff::/20",  # documentation
        "5f00::/16",  # segment routing
        "fec0::/10",  # site-local, as it was
    )
)


class AddressRefused(Exception):  # noqa: N818  (a verdict, not a fault)
    """The host has no address that may be connected to."""


def allowed(address: str, allow_loopback: bool = False) -> bool:
    """Whether a connection to an IP address is permitted: public unicast only, plus loopback if asked for."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if ip.version == 6 and ip.ipv4_mapped:
        ip = ip.ipv4_mapped  # Only another spelling of the IPv4 address.
    if ip.is_loopback:
        return allow_loopback
    return all(_public(one) for one in (ip, *_embedded(ip)))


def _public(ip: IPAddress) -> bool:
    if ip.version == 6 and ip in _NAT64:
        return True  # Reserved only in Python's eyes; the address inside decides.
    special = ip.is_multicast or ip.is_reserved or ip.is_unspecified or any(ip in block for block in _SPECIAL)
    return ip.is_global and not special


def _embedded(ip: IPAddress) -> list[ipaddress.IPv4Address]:
    """IPv4 addresses carried inside an IPv6 address."""
    if not isinstance(ip, ipaddress.IPv6Address):
        return []
    found = [ip.sixtofour, *(ip.teredo or ())]
    number = int(ip)
    isatap = number >> 32 & 0xFDFFFFFF == 0x00005EFE
    if isatap or ip in _COMPATIBLE or ip in _NAT64:
        found.append(ipaddress.IPv4Address(number & 0xFFFFFFFF))
    return [one for one in found if one is not None]


class GuardedBackend(httpcore.AsyncNetworkBackend):
    """Opens TCP connections for httpcore, to checked addresses only.

    Args:
        allow_loopback: Permit this machine's own addresses.
        mapped: Ports on 127.0.0.1 that stand for host names.
    """

    def __init__(self, allow_loopback: bool, mapped: Mapping[str, int]) -> None:
        self._backend = httpcore.AnyIOBackend()
        self._allow_loopback = allow_loopback
        self._mapped = dict(mapped)

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connects to the first address that is permitted and answers.

        Raises:
            AddressRefused: If no address of the host is permitted.
            httpcore.ConnectError: If the name does not resolve or nobody answers.
        """
        if host in self._mapped:
            return await self._backend.connect_tcp(
                "127.0.0.1", self._mapped[host], timeout, local_address, socket_options
            )
        found = await self._resolve(host, port)
        permitted = [address for address in found if allowed(address, self._allow_loopback)]
        if not permitted:
            raise AddressRefused(f"{host} is at {', '.join(found)}, which is not a public address")
        for address in permitted[:-1]:
            try:
                return await self._backend.connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                continue  # The last address is tried below, and its error is the one told.
        return await self._backend.connect_tcp(permitted[-1], port, timeout, local_address, socket_options)

    async def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Iterable[Any] | None = None
    ) -> httpcore.AsyncNetworkStream:
        """Never: a crawler has no business with local sockets."""
        raise AddressRefused(f"{path} is a local socket")

    async def sleep(self, seconds: float) -> None:
        """See httpcore."""
        await self._backend.sleep(seconds)

    async def _resolve(self, host: str, port: int) -> list[str]:
        loop = asyncio.get_running_loop()
        try:
            answers = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise httpcore.ConnectError(f"{host} does not resolve: {error}") from error
        return list(dict.fromkeys(str(answer[4][0]) for answer in answers))


class GuardedTransport(httpx.AsyncBaseTransport):
    """httpx over httpcore's connection pool with a guarded backend. Errors are httpcore's own."""

    def __init__(self, backend: httpcore.AsyncNetworkBackend, max_connections: int) -> None:
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=httpx.create_ssl_context(trust_env=False),
            max_connections=max_connections,
            max_keepalive_connections=max_connections,
            keepalive_expiry=30.0,
            network_backend=backend,
        )

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Sends one request; the body of the response is still to be read."""
        answer = await self._pool.handle_async_request(
            httpcore.Request(
                method=request.method,
                url=httpcore.URL(
                    scheme=request.url.raw_scheme,
                    host=request.url.raw_host,
                    port=request.url.port,
                    target=request.url.raw_path,
                ),
                headers=request.headers.raw,
                content=request.stream,
                extensions=request.extensions,
            )
        )
        return httpx.Response(
            status_code=answer.status, headers=answer.headers, stream=_Body(answer), extensions=answer.extensions
        )

    async def aclose(self) -> None:
        """Closes all connections."""
        await self._pool.aclose()


class _Body(httpx.AsyncByteStream):
    def __init__(self, answer: httpcore.Response) -> None:
        self._answer = answer

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self._answer.aiter_stream():
            yield chunk

    async def aclose(self) -> None:
        await self._answer.aclose()
