"""Which A2A version a request speaks (spec v1.0, section 3.6): said by header or query parameter; empty is 0.3.

1.0 and 0.3 are spoken, with any patch number. Each has method names and paths of its own: one used under the other's
version is refused, so that nobody reads an answer in a shape they do not expect.
"""

from __future__ import annotations

import re
from typing import Literal

from a2a.utils.errors import VersionNotSupportedError

Version = Literal["1.0", "0.3"]
HEADER = "A2A-Version"
_KNOWN: dict[str, Version] = {"1.0": "1.0", "0.3": "0.3"}
_TEXT = re.compile(r"(\d+\.\d+)(?:\.\d+)?", re.ASCII)


def spoken(header: str | None, query: str | None = None) -> Version:
    """Raises VersionNotSupportedError."""
    text = (header or query or "").strip()
    if not text:
        return "0.3"
    found = _TEXT.fullmatch(text)
    version = _KNOWN.get(found[1]) if found else None
    if version is None:
        raise VersionNotSupportedError(f"A2A version {text[:40]!r} is not supported; this agent speaks 1.0 and 0.3.")
    return version


def require(expected: Version, version: Version, what: str) -> None:
    """Refuse `what`, which belongs to `expected`, in a request of the other version."""
    if version != expected:
        raise VersionNotSupportedError(
            f"{what} belongs to A2A {expected}, but the request is one of {version}. Send the header {HEADER}: {expected}."
        )
