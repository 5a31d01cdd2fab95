"""The containers that tools act in: one for each session, made by its first call, asleep between turns, gone in the end.

A container's name and labels say whose it is, and the database whether it is still wanted, so that whichever worker looks
next knows what to do with one that another made. A session that has not had a turn for `hands_idle_seconds` keeps no process:
its container is stopped, and the next call starts it. So is one whose session has a turn that is held where another engine is.
After `hands_keep_seconds`, or when its session is archived or gone, it is removed. What it writes is in the session's
directories, which outlive it; /tmp does not.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import anyio
import anyio.to_thread
import structlog
from sqlalchemy import Connection, select

from adapters.launch import hands
from adapters.launch.container import Box, Engine
from adapters.launch.hands import HANDS, SESSION, Found, Quarters, Room
from adapters.launch.home import Bind
from adapters.launch.process import LaunchError
from gateway.clock import now_us
from gateway.db.engine import Database
from gateway.errors import SwitchboardError
from gateway.hands.tools import ROOT
from gateway.log.models import Session, Turn
from gateway.settings import Settings
from gateway.turns import ground
from gateway.turns.folders import start
from gateway.turns.launching import Place
from gateway.turns.leases import Claimed
from gateway.turns.models import WorkerRow
from gateway.turns.spec import AgentSpec
from gateway.turns.starter import given_inside, given_to, limited, user_inside

HOME = "/home/agent"

_session, _turn = Session.__table__.c, Turn.__table__.c  # type: ignore[attr-defined]
_worker = WorkerRow.__table__.c  # type: ignore[attr-defined]

log_ = structlog.get_logger("switchboard.hands")


@dataclass(slots=True)
class Used:
    """A room some call of this process uses, or has used."""

    room: Room
    calls: int = 0
    turn: str = ""  # the last turn whose files were made readable inside


class Rooms:
    """Those of one installation, as one worker sees them."""

    def __init__(self, engine: Engine, database: Database, settings: Settings) -> None:
        self._engine, self._database, self._settings = engine, database, settings
        self._installation = str(settings.sessions_dir.resolve())
        self._used: dict[str, Used] = {}
        self._furnishing = anyio.Lock()

    async def of(self, turn: Claimed, place: Place, spec: AgentSpec) -> Used:
        """The room of a turn's session, its directories there and its own. Raises LaunchError, OSError."""
        async with self._furnishing:
            used = self._used.get(turn.session_id)
            if used is None or used.turn != turn.id:
                box = await anyio.to_thread.run_sync(self._furnished, turn.session_id, place, spec)
                used = used or Used(Room(self._engine, Quarters(name_of(self._installation, turn.session_id), box)))
                used.turn, self._used[turn.session_id] = turn.id, used
        return used

    def _furnished(self, session_id: str, place: Place, spec: AgentSpec) -> Box:
        settings, user = self._settings, user_inside()
        folders = {place.work: ROOT, place.hands: HOME}  # the journal is the runtime's
        for folder in folders:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        start(place.work, spec.work_dir)
        for folder in folders if os.geteuid() == 0 else ():
            given_to(folder, *map(int, user.split(":")))
        own = [Bind(str(folder), inside, True) for folder, inside in folders.items()]
        box = Box(
            image=settings.hands_image or settings.agent_image,
            argv=(),
            env={"HOME": HOME, "LANG": "C.UTF-8"},
            cwd=ROOT,
            mounts=(),
            binds=[*own, *ground.binds(spec, settings, partial(given_inside, user=user))],
            labels={HANDS: self._installation, SESSION: session_id},
            user=user,
            named_by="SWITCHBOARD_HANDS_IMAGE" if settings.hands_image else "SWITCHBOARD_AGENT_IMAGE",
        )
        return limited(box, spec, settings)

    async def end(self, session_id: str, mark: str) -> None:
        """End what has a mark in a session's room, if that runs. Raises LaunchError."""
        await hands.end(self._engine, name_of(self._installation, session_id), mark)

    # -- the sweep

    async def sweep(self) -> None:
        """Stop or remove what no session wants any more. A machine without an engine has nothing of it."""
        try:
            for used in list(self._used.values()):
                await used.room.end_left()
            found = await hands.rooms(self._engine, self._installation)
            if not found:
                return
            wanted = await self._states([one.session for one in found])
            for one in found:
                if self._due(one, wanted.get(one.session)):
                    await self._settle(one)
        except (LaunchError, SwitchboardError) as exc:
            log_.debug("hands_not_swept", error=str(exc))

    async def _settle(self, one: Found) -> None:
        """What is due to it at this moment: settling those before it may have taken long.

        A turn of another worker's that begins in the milliseconds between this look and the engine's doing it may still
        lose its container, and a command that has begun there by then; its answer tells that it was stopped.
        """
        match self._due(one, (await self._states([one.session])).get(one.session)):
            case "removed":
                await self._engine.remove(one.id)
                self._used.pop(one.session, None)
                log_.info("hands_removed", session=one.session)
            case "hibernate":
                await hands.stop(self._engine, one.id)
                self._used.pop(one.session, None)
                log_.info("hands_hibernate", session=one.session)

    def _due(self, one: Found, state: State | None) -> Literal["removed", "hibernate"] | None:
        used = self._used.get(one.session)
        if used is not None and used.calls:
            return None
        if state is None or state.archived or state.idle > self._settings.hands_keep_seconds:
            return "removed"
        unused = state.elsewhere or state.idle > self._settings.hands_idle_seconds
        return "hibernate" if one.running and unused else None

    async def _states(self, session_ids: Sequence[str]) -> dict[str, State]:
        here = await self._engine.identity()
        return await self._database.read(lambda conn: states(conn, session_ids, here))


@dataclass(frozen=True, slots=True)
class State:
    """Of a session that is there: the seconds since its last turn ended, 0 while one runs or waits.

    `elsewhere`: it runs, and a worker of another engine holds it.
    """

    archived: bool
    idle: float
    elsewhere: bool


def states(conn: Connection, session_ids: Sequence[str], here: str) -> dict[str, State]:
    """Of those of these sessions that there are. `here`: the id of the engine that is asked for."""
    mine = (_turn.session_id.in_(session_ids), _turn.state.in_(("queued", "running")))
    at_work = set(conn.execute(select(_turn.session_id).where(*mine)).scalars())
    others = select(_turn.session_id).join(WorkerRow, _worker.name == _turn.owner)
    away = others.where(_turn.session_id.in_(session_ids), _turn.state == "running", _worker.engine_id != here)
    elsewhere = set(conn.execute(away).scalars()) if here else set()
    rows = conn.execute(select(_session.id, _session.status, _session.updated_at).where(_session.id.in_(session_ids))).all()
    now = now_us()
    idle = {row.id: 0.0 if row.id in at_work else max(0.0, (now - row.updated_at) / 1e6) for row in rows}
    return {row.id: State(row.status == "archived", idle[row.id], row.id in elsewhere) for row in rows}


def name_of(installation: str, session_id: str) -> str:
    """Of a session's container: the engine has it once, though several installations may use it."""
    return f"switchboard-{hashlib.sha256(installation.encode()).hexdigest()[:8]}-{session_id}"
