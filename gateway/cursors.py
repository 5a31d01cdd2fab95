"""Where a page of a list, newest first, ended: the time and the id of its last row, as one word."""

from __future__ import annotations

import base64
import binascii

from gateway.errors import InvalidParams


def cursor(at: int, id: str) -> str:
    return base64.urlsafe_b64encode(f"{at} {id}".encode()).decode()


def after(text: str, name: str = "cursor", hint: str = "Give what the last page said as next.") -> tuple[int, str]:
    """What `cursor` made a word of. Raises InvalidParams."""
    try:
        at, _, id = base64.urlsafe_b64decode(text.encode()).decode().partition(" ")
        time = int(at)
        if not 0 <= time < 2**62:
            raise ValueError(at)
    except (ValueError, binascii.Error) as exc:
        raise InvalidParams(f"The {name} {text[:80]!r} is none that was given out.", hint) from exc
    return time, id
