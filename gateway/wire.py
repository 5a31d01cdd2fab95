"""What every HTTP endpoint checks before it parses a body: its size and how deeply it is nested."""

from __future__ import annotations

import re

from starlette.requests import ClientDisconnect, Request

MAX_DEPTH = 100  # levels of JSON; a real request has about ten
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*+"?', re.DOTALL)
_BRACKET = re.compile(rb"[\[\]{}]")


class BadBody(Exception):
    """`status` is the HTTP status that says it: 400 nested too deeply, 413 too large."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


async def checked_body(request: Request, limit: int) -> bytes:
    """The request's body, kept for `request.json()`. Raises BadBody; nothing beyond `limit` bytes is held."""
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > limit:
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
    body = b"".join(chunks)
    if depth(body) > MAX_DEPTH:
        raise BadBody(400, f"The JSON is nested more than {MAX_DEPTH} levels deep.")
    request._body = body  # Starlette's own cache: `request.json()` reads it from there
    return body


def depth(body: bytes) -> int:
    """How deeply JSON text is nested, found without parsing it."""
    if body.count(b"[") + body.count(b"{") <= MAX_DEPTH:
        return 0
    deepest = level = 0
    for bracket in _BRACKET.findall(_STRING.sub(b"", body)):
        level += 1 if bracket in b"[{" else -1
        deepest = max(deepest, level)
    return deepest
