"""What lay in a turn's outbox before its first attempt, on disk: a later attempt, or whoever ends the turn, goes by it.

It stands beside the session's directories, for its latest turn. What cannot be read is as if it were not there.
"""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path

from pydantic import BaseModel, ValidationError

NAME = "outbox.json"
MOST = 8 * 2**20  # bytes
Mark = tuple[int, int, int, int]  # of a file: its number, size, and when it and what is known of it were changed
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class _Kept(BaseModel):
    turn: str
    before: dict[str, Mark]


def keep(folder: Path, turn_id: str, before: dict[str, Mark]) -> None:
    """For the session whose directory this is. Where it cannot be written, nobody will know."""
    new = folder / f".{NAME}.{secrets.token_hex(4)}"
    with suppress(OSError):
        with os.fdopen(os.open(new, _NEW, 0o600), "w", encoding="utf-8", errors="surrogateescape") as file:
            file.write(_Kept.model_construct(turn=turn_id, before=before).model_dump_json())
        try:
            new.replace(folder / NAME)
        except OSError:  # something else stands there
            new.unlink()


def kept(folder: Path, turn_id: str) -> dict[str, Mark] | None:
    """None where it is not known here."""
    try:
        with os.fdopen(os.open(folder / NAME, _READ), encoding="utf-8", errors="surrogateescape") as file:
            found = _Kept.model_validate_json(file.read(MOST))
    except (OSError, ValidationError, ValueError):
        return None
    return found.before if found.turn == turn_id else None
