"""No request leaves for an address that is not public."""

from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.crawl.guard import allowed
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
]
NEVER = [*PRIVATE, "224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255"]
NEVER_6 = ["::", "fe80::1", "fe80::1%eth0", "fec0::1", "fc00::1", "ff02::1", "ff0e::1", "2001:db8::1", "100::1"]


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
