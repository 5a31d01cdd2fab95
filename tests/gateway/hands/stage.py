"""A session with a running turn in a real database, and somebody who calls the sandbox's tools for it."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Any

import anyio
from sqlalchemy import Connection, insert, select, update

from adapters.dialogue import Turn as Told
from adapters.jsonl import JsonLinesDialogue
from adapters.launch.container import Engine
from adapters.launch.hands import Found, rooms
from gateway.clock import new_id, now_us
from gateway.db.engine import Database
from gateway.deliver.guard import Guard, Resolve
from gateway.egress.gate import Gates
from gateway.egress.policy import Policy
from gateway.errors import Conflict
from gateway.hands.models import SandboxCall
from gateway.hands.service import Hands, Write
from gateway.hands.tools import Result
from gateway.log.models import EventRow, Session, Task, Turn
from gateway.log.store import Log, append, entries
from gateway.settings import Settings
from gateway.turns.launching import Place
from gateway.turns.leases import Claimed
from gateway.turns.spec import AgentSpec

SECONDS = 60
_ORDINALS = count(1)
Json = dict[str, Any]


SPEC = AgentSpec("agt_1", "worker", 1, "image", placement="docker", egress=Policy())


@dataclass
class Brain:
    """An attempt of a turn: what it says goes into the log under its fence."""

    log: Log
    turn: Claimed
    place: Place
    spec: AgentSpec = SPEC
    over: bool = False
    room: anyio.Semaphore = field(default_factory=lambda: anyio.Semaphore(4))
    dialogue: JsonLinesDialogue = field(default_factory=lambda: JsonLinesDialogue(lambda: new_id("call")))

    def __post_init__(self) -> None:
        self.dialogue.start(Told(prompt="do it"))

    async def say(self, line: Mapping[str, Any], write: Write | None = None) -> None:
        if self.over:
            raise Conflict("The turn has ended.", "Exit.")
        events = self.dialogue.feed(json.dumps(line).encode()).events
        new = entries(events, task_id=self.turn.task_id, turn_id=self.turn.id)

        def op(conn: Connection) -> list[Any]:
            batch = append(conn, self.turn.session_id, new, self.turn.fence)
            if write is not None:
                write(conn)
            return [batch]

        await self.log.write(op, beside=True)


@dataclass
class Stage:
    settings: Settings
    database: Database
    log: Log
    engine: Engine
    gates: Gates
    hands: Hands

    async def begin(self, session_id: str = "", fence: int = 1) -> Brain:
        """A turn that runs, in a session of its own unless one is named."""
        turn = Claimed(new_id("trn"), session_id or new_id("ses"), new_id("tsk"), 1, fence, "agt_1", 1, {})
        now = now_us()
        times = {"created_at": now, "updated_at": now}
        session = {"id": turn.session_id, "agent_id": "agt_1", "agent_version": 1, "principal": "p", "status": "running"}
        task = {"id": turn.task_id, "session_id": turn.session_id, "agent_id": "agt_1", "principal": "p", "state": "working"}
        row = {
            "id": turn.id,
            "session_id": turn.session_id,
            "task_id": turn.task_id,
            "ordinal": next(_ORDINALS),
            "state": "running",
        }

        def op(conn: Connection) -> None:
            if not session_id:
                conn.execute(insert(Session), [{**session, "fence": fence, "native": {}, "floor_seq": 0, **times}])
            conn.execute(insert(Task), [{**task, "first_seq": 1, "snapshot_seq": 0, **times}])
            conn.execute(insert(Turn), [{**row, "attempt": 1, "fence": fence, "queued_at": now}])

        await self.database.write(op)
        place = Place.of(self.settings.sessions_dir, turn.session_id)
        place.make()
        return Brain(self.log, turn, place)

    async def call(self, brain: Brain, tool: str, call_id: str = "", **input: Any) -> Result:
        with anyio.fail_after(SECONDS):
            return await self.hands.call(brain, call_id or uuid.uuid4().hex, tool, input)

    async def end(self, brain: Brain, idle: float = 0.0, status: str = "idle") -> None:
        """The turn is over since so many seconds."""
        at = now_us() - round(idle * 1e6)

        def op(conn: Connection) -> None:
            conn.execute(update(Turn).where(Turn.id == brain.turn.id).values(state="ended", ended_at=at))  # type: ignore[arg-type]
            mine = Session.id == brain.turn.session_id
            conn.execute(update(Session).where(mine).values(status=status, updated_at=at))  # type: ignore[arg-type]

        await self.database.write(op)

    async def supersede(self, brain: Brain, owner: str = "wrk_other") -> Brain:
        """Another worker takes the turn over, or that one has its next attempt."""

        def op(conn: Connection) -> None:
            mine = Session.id == brain.turn.session_id
            conn.execute(update(Session).where(mine).values(fence=brain.turn.fence + 1))  # type: ignore[arg-type]
            conn.execute(update(Turn).where(Turn.id == brain.turn.id).values(owner=owner))  # type: ignore[arg-type]

        await self.database.write(op)
        return Brain(self.log, replace(brain.turn, fence=brain.turn.fence + 1, attempt=2), brain.place)

    async def events(self, brain: Brain, *types: str) -> list[Json]:
        """Bodies of the session's events of these types."""
        rows = select(EventRow.type, EventRow.body).where(EventRow.session_id == brain.turn.session_id)  # type: ignore[call-overload]
        found = await self.database.read(lambda conn: conn.execute(rows.order_by(EventRow.seq, EventRow.sub)).all())
        return [json.loads(row.body) | {"type": row.type} for row in found if row.type in types]

    async def rows(self) -> list[Any]:
        return list(await self.database.read(lambda conn: conn.execute(select(SandboxCall.__table__)).all()))  # type: ignore[attr-defined]

    async def containers(self) -> list[Found]:
        return await rooms(self.engine, str(self.settings.sessions_dir.resolve()))


@asynccontextmanager
async def worker(stage: Stage, holds: Callable[[], bool] = lambda: True) -> AsyncIterator[Hands]:
    """The sandbox of one more worker. `holds`: whether it knows its turns to be its own."""
    hands = Hands(stage.engine, stage.database, stage.settings, stage.gates, new_id("wrk"), holds)
    async with anyio.create_task_group() as group:
        await group.start(hands.run)
        yield hands
        group.cancel_scope.cancel()


@asynccontextmanager
async def staged(
    data_dir: Path, image: str, url: str = "", private: str = "", resolve: Resolve | None = None, **settings: Any
) -> AsyncIterator[Stage]:
    """Removes what it has started. `private`, `resolve`: of names that are asked for from inside."""
    found = Settings(data_dir=data_dir, database_url=url, agent_image=image, **settings)
    database = Database(found.database)
    await database.start()
    gates = Gates(Guard.allowing(private, resolve, "SWITCHBOARD_EGRESS_PRIVATE_HOSTS"))
    stage = Stage(found, database, Log(database), Engine(os.environ), gates, None)  # type: ignore[arg-type]
    try:
        async with worker(stage) as stage.hands:
            yield stage
    finally:
        with anyio.CancelScope(shield=True):
            for one in await stage.containers():
                await stage.engine.remove(one.id)
            stage.engine.close()
            await database.aclose()
