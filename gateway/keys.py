"""The keys a gateway makes for itself, each in a file of the data directory that only its owner may read."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from pathlib import Path

from gateway.errors import UsageError
from registry import keyfile
from registry.rules import KeyFileUnsafe


def key_in(path: Path, make: Callable[[], str] = lambda: secrets.token_hex(32)) -> str:
    """The key in `path`, made at first use. Raises UsageError when others may read the file, or it is damaged."""
    try:
        return keyfile.read_or_create(path, make)
    except KeyFileUnsafe as exc:
        raise UsageError(exc.message, exc.hint) from exc
