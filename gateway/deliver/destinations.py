"""Webhooks of a session: where its events go, which of them, and by what they are signed.

Given when the session is made (`destinations`) or later; each gets what comes after it was made. What it is told never
changes, so that a delivery is the same in every try; its secrets may: two of them sign while receivers change over.
Operations are of a connection. Secrets are sealed where they stand and never come back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from sqlalchemy import Connection, RowMapping, delete, func, insert, select, update

from adapters.events import SHOWN
from gateway.clock import iso, new_id, now_us
from gateway.deliver.guard import Guard, Refused
from gateway.deliver.models import Destination, Outbox
from gateway.deliver.sender import key_of
from gateway.errors import Conflict, InvalidParams, NotFound
from gateway.log.models import Session
from gateway.log.store import locked
from registry.secrets import Secrets

MAX_DESTINATIONS = 10  # of one session
MAX_SECRETS = 2
SEE = "See specs/session-api.md."

Level = Literal["user", "progress"]
LEVELS: Mapping[str, tuple[str, ...]] = {"user": ("user",), "progress": ("user", "progress")}

_hook, _outbox, _session = Destination.__table__, Outbox.__table__, Session.__table__  # type: ignore[attr-defined]


class Given(BaseModel):
    """A destination as a caller asks for it. No `types`: all of the level."""

    model_config = ConfigDict(extra="forbid", strict=True)

    url: str
    level: Level = "progress"
    types: list[str] = Field(default=[], max_length=len(SHOWN))
    secrets: list[str] = Field(default=[], max_length=MAX_SECRETS, repr=False)


@dataclass(frozen=True, slots=True)
class Wanted:
    """A destination, checked: it can be kept as it is."""

    url: str
    origin: str
    level: str
    types: tuple[str, ...]
    secrets: tuple[str, ...] = field(repr=False)


_GIVEN = TypeAdapter(list[Given])


async def validate(guard: Guard, given: object, place: str = "destinations") -> list[Wanted]:
    """What a request holds as `place`, checked. Raises InvalidParams, which quotes no secret."""
    try:
        asked = _GIVEN.validate_python(given)
    except ValidationError as exc:
        raise InvalidParams("; ".join(_said(place, error) for error in exc.errors()[:3]), SEE) from exc
    if len(asked) > MAX_DESTINATIONS:
        raise InvalidParams(f"{place}: {len(asked)} are too many.", f"Give at most {MAX_DESTINATIONS}.")
    return [await _wanted(guard, one, f"{place}.{index}") for index, one in enumerate(asked)]


def _said(place: str, error: Any) -> str:
    return f"{'.'.join(map(str, (place, *error['loc'])))}: {error['msg']}"


async def _wanted(guard: Guard, given: Given, place: str) -> Wanted:
    unknown = sorted(set(given.types) - set(SHOWN))
    if unknown:
        raise InvalidParams(f"{place}.types: {unknown[0][:80]!r} is no type of event.", f"There are: {', '.join(SHOWN)}.")
    check_secrets(given.secrets, f"{place}.secrets")
    try:
        vetted = await guard.vet(given.url)
    except Refused as exc:
        raise InvalidParams(f"{place}.url cannot be used: {exc.told}", "Give one that everybody reaches by https.") from exc
    return Wanted(given.url, vetted.origin, given.level, tuple(dict.fromkeys(given.types)), tuple(given.secrets))


def check_secrets(secrets: Sequence[str], place: str = "secrets") -> None:
    """Raises InvalidParams."""
    if len(secrets) > MAX_SECRETS:
        raise InvalidParams(f"{place}: {len(secrets)} are too many.", f"Give at most {MAX_SECRETS}: the old and the new one.")
    if not all(24 <= len(key_of(secret) or b"") <= 64 for secret in secrets):
        raise InvalidParams(f"{place}: a secret is whsec_ and 24 to 64 random bytes in base64.", "Make one, or leave it out.")


def save(conn: Connection, secrets: Secrets, session_id: str, wanted: Sequence[Wanted]) -> list[dict[str, Any]]:
    """Keep destinations of a session. Raises NotFound for the session, Conflict when it has too many."""
    locked(conn, session_id)  # an event is before these destinations, or is owed to them
    session = conn.execute(select(_session.c.agent_id, _session.c.principal).where(_session.c.id == session_id)).first()
    if session is None:
        raise NotFound(f"Session {session_id[:100]!r} was not found.", "Ask as the caller who began it.")
    count = conn.execute(select(func.count()).select_from(_hook).where(*_of(session_id))).scalar_one()
    if count + len(wanted) > MAX_DESTINATIONS:
        raise Conflict(f"Session {session_id!r} has {count} destinations already.", "Remove one first.")
    return [_add(conn, secrets, session_id, session, one) for one in wanted]


def _add(conn: Connection, secrets: Secrets, session_id: str, session: Any, wanted: Wanted) -> dict[str, Any]:
    id, now = new_id("dst"), now_us()
    row = {
        "id": id,
        "task_id": "",
        "name": id,
        "session_id": session_id,
        "agent_id": session.agent_id,
        "principal": session.principal,
        "url": wanted.url,
        "origin": wanted.origin,
        "token": _sealed(secrets, id, wanted.secrets),
        "scheme": "",
        "credentials": "",
        "version": "",
        "level": wanted.level,
        "types": list(wanted.types),
        "created_at": now,
        "updated_at": now,
    }
    conn.execute(insert(_hook), row)
    return shown(row)


def _sealed(secrets: Secrets, id: str, given: Sequence[str]) -> str:
    return secrets.box("push_config", id).seal("token", " ".join(given)) if given else ""


def listing(conn: Connection, session_id: str) -> list[dict[str, Any]]:
    """A session's destinations, oldest first."""
    rows = conn.execute(select(_hook).where(*_of(session_id)).order_by(_hook.c.created_at, _hook.c.id))
    return [shown(row._mapping) for row in rows]


def sign(conn: Connection, secrets: Secrets, session_id: str, id: str, given: Sequence[str]) -> dict[str, Any]:
    """Sign with these secrets from now on, of which each makes a signature. Raises NotFound."""
    values = {"token": _sealed(secrets, id, given), "updated_at": now_us()}
    if not conn.execute(update(_hook).where(*_of(session_id), _hook.c.id == id).values(values)).rowcount:
        raise _missing(session_id, id)
    return shown(conn.execute(select(_hook).where(_hook.c.id == id)).one()._mapping)


def remove(conn: Connection, session_id: str, id: str) -> None:
    """Forget a destination and all that is still owed to it. Raises NotFound."""
    locked(conn, session_id)  # nobody owes it anything meanwhile
    if not conn.execute(delete(_hook).where(*_of(session_id), _hook.c.id == id)).rowcount:
        raise _missing(session_id, id)
    conn.execute(delete(_outbox).where(_outbox.c.config_id == id))


def _of(session_id: str) -> tuple[Any, Any]:
    return _hook.c.session_id == session_id, _hook.c.task_id == ""


def _missing(session_id: str, id: str) -> NotFound:
    return NotFound(f"Session {session_id!r} has no destination {id[:100]!r}.", "List them.")


def shown(row: RowMapping | Mapping[str, Any]) -> dict[str, Any]:
    """A destination as its caller may read it."""
    plain = {name: row[name] for name in ("id", "url", "level", "types")}
    return {**plain, "signed": bool(row["token"]), "created_at": iso(row["created_at"])}
