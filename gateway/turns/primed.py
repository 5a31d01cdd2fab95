"""What a runtime is told that has no memory of a conversation: what was said so far, from the log, bounded.

Its own resume is better in every way; this is for when its journal is lost, or was left behind on another machine.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection, select

from gateway.log.models import EventRow, Task
from gateway.turns.asked import Asked
from gateway.turns.leases import Claimed
from gateway.turns.queue import first_seq
from gateway.turns.spec import prompt_of

MAX_CHARS = 32_000  # of the conversation; its end says most
PAGE = 500
_BEFORE = "[You have no memory of this conversation, or not of its end. This is what was said, the last of it at the end:]"
_NOW = "[And this is the message to answer now:]"

_event, _task = EventRow.__table__, Task.__table__  # type: ignore[attr-defined]


def conversation(conn: Connection, turn: Claimed, *, whole: bool = False) -> str:
    """What was said in a session before a turn, or with it as the `whole`; "" where the agent has said nothing yet."""
    said: list[tuple[str, str]] = []  # (who, what), the newest first
    size = 0
    for who, text in _backwards(conn, turn, whole):
        if said and said[-1][0] == who:
            said[-1] = (who, text + said[-1][1])
        else:
            said.append((who, text))
        size += len(text)
        if size >= MAX_CHARS:
            break
    if not any(who == "You" for who, _ in said):
        return ""
    text = "\n\n".join(f"{who}: {text.strip()}" for who, text in reversed(said))
    return text if len(text) <= MAX_CHARS else "…" + text[-MAX_CHARS:]


def primed(asked: Asked, said: str) -> Asked:
    """What a turn is asked, after what was said before."""
    before = f"{_BEFORE}\n\n{said}\n\n{_NOW}"
    return replace(asked, prompt=f"{before}\n\n{asked.prompt}", parts=({"text": before}, *asked.parts))


def _backwards(conn: Connection, turn: Claimed, whole: bool) -> Iterator[tuple[str, str]]:
    """Who said what: from the log as far as it goes back, then from the tasks that were kept."""
    row = _event.c
    oldest = 2**62 if whole else first_seq(conn, turn.id)
    query = select(row.seq, row.type, row.body).where(row.session_id == turn.session_id, row.sub == 0)
    query = query.where(row.type.in_(("message", "chunk", "ask", "tool_start"))).order_by(row.seq.desc()).limit(PAGE)
    while rows := conn.execute(query.where(row.seq < oldest)).all():
        for found in rows:
            yield _said(found.type, json.loads(found.body))
        oldest = rows[-1].seq
    kept = select(_task.c.snapshot).where(_task.c.session_id == turn.session_id, _task.c.first_seq < oldest)
    for task in conn.execute(kept.where(_task.c.snapshot.is_not(None)).order_by(_task.c.first_seq.desc())).scalars():
        yield "You", "".join(part.get("text", "") for artifact in task.get("artifacts", ()) for part in artifact["parts"])
        yield "User", "\n\n".join(prompt_of([message]) for message in task["history"])


def _said(type: str, body: Mapping[str, Any]) -> tuple[str, str]:
    match type:
        case "message":
            return "User", prompt_of([dict(body)])
        case "ask":
            return "You", f"\n{body['question']}"
        case "tool_start":
            return "You", f"\n[{body['title']}]\n"
    return "You", str(body["text"])
