"""Time and ids, in one place so that tests can put their own."""

from __future__ import annotations

import secrets
import time
from datetime import UTC, datetime


def now_us() -> int:
    """Microseconds since the epoch, UTC."""
    return time.time_ns() // 1000


def iso(us: int) -> str:
    """Microseconds since the epoch as ISO 8601, UTC, milliseconds: 2026-11-21T09:39:00.123Z"""
    return datetime.fromtimestamp(us / 1e6, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def new_id(prefix: str) -> str:
    """An unguessable id, 96 bits: ses_, tsk_, trn_, evt_, call_, inc_."""
    return f"{prefix}_{secrets.token_hex(12)}"
