"""The states of turns, tasks and sessions: every change is one operation inside one transaction with its events.

    turn     queued -> running -> ended       one running turn a session, others wait in order
    task     submitted -> working -> completed | failed | canceled | rejected
                                  -> input_required | auth_required -> submitted ...
                                  -> answered                     by a message alone: for callers there is no such task
    session  queued -> running -> idle | awaiting_input | failed -> queued ...

A turn stays `running` until its process is gone, even when its `done` stands in the log already: the next turn of the
session works in the same journal. The turn row is the lease (`turns.leases`); a claim raises the session's fence.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import islice
from typing import Any

from sqlalchemy import BindParameter, Connection, Integer, bindparam, func, insert, literal_column, select, union_all, update

from adapters import events as ev
from adapters.events import ErrorCategory, Event
from gateway.clock import new_id, now_us
from gateway.errors import Archived, Busy, Conflict, InvalidParams, Unavailable
from gateway.log.models import ANSWERED, EventRow, Session, Task, Turn
from gateway.log.owned import no_context, task_of
from gateway.log.rows import Batch, Entry, Position
from gateway.log.store import append, encode, entries, extend, locked
from gateway.turns import fair, leases, orders
from gateway.turns.leases import Claimed
from gateway.turns.limits import added
from gateway.turns.spec import Inbound
from registry import images

TERMINAL = frozenset({"completed", "failed", "canceled", "rejected", ANSWERED})
WAITING = frozenset({"input_required", "auth_required"})
_TASK_STATE = {
    "completed": "completed",
    "needs_input": "input_required",
    "needs_auth": "auth_required",
    "canceled": "canceled",
    "rejected": "rejected",
    "deadline_exceeded": "failed",
    "budget_exceeded": "failed",
    "max_turns": "failed",
    "failed": "failed",
}
# By the state of the task that ended last.
_SESSION_STATUS = {"input_required": "awaiting_input", "auth_required": "awaiting_input", "failed": "failed"}
CONTEXT_ID = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,63}")  # it names the session's directory

MADE = "ses_"  # how the ids begin that we make
ARCHIVED = "archived"  # the kind of the last event of a session

_session, _task, _turn = Session.__table__, Task.__table__, Turn.__table__  # type: ignore[attr-defined]
_event = EventRow.__table__  # type: ignore[attr-defined]

# Statements of every turn are built once: to build one takes SQLAlchemy longer than to run it. `key` is the row's id,
# other parameters are the columns to set.
_KEY: BindParameter[Any] = bindparam("key")
_MOST: BindParameter[int] = bindparam("most", type_=Integer)
_ADD_SESSION, _ADD_TASK, _ADD_TURN = insert(_session), insert(_task), insert(_turn)
_SET_SESSION = update(_session).where(_session.c.id == _KEY)
_SET_TASK = update(_task).where(_task.c.id == _KEY)
_SET_TURN = update(_turn).where(_turn.c.id == _KEY)
_SHOW_QUEUED = _SET_SESSION.where(_session.c.status != "running")
_SESSION = select(_session).where(_session.c.id == _KEY)
# Reads no more than so many: in the order of an index, since PostgreSQL would first look for all of them else.
_FULL = select(_turn.c.id).where(_turn.c.state == "queued").order_by(_turn.c.queued_at).offset(_MOST).limit(1)
_SOME_WAIT = select(_turn.c.id).where(_turn.c.state == "queued").limit(1)
_SPENT = select(_session.c.spent).where(_session.c.id == _KEY)
_DROP_QUEUED_OF_TASK = update(_turn).where(_turn.c.task_id == _KEY, _turn.c.state == "queued")
_LAST_ORDINAL = select(func.max(_turn.c.ordinal)).where(_turn.c.session_id == _KEY)
_UNENDED = select(_turn.c.id, _turn.c.task_id, _turn.c.state, _turn.c.yield_reason).where(
    _turn.c.session_id == _KEY, _turn.c.state != "ended"
)
_UNDONE = select(_turn.c.id).where(_turn.c.session_id == _KEY, _turn.c.state != "ended", _turn.c.yield_reason.is_(None))
_OF_TURN = union_all(select(_KEY), select(_turn.c.id).where(_turn.c.steers == _KEY, _turn.c.yield_reason == "steered"))
_IS_MESSAGE = _event.c.type == literal_column("'message'")  # a literal, for the partial index
_FIRST = select(func.min(_event.c.seq)).where(_event.c.turn_id == _KEY, _IS_MESSAGE)
_TOOLS = ("tool_start", "tool_result")
_MESSAGES = select(_event.c.body).where(_event.c.turn_id.in_(_OF_TURN), _IS_MESSAGE).order_by(_event.c.seq)


@dataclass(frozen=True, slots=True)
class Accepted:
    session_id: str
    task_id: str
    turn_id: str
    seq: int  # of the message in the session's log
    at: int  # when it was stored
    batch: Batch
    steers: str | None = None  # the running turn it is to join
    direct: bool = False  # its answer may be a message alone

    def kept(self) -> dict[str, Any]:
        """As JSON, for whoever asks once more under the same key."""
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name != "batch"}

    @classmethod
    def again(cls, kept: Mapping[str, Any]) -> Accepted:
        """As the one who sent it first was told; it has no rows, for nothing was written."""
        return cls(**kept, batch=Batch(kept["session_id"], Position(kept["seq"]), []))


def accept(conn: Connection, agent_id: str, version: int, principal: str, new: Inbound, queue_limit: int) -> Accepted:
    """Store a message and queue the turn it asks for. Raises NotFound, Conflict, Unavailable; then nothing is stored."""
    if conn.execute(_FULL, {"most": queue_limit - 1}).first() is not None:
        raise Unavailable("The queue of waiting turns is full.", "Try again later.")
    _lock_named(conn, new)
    running = orders.joined(conn, agent_id, principal, new)
    task = _existing_task(conn, agent_id, principal, replace(new, task_id=running.task_id) if running else new)
    session_id = task.session_id if task else _known_session(conn, agent_id, principal, new)
    fresh = session_id is None
    if session_id is None:
        session_id = _new_session(conn, agent_id, version, principal, new)
    task_id, turn_id, now = task.id if task else new_id("tsk"), new_id("trn"), now_us()
    entry = Entry("message", "user", "human", encode(new.body()), task_id, turn_id, now)
    batch = extend(conn, session_id, [entry], first=fresh)
    seq = batch.rows[0].seq
    if task is None:
        row = {"id": task_id, "session_id": session_id, "agent_id": agent_id, "principal": principal, "state": "submitted"}
        conn.execute(_ADD_TASK, {**row, "created_at": now, "updated_at": now, "first_seq": seq, "snapshot_seq": 0})
    else:
        state = "submitted" if task.state in WAITING else task.state
        conn.execute(_SET_TASK, {"key": task_id, "state": state, "snapshot": None, "updated_at": now})
    ordinal = 1 if fresh else 1 + (conn.execute(_LAST_ORDINAL, {"key": session_id}).scalar() or 0)
    row = {"id": turn_id, "session_id": session_id, "task_id": task_id, "ordinal": ordinal, "state": "queued"}
    row |= {"digest": new.digest, "steers": running.id if running else None, "interrupt_requested": False}
    row |= {"agent_id": agent_id, "principal": principal, **fair.place_of(conn, agent_id, principal, session_id)}
    conn.execute(_ADD_TURN, {**row, "settled": False, "attempt": 0, "fence": 0, "cancel_requested": False, "queued_at": now})
    if not fresh:
        conn.execute(_SHOW_QUEUED, {"key": session_id, "status": "queued", "updated_at": now})
    return Accepted(session_id, task_id, turn_id, seq, now, batch, row["steers"], new.direct)


def _lock_named(conn: Connection, new: Inbound) -> None:
    """Lock the session a message names, itself or by its task: what is read of it, such as what runs, holds to the end."""
    of_task = select(_task.c.session_id).where(_task.c.id == new.task_id)
    session_id = conn.execute(of_task).scalar() if new.task_id else new.context_id
    if session_id:
        locked(conn, session_id)


def _existing_task(conn: Connection, agent_id: str, principal: str, new: Inbound) -> Any:
    if not new.task_id:
        return None
    task = task_of(conn, agent_id, principal, new.task_id)
    if new.context_id and new.context_id != task.session_id:
        raise Conflict(f"Task {new.task_id!r} is not of context {new.context_id[:80]!r}.", "Leave contextId out.")
    if task.state in TERMINAL:
        raise Conflict(f"Task {new.task_id!r} has ended as {task.state}.", "Send the message with its contextId only.")
    return task


def _known_session(conn: Connection, agent_id: str, principal: str, new: Inbound) -> str | None:
    """The caller's session; None where there is to be a new one. A context id that is free may be chosen by the caller.

    Not one that looks like ours: then another caller's and one that there is not would answer differently.
    """
    context_id = new.context_id
    if not context_id:
        return None
    found = conn.execute(_SESSION, {"key": context_id}).first()
    if found is not None and (found.agent_id, found.principal) == (agent_id, principal):
        if found.status == "archived":
            raise archived(context_id)
        return context_id
    if found is not None or context_id.startswith(MADE):
        raise no_context(context_id)
    if not CONTEXT_ID.fullmatch(context_id):
        raise InvalidParams(f"contextId {context_id[:80]!r} cannot be chosen.", "Take 1 to 64 of A-Z a-z 0-9 - _ .")
    return None


def _new_session(conn: Connection, agent_id: str, version: int, principal: str, new: Inbound) -> str:
    fair.check_sessions(conn, agent_id, principal)
    session_id, now = new.context_id or new_id(MADE.removesuffix("_")), now_us()
    row = {"id": session_id, "agent_id": agent_id, "agent_version": version, "principal": principal, "status": "queued"}
    row |= {"limits": dict(new.limits) or None, "runtime_version": images.current_of_agent(conn, agent_id, version)}
    conn.execute(_ADD_SESSION, {**row, "fence": 0, "native": {}, "created_at": now, "updated_at": now})
    return session_id


def version_of(conn: Connection, session_id: str | None) -> int | None:
    """The agent version a session keeps."""
    found: int | None = conn.execute(select(_session.c.agent_version).where(_session.c.id == session_id)).scalar()
    return found


def claim(conn: Connection, owner: str, limit: int, lease_seconds: float, engines: bool = True) -> list[Claimed]:
    """Take up to `limit` queued turns, as `fair` has them, none of a session that has one running.

    Without `engines` none that needs a container engine.
    """
    claimed = []
    for turn in islice(fair.next_turns(conn, engines), limit):
        claimed.append(leases.take(conn, turn, owner, lease_seconds, starts=True))
        conn.execute(_SET_TASK, {"key": turn.task_id, "state": "working", "updated_at": now_us()})
    return claimed


def some_wait(conn: Connection, engines: bool = True) -> bool:
    return conn.execute(_SOME_WAIT).first() is not None if engines else fair.some_plain(conn)


def messages(conn: Connection, turn_id: str) -> list[str]:
    """The bodies (JSON) of the messages that asked for a turn, and of those that joined it in an earlier attempt."""
    return list(conn.execute(_MESSAGES, {"key": turn_id}).scalars())


def write_events(conn: Connection, turn: Claimed, new: Sequence[Entry], native: dict[str, Any] | None) -> Batch:
    """Append a running turn's events, and what its runtime wants remembered, under the turn's fence."""
    locked(conn, turn.session_id, turn.fence)
    batch = extend(conn, turn.session_id, new)
    orders.join(conn, turn.id, [json.loads(entry.body)["turn"] for entry in new if entry.type == "steered"])
    _set_session(conn, turn, new, {} if native is None else {"native": native})
    return batch


def _set_session(conn: Connection, turn: Claimed, new: Sequence[Entry], changed: dict[str, Any]) -> None:
    """What changes of the session's row by a turn's events."""
    used = [json.loads(entry.body) for entry in new if entry.type == "usage"]
    if used:
        before = conn.execute(_SPENT, {"key": turn.session_id}).scalar_one() or {}
        changed = {**changed, "spent": added(before, used)}
    if changed:
        conn.execute(_SET_SESSION, {"key": turn.session_id, **changed})


def finish(conn: Connection, turn: Claimed, events: Sequence[Event], native: dict[str, Any] | None) -> Batch:
    """Append the last events of a turn, of which the last is its `done`, and settle its task and session with it.

    `done.final` says whether the task ended with it, or goes on with a message that came meanwhile; `done.direct` is
    there when the caller is answered by its message alone.
    """
    locked(conn, turn.session_id, turn.fence)
    done = events[-1]
    reason = done.body["yield_reason"]
    orders.join(conn, turn.id, [event.body["turn"] for event in events if event.type == "steered"])
    unended = conn.execute(_UNENDED, {"key": turn.session_id}).all()
    queued = [one.id for one in unended if one.task_id == turn.task_id and one.state == "queued"]
    direct = bool(done.body.get("direct")) and _is_all(conn, turn)
    state = ANSWERED if direct else _TASK_STATE[reason]
    more = bool(queued) and (state not in ("canceled", "rejected") or orders.interrupted(conn, turn.id))
    body = {name: value for name, value in done.body.items() if name != "direct" or direct}
    last = Event("done", "user", {**body, "final": not more}, done.actor)
    new = entries([*events[:-1], last], task_id=turn.task_id, turn_id=turn.id)
    batch = extend(conn, turn.session_id, new)
    now = new[-1].created_at  # as the task's status tells it
    conn.execute(_SET_TURN, {"key": turn.id, "yield_reason": reason, "error": done.body["error"]})
    rests = {"state": "working" if more else state, "snapshot": None, "snapshot_seq": batch.after.seq, "updated_at": now}
    conn.execute(_SET_TASK, {"key": turn.task_id, **rests})
    if queued and not more:
        dropped = {"state": "ended", "yield_reason": "canceled", "ended_at": now, "round": 0}
        conn.execute(_DROP_QUEUED_OF_TASK, {"key": turn.task_id, **dropped})
        unended = [one for one in unended if one.id not in queued]
    # One whose `done` is written only waits for its process to go.
    states = {one.state for one in unended if one.id != turn.id and one.yield_reason is None}
    status = next((one for one in ("running", "queued") if one in states), _SESSION_STATUS.get(state, "idle"))
    changed = {"status": status, "updated_at": now} | ({} if native is None else {"native": native})
    _set_session(conn, turn, new, changed)
    return batch


def _is_all(conn: Connection, turn: Claimed) -> bool:
    """Whether a turn is all of its task, and whoever asked for it takes a message alone for an answer."""
    turns = conn.execute(select(func.count()).where(_turn.c.task_id == turn.task_id)).scalar_one()
    return turns == 1 and all(json.loads(body).get("direct") for body in messages(conn, turn.id))


def cancel_waiting(conn: Connection, task_id: str) -> list[Batch]:
    """End a task none of whose turns runs yet. Answers no batch if one runs: then its runner has to end it."""
    locked(conn, conn.execute(select(_task.c.session_id).where(_task.c.id == task_id)).scalar_one())
    turns = conn.execute(select(_turn).where(_turn.c.task_id == task_id, _turn.c.state != "ended")).all()
    conn.execute(update(_turn).where(_turn.c.task_id == task_id).values(cancel_requested=True))
    if any(turn.state == "running" for turn in turns):
        return []
    task = conn.execute(select(_task).where(_task.c.id == task_id)).one()
    if task.state in TERMINAL:
        return []
    claimed = _bare(conn, task.session_id, turns[0].id if turns else None, task_id)
    return [finish(conn, claimed, [ev.done("canceled")], None)]


def cancel_all_waiting(conn: Connection, tasks: Sequence[str]) -> list[Batch]:
    """The same for several tasks of a session, the last of them first."""
    return [batch for task_id in reversed(tasks) for batch in cancel_waiting(conn, task_id)]


def is_over(conn: Connection, task_id: str) -> bool:
    return conn.execute(select(_task.c.state).where(_task.c.id == task_id)).scalar() in {None, *TERMINAL}


def _bare(conn: Connection, session_id: str, turn_id: str | None, task_id: str) -> Claimed:
    session = conn.execute(_SESSION, {"key": session_id}).one()
    return Claimed(
        turn_id or "", session_id, task_id, 0, session.fence, session.agent_id, session.agent_version, session.native
    )


def open_tasks(conn: Connection, session_id: str) -> list[str]:
    """Ids of a session's tasks that have not ended, oldest first."""
    mine = (_task.c.session_id == session_id, _task.c.state.not_in(TERMINAL))
    return list(conn.execute(select(_task.c.id).where(*mine).order_by(_task.c.first_seq)).scalars())


