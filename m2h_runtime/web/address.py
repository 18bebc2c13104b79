"""Where the dashboard listens."""

from __future__ import annotations

import ipaddress
import re
import socket
from typing import NamedTuple

from m2h_runtime.errors import InputError, SinkError
from m2h_runtime.files import reason

LOOPBACK = "127.0.0.1"
BACKLOG = 64


class Address(NamedTuple):
    """Host (a name or an IP address, without brackets) and TCP port; port 0 is any that is free."""

    host: str
    port: int

    def __str__(self) -> str:
        """As it stands in a URL."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_address(text: str) -> Address:
    """`[HOST:]PORT` as people write it; without a host it is this machine alone.

    Raises:
        InputError: it is none.
    """
    match = re.fullmatch(r"(?:(\[[0-9a-fA-F:.]+\]|[^\[\]:/\s]+):)?(\d{1,5})", text)
    if match is None or int(match[2]) > 65535:
        raise InputError(
            f"--web {text!r}: expected [HOST:]PORT, as in 8080, 0.0.0.0:8080 (every network) or [::1]:8080"
        )
    return Address((match[1] or LOOPBACK).strip("[]"), int(match[2]))


def listen(address: Address) -> socket.socket:
    """A listening socket.

    Raises:
        SinkError: no such host here, or the port is taken or not allowed.
    """
    try:
        family, _, _, _, where = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        both = family == socket.AF_INET6 and socket.has_dualstack_ipv6()  # [::] is every network, IPv4 too
        return socket.create_server(where[:2], family=family, backlog=BACKLOG, dualstack_ipv6=both)
    except (OSError, UnicodeError) as error:  # a host name that is too long is no OSError
        why = reason(error) if isinstance(error, OSError) else "no such host"
        raise SinkError(
            f"the dashboard cannot listen on {address} ({why}); choose another --web [HOST:]PORT"
        ) from error


def is_loopback(listening: socket.socket) -> bool:
    """Only this machine can reach it."""
    return ipaddress.ip_address(listening.getsockname()[0]).is_loopback


def reachable(listening: socket.socket, host: str) -> Address:
    """The address to put into a URL: for a socket on every network that of this machine on the way out."""
    bound = listening.getsockname()
    if not ipaddress.ip_address(bound[0]).is_unspecified:
        return Address(host, bound[1])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # an address for documentation; nothing is sent
            return Address(probe.getsockname()[0], bound[1])
        except OSError:  # no network at all
            return Address(socket.gethostname(), bound[1])
