"""What is asked for under a key is done once: who asks again, in the same words, gets what came of it.

    earlier = begin(conn, once)          # None: do it, and then
    settle(conn, once, result, seconds)  # in the same transaction

A record is inserted before the work and in its transaction: of two requests at once one inserts it, and the other waits
for the commit and is told the first one's result. Its id is a hash of whose request it is and of the key, so that the
database tells no keys. `scope` names what is asked of: two scopes know nothing of each other's keys.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from typing import Any

from sqlalchemy import BigInteger, Column, Connection, delete, select, update
from sqlmodel import JSON, Field, SQLModel

from gateway.clock import now_us
from gateway.db.upsert import insert_new
from gateway.errors import KeyReused, UsageError

HEADER = "Idempotency-Key"
MIN_SECRET = 22  # characters: 128 random bits in base64
_KEY = re.compile(r'"?([!#-+\--\[\]-~]{1,255})"?')  # printable ASCII but space, comma, quote and backslash
_SWEPT = 20  # expired records that one new record takes with it


class Record(SQLModel, table=True):
    __tablename__ = "idempotency"

    id: str = Field(primary_key=True)
    digest: str
    result: dict[str, Any] | None = Field(default=None, sa_column=Column(JSON(none_as_null=True)))
    expires_at: int = Field(sa_column=Column(BigInteger, nullable=False, index=True))


_record = Record.__table__  # type: ignore[attr-defined]


@dataclass(frozen=True, slots=True)
class Once:
    """A request under a key: `id` says whose and which, `digest` what it asks for."""

    id: str
    digest: str

    @classmethod
    def of(cls, scope: str, principal: str, key: str, digest: str) -> Once:
        return cls(hashlib.sha256(json.dumps([scope, principal, key]).encode()).hexdigest(), digest)


def parse_key(text: str, *, secret: bool = False) -> str:
    """The key of a header, in quotes (as its draft standard has it) or bare. Raises UsageError.

    `secret`: who has the key gets the result, so it must be one nobody guesses.
    """
    found = _KEY.fullmatch(text.strip())
    if found is None:
        said = f"{HEADER} {text[:40]!r} cannot be used."
        raise UsageError(
            said, "Take 1 to 255 printable ASCII characters without spaces, commas, quotes and backslashes, such as a UUID."
        )
    if secret and len(found[1]) < MIN_SECRET:
        said = f"{HEADER} {text[:40]!r} is too short for callers who do not sign in: others could guess it."
        raise UsageError(said, f"Take at least {MIN_SECRET} characters, such as a UUID, or sign in.")
    return found[1]


def find(conn: Connection, once: Once) -> dict[str, Any] | None:
    """What came of a request, if it was made. Raises KeyReused when the key was used for another one."""
    query = select(_record.c.digest, _record.c.result).where(_record.c.id == once.id, _record.c.expires_at > now_us())
    found = conn.execute(query).first()
    if found is None:
        return None
    if found.digest != once.digest:
        raise KeyReused(f"This {HEADER} was used for another request.", "Take a new key for a new request.")
    result: dict[str, Any] = found.result
    return result


def begin(conn: Connection, once: Once) -> dict[str, Any] | None:
    """Claim a key, or answer what came of it already. Raises KeyReused."""
    conn.execute(delete(_record).where(_record.c.id == once.id, _record.c.expires_at <= now_us()))
    forever = {"id": once.id, "digest": once.digest, "expires_at": 2**62}
    return None if insert_new(conn, _record, forever) else find(conn, once)


def settle(conn: Connection, once: Once, result: dict[str, Any], seconds: float) -> None:
    """Keep what came of a claimed key's request for so long, and sweep what has been kept long enough."""
    expires_at = now_us() + round(seconds * 1e6)
    kept = {"digest": once.digest, "result": result, "expires_at": expires_at}
    conn.execute(update(_record).where(_record.c.id == once.id).values(kept))
    old = select(_record.c.id).where(_record.c.expires_at <= now_us()).order_by(_record.c.expires_at).limit(_SWEPT)
    conn.execute(delete(_record).where(_record.c.id.in_(old.with_for_update(skip_locked=True))))