def archived(session_id: str) -> Archived:
    return Archived(f"Session {session_id!r} is archived: it can be read, not continued.", "Begin a new one.")


def archive(conn: Connection, session_id: str) -> list[Batch]:
    """Close a session for good; a task that waits for input is canceled. Raises Busy while a turn waits or runs."""
    locked(conn, session_id)
    if conn.execute(_SESSION, {"key": session_id}).one().status == "archived":
        return []
    if conn.execute(_UNDONE, {"key": session_id}).first() is not None:
        raise Busy(f"Session {session_id!r} is at work.", "Wait until it rests, or cancel it first.")
    # Its last turn's process may be on its way out, so that the turn still counts as running: it writes nothing any more.
    waiting = [_bare(conn, session_id, None, task_id) for task_id in open_tasks(conn, session_id)]
    batches = [finish(conn, task, [ev.done("canceled")], None) for task in waiting]
    body = {"kind": ARCHIVED, "text": "The session is archived: it can be read, not continued."}
    batches.append(append(conn, session_id, entries([Event("system", "progress", body, "system")], task_id=None, turn_id=None)))
    conn.execute(_SET_SESSION, {"key": session_id, "status": "archived", "updated_at": now_us()})
    return batches


def has_done(conn: Connection, turn: Claimed) -> bool:
    return conn.execute(select(_turn.c.yield_reason).where(_turn.c.id == turn.id)).scalar() is not None


