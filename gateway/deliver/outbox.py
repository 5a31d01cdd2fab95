"""The outbox: what is owed to whom and how far it got. Operations of a connection.

    pending -> delivering -> delivered
                          -> pending again, later      (a failed try)
                          -> dead                      (the last try failed; an owner can have it sent again)

A claim is a lease: `next_at` is when it ends, by the database's clock, so a row whose gateway died is simply due again.
`attempts` is the lease's fence: whoever settles names the attempt it made. A destination's rows go out one at a time in
the order of `pos`; a dead one no longer holds up those behind it.

A task's push config is told parts of single events; a session's webhook is told runs of events. While nobody has taken
a run out to be sent it grows, up to `ROOM`: whoever is slow gets more in one request, never a queue of small ones. From
its first try on it stays as it is.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

from sqlalchemy import ColumnElement, Connection, bindparam, delete, exists, func, insert, select, update
from sqlalchemy.orm import aliased

from gateway.clock import new_id
from gateway.db.clock import clock
from gateway.deliver.destinations import LEVELS
from gateway.deliver.models import Destination, Outbox
from gateway.errors import Conflict, NotFound
from gateway.log.rows import Batch, Row

STATUS, ARTIFACT, EVENTS = "statusUpdate", "artifactUpdate", "events"
ROOM, ROW_SIZE = 256 * 1024, 256  # characters of a run, and what an event counts beside its body
OWED = "owed"  # in `Batch.shared`: there is something new to deliver
# What is told: that a task is working, its files, and at a turn's end its whole text and its status. Not every chunk.
TOLD: Mapping[str, tuple[str, ...]] = {"turn_started": (STATUS,), "artifact": (ARTIFACT,), "done": (ARTIFACT, STATUS)}
OPEN = ("pending", "delivering")

_config, _outbox = Destination.__table__, Outbox.__table__  # type: ignore[attr-defined]
_earlier = aliased(_outbox)
_BLOCKED = exists().where(
    _earlier.c.config_id == _outbox.c.config_id, _earlier.c.pos < _outbox.c.pos, _earlier.c.settled_at.is_(None)
)
# Asked for every batch of events, so built once.
_DESTINATIONS = select(_config.c.id, _config.c.task_id, _config.c.level, _config.c.types).where(
    _config.c.session_id == bindparam("session_id")
)
_HOOKS = _DESTINATIONS.where(_config.c.task_id == "")
_HOOKS_AND_TASKS = _DESTINATIONS.where(_config.c.task_id.in_(bindparam("tasks", expanding=True)))
_RUN = (_outbox.c.config_id == bindparam("key"), _outbox.c.room.is_not(None))
_GROW = (
    update(_outbox)
    .where(*_RUN, _outbox.c.room >= bindparam("size"))
    .values(upto=bindparam("last"), room=_outbox.c.room - bindparam("size"))
)
_CLOSE = update(_outbox).where(*_RUN).values(room=None)


@dataclass(frozen=True, slots=True)
class Due:
    """A delivery this worker holds. Token and credentials are still sealed."""

    pos: int
    id: str
    session_id: str
    task_id: str  # "": a run of the session's events
    seq: int
    upto: int | None
    part: str
    attempts: int
    config_id: str
    url: str
    origin: str
    version: str
    scheme: str
    level: str | None
    types: list[str] | None
    token: str = field(repr=False)
    credentials: str = field(repr=False)


def enqueue(conn: Connection, batch: Batch) -> None:
    """Owe a batch's events to whoever asked for them; in the transaction of the batch."""
    rows = [row for row in batch.rows if row.sub == 0]
    if not rows:
        return
    new: list[dict[str, object]] = []
    for at in _destinations(conn, batch.session_id, {row.task_id for row in rows if row.type in TOLD and row.task_id}):
        if at.task_id:
            new += [_new(at.id, row, part) for row in rows if row.task_id == at.task_id for part in _parts(row)]
        else:
            new += _runs(conn, at, [row for row in rows if wants(at.level, at.types, row)])
    if new:
        conn.execute(insert(_outbox), new)
        batch.shared[OWED] = True


