"""Where a webhook may lead: to public addresses, by https, and to what the operator allows by name.

A URL is resolved once, every address it has is vetted, and `Vetted` is what is dialled: no second look-up can put
another address in between (DNS rebinding), and one bad address among good ones refuses the whole. The table is of
addresses, not of spellings: `127.1`, `2130706433` and a name that points home are all caught where they lead.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

import anyio
import anyio.to_thread
import httpx2

from gateway.errors import UsageError

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
Resolve = Callable[[str, int], Awaitable[Sequence[str]]]

SETTING = "SWITCHBOARD_ALLOW_PRIVATE_HOSTS"
MAX_URL = 2048
RESOLVE_SECONDS = 5.0
RESOLVERS = 32  # threads
FIRST_PORT = 1024  # below it only 443: whoever chooses the port must not be able to talk to mail servers and the like
_HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]{0,252})|[0-9A-Fa-f:.]+")

# https://www.iana.org/assignments/iana-ipv4-special-registry, .../iana-ipv6-special-registry
_SPECIAL: tuple[tuple[str, str], ...] = (
    ("0.0.0.0/8", "unspecified"),
    ("10.0.0.0/8", "private"),
    ("100.64.0.0/10", "shared by a carrier's NAT"),
    ("127.0.0.0/8", "loopback"),
    ("168.63.129.16/32", "cloud metadata"),
    ("169.254.0.0/16", "link-local"),
    ("172.16.0.0/12", "private"),
    ("192.0.0.0/24", "reserved"),
    ("192.0.2.0/24", "for documentation"),
    ("192.31.196.0/24", "reserved"),
    ("192.52.193.0/24", "reserved"),
    ("192.88.99.0/24", "6to4"),
    ("192.168.0.0/16", "private"),
    ("192.175.48.0/24", "reserved"),
    ("198.18.0.0/15", "for benchmarks"),
    ("198.51.100.0/24", "for documentation"),
    ("203.0.113.0/24", "for documentation"),
    ("224.0.0.0/4", "multicast"),
    ("240.0.0.0/4", "reserved"),
    ("::/128", "unspecified"),
    ("::1/128", "loopback"),
    ("::ffff:0:0/96", "IPv4-mapped"),
    ("64:ff9b::/96", "NAT64"),
    ("64:ff9b:1::/48", "NAT64"),
    ("2001::/32", "Teredo"),
    ("2001::/23", "reserved"),
    ("2001:db8::/32", "for documentation"),
    ("2002::/16", "6to4"),
    ("2620:4f:8000::/48", "reserved"),
    ("3fff::/20", "for documentation"),
    ("fc00::/7", "private"),
    ("fe80::/10", "link-local"),
    ("fec0::/10", "site-local"),
    ("ff00::/8", "multicast"),
)
_REFUSED: tuple[tuple[Network, str], ...] = tuple((ip_network(network), why) for network, why in _SPECIAL)
_GLOBAL_V6 = IPv6Network("2000::/3")


class Refused(Exception):
    """`detail` is for owners; `told` for callers, who must not learn what names lead to in here."""

    def __init__(self, told: str, detail: str = "") -> None:
        super().__init__(detail or told)
        self.told = told
        self.detail = detail or told


def special(address: Address) -> str | None:
    """Why an address is not public, or None where it is."""
    for network, why in _REFUSED:
        if address in network:
            return why
    return "reserved" if isinstance(address, IPv6Address) and address not in _GLOBAL_V6 else None


@dataclass(frozen=True, slots=True)
class Vetted:
    """A URL and the addresses it may be reached at; nothing else may be dialled for it."""

    url: httpx2.URL
    addresses: tuple[str, ...]

    @property
    def port(self) -> int:
        return _port(self.url)

    @property
    def origin(self) -> str:
        """Scheme, host and port: one receiver."""
        return f"{self.url.scheme}://{self.url.netloc.decode('ascii')}"


class SystemResolver:
    """The machine's own resolver, in threads of its own: a slow name server must not hold up anybody else."""

    def __init__(self) -> None:
        self._threads = anyio.CapacityLimiter(RESOLVERS)

    async def __call__(self, host: str, port: int) -> list[str]:
        look_up = partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
        with anyio.fail_after(RESOLVE_SECONDS):
            found = await anyio.to_thread.run_sync(look_up, abandon_on_cancel=True, limiter=self._threads)
        return [str(entry[4][0]) for entry in found]