def first_seq(conn: Connection, turn_id: str) -> int:
    """Where a turn's message lies in its session's log; its own events lie after it."""
    return conn.execute(_FIRST, {"key": turn_id}).scalar() or 0


def open_calls(conn: Connection, turn: Claimed) -> list[str]:
    """Call ids of tools that a turn started and never closed."""
    row = _event.c
    mine = (row.session_id == turn.session_id, row.seq >= first_seq(conn, turn.id), row.turn_id == turn.id)
    open: dict[str, None] = {}
    for type, body in conn.execute(select(row.type, row.body).where(*mine, row.type.in_(_TOOLS)).order_by(row.seq)):
        call_id = json.loads(body)["call_id"]
        if type == "tool_start":
            open[call_id] = None
        else:
            open.pop(call_id, None)
    return list(open)


def asked_to_stop(conn: Connection, turn: Claimed) -> bool:
    row = conn.execute(select(_turn.c.cancel_requested, _turn.c.interrupt_requested).where(_turn.c.id == turn.id)).one()
    return bool(row.cancel_requested or row.interrupt_requested)


def closing(conn: Connection, turn: Claimed, why: str, category: ErrorCategory) -> list[Event]:
    """What is due to a turn that died: its open tools closed, and for its owner what happened, if there is a `why`."""
    closed = [ev.tool_result(call_id, "", is_error=True) for call_id in open_calls(conn, turn)]
    return [*closed, ev.error_detail(category, why)] if why else closed