def _destinations(conn: Connection, session_id: str, tasks: set[str]) -> Sequence[Any]:
    """The session's webhooks, and the push configs of these tasks."""
    if not tasks:
        return conn.execute(_HOOKS, {"session_id": session_id}).all()
    return conn.execute(_HOOKS_AND_TASKS, {"session_id": session_id, "tasks": ["", *sorted(tasks)]}).all()


def wants(level: str, types: Collection[str], row: Row) -> bool:
    """Whether a webhook with these filters is told of an event."""
    return row.level in LEVELS[level] and (not types or row.type in types)


def _runs(conn: Connection, at: Any, rows: Sequence[Row]) -> list[dict[str, object]]:
    """Rows of the outbox for what the webhook's last one does not take in."""
    new: list[dict[str, object]] = []
    for run in _packed(rows):
        size = sum(map(_size, run))
        if conn.execute(_GROW, {"key": at.id, "size": size, "last": run[-1].seq}).rowcount:
            continue
        conn.execute(_CLOSE, {"key": at.id})
        new.append({**_new(at.id, run[0], EVENTS), "task_id": "", "upto": run[-1].seq, "room": max(ROOM - size, 0)})
    for row in new[:-1]:
        row["room"] = None
    return new


def _packed(rows: Sequence[Row]) -> Iterator[list[Row]]:
    """Rows in runs of at most `ROOM`; a larger event is a run of its own."""
    run, room = list[Row](), ROOM
    for row in rows:
        if run and _size(row) > room:
            yield run
            run, room = [], ROOM
        run.append(row)
        room -= _size(row)
    if run:
        yield run


def _size(row: Row) -> int:
    return len(row.body) + ROW_SIZE


def _parts(row: Row) -> tuple[str, ...]:
    """A turn that ends while its task goes on has an answer to tell, but no status."""
    if row.type not in TOLD:
        return ()
    if row.type == "done" and not json.loads(row.body).get("final", True):
        return (ARTIFACT,)
    return TOLD[row.type]


def _new(config_id: str, row: Row, part: str) -> dict[str, object]:
    about = {"session_id": row.session_id, "task_id": row.task_id, "seq": row.seq, "upto": None, "room": None, "part": part}
    start = {"state": "pending", "attempts": 0, "last_error": "", "next_at": 0, "created_at": row.created_at}
    return {"id": new_id("dlv"), "config_id": config_id, **about, **start}


def claim(conn: Connection, limit: int, lease_us: int, running: Mapping[str, int], share: int) -> list[Due]:
    """Take up to `limit` deliveries that are due, oldest first, no two of one destination.

    Several gateways may ask at once: each passes over what another one is taking (SQLite has one writer anyway).
    `running` says how many each receiver has on their way already; none gets more than its `share`.
    """
    now = clock(conn)
    busy = [origin for origin, count in running.items() if count >= share]
    due = (_outbox.c.state.in_(OPEN), _outbox.c.next_at <= now, ~_BLOCKED, _config.c.origin.not_in(busy))
    joined = _outbox.join(_config, _config.c.id == _outbox.c.config_id)
    query = select(_outbox, *_destination()).select_from(joined).where(*due).order_by(_outbox.c.pos).limit(4 * limit)
    query = query.with_for_update(skip_locked=True, of=_outbox)
    counts, taken = Counter(running), list[Due]()
    for row in conn.execute(query).all():
        if len(taken) < limit and counts[row.origin] < share:
            counts[row.origin] += 1
            taken.append(_take(conn, row._mapping, now + lease_us))
    return taken


def _destination() -> list[ColumnElement[Any]]:
    names = ("url", "origin", "version", "scheme", "level", "types", "token", "credentials")
    return [_config.c[name] for name in names]


