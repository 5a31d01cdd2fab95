"""Hosts as owners write them."""

from __future__ import annotations

import pytest

from registry import hosts


@pytest.mark.parametrize(
    ("text", "admitted", "refused"),
    [
        (
            "api.example.com",
            [("api.example.com", 443), ("api.example.com", 80)],
            [("example.com", 443), ("api.example.com", 22)],
        ),
        ("API.Example.com", [("api.example.com", 443)], [("x.api.example.com", 443)]),
        ("*.example.com", [("a.example.com", 443), ("a.b.example.com", 80)], [("example.com", 443), ("badexample.com", 443)]),
        ("db:5432", [("db", 5432)], [("db", 443)]),
        ("*.example.com:8443", [("a.example.com", 8443)], [("a.example.com", 443)]),
    ],
)
def test_a_host_admits_what_it_says(text: str, admitted: list[tuple[str, int]], refused: list[tuple[str, int]]) -> None:
    host = hosts.parse(text)
    assert [place for place in admitted if not host.admits(*place)] == []
    assert [place for place in refused if host.admits(*place)] == []


@pytest.mark.parametrize(
    "text",
    [
        *("", "*", "*.", "a.*.example", "a..b", "-a.b", "a.b.", "a b", "ü.example", "a" * 64, "\n", "a.b\n"),
        *("10.0.0.1", "2130706433", "0x7f000001", "a.0x1", "[::1]", "a.b:0", "a.b:70000"),
        *("https://a.b", "a.b/c", "u@a.b"),
    ],
)
def test_what_is_no_host_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        hosts.parse(text)
