"""Where a webhook may lead. Resolvers are made up here: no name is looked up, no packet leaves this machine.

[PUSH-4]
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address

import pytest

from gateway.deliver.guard import Guard, Refused, special
from gateway.errors import UsageError

PUBLIC = ("93.184.215.14", "8.8.8.8", "1.1.1.1", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "2a00:1450:4001::200e")
SPECIAL = {
    "unspecified": ("0.0.0.0", "0.1.2.3", "::"),
    "loopback": ("127.0.0.1", "127.255.255.254", "::1"),
    "private": ("10.0.0.1", "10.255.255.255", "172.16.0.1", "172.31.255.255", "192.168.1.1", "fc00::1", "fd12:3456::1"),
    "link-local": ("169.254.0.1", "169.254.169.254", "169.254.170.2", "fe80::1"),
    "cloud metadata": ("168.63.129.16",),
    "shared by a carrier's NAT": ("100.64.0.1", "100.100.100.200", "100.127.255.255"),
    "multicast": ("224.0.0.1", "239.255.255.250", "ff02::1", "ff0e::1"),
    "reserved": ("192.0.0.192", "240.0.0.1", "255.255.255.255", "192.31.196.1", "100::1", "2001:20::1", "5f00::1", "::8.8.8.8"),
    "for documentation": ("192.0.2.1", "198.51.100.1", "203.0.113.1", "2001:db8::1", "3fff::1"),
    "for benchmarks": ("198.18.0.1", "198.19.255.255"),
    "6to4": ("192.88.99.1", "2002:7f00:1::", "2002:808:808::1"),
    "Teredo": ("2001::1", "2001:0:4136:e378:8000:63bf:3fff:fdd2"),
    "NAT64": ("64:ff9b::7f00:1", "64:ff9b::808:808", "64:ff9b:1::a00:1"),
    "IPv4-mapped": ("::ffff:127.0.0.1", "::ffff:8.8.8.8", "::ffff:a9fe:a9fe"),
    "site-local": ("fec0::1",),
}
EACH = [(address, why) for why, addresses in SPECIAL.items() for address in addresses]


class Names:
    """A resolver that answers with one set of addresses after another, and remembers what it was asked."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[str, int]] = []

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked.append((host, port))
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


async def refusal(url: str, *addresses: str, allow: str = "") -> Refused:
    with pytest.raises(Refused) as refused:
        await Guard.allowing(allow, Names(addresses)).vet(url)
    return refused.value


@pytest.mark.parametrize(("address", "why"), EACH)
def test_an_address_that_is_not_public_is_told_by_its_kind(address: str, why: str) -> None:
    assert special(ip_address(address)) == why


@pytest.mark.parametrize("address", PUBLIC)
async def test_a_public_address_is_dialled_as_it_was_found(address: str) -> None:
    names = Names([address])
    vetted = await Guard(resolve=names).vet("https://hooks.example.com/a?b=c")
    assert (vetted.addresses, vetted.port, names.asked) == ((address,), 443, [("hooks.example.com", 443)])
    assert str(vetted.url) == "https://hooks.example.com/a?b=c"


@pytest.mark.parametrize(("address", "why"), EACH)
async def test_a_host_that_leads_to_such_an_address_is_refused_without_telling_where(address: str, why: str) -> None:
    refused = await refusal("https://hooks.example.com/", address)
    assert refused.told == "The host 'hooks.example.com' has no public address."
    assert why in refused.detail


@pytest.mark.parametrize("mixed", [("8.8.8.8", "10.0.0.1"), ("10.0.0.1", "8.8.8.8"), ("2606:4700::1111", "::1", "8.8.8.8")])
async def test_one_bad_address_among_good_ones_refuses_all(mixed: tuple[str, ...]) -> None:
    await refusal("https://hooks.example.com/", *mixed)


async def test_what_was_vetted_is_what_is_dialled_whatever_the_name_says_next() -> None:
    names = Names(["8.8.8.8"], ["127.0.0.1"])
    guard = Guard(resolve=names)
    assert (await guard.vet("https://rebinds.example.com/")).addresses == ("8.8.8.8",)
    with pytest.raises(Refused):
        await guard.vet("https://rebinds.example.com/")


