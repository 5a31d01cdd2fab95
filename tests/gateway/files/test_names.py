from __future__ import annotations

import pytest

from gateway.files.names import MAX_NAME, accepted, guessed, is_media_type, numbered, safe_name

HOSTILE = {
    "../x": "x",
    "../../etc/passwd": "passwd",
    "a/b": "b",
    "a\\b.txt": "b.txt",
    "C:\\temp\\x.txt": "x.txt",
    "x\0.txt": "x.txt",
    "a\nb\r.txt": "ab.txt",
    "": "file.png",
    ".": "file.png",
    "..": "file.png",
    "/": "file.png",
    " . ": "file.png",
    ".bashrc": "bashrc",
    "CON": "_CON",
    "con.txt": "_con.txt",
    "LPT1.": "_LPT1",
    "aux .c": "_aux.c",
    "x. ": "x",
    "a:b|c?.txt": "a_b_c_.txt",
    "\u202egnp.exe": "gnp.exe",
    "a\u200b\ufeff\u2028b.txt": "ab.txt",
    "\uff0e\uff0e\uff0fetc": "etc",
    "\u2025/x": "x",
    "\ud800.txt": "txt",
    "e\u0301t\u00e9.txt": "\u00e9t\u00e9.txt",
    "\u65e5\u672c\u8a9e \U0001f600.pdf": "\u65e5\u672c\u8a9e \U0001f600.pdf",
}


@pytest.mark.parametrize("given", HOSTILE, ids=ascii)
def test_a_hostile_name_becomes_a_plain_one(given: str) -> None:
    """[FILE-2]"""
    assert safe_name(given, "image/png") == HOSTILE[given]


def test_a_long_name_keeps_its_ending() -> None:
    assert safe_name("x" * 300 + ".tar") == "x" * (MAX_NAME - 4) + ".tar"
    assert len(safe_name("\u00e9" * 300).encode()) == MAX_NAME
    assert len(safe_name("a." + "b" * 300).encode()) == MAX_NAME


def test_a_second_file_of_a_name_gets_a_number() -> None:
    assert [numbered("a.tar", number) for number in (1, 2, 3)] == ["a.tar", "a-2.tar", "a-3.tar"]
    assert numbered("none", 2) == "none-2"


@pytest.mark.parametrize(
    ("media_type", "modes", "taken"),
    [
        ("image/png", ["image/*"], True),
        ("IMAGE/PNG; q=1", ["image/png"], True),
        ("image/png", ["*/*"], True),
        ("image/png", ["text/plain"], False),
        ("image/png", ["image/p*"], False),
        ("image/png", [], False),
        ("text/plain", ["text/plain;charset=utf-8"], True),
    ],
)
def test_a_type_is_taken_as_the_card_says(media_type: str, modes: list[str], taken: bool) -> None:
    assert accepted(media_type, modes) is taken


def test_a_type_is_guessed_by_name_then_by_content() -> None:
    found = [guessed(*given) for given in (("a.CSV", b""), ("a", b"\x89PNG\r\n\x1a\n"), ("a", "\u00e9".encode()), ("a", b"\0"))]
    assert found == ["text/csv", "image/png", "text/plain", "application/octet-stream"]
    assert [guessed("a.tar.gz"), guessed("a", "\u00e9".encode()[:1])] == ["application/octet-stream", "text/plain"]


def test_a_media_type_that_could_break_a_header_is_none() -> None:
    assert [is_media_type(text) for text in ("image/png", "text/plain; charset=utf-8", "a/b\r\nX: y", "png", "a/\u00e9")] == [
        True,
        True,
        False,
        False,
        False,
    ]
