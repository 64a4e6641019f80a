"""No request leaves for an address that is not public."""

import asyncio
import socket
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import httpcore
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.crawl import guard
from components.crawl.guard import AddressRefused, GuardedBackend, allowed
from components.crawl.urls import host_of, normalise
from components.errors import StepError
from components.sample.server import Hit, serve

PRIVATE = [
    "10.0.0.1",
    "172.16.0.1",
    "192.168.1.1",
    "100.64.0.1",
    "169.254.169.254",
    "0.0.0.0",
    "192.0.2.1",
    "198.18.0.1",
    "192.0.0.8",
    "192.0.0.10",
    "192.88.99.1",
    "198.51.100.1",
    "203.0.113.1",
]
NEVER = [*PRIVATE, "224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255"]
NEVER_6 = ["::", "fe80::1", "fe80::1%eth0", "fec0::1", "fc00::1", "ff02::1", "ff0e::1", "2001:db8::1", "100::1"]
NEVER_6 += ["100:0:0:1::1", "2001::1", "2001:2::1", "2001:10::1", "3fff::1", "5f00::1", "64:ff9b:1:a00:1:0:808:808"]
NEVER_6 += ["4000::1", "1::1", "::ffff:0:8.8.8.8", "::8.8.8.8", "64:ff9b::7f00:1", "2002:7f00:1::", "febf::1"]


@pytest.mark.parametrize("address", [*NEVER, *NEVER_6])
def test_addresses_that_are_not_public_are_refused_even_with_loopback_allowed(address: str):
    assert not allowed(address)
    assert not allowed(address, allow_loopback=True)


@pytest.mark.parametrize("address", ["127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1"])
def test_loopback_is_only_for_those_who_ask(address: str):
    assert not allowed(address)
    assert allowed(address, allow_loopback=True)


@pytest.mark.parametrize("address", ["8.8.8.8", "1.1.1.1", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"])
def test_public_addresses_are_allowed(address: str):
    assert allowed(address)


FORMS: list[Callable[[int], int]] = [
    lambda v4: 0xFFFF << 32 | v4,  # mapped
    lambda v4: v4,  # compatible
    lambda v4: 0x0064FF9B << 96 | v4,  # NAT64
    lambda v4: 0x0064FF9B0001 << 80 | v4,  # local NAT64
    lambda v4: 0x2002 << 112 | v4 << 80,  # 6to4
    lambda v4: 0x20010000 << 96 | 0x08080808 << 64 | (v4 ^ 0xFFFFFFFF),  # Teredo client
    lambda v4: 0x20010000 << 96 | v4 << 64 | (0x08080808 ^ 0xFFFFFFFF),  # Teredo server
    lambda v4: 0x2606470000000000 << 64 | 0x5EFE << 32 | v4,  # ISATAP
    lambda v4: 0x2606470000000000 << 64 | 0x02005EFE << 32 | v4,  # ISATAP with the global bit
    lambda v4: 0xFFFF0000 << 32 | v4,  # translated
    lambda v4: 0x2002 << 112 | 0x08080808 << 80 | 0x5EFE << 32 | v4,  # ISATAP in a public 6to4 site
]


@given(st.sampled_from([*NEVER, "127.0.0.1"]), st.sampled_from(FORMS))
def test_an_ipv4_address_hidden_in_an_ipv6_one_is_found(address: str, form: Callable[[int], int]):
    assert not allowed(str(IPv6Address(form(int(IPv4Address(address))))))


@given(st.ip_addresses(v=4, network="10.0.0.0/8"), st.sampled_from(FORMS))
def test_no_spelling_of_a_private_network_passes(address: IPv4Address, form: Callable[[int], int]):
    assert not allowed(str(address), allow_loopback=True)
    assert not allowed(str(IPv6Address(form(int(address)))), allow_loopback=True)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "2130706433", "0x7f.1", "[::ffff:127.0.0.1]"])
def test_a_crawl_never_connects_to_this_machine_unasked(host: str, small_site: Path, run_crawl: Callable[..., object]):
    log: list[Hit] = []
    with serve(small_site, log) as port, pytest.raises(StepError, match="not a public address"):
        run_crawl(None, seeds=(f"http://{host}:{port}/",))
    assert log == []


def test_a_redirect_to_this_machine_is_refused_at_its_own_hop(make_site, run_crawl, fates):
    log: list[Hit] = []
    with serve(make_site({"/": "inside"}), log) as port:
        inner = f"http://127.0.0.1:{port}/"
        folder = make_site({"/": "<a href=/out>out</a>"}, {"/out": {"status": 302, "headers": {"Location": inner}}})
        context = run_crawl(folder, hosts=(f"127.0.0.1:{port}",))
    assert fates(context)["/out"] == "redirected"
    assert fates(context)[inner] == "refused robots unreachable"
    assert log == []