@pytest.mark.parametrize("answer", [(), ("fe80::1%eth0",), ("nonsense",)])
async def test_a_host_without_a_usable_address_is_refused_like_a_private_one(answer: tuple[str, ...]) -> None:
    assert (await refusal("https://x.example.com/", *answer)).told == "The host 'x.example.com' has no public address."


@pytest.mark.parametrize("error", [OSError("no such name"), TimeoutError(), UnicodeError("label too long")])
async def test_a_look_up_that_fails_is_a_refusal(error: Exception) -> None:
    async def fails(host: str, port: int) -> Sequence[str]:
        raise error

    with pytest.raises(Refused, match="was not resolved"):
        await Guard(resolve=fails).vet("https://hooks.example.com/")


@pytest.mark.parametrize(
    "url",
    [
        "",
        "hooks.example.com",
        "//hooks.example.com/",
        "http://hooks.example.com/",
        "ftp://hooks.example.com/",
        "file:///etc/passwd",
        "https:///nowhere",
        "https://user@hooks.example.com/",
        "https://user:password@hooks.example.com/",
        "https://hooks.example.com\\@127.0.0.1/",
        "https://hooks example.com/",
        "https://hooks.example.com:0/",
        "https://hooks.example.com:22/",
        "https://hooks.example.com:25/",
        "https://hooks.example.com:80/",
        "https://hooks.example.com:99999/",
        "https://hooks.example.com:x/",
        "https://[fe80::1%25eth0]/",
        "https://[::1/",
        "https://hooks.example.com/\x00",
        "https://hooks.example.com/" + "x" * 2048,
    ],
)
async def test_a_url_that_is_no_plain_https_one_is_refused(url: str) -> None:
    await refusal(url, "8.8.8.8")


@pytest.mark.parametrize("url", ["https://a.example.com:8443/", "https://a.example.com:443/", "https://bücher.example.com/"])
async def test_other_https_urls_are_fine(url: str) -> None:
    assert (await Guard(resolve=Names(["8.8.8.8"])).vet(url)).addresses == ("8.8.8.8",)


@pytest.mark.parametrize(
    ("allow", "url", "address"),
    [
        ("hooks.internal", "http://hooks.internal:80/", "10.0.0.1"),
        ("Hooks.Internal.", "http://HOOKS.internal./", "169.254.169.254"),
        ("10.1.0.0/16", "http://any.example.com:25/", "10.1.2.3"),
        ("10.1.2.3", "http://10.1.2.3/", "10.1.2.3"),
        ("::1, 127.0.0.0/8", "http://localhost:9/", "::1"),
        ("other, fd00::/8", "https://x/", "fd00:1::2"),
    ],
)
async def test_what_the_operator_allows_is_reached_by_any_port_and_without_tls(allow: str, url: str, address: str) -> None:
    assert (await Guard.allowing(allow, Names([address])).vet(url)).addresses == (address,)


@pytest.mark.parametrize(
    ("allow", "url", "addresses"),
    [
        ("hooks.internal", "https://evil.hooks.internal/", ("10.0.0.1",)),
        ("10.1.0.0/16", "https://any.example.com/", ("10.1.2.3", "10.2.0.1")),
        ("10.1.0.0/16", "http://any.example.com/", ("10.1.2.3", "8.8.8.8")),
        ("127.0.0.0/8", "https://x/", ("::ffff:127.0.0.1",)),
    ],
)
async def test_what_is_allowed_opens_nothing_beside_it(allow: str, url: str, addresses: tuple[str, ...]) -> None:
    await refusal(url, *addresses, allow=allow)


@pytest.mark.parametrize("entries", ["10.0.0.0/33", "a b", "http://x", "/8"])
def test_an_entry_that_is_neither_host_nor_network_stops_the_gateway(entries: str) -> None:
    with pytest.raises(UsageError, match="neither a host nor a CIDR"):
        Guard.allowing(entries)


async def test_spellings_of_loopback_are_caught_where_they_lead() -> None:
    """With the machine's own resolver, which reads them without asking anybody."""
    for host in ("127.0.0.1", "127.1", "2130706433", "0x7f000001", "[::1]", "[::ffff:127.0.0.1]", "0", "localhost"):
        with pytest.raises(Refused):
            await Guard().vet(f"https://{host}/")