@dataclass(frozen=True, slots=True)
class Guard:
    """`hosts` and `networks` are what the operator allows beyond what is public, by any port and without TLS."""

    hosts: frozenset[str] = frozenset()
    networks: tuple[Network, ...] = ()
    resolve: Resolve = field(default_factory=SystemResolver, compare=False)
    setting: str = SETTING

    @classmethod
    def allowing(cls, entries: str, resolve: Resolve | None = None, setting: str = SETTING) -> Guard:
        """From names, addresses and CIDRs between commas. Raises UsageError for one that is none of them."""
        hosts, networks = set(), []
        for entry in filter(None, (piece.strip() for piece in entries.split(","))):
            try:
                networks.append(ip_network(entry, strict=False))
            except ValueError as exc:
                if "/" in entry or not _HOST.fullmatch(entry):
                    said = f"{setting} holds {entry!r}, which is neither a host nor a CIDR."
                    raise UsageError(said, "Write it like: hooks.internal, 10.1.0.0/16") from exc
                hosts.add(entry.lower().rstrip("."))
        return cls(frozenset(hosts), tuple(networks), resolve or SystemResolver(), setting)

    async def vet(self, url: str) -> Vetted:
        """Raises Refused."""
        parsed = _parsed(url)
        addresses, outside = await self._vetted(parsed.raw_host.decode("ascii"), _port(parsed))
        if outside:
            _check_way(parsed)
        return Vetted(parsed, addresses)

    async def reach(self, host: str, port: int) -> tuple[str, ...]:
        """The addresses of a host that somebody entitled to has named, by whatever port and way. Raises Refused."""
        addresses, _ = await self._vetted(host, port)
        return addresses

    async def _vetted(self, host: str, port: int) -> tuple[tuple[str, ...], bool]:
        """A host's addresses, and whether any of them is not the operator's own."""
        addresses = await self._addresses(host, port)
        named = host.lower().rstrip(".") in self.hosts
        outside = [address for address in addresses if not named and not self._allowed(address)]
        self._check_public(outside, host)
        return tuple(map(str, addresses)), bool(outside)

    async def _addresses(self, host: str, port: int) -> list[Address]:
        told = f"The host {host!r} has no public address."
        try:
            found = await self.resolve(host, port)
            addresses = [ip_address(text) for text in dict.fromkeys(found)]
        except TimeoutError as exc:
            raise Refused(told, f"The host {host!r} was not resolved in time.") from exc
        except (OSError, UnicodeError) as exc:
            raise Refused(told, f"The host {host!r} was not resolved: {exc}") from exc
        except ValueError as exc:  # what is no plain address: one with a zone, such as fe80::1%eth0
            raise Refused(told, f"The host {host!r} has an address that cannot be used.") from exc
        if not addresses:
            raise Refused(told, f"The host {host!r} has no address.")
        return addresses

    def _check_public(self, addresses: Sequence[Address], host: str) -> None:
        for address in addresses:
            why = special(address)
            if why is not None:
                said = f"The host {host!r} leads to {address}, which is {why}; {self.setting} could allow it."
                raise Refused(f"The host {host!r} has no public address.", said)

    def _allowed(self, address: Address) -> bool:
        return any(address in network for network in self.networks)


def _parsed(url: str) -> httpx2.URL:
    if len(url) > MAX_URL:
        raise Refused(f"The URL has {len(url)} characters; at most {MAX_URL} are taken.")
    try:
        parsed = httpx2.URL(url)
        port = parsed.port
    except (httpx2.InvalidURL, ValueError, UnicodeError) as exc:
        raise Refused("The URL cannot be read.") from exc
    if parsed.scheme not in ("http", "https"):
        raise Refused("The URL must begin with https://.")
    if parsed.userinfo or "@" in parsed.netloc.decode("ascii", "replace"):
        raise Refused("The URL must not hold a user or a password; use the config's authentication.")
    if not _HOST.fullmatch(parsed.raw_host.decode("ascii", "replace")) or port == 0 or (port or 0) > 65535:
        raise Refused("The URL names no host that can be reached.")
    return parsed


def _check_way(url: httpx2.URL) -> None:
    if url.scheme != "https":
        raise Refused("The URL must begin with https://.")
    if _port(url) != 443 and _port(url) < FIRST_PORT:
        raise Refused(f"The port {_port(url)} is not allowed: take 443, or one from {FIRST_PORT} on.")


def _port(url: httpx2.URL) -> int:
    return url.port or (443 if url.scheme == "https" else 80)
