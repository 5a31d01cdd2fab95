"""What HTTP endpoints share: a body's size and shape, checked before it is parsed; strict JSON; JSON on one line."""

from __future__ import annotations

import json
import re
from itertools import accumulate
from typing import Any, NoReturn

from starlette.requests import ClientDisconnect, Request

MAX_DEPTH = 100  # levels of JSON; a real request has about ten
MAX_LISTS = 200_000  # and objects
MAX_VALUES = 500_000  # which commas part
_STRING = re.compile(rb'"[^"]*"?')  # once escaped quotes are out
_LEVELS = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")
_OTHERS = bytes(byte for byte in range(256) if byte not in b"[{]}")
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_LINE_ENDS = {end: f"\\u{ord(end):04x}" for end in "\x85\u2028\u2029"}


class NoJson(ValueError):
    """The text says why."""


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


def strict_json(text: bytes | str) -> Any:
    """JSON as its standard has it: UTF-8, no NaN, no half of a surrogate pair. Raises NoJson."""
    try:
        text = text.decode("utf-8-sig") if isinstance(text, bytes) else text  # of bytes `json` takes half characters
        found = json.loads(text, parse_constant=_refuse)
        if _SURROGATE.search(text):
            json.dumps(found, ensure_ascii=False).encode()
    except json.JSONDecodeError as exc:
        raise NoJson(str(exc)) from exc
    except UnicodeDecodeError as exc:
        raise NoJson("it is not UTF-8") from exc
    except UnicodeEncodeError as exc:
        raise NoJson("it holds half of a surrogate pair") from exc
    except RecursionError as exc:
        raise NoJson("it is nested too deeply") from exc
    except ValueError as exc:  # NaN, or more digits than Python reads
        raise NoJson("it holds a number that JSON does not have, or one too long") from exc
    return found


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")


def one_line(text: str) -> bytes:
    """JSON text, also for clients that end lines wherever Unicode does."""
    if not text.isascii():
        for end, escape in _LINE_ENDS.items():
            text = text.replace(end, escape)
    return text.encode()
