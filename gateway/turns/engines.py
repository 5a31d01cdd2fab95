"""Whether this worker's container engine answers, and whether another worker's does.

A worker whose engine does not answer claims no turn that needs one as long as another's does, and hands over those it has
in hand. Where nobody's answers each worker claims as ever, and the turns wait. A lone worker asks and writes nothing.

What the others' rows say is believed while they live and their `beat` grows, by the looker's own monotonic clock.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any, Literal

import anyio
import anyio.abc
import structlog
from sqlalchemy import Connection, bindparam, delete, select, update

from adapters.launch.process import LaunchError
from gateway.db.engine import Database
from gateway.db.upsert import insert_new
from gateway.errors import SwitchboardError
from gateway.turns.models import WorkerRow

LOOK_SECONDS = 3.0
STILL_SECONDS = 15.0  # without a beat; then a worker is not counted on
RESTART_SECONDS = 3.0  # in which an engine that was restarted is back: before that no turn is handed over

# Where a turn in hand goes on that needs an engine; "unsure": ask again.
Where = Literal["here", "elsewhere", "unsure"]

_T = WorkerRow.__table__  # type: ignore[attr-defined]
_MATES = select(_T).where(_T.c.name != bindparam("mine"))
_SAID: dict[str, Any] = {"engine": bindparam("answers"), "engine_id": bindparam("id"), "beat": _T.c.beat + 1}
_SAY = update(_T).where(_T.c.name == bindparam("mine")).values(_SAID)
_FORGET = delete(_T).where(_T.c.name.in_(bindparam("gone", expanding=True)))

log_ = structlog.get_logger("switchboard.engines")


async def _unknown() -> str:
    return ""


class Engines:
    """As one worker sees them. `ask` tells why its own engine does not answer, "" if it does; `back`: it does again.

    `identity` tells by which its own engine is known, or raises LaunchError.
    """

    def __init__(
        self,
        database: Database,
        name: str,
        ask: Callable[[], Awaitable[str]],
        back: Callable[[], Awaitable[None]],
        identity: Callable[[], Awaitable[str]] = _unknown,
    ) -> None:
        self._database, self._name, self._ask, self._back, self._identity = database, name, ask, back, identity
        self._id = ""
        self.answers, self.others = True, False
        self._is_back = False
        self.why = ""  # its own does not answer
        self._asking = anyio.Lock()
        self._asked_at, self._silent_since = float("-inf"), 0.0
        self._mates = False  # there are other workers
        self._beats: dict[str, tuple[int, float]] = {}  # of each other worker: its last beat, and when that was first seen
        self._dead: set[str] = set()  # who seemed to be at the last look
        self._entered = self._left = False

    @property
    def may_begin(self) -> bool:
        """Whether turns that need an engine may begin here."""
        return self.answers or not self.others

    async def run(self, *, task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Until cancelled. Has started when this worker knows its own engine and the other workers."""
        while True:
            try:
                await self._look()
            except SwitchboardError as exc:
                log_.error("workers_not_seen", error=exc.message)
            task_status.started()
            task_status = anyio.TASK_STATUS_IGNORED
            await anyio.sleep(LOOK_SECONDS)

    async def leave(self) -> None:
        """Nothing more begins here: the others are not to count on this worker."""
        self._left = True
        try:
            await self._database.write(lambda conn: conn.execute(_FORGET, {"gone": [self._name]}).close(), beside=True)
        except SwitchboardError as exc:
            log_.error("worker_not_left", error=exc.message)

    async def where(self) -> Where:
        """Where a turn goes on whose engine did not answer, or that died."""
        await self._ask_own()
        if self.answers:
            return "here"
        try:
            await self._look_at_mates()
        except SwitchboardError:
            return "unsure" if self.others else "here"
        if not self.others:
            return "here"
        return "elsewhere" if time.monotonic() > self._silent_since + RESTART_SECONDS else "unsure"

    async def _look(self) -> None:
        await self._look_at_mates()
        if not self._mates:
            if not self._entered:
                await self._database.write(lambda conn: _say(conn, self._name, False, self._id), beside=True)
                self._entered = True
            return
        await self._ask_own()
        if self.answers and not self._id:
            with anyio.move_on_after(LOOK_SECONDS), suppress(LaunchError):
                self._id = await self._identity()
        if not self._left:
            await self._database.write(lambda conn: _say(conn, self._name, self.answers, self._id), beside=True)
        if self.answers and self._is_back:
            self._is_back = False
            await self._back()

    async def _ask_own(self) -> None:
        called = time.monotonic()
        async with self._asking:
            if self._asked_at > called:  # meanwhile, for another one
                return
            self._asked_at = time.monotonic()
            self.why = await self._ask()
            answers = not self.why
            if answers != self.answers:
                self.answers, self._is_back, self._silent_since = answers, answers, self._asked_at
                log_.warning("engine_answers" if answers else "engine_silent", why=self.why)

    async def _look_at_mates(self) -> None:
        """Who else is at work, and whether the engine of one of them answers. Raises Unavailable."""
        rows = await self._database.read(lambda conn: _mates(conn, self._name))
        names = sorted(row.name for row in rows)
        alive = await self._database.alive(names) if names else set()
        now = time.monotonic()
        known = self._beats
        self._beats = {row.name: (row.beat, now) for row in rows}
        self._beats |= {name: seen for name, seen in known.items() if name in self._beats and self._beats[name][0] == seen[0]}
        self._mates = bool(alive)
        counted = {row.name for row in rows if row.engine and row.name in alive}
        self.others = any(now < self._beats[name][1] + STILL_SECONDS for name in counted)
        dead = set(names) - alive
        gone, self._dead = sorted(dead & self._dead), dead
        if gone:
            await self._database.write(lambda conn: conn.execute(_FORGET, {"gone": gone}).close(), beside=True)


async def at_work(database: Database) -> int:
    """How many workers live. Raises Unavailable."""
    names = await database.read(lambda conn: [row.name for row in _mates(conn, "")])
    return len(await database.alive(names)) if names else 0


def _mates(conn: Connection, name: str) -> Sequence[Any]:
    return conn.execute(_MATES, {"mine": name}).all()


def _say(conn: Connection, name: str, answers: bool, id: str) -> None:
    """That a worker lives, whether its engine answers, and which that is."""
    if not conn.execute(_SAY, {"mine": name, "answers": answers, "id": id or None}).rowcount:
        insert_new(conn, _T, {"name": name, "engine": answers, "engine_id": id or None, "beat": 0})
