"""Which addresses a webhook may have: public ones, and those that the operator allows.

Whoever may change a plan must not reach, through the controller, what only the controller's network reaches.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

_NAME = re.compile(r"[a-z0-9_]([a-z0-9_.-]{0,251}[a-z0-9_])?")
_NAT64 = ip_network("64:ff9b::/96")
Address = IPv4Address | IPv6Address


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowed:
    """What the operator allows besides public addresses, and http without TLS."""

    hosts: frozenset[str] = frozenset()
    networks: tuple[IPv4Network | IPv6Network, ...] = ()

    @classmethod
    def read(cls, text: str) -> Allowed:
        """Return what a setting says: hosts, addresses and networks, by commas; ValueError for anything else."""
        hosts, networks = set(), []
        for word in filter(None, (word.strip().lower() for word in text.split(","))):
            try:
                networks.append(ip_network(word.strip("[]")))
            except ValueError:
                if not _NAME.fullmatch(word) or re.fullmatch(r"[0-9.]+", word):
                    raise ValueError(
                        f"{word!r} is neither a host, an address nor a network; write such as hooks.internal, "
                        "10.1.2.3 or 10.1.0.0/16"
                    ) from None
                hosts.add(word)
        return cls(hosts=frozenset(hosts), networks=tuple(networks))

    def covers(self, host: str, addresses: Sequence[str]) -> bool:
        """Tell whether the operator has allowed a host, by its name or by all addresses that it has."""
        if host.lower().rstrip(".") in self.hosts:
            return True
        found = [_reached(address) for address in addresses]
        return bool(found) and all(any(one in network for network in self.networks) for one in found)


def not_public(addresses: Sequence[str]) -> str | None:
    """Return the first address that not everybody could reach; None where there is none."""
    for text in addresses:
        address = _reached(text)
        if not address.is_global or address.is_multicast or address.is_reserved:
            return text
    return None


def _reached(text: str) -> Address:
    """Return the address that is spoken to in the end: an IPv4 one inside of an IPv6 one is that."""
    address = ip_address(text.partition("%")[0])
    if isinstance(address, IPv4Address):
        return address
    inner = address.ipv4_mapped or address.sixtofour
    if inner is None and address in _NAT64:
        inner = IPv4Address(int(address) & 0xFFFFFFFF)
    return inner or address
