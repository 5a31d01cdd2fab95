"""Sessions as their callers see them, read from the tables: one, a page of them, and what came of the last turn.

A session belongs to an agent and a principal. One of somebody else, or of an agent that is gone or that its principal may
no longer call, is not found.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, RowMapping, Select, func, literal_column, or_, select, true, tuple_

from gateway import cursors
from gateway.a2a.translate import artifact_id
from gateway.auth.callers import Principal
from gateway.clock import iso
from gateway.errors import NotFound
from gateway.files import refs
from gateway.log.models import EventRow, Task, Turn
from gateway.log.models import Session as SessionRow
from gateway.sessions import shapes
from gateway.sessions.shapes import ListSessions, Result, Session, SessionPage
from gateway.turns.queue import WAITING, archived
from registry import models

_S, _E = SessionRow.__table__, EventRow.__table__  # type: ignore[attr-defined]
_TURN, _TASK = Turn.__table__, Task.__table__  # type: ignore[attr-defined]
_AGENT, _VERSION = models.Agent.__table__, models.AgentVersion.__table__  # type: ignore[attr-defined]

_LAST_SEQ = select(func.coalesce(func.max(_E.c.seq), 0)).where(_E.c.session_id == _S.c.id).scalar_subquery()
_SEEN: Select[Any] = (
    select(
        *(_S.c[name] for name in ("id", "agent_id", "principal", "status", "meta", "limits", "created_at", "updated_at")),
        _AGENT.c.name.label("agent"),
        _VERSION.c.public,
        _LAST_SEQ.label("seq"),
    )
    .join(_AGENT, (_AGENT.c.id == _S.c.agent_id) & _AGENT.c.deleted_at.is_(None))
    .join(_VERSION, (_VERSION.c.agent_id == _AGENT.c.id) & (_VERSION.c.version == _AGENT.c.version))
)


_SAID = ("turn_started", "chunk", "ask", "artifact", "done")


@dataclass(frozen=True, slots=True)
class Seen:
    """A session, and what admission looks at of its agent as it is now."""

    id: str
    agent_id: str
    principal: str
    status: shapes.Status
    meta: dict[str, Any] | None
    limits: dict[str, Any] | None
    created_at: int
    updated_at: int
    agent: str
    public: bool
    seq: int

    @property
    def rests(self) -> bool:
        return self.status not in ("queued", "running")

    def fields(self) -> dict[str, Any]:
        plain = {"id": self.id, "agent": self.agent, "status": self.status, "seq": self.seq}
        return {
            **plain,
            "metadata": self.meta or {},
            "limits": self.limits or {},
            "created_at": iso(self.created_at),
            "updated_at": iso(self.updated_at),
        }


def missing(id: str) -> NotFound:
    return NotFound(f"Session {id[:80]!r} was not found.", "Ask as the caller who began it: another's answers like this, too.")


def find(conn: Connection, id: str, principal: str) -> Seen:
    """Raises NotFound."""
    row = conn.execute(_SEEN.where(_S.c.id == id, _S.c.principal == principal)).first()
    if row is None:
        raise missing(id)
    return _seen(row._mapping)


def waiting_task(conn: Connection, session_id: str) -> str | None:
    """The task whose question a session waits to have answered."""
    waits = (_S.c.id == session_id, _S.c.status == "awaiting_input", _TASK.c.state.in_(WAITING))
    query = select(_TASK.c.id).join(_S, _S.c.id == _TASK.c.session_id).where(*waits)
    return conn.execute(query.order_by(_TASK.c.updated_at.desc()).limit(1)).scalar()


def check_open(conn: Connection, session_id: str) -> None:
    """Raises Archived."""
    if conn.execute(select(_S.c.status).where(_S.c.id == session_id)).scalar() == "archived":
        raise archived(session_id)


def goes_on(conn: Connection, session_id: str, after: int, levels: Sequence[str], types: Collection[str] | None) -> bool:
    """Whether there is an event of these levels and types after a position, or a snapshot in the place of some."""
    later = (_E.c.session_id == session_id, _E.c.seq > after)
    first = conn.execute(select(func.min(_E.c.seq)).where(*later)).scalar()
    if first is None or first > after + 1:
        return first is not None
    wanted = (_E.c.level.in_(levels), *(() if types is None else (_E.c.type.in_(types),)))
    return conn.execute(select(_E.c.seq).where(*later, *wanted).limit(1)).first() is not None


def page(conn: Connection, principal: Principal, asked: ListSessions) -> SessionPage:
    """The principal's sessions, newest first. Raises InvalidParams for a cursor that is none."""
    query = _SEEN.where(_S.c.principal == principal.id, _may_call(principal))
    if asked.agent is not None:
        query = query.where(_AGENT.c.name == asked.agent)
    if asked.status is not None:
        query = query.where(_S.c.status == asked.status)
    if asked.cursor is not None:
        query = query.where(tuple_(_S.c.created_at, _S.c.id) < tuple_(*cursors.after(asked.cursor)))
    query = query.order_by(_S.c.created_at.desc(), _S.c.id.desc()).limit(asked.limit + 1)
    found = [_seen(row._mapping) for row in conn.execute(query)]
    shown = found[: asked.limit]
    more = len(found) > len(shown)
    return SessionPage(
        sessions=[Session(**seen.fields()) for seen in shown],
        next=cursors.cursor(shown[-1].created_at, shown[-1].id) if more else None,
    )


