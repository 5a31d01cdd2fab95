"""Patterns of paths: what they match, and that none of them keeps a processor busy. [HAND-11]"""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import InvalidParams
from gateway.hands.patterns import Pattern

FITS = {
    "**/*.py": ["x.py", "a/x.py", "a/b/.py"],
    "*.{py,txt}": ["x.py", "x.txt"],
    "./src/**/*.{c,h{h,pp}}": ["src/x.c", "src/a/b/x.hpp"],
    "a/**": ["a/", "a/b/c"],
    "a**b": ["ab", "a/x/b"],
    "?[!a-c][]x]": ["xd]", "adx"],
    "{a,b{,c}": ["a", "b", "bc"],
    "}x,": ["}x,"],
    "[": ["["],
    "a\nb*": ["a\nb", "a\nb\n"],
    "ü*\U0001f600": ["ü\U0001f600", "üü\U0001f600"],
}
FITS_NOT = {
    "**/*.py": ["x.pyc", "py", "x.py/a"],
    "*.{py,txt}": ["a/x.py", "x.", "x.py,txt"],
    "./src/**/*.{c,h{h,pp}}": ["x.c", "src/x.h", "asrc/x.c"],
    "a/**": ["a", "b/a/c"],
    "a**b": ["a", "ba", "a/b/c"],
    "?[!a-c][]x]": ["xb]", "/dx", "x/x"],
    "{a,b{,c}": ["c", ""],
    "[ab]": ["/", "ab"],
}


@pytest.mark.parametrize("glob", FITS)
def test_a_pattern_matches_what_it_says(glob: str) -> None:
    pattern = Pattern(glob)
    assert [path for path in FITS[glob] if not pattern.match(path)] == []
    assert [path for path in FITS_NOT.get(glob, []) if pattern.match(path)] == []


def backtracked(glob: str) -> str:
    """The same, for `re`."""
    words = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]", "{": "(?:", "}": ")", ",": "|"}
    return "".join(words.get(token, token) for token in re.findall(r"\*\*/|\*\*|.", glob))


@given(st.lists(st.sampled_from([*"ab/*?", "**/", "**", "{a,b}", "{/,a*,}"]), max_size=8), st.text("ab/", max_size=10))
def test_a_pattern_matches_as_a_regular_expression_does(tokens: list[str], path: str) -> None:
    glob = "".join(tokens)
    assert Pattern(glob).match(path) == bool(re.fullmatch(backtracked(glob), path))


@pytest.mark.parametrize(
    "glob", ["*a" * 8 + "b", "**/a" * 200 + "b", "{a,*a}" * 100 + "b", "{" * 900 + "a*b", "{,a,,*}" * 140 + "b"]
)
def test_a_pattern_that_could_try_without_end_does_not(glob: str) -> None:
    pattern = Pattern(glob)
    assert not any(pattern.match(f"{'a' * n}/{'a/' * 200}") for n in range(120, 240))


def test_a_pattern_with_too_many_ways_is_refused() -> None:
    pattern = Pattern("*a" + "?" * 200)
    paths = (f"{number * 0x9E3779B97F4A7C15:0220b}".replace("0", "b").replace("1", "a") for number in range(10_000))
    with pytest.raises(InvalidParams, match="too much work"):
        list(map(pattern.match, paths))


@pytest.mark.parametrize("glob", ["[z-a]", "[]"])
def test_a_pattern_that_makes_no_sense_is_refused(glob: str) -> None:
    with pytest.raises(InvalidParams, match="makes no sense"):
        Pattern(glob)
