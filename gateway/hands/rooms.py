"""The containers that tools act in: one for each session, made by its first call, asleep between turns, gone in the end.

A container's name and labels say whose it is, and the database whether it is still wanted, so that whichever worker looks
next knows what to do with one that another made. A session that has not had a turn for `hands_idle_seconds` keeps no process:
its container is stopped, and the next call starts it. After `hands_keep_seconds`, or when its session is archived or gone,
it is removed. What it writes is in the session's directories, which outlive it; /tmp does not.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import anyio
import anyio.to_thread
import structlog
from sqlalchemy import Connection, select

from adapters.launch import hands
from adapters.launch.container import Engine
from adapters.launch.hands import HANDS, SESSION, Found, Quarters, Room
from adapters.launch.process import LaunchError
from gateway.clock import now_us
from gateway.db.engine import Database
from gateway.errors import SwitchboardError
from gateway.hands.tools import ROOT
from gateway.log.models import Session, Turn
from gateway.settings import Settings
from gateway.turns.launching import Place
from gateway.turns.starter import USER, given_to

HOME = "/home/agent"

_session, _turn = Session.__table__.c, Turn.__table__.c  # type: ignore[attr-defined]

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

    async def of(self, session_id: str, turn_id: str, place: Place) -> Used:
        """The session's room, its directories there and its own. Raises OSError."""
        used = self._used.get(session_id)
        if used is None:
            used = self._used[session_id] = Used(Room(self._engine, self._quarters(session_id, place)))
        async with self._furnishing:
            if used.turn != turn_id:
                await anyio.to_thread.run_sync(_furnish, place)
                used.turn = turn_id
        return used

    def _quarters(self, session_id: str, place: Place) -> Quarters:
        settings = self._settings
        uid, gid = _user()
        return Quarters(
            name=name_of(self._installation, session_id),
            image=settings.hands_image or settings.agent_image,
            mounts={str(folder): inside for folder, inside in _folders(place).items()},
            env={"HOME": HOME, "LANG": "C.UTF-8"},
            cwd=ROOT,
            labels={HANDS: self._installation, SESSION: session_id},
            user=f"{uid}:{gid}",
            memory_mb=settings.container_memory_mb,
            pids=settings.container_pids,
        )

    # -- the sweep

    async def sweep(self) -> None:
        """Stop or remove what no session wants any more. A machine without an engine has nothing of it."""
        try:
            found = await hands.rooms(self._engine, self._installation)
            if not found:
                return
            wanted = await self._database.read(lambda conn: states(conn, [one.session for one in found]))
            for one in found:
                await self._settle(one, wanted.get(one.session))
        except (LaunchError, SwitchboardError) as exc:
            log_.debug("hands_not_swept", error=str(exc))

    async def _settle(self, one: Found, state: State | None) -> None:
        used = self._used.get(one.session)
        if used is not None and used.calls:
            return
        idle = 0.0 if state is None else state.idle
        if state is None or state.archived or idle > self._settings.hands_keep_seconds:
            await self._engine.remove(one.id)
            self._used.pop(one.session, None)
            log_.info("hands_removed", session=one.session)
        elif one.running and idle > self._settings.hands_idle_seconds:
            await hands.stop(self._engine, one.id)
            self._used.pop(one.session, None)
            log_.info("hands_hibernate", session=one.session)


@dataclass(frozen=True, slots=True)
class State:
    """Of a session that is there: the seconds since its last turn ended, 0 while one runs or waits."""

    archived: bool
    idle: float


def states(conn: Connection, session_ids: Sequence[str]) -> dict[str, State]:
    """Of those of these sessions that there are."""
    mine = (_turn.session_id.in_(session_ids), _turn.state.in_(("queued", "running")))
    at_work = set(conn.execute(select(_turn.session_id).where(*mine)).scalars())
    rows = conn.execute(select(_session.id, _session.status, _session.updated_at).where(_session.id.in_(session_ids)))
    now = now_us()
    return {
        row.id: State(row.status == "archived", 0.0 if row.id in at_work else max(0.0, (now - row.updated_at) / 1e6))
        for row in rows
    }


def name_of(installation: str, session_id: str) -> str:
    """Of a session's container: the engine has it once, though several installations may use it."""
    return f"switchboard-{hashlib.sha256(installation.encode()).hexdigest()[:8]}-{session_id}"


def _folders(place: Place) -> dict[Path, str]:
    """Of a session, and where they are inside. Its journal is not among them: that is the runtime's."""
    return {place.work: ROOT, place.work.parent / "hands": HOME}


def _user() -> tuple[int, int]:
    return (USER, USER) if os.geteuid() == 0 else (os.geteuid(), os.getegid())


def _furnish(place: Place) -> None:
    for folder in _folders(place):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if os.geteuid() == 0:
            given_to(folder, *_user())