class _Recorder(httpcore.AsyncNetworkBackend):
    """Notes where connections would go; those to `dead` addresses fail."""

    def __init__(self, dead: tuple[str, ...] = ()) -> None:
        self.asked: list[str] = []
        self.dead = dead

    async def connect_tcp(self, host, port, timeout=None, local_address=None, socket_options=None):
        self.asked.append(host)
        if host in self.dead:
            raise httpcore.ConnectError(host)
        return httpcore.AsyncMockStream([])


@pytest.fixture
def connect(monkeypatch: pytest.MonkeyPatch):
    """Connects through the guard to a host whose DNS answers are given, one list for each time it is asked."""

    def run(host: str, *answers: list[str], loopback: bool = False, dead: tuple[str, ...] = ()) -> list[str]:
        recorder = _Recorder(dead)
        if answers:
            turns = iter(answers)
            found = lambda *_, **__: [(0, 0, 0, "", (one, 80)) for one in next(turns)]  # noqa: E731
            monkeypatch.setattr(socket, "getaddrinfo", found)
        monkeypatch.setattr(guard.httpcore, "AnyIOBackend", lambda: recorder)
        asyncio.run(GuardedBackend(loopback, {}).connect_tcp(host, 80))
        return recorder.asked

    return run


def test_the_connection_goes_to_the_address_that_was_checked_though_dns_changes_its_mind(connect):
    assert connect("e.com", ["8.8.8.8"], ["127.0.0.1"]) == ["8.8.8.8"]


def test_of_mixed_answers_only_the_public_ones_are_tried(connect):
    assert connect("e.com", ["10.0.0.1", "8.8.8.8", "::1", "1.1.1.1"], dead=("8.8.8.8",)) == ["8.8.8.8", "1.1.1.1"]


def test_where_no_public_address_answers_the_private_ones_are_not_fallen_back_on(connect):
    with pytest.raises(httpcore.ConnectError):
        connect("e.com", ["10.0.0.1", "8.8.8.8"], dead=("8.8.8.8",))


def test_a_name_at_private_addresses_alone_is_refused_before_any_connection(connect):
    with pytest.raises(AddressRefused, match=r"10\.0\.0\.1"):
        connect("e.com", ["10.0.0.1", "fd00::1"], loopback=True)


def test_a_local_socket_is_never_connected_to():
    with pytest.raises(AddressRefused):
        asyncio.run(GuardedBackend(True, {}).connect_unix_socket("/run/docker.sock"))


SPELLINGS = [
    "127.1",
    "0177.0.0.1",
    "0x7f000001",
    "2130706433",
    "017700000001",
    "0x7f.0x0.1",
    "localhost.",
    "[::1]",
    "0",
]
SPELLINGS += ["[::ffff:7f00:1]", "①②⑦.⓪.⓪.①", "127。0。0。1", "１２７.0.0.1", "0.0.0.0", "[::]", "[0:0::0:1]"]
SPELLINGS += ["169.254.169.254", "2852039166", "0xa9fea9fe", "[64:ff9b::a9fe:a9fe]", "[fe80::1]", "[::ffff:a9fe:a9fe]"]


@pytest.mark.parametrize("host", SPELLINGS)
def test_no_spelling_of_this_machine_or_the_metadata_service_gets_through(connect, host: str):
    url = normalise(f"http://{host}/")
    assert url is not None
    with pytest.raises(AddressRefused):
        connect(host_of(url).strip("[]"))


@given(st.ip_addresses())
def test_whatever_is_allowed_is_public_and_loopback_alone_is_added(address: IPv4Address | IPv6Address):
    text = str(address)
    if allowed(text):
        assert address.is_global
        assert not any((address.is_multicast, address.is_private, address.is_loopback, address.is_link_local))
    assert allowed(text, allow_loopback=True) == (allowed(text) or _loops(address))


def _loops(address: IPv4Address | IPv6Address) -> bool:
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


@pytest.mark.parametrize(
    "target", ["file:///etc/passwd", "gopher://127.0.0.1:70/_x", "ftp://e.com/", "dict://127.0.0.1/", "//127.0.0.1/x"]
)
def test_a_redirect_to_another_scheme_or_out_of_scope_is_not_followed(make_site, run_crawl, fates, target: str):
    folder = make_site({"/": "<a href=/out>out</a>"}, {"/out": {"status": 302, "headers": {"Location": target}}})
    found = fates(run_crawl(folder))
    assert found["/"] == "fetched"
    assert found["/out"] in ("failed redirect", "redirected")
    assert all(fate.startswith("refused") for url, fate in found.items() if url not in ("/", "/out"))