def _take(conn: Connection, row: Mapping[Any, Any], until: int) -> Due:
    due = Due(**{column.name: row[column.name] for column in fields(Due)})
    due = replace(due, attempts=due.attempts + 1)
    held = {"state": "delivering", "attempts": due.attempts, "next_at": until, "room": None}
    conn.execute(update(_outbox).where(_outbox.c.pos == due.pos).values(held))
    return due


def probe(conn: Connection, config_id: str) -> Due:
    """A delivery to try a destination with; it stands in no outbox. Raises NotFound."""
    row = conn.execute(select(_config).where(_config.c.id == config_id)).mappings().first()
    if row is None:
        raise NotFound(f"There is no webhook {config_id[:100]!r}.", "See: switchboard webhooks list")
    empty = {"pos": 0, "id": new_id("dlv"), "seq": 0, "upto": None, "part": "ping", "attempts": 1, "config_id": config_id}
    return Due(**{column.name: {**row, **empty}[column.name] for column in fields(Due)})


def next_due(conn: Connection) -> int | None:
    """Microseconds until the next delivery that waits for its time becomes due."""
    now = clock(conn)
    waits = (_outbox.c.state.in_(OPEN), _outbox.c.next_at > now)
    found: int | None = conn.execute(select(func.min(_outbox.c.next_at)).where(*waits)).scalar()
    return None if found is None else found - now


def _held(due: Due) -> tuple[ColumnElement[bool], ...]:
    return (_outbox.c.pos == due.pos, _outbox.c.state == "delivering", _outbox.c.attempts == due.attempts)


def delivered(conn: Connection, due: Due) -> None:
    done = {"state": "delivered", "settled_at": clock(conn), "last_error": ""}
    conn.execute(update(_outbox).where(*_held(due)).values(done))


def failed(conn: Connection, due: Due, error: str, again_us: int | None) -> None:
    """Another try in `again_us`, or none."""
    now = clock(conn)
    state = {"state": "dead", "settled_at": now} if again_us is None else {"state": "pending", "next_at": now + again_us}
    conn.execute(update(_outbox).where(*_held(due)).values(last_error=error, **state))


def put_back(conn: Connection, due: Due) -> None:
    """Nothing came of the try: the gateway stops."""
    conn.execute(update(_outbox).where(*_held(due)).values(state="pending", attempts=due.attempts - 1, next_at=clock(conn)))


def drop(conn: Connection, due: Due) -> None:
    """There was nothing to tell: the turn had no answer, say."""
    conn.execute(delete(_outbox).where(*_held(due)))


def redeliver(conn: Connection, id: str) -> None:
    """Send it again, with the same id. Raises NotFound, Conflict."""
    state = conn.execute(select(_outbox.c.state).where(_outbox.c.id == id)).scalar()
    if state is None:
        raise NotFound(f"There is no delivery {id[:80]!r}.", "See: switchboard webhooks deliveries")
    if state == "delivering":
        raise Conflict(f"Delivery {id!r} is being delivered now.", "Wait for what comes of it.")
    again = {"state": "pending", "attempts": 0, "next_at": clock(conn), "settled_at": None}
    conn.execute(update(_outbox).where(_outbox.c.id == id).values(again))


def forget(conn: Connection, age_us: int, limit: int) -> int:
    """Remove deliveries that succeeded so long ago; answers how many."""
    old = (_outbox.c.state == "delivered", _outbox.c.settled_at < clock(conn) - age_us)
    chosen = select(_outbox.c.pos).where(*old).limit(limit)
    return int(conn.execute(delete(_outbox).where(_outbox.c.pos.in_(chosen))).rowcount)


def counts(conn: Connection) -> dict[str, int]:
    """How many deliveries there are in each state."""
    found = conn.execute(select(_outbox.c.state, func.count()).group_by(_outbox.c.state))
    return {row[0]: row[1] for row in found}
