"""No test leaves this machine: an audit hook that refuses connections and name look-ups beyond it.

Loaded in the test process by conftest, and in every Python process it starts by `sitecustomize` beside this file, which
is on their PYTHONPATH. What it refuses looks like a machine without a network, so code that copes with one passes.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import sys
from functools import cache


class OffMachineError(OSError):
    """Somebody tried to reach another machine."""


def install() -> None:
    """Adds the hook to this process, once; it can not be taken out again."""
    if not getattr(sys, "_headwater_loopback_only", False):
        sys._headwater_loopback_only = True  # type: ignore[attr-defined]
        sys.addaudithook(_refuse)


def _refuse(event: str, arguments: tuple[object, ...]) -> None:
    if event == "socket.connect":
        found, address = arguments
        # Connecting a datagram socket sends nothing: it is how programs ask for their own address.
        datagram = isinstance(found, socket.socket) and found.type & socket.SOCK_DGRAM
        if isinstance(address, tuple) and not datagram and not _is_here(str(address[0])):
            raise OffMachineError(errno.ENETUNREACH, f"tests may not connect to {address[0]}")
    elif event == "socket.getaddrinfo" and arguments[0] and not _is_name_of_ours(arguments[0]):
        raise socket.gaierror(socket.EAI_NONAME, f"tests may not look up {arguments[0]!r}")


def _is_here(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return _is_name_of_ours(host)
    return address.is_loopback or address.is_unspecified or str(address) in _own_addresses()


def _is_name_of_ours(host: object) -> bool:
    name = host.decode("ascii", "replace") if isinstance(host, bytes) else str(host)
    try:
        ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        return _is_number(name) or name.lower().rstrip(".") in ("localhost", socket.gethostname().lower())
    return True  # a literal: nobody is asked


def _is_number(name: str) -> bool:
    """Whether the C library reads a name as an address ("2130706433", "0x7f.1")."""
    try:
        socket.inet_aton(name)
    except (OSError, ValueError):
        return False
    return True


@cache
def _own_addresses() -> frozenset[str]:
    """Addresses of this machine: Ray's processes speak to each other by them, and the kernel keeps that inside."""
    own = {os.environ.get("RAY_NODE_IP", "")}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
            own.add(str(probe.getsockname()[0]))
        except OSError:  # no network at all
            own.add("127.0.0.1")
    return frozenset(own)