def end_abandoned(
    conn: Connection,
    turn: Claimed,
    incident: str,
    why: str,
    category: ErrorCategory = "runtime_crash",
    left: Sequence[Event] = (),
) -> list[Batch]:
    """End a turn whose worker died: close its open tools, tell what it `left`, say it was interrupted, settle its task."""
    locked(conn, turn.session_id, turn.fence)  # its own runner's `done` may be on its way, beside this
    batches = []
    if not has_done(conn, turn):
        done = ev.done("canceled") if asked_to_stop(conn, turn) else ev.done("failed", category)
        if done.body["error"] is not None:
            done.body["error"]["incident"] = incident
        batches.append(finish(conn, turn, [*closing(conn, turn, why, category), *left, done], None))
    leases.release(conn, turn)
    leases.raise_fence(conn, turn.session_id)
    return batches


def interrupt_abandoned(conn: Connection, turn: Claimed, why: str, told: Event) -> list[Batch]:
    """The same for a turn that goes on."""
    new = entries([*closing(conn, turn, why, "runtime_crash"), told], task_id=turn.task_id, turn_id=turn.id)
    return [write_events(conn, turn, new, None)]


def move(conn: Connection, turn: Claimed, told: Event) -> list[Batch]:
    """Put a turn back into the queue of which nothing runs any more, for another worker to go on with. [] if it is to stop."""
    locked(conn, turn.session_id, turn.fence)
    if asked_to_stop(conn, turn):
        return []
    batch = write_events(conn, turn, entries([told], task_id=turn.task_id, turn_id=turn.id), None)
    leases.hand_back(conn, turn)
    conn.execute(_SET_TURN, {"key": turn.id, "engine": True})  # which an older release did not write down
    return [batch]
