"""What callers do with sessions, over the same engine and the same log as A2A.

A turn belongs to a task here as well: a message continues the task that waits for input, else it begins one. The session's
id is the task's `contextId`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

import anyio
from sqlalchemy import Connection, update

from gateway.a2a.cards import Face, input_modes
from gateway.auth.callers import SIGN_IN, Callers
from gateway.clock import iso
from gateway.errors import NotAllowed, NotFound, NothingRuns
from gateway.files.intake import Intake as Files
from gateway.files.links import Links
from gateway.idempotency import Once
from gateway.log.models import Session as SessionRow
from gateway.log.rows import Position
from gateway.log.store import Log
from gateway.log.tail import tail
from gateway.sessions import views
from gateway.sessions.access import Access, Gate, Scope
from gateway.sessions.destinations import Hooks
from gateway.sessions.frames import Teller
from gateway.sessions.intake import Intake
from gateway.sessions.shapes import (
    Canceled,
    Created,
    CreateSession,
    CreateToken,
    Interrupted,
    ListSessions,
    Result,
    SendMessage,
    Sent,
    Session,
    SessionPage,
    Token,
)
from gateway.sessions.views import Seen
from gateway.settings import Settings
from gateway.turns import queue
from gateway.turns.engine import Engine
from gateway.turns.limits import of_session
from gateway.turns.queue import Accepted

_session = SessionRow.__table__  # type: ignore[attr-defined]


class Directory(Protocol):
    async def face(self, name: str) -> Face | None: ...


class Sessions:
    def __init__(
        self,
        log: Log,
        engine: Engine,
        settings: Settings,
        callers: Callers,
        directory: Directory,
        gate: Gate,
        hooks: Hooks,
        files: Files,
        links: Links,
    ) -> None:
        self.log, self.engine, self.settings = log, engine, settings
        self.callers, self.directory, self.gate, self.hooks = callers, directory, gate, hooks
        self.intake, self.teller = Intake(log.database, engine, settings, files), Teller(log, links)

    # -- reading

    async def enter(self, access: Access, id: str, scope: Scope) -> Seen:
        """The session of that id, for whoever may use it. Raises NotFound, OutOfScope, RateLimited."""
        access.to_session(id, scope)
        seen = await self._seen(id, access.principal.id)
        try:
            return self.callers.admit(access.principal, seen, seen.agent)
        except (NotFound, NotAllowed) as exc:
            raise views.missing(id) from exc

    async def list(self, access: Access, asked: ListSessions) -> SessionPage:
        if access.principal.anonymous and not self.settings.lists_anonymously:
            raise NotAllowed("Sessions are listed only for callers who sign in.", SIGN_IN)
        self.callers.pace(access.principal)
        return await self.log.database.read(lambda conn: views.page(conn, access.principal, asked))

    async def result(self, seen: Seen, wait: float) -> Result:
        if wait and not seen.rests:
            with anyio.move_on_after(wait):
                await self._until_rest(seen)
        found = await self.log.database.read(lambda conn: views.result(conn, views.find(conn, seen.id, seen.principal)))
        return found.model_copy(update={"artifacts": [self.teller.artifact(one) for one in found.artifacts]})

    async def _until_rest(self, seen: Seen) -> None:
        async for batch in tail(self.log, seen.id, Position(seen.seq), leaves=True):
            if any(row.type == "done" for row in batch.rows) and (await self._seen(seen.id, seen.principal)).rests:
                return

    async def _seen(self, id: str, principal: str) -> Seen:
        return await self.log.database.read(lambda conn: views.find(conn, id, principal))

    # -- writing

    async def create(self, access: Access, asked: CreateSession, key: str | None) -> Created:
        principal = access.principal
        face = self.callers.admit(principal, await self.directory.face(asked.agent), asked.agent)
        once = self.intake.once(f"sessions {face.agent_id}", principal, asked, key)
        accepted = await self.intake.earlier(once) or await self._begin(access, face, asked, once)
        seen = await self._seen(accepted.session_id, principal.id)
        token = self.token(access, seen, CreateToken())
        return Created(**seen.fields(), task_id=accepted.task_id, turn_id=accepted.turn_id, client_token=token)

    async def _begin(self, access: Access, face: Face, asked: CreateSession, once: Once | None) -> Accepted:
        limits = of_session(asked.limits)
        save = await self.hooks.wanted(asked.destinations)
        new = replace(await self.intake.inbound(asked, input_modes(face)), limits=limits)

        def keep(conn: Connection, accepted: Accepted) -> None:
            conn.execute(update(_session).where(_session.c.id == accepted.session_id).values(meta=asked.metadata or None))
            save(conn, accepted.session_id)

        return await self.intake.begin(face.agent_id, face.version, access.principal, new, once, keep)

    async def send(self, access: Access, seen: Seen, asked: SendMessage, key: str | None) -> Sent:
        once = self.intake.once(f"session {seen.id}", access.principal, asked, key)
        accepted = await self.intake.earlier(once)
        if accepted is None:
            message = await self.intake.inbound(asked, await self._modes(seen))
            new = replace(message, context_id=seen.id, metadata=asked.metadata, mode=asked.mode)
            accepted = await self.intake.go_on(seen.agent_id, access.principal, new, once)
        return Sent(
            session_id=seen.id,
            task_id=accepted.task_id,
            turn_id=accepted.steers or accepted.turn_id,
            seq=accepted.seq,
            delivery="steered" if accepted.steers else "queued",
        )

    async def _modes(self, seen: Seen) -> Sequence[str]:
        face = await self.directory.face(seen.agent)
        if face is None:
            raise views.missing(seen.id)
        return input_modes(face)

    async def interrupt(self, seen: Seen) -> Interrupted:
        """End the turn that runs; what waits goes on. Raises NothingRuns."""
        turn_id = await self.engine.interrupt(seen.id)
        if turn_id is None:
            raise NothingRuns(f"Nothing runs in session {seen.id!r}.", "There is nothing to interrupt.")
        return Interrupted(session_id=seen.id, turn_id=turn_id)

    async def cancel(self, seen: Seen) -> Canceled:
        return Canceled(session_id=seen.id, tasks=await self.engine.cancel_session(seen.id))

    async def archive(self, seen: Seen) -> Session:
        await self.log.write(lambda conn: queue.archive(conn, seen.id))
        return Session(**(await self._seen(seen.id, seen.principal)).fields())

    def token(self, access: Access, seen: Seen, asked: CreateToken) -> Token:
        """Raises OutOfScope for more than who asks has."""
        scopes = access.scopes if asked.scopes is None else frozenset(asked.scopes)
        for scope in asked.scopes or ():
            access.to_session(seen.id, scope)
        tokens = self.gate.tokens
        grant = tokens.grant(seen.id, seen.principal, scopes, asked.seconds, access.grant)
        expires_at = iso(grant.expires_at * 1_000_000)
        return Token(token=tokens.token(grant), session_id=seen.id, scopes=sorted(scopes), expires_at=expires_at)
