"""What HTTP endpoints share: a body's size and nesting, checked before it is parsed; strict JSON; JSON on one line."""

from __future__ import annotations

import json
import re
from typing import Any, NoReturn

from starlette.requests import ClientDisconnect, Request

MAX_DEPTH = 100  # levels of JSON; a real request has about ten
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_LINE_ENDS = {end: f"\\u{ord(end):04x}" for end in "\x85\u2028\u2029"}


class NoJson(ValueError):
    """The text says why."""


class BadBody(Exception):
    """`status` is the HTTP status that says it: 400 nested too deeply, 413 too large."""

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
    """A body whose JSON is not nested too deeply, kept for `request.json()`. Raises BadBody."""
    request._body = await shallow_body(request, limit)  # Starlette's own cache: `request.json()` reads it from there
    return request._body


async def shallow_body(request: Request, limit: int) -> bytes:
    """The same, kept by nobody else. Raises BadBody."""
    body = await whole_body(request, limit)
    if depth(body) > MAX_DEPTH:
        raise BadBody(400, f"The JSON is nested more than {MAX_DEPTH} levels deep.")
    return body


def depth(body: bytes) -> int:
    """How deeply JSON text is nested, up to one more than `MAX_DEPTH`; 0 for what is no JSON, which others tell.

    The pre-check spares nearly every body a second parsing.
    """
    if body.count(b"[") + body.count(b"{") <= MAX_DEPTH:
        return 0
    try:
        return nesting(json.loads(body))
    except RecursionError:
        return MAX_DEPTH + 1
    except ValueError:
        return 0


def nesting(value: Any) -> int:
    """Levels of lists and objects in parsed JSON, counted no further than one more than `MAX_DEPTH`."""
    levels, level = 0, [value]
    while levels <= MAX_DEPTH and (level := [item for item in level if isinstance(item, dict | list)]):
        levels += 1
        level = [inner for item in level for inner in (item.values() if isinstance(item, dict) else item)]
    return levels


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
