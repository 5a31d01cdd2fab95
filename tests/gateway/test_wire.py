"""Which JSON is parsed at all: what is small to send and large to have is told by its bytes. [HEAD-2]"""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import wire
from gateway.wire import MAX_DEPTH, MAX_LISTS, MAX_VALUES, BadBody, check_shape

TEXTS = st.text('[]{},:"\\\\ x\u0122\u5b5b', max_size=8)
VALUES: Any = st.recursive(TEXTS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3))


def status(text: bytes) -> int:
    """What it is refused with; 0 where it is not."""
    try:
        check_shape(text)
    except BadBody as exc:
        return exc.status
    return 0


def levels_of(value: Any) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inner is None else 1 + max(map(levels_of, inner), default=0)


@pytest.mark.parametrize(
    ("text", "refused"),
    [
        (b"[" * MAX_DEPTH + b"]" * MAX_DEPTH, 0),
        (b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1), 400),
        (b'{"a":' * 1_000_000, 413),
        (b'{"a":' * (MAX_DEPTH + 1), 400),
        (json.dumps({"text": '\\"' + "[" * 500_000}).encode(), 0),
        (b"[" + b"[]," * (MAX_LISTS - 2) + b"[]]", 0),
        (b"[" + b"[]," * MAX_LISTS + b"[]]", 413),
        (b"[0" + b",0" * MAX_VALUES + b"]", 0),
        (b"[0" + b",0" * (MAX_VALUES + 1) + b"]", 413),
        (json.dumps([",,," * MAX_VALUES, 1]).encode(), 0),
        (b"[" + b'"",' * (2 * MAX_VALUES) + b"0]", 413),
        (b"[" + b'{"a":"b"},' * (MAX_LISTS - 2) + b"0]", 0),
        (("[" * 200).encode("utf-16"), 400),
    ],
)
def test_what_is_nested_too_deeply_or_of_too_many_values_is_refused(text: bytes, refused: int) -> None:
    assert status(text) == refused


@given(VALUES, st.sampled_from(["utf-8", "utf-16", "utf-32-be"]), st.booleans())
def test_levels_are_counted_as_a_parser_finds_them(value: Any, encoding: str, ascii: bool) -> None:
    text, levels = json.dumps(value, ensure_ascii=ascii).encode(encoding), levels_of(value)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(wire, "MAX_DEPTH", levels)
        assert status(text) == 0
        patched.setattr(wire, "MAX_DEPTH", max(levels - 1, 0))
        assert status(text) == (400 if levels else 0)
