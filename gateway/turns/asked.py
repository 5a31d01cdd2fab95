"""What a turn is asked to do: the messages that asked for it, and the tasks they refer to.

A referenced task is looked up among those of the same agent and principal; any other is told as one nobody knows.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, select

from gateway.log.models import ANSWERED, EventRow, Session, Task
from gateway.turns.leases import Claimed
from gateway.turns.queue import messages
from gateway.turns.spec import prompt_of

Json = dict[str, Any]

MAX_TEXT = 2000  # characters of a referenced task's answer; its end says most
MAX_ROWS = 100

_session, _task, _event = Session.__table__, Task.__table__, EventRow.__table__  # type: ignore[attr-defined]


@dataclass(frozen=True, slots=True)
class Asked:
    prompt: str
    parts: tuple[Json, ...]
    message_id: str
    metadata: Json
    context_id: str
    task_id: str
    references: tuple[Json, ...]
    goes_on: bool = False  # with what an attempt before this one was asked
    anew: bool = False  # as an attempt before this one was

    @property
    def whole_prompt(self) -> str:
        """The prompt for runtimes that are told nothing else."""
        return "\n\n".join([self.prompt, *map(_readable, self.references)])


def asked_of(conn: Connection, turn: Claimed, waiting: str = "") -> Asked:
    """What a turn is asked, or, of a turn that waits to join it, what that one is."""
    bodies: list[Json] = [json.loads(body) for body in messages(conn, waiting or turn.id)]
    last = bodies[-1] if bodies else {}
    ids = dict.fromkeys(id for body in bodies for id in body.get("reference_task_ids", ()))
    return Asked(
        prompt=prompt_of(bodies),
        parts=tuple(part for body in bodies for part in body["parts"]),
        message_id=last.get("message_id", ""),
        metadata=last.get("metadata", {}),
        context_id=turn.session_id,
        task_id=turn.task_id,
        references=_references(conn, turn, list(ids)),
    )


def _references(conn: Connection, turn: Claimed, ids: Sequence[str]) -> tuple[Json, ...]:
    if not ids:
        return ()
    principal = select(_session.c.principal).where(_session.c.id == turn.session_id).scalar_subquery()
    mine = (_task.c.agent_id == turn.agent_id, _task.c.principal == principal, _task.c.state != ANSWERED)
    found = {row.id: row for row in conn.execute(select(_task).where(_task.c.id.in_(ids), *mine))}
    return tuple(_reference(conn, id, found.get(id)) for id in ids)


def _reference(conn: Connection, id: str, task: Row[Any] | None) -> Json:
    if task is None:
        return {"task_id": id, "state": None, "text": None}
    text = _text_of(conn, task)
    short = text if len(text) <= MAX_TEXT else "…" + text[-MAX_TEXT:]
    return {"task_id": id, "state": task.state, "text": short}


def _text_of(conn: Connection, task: Row[Any]) -> str:
    """The end of what a task answered so far."""
    between = _event.c.seq.between(task.first_seq, task.snapshot_seq or 2**62)
    mine = (_event.c.session_id == task.session_id, _event.c.task_id == task.id, between)
    told = (_event.c.sub == 0, _event.c.type.in_(("chunk", "artifact", "ask", "done")))
    query = select(_event.c.type, _event.c.body).where(*mine, *told).order_by(_event.c.seq.desc()).limit(MAX_ROWS)
    pieces: list[str] = []
    for row in conn.execute(query):
        pieces.append(_told(row.type, json.loads(row.body)))
        if sum(map(len, pieces)) > MAX_TEXT:
            break
    return "".join(reversed(pieces)).strip()


def _told(type: str, body: Mapping[str, Any]) -> str:
    match type:
        case "chunk":
            return str(body["text"])
        case "artifact":
            return f"\n[{body['name']}]\n" + "".join(str(part.get("text", "")) for part in body["parts"])
        case "ask":
            return f"\n{body['question']}"
    return "".join(str(part.get("text", "")) for part in body.get("message", ()))


def _readable(reference: Mapping[str, Any]) -> str:
    if reference["state"] is None:
        return f"[Referenced task {reference['task_id']}: there is no such task.]"
    return f"[Referenced task {reference['task_id']}, {reference['state']}. Its answer:]\n{reference['text']}"