def result(conn: Connection, seen: Seen) -> Result:
    """What came of the last turn that ended."""
    ended = (_TURN.c.session_id == seen.id, _TURN.c.yield_reason.is_not(None), _TURN.c.yield_reason != "steered")
    turn = conn.execute(select(_TURN).where(*ended).order_by(_TURN.c.ordinal.desc()).limit(1)).first()
    said = _Said() if turn is None else _said(conn, turn)
    asked = turn is not None and turn.yield_reason in ("needs_input", "needs_auth")
    return Result(
        session_id=seen.id,
        status=seen.status,
        turn=None if turn is None else _turn(turn._mapping, said.done_at),
        text="".join(said.texts),
        question=said.question if asked else None,
        artifacts=[shapes.Artifact(name=name, parts=parts) for name, parts in said.artifacts.items()],
    )


class _Said:
    """What a turn said, asked and made."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.question: str | None = None
        self.artifacts: dict[str, list[dict[str, Any]]] = {}
        self.done_at: int | None = None
        self._anew = False  # the next piece replaces the text of a cut attempt

    def add(self, type: str, body: dict[str, Any], at: int) -> None:
        match type:
            case "turn_started":
                self._anew = bool(body.get("anew"))
            case "chunk":
                self.texts = [] if self._anew else self.texts
                self._anew = False
                self.texts.append(body["text"])
            case "ask":
                self.question = body["question"]
            case "artifact":
                if not body["append"]:
                    self.artifacts[body["name"]] = []
                refs.extend(self.artifacts.setdefault(body["name"], []), body["parts"])
            case "done":
                self.texts += _texts(body.get("message", ()))
                self.done_at = at

    def add_kept(self, turn_id: str, task: dict[str, Any] | None) -> None:
        """Of a turn whose events went into the archive: what its task was kept as."""
        for artifact in (task or {}).get("artifacts", ()):
            if artifact["artifactId"] == artifact_id(turn_id):
                self.texts += _texts(artifact["parts"])
            elif artifact["artifactId"].startswith(artifact_id(turn_id)):
                self.artifacts[artifact["name"]] = artifact["parts"]


def _texts(parts: Iterable[dict[str, Any]]) -> list[str]:
    return [part["text"] for part in parts if "text" in part]


def _said(conn: Connection, turn: Any) -> _Said:
    """What a turn said lies after its message, which an index finds."""
    said = _Said()
    message = (_E.c.turn_id == turn.id, _E.c.type == literal_column("'message'"))
    first = conn.execute(select(func.min(_E.c.seq)).where(*message)).scalar()
    if first is None:
        said.add_kept(turn.id, conn.execute(select(_TASK.c.snapshot).where(_TASK.c.id == turn.task_id)).scalar())
        return said
    mine = (_E.c.session_id == turn.session_id, _E.c.seq >= first, _E.c.turn_id == turn.id, _E.c.type.in_(_SAID))
    for row in conn.execute(select(_E.c.type, _E.c.body, _E.c.created_at).where(*mine).order_by(_E.c.seq)):
        said.add(row.type, json.loads(row.body), row.created_at)
    return said


def _turn(row: RowMapping, done_at: int | None) -> shapes.Turn:
    """It has ended when its `done` was stored; its process may take a moment longer. One that never ran has none."""
    plain = {name: row[name] for name in ("id", "task_id", "yield_reason", "error")}
    at = {"queued_at": row["queued_at"], "started_at": row["started_at"], "ended_at": done_at or row["ended_at"]}
    return shapes.Turn.model_validate(plain | {name: time and iso(time) for name, time in at.items()})


def _seen(row: RowMapping) -> Seen:
    return Seen(**row)


def _may_call(principal: Principal) -> ColumnElement[bool]:
    """As `auth.callers.may_call` has it."""
    if principal.agents is None and not principal.anonymous:
        return true()
    return or_(_VERSION.c.public.is_(True), _AGENT.c.id.in_(principal.agents or ()))
