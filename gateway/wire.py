"""What HTTP endpoints share: a body's size and shape, checked before it is parsed; JSON on one line."""

from __future__ import annotations

import json
import re
from itertools import accumulate
from typing import Any

from starlette.requests import ClientDisconnect, Request

MAX_DEPTH = 100  # levels of JSON; a real request has about ten
MAX_LISTS = 200_000  # and objects
MAX_VALUES = 500_000  # which commas part
_STRING = re.compile(rb'"[^"]*"?')  # once escaped quotes are out
_LEVELS = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")
_OTHERS = bytes(byte for byte in range(256) if byte not in b"[{]}")
_LINE_ENDS = {end: f"\\u{ord(end):04x}" for end in "\x85\u2028\u2029"}


class BadBody(Exception):
    """`status` is the HTTP status that says it: 400 nested too deeply, 413 too large, or of too many values."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


async def whole_body(request: Request, limit: int) -> bytes:
    """The request's body. Raises BadBody as soon as it is known; nothing beyond `limit` bytes is held."""
    declared = request.headers.get("content-length", "")[:20]
    if declared.isdecimal() and int(declared) > limit:
        raise BadBody(413, f"The body has {declared} bytes; at most {limit} are taken.")
    chunks, size = [], 0
    try:
        async for chunk in request.stream():
            size += len(chunk)
            if size > limit:
                raise BadBody(413, f"The body is larger than {limit} bytes.")
            chunks.append(chunk)
    except ClientDisconnect as exc:
        raise BadBody(400, "The connection was closed in the middle of the body.") from exc
    return b"".join(chunks)


async def checked_body(request: Request, limit: int) -> bytes:
    """A body whose JSON may be parsed, kept for `request.json()`. Raises BadBody."""
    request._body = await shallow_body(request, limit)  # Starlette's own cache: `request.json()` reads it from there
    return request._body


async def shallow_body(request: Request, limit: int) -> bytes:
    """The same, kept by nobody else. Raises BadBody."""
    body = await whole_body(request, limit)
    check_shape(body)
    return body


def check_shape(text: bytes) -> None:
    """Whether JSON may be parsed, found out without doing so: a list costs a hundred times its bytes. Raises BadBody.

    What is no JSON may pass; others tell.
    """
    if text.count(b"[") + text.count(b"{") <= MAX_DEPTH and text.count(b",") <= MAX_VALUES:
        return
    if b"\0" in text:  # UTF-16 or UTF-32, which a parser may take
        text = text.decode(json.detect_encoding(text), "replace").encode("utf-8", "replace")
    text = text.replace(rb"\\", b"").replace(rb"\"", b"")
    crowded = text.count(b'"') > 4 * (MAX_VALUES + MAX_LISTS)  # a name and a value have two each
    bare = b"" if crowded else _STRING.sub(b"", text)
    brackets = bare.translate(_LEVELS, _OTHERS)
    if crowded or len(brackets) > 2 * MAX_LISTS or bare.count(b",") > MAX_VALUES:
        raise BadBody(413, f"The JSON has more than {MAX_LISTS} lists and objects, or {MAX_VALUES} values.")
    if max(accumulate(memoryview(brackets).cast("b")), default=0) > MAX_DEPTH:
        raise BadBody(400, f"The JSON is nested more than {MAX_DEPTH} levels deep.")


def nesting(value: Any) -> int:
    """Levels of lists and objects in parsed JSON, counted no further than one more than `MAX_DEPTH`."""
    levels, level = 0, [value]
    while levels <= MAX_DEPTH and (level := [item for item in level if isinstance(item, dict | list)]):
        levels += 1
        level = [inner for item in level for inner in (item.values() if isinstance(item, dict) else item)]
    return levels


def one_line(text: str) -> bytes:
    """JSON text, also for clients that end lines wherever Unicode does."""
    if not text.isascii():
        for end, escape in _LINE_ENDS.items():
            text = text.replace(end, escape)
    return text.encode()
