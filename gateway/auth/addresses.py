"""From which address a call comes, where proxies stand before the gateway: only those that are trusted are believed.

`X-Forwarded-For` is read from its end: each proxy adds whom it saw, and what stands before the first one that is not
trusted may be invented. An IPv6 customer has at least a /64 of addresses, so those count as one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from gateway.errors import UsageError

HEADER = "x-forwarded-for"


@dataclass(frozen=True, slots=True)
class Proxies:
    networks: tuple[IPv4Network | IPv6Network, ...] = ()

    @classmethod
    def trusting(cls, entries: str) -> Proxies:
        """From addresses and CIDRs between commas. Raises UsageError."""
        try:
            return cls(tuple(ip_network(entry.strip(), strict=False) for entry in entries.split(",") if entry.strip()))
        except ValueError as exc:
            said = f"SWITCHBOARD_TRUSTED_PROXIES holds what is neither an address nor a CIDR: {exc}."
            raise UsageError(said, "Write it like: 10.0.0.7, 172.16.0.0/12") from exc

    def caller(self, peer: str, forwarded: Sequence[str]) -> str:
        """The address (or /64) a call comes from; `forwarded` are the values of X-Forwarded-For."""
        address = _parsed(peer)
        for text in reversed(",".join(forwarded).split(",") if forwarded else []):
            before = _parsed(text)
            if address is None or before is None or not self._trusted(address):
                break
            address = before
        if isinstance(address, IPv6Address):
            return str(IPv6Network((address, 64), strict=False))
        return str(address or "unknown")

    def _trusted(self, address: IPv4Address | IPv6Address) -> bool:
        return any(address in network for network in self.networks)


def _parsed(text: str) -> IPv4Address | IPv6Address | None:
    """An address, with or without brackets, zone or port; None for what is none."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        found = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return (found.ipv4_mapped or found) if isinstance(found, IPv6Address) else found
