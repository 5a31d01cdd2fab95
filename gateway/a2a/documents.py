"""Public documents with validators: ETag, Last-Modified, Cache-Control, and answers to conditional requests (RFC 9110)."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC
from email.utils import formatdate, parsedate_to_datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

MAX_AGE = 60  # seconds
_ETAG = re.compile(r'(?:W/)?("[\x21\x23-\x7e\x80-\xff]*")')


@dataclass(frozen=True, slots=True)
class Document:
    """`modified`: microseconds since the epoch; None where it is not known, and then only the ETag counts."""

    data: bytes
    media_type: str = "application/json"
    modified: int | None = None
    more: Mapping[str, str] = field(default_factory=dict)  # headers

    @classmethod
    def of(cls, body: Any, media_type: str = "application/json", **more: Any) -> Document:
        return cls(json.dumps(body, ensure_ascii=False).encode(), media_type, **more)

    @property
    def etag(self) -> str:
        return f'"{hashlib.sha256(self.data).hexdigest()[:32]}"'

    @property
    def headers(self) -> dict[str, str]:
        headers = {"ETag": self.etag, "Cache-Control": f"public, max-age={MAX_AGE}", **self.more}
        if self.modified is not None:
            headers["Last-Modified"] = formatdate(self.modified // 1_000_000, usegmt=True)
        return headers


def answer(request: Request, document: Document) -> Response:
    """The document, its head, or 304 to whoever has it already."""
    headers = document.headers
    if _has_it(request, document):
        return Response(status_code=304, headers=headers)
    headers |= {"Content-Type": document.media_type, "Content-Length": str(len(document.data))}
    return Response(b"" if request.method == "HEAD" else document.data, headers=headers)


def _has_it(request: Request, document: Document) -> bool:
    """If-None-Match, compared weakly, decides alone where it is sent (section 13.2.2)."""
    asked = request.headers.getlist("if-none-match")
    if asked:
        tags = ",".join(asked)
        return tags.strip() == "*" or document.etag in _ETAG.findall(tags)
    since = _seconds(request.headers.get("if-modified-since", ""))
    return since is not None and document.modified is not None and document.modified // 1_000_000 <= since


def _seconds(date: str) -> int | None:
    """An HTTP date; one that is none is as if it had not been sent."""
    try:
        found = parsedate_to_datetime(date)
    except ValueError:
        return None
    return int((found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp())
