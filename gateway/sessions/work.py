"""What callers do with sessions, over the same engine and the same log as A2A.

A turn belongs to a task here as well: a message continues the task that runs or waits for input, else it begins one. The
session's id is the task's `contextId`.
"""

from __future__ import annotations

from typing import Protocol

import anyio
from sqlalchemy import Connection, update

from gateway.auth.callers import SIGN_IN, Agent, Callers, Principal, room_for_task
from gateway.clock import iso, new_id
from gateway.errors import InvalidParams, NotAllowed, NotFound, SwitchboardError, TooLarge
from gateway.log.models import Session as SessionRow
from gateway.log.rows import Position
from gateway.log.store import Log
from gateway.log.tail import tail
from gateway.sessions import views
from gateway.sessions.access import Access, Gate
from gateway.sessions.parts import stored
from gateway.sessions.shapes import (
    Canceled,
    Created,
    CreateSession,
    CreateToken,
    Input,
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
from gateway.turns.spec import Inbound, prompt_of

_session = SessionRow.__table__  # type: ignore[attr-defined]


class Face(Agent, Protocol):
    @property
    def version(self) -> int: ...


class Directory(Protocol):
    async def face(self, name: str) -> Face | None: ...


class Sessions:
    def __init__(
        self, log: Log, engine: Engine, settings: Settings, callers: Callers, directory: Directory, gate: Gate
    ) -> None:
        self.log, self.engine, self.settings = log, engine, settings
        self.callers, self.directory, self.gate = callers, directory, gate

    # -- reading

    async def enter(self, access: Access, id: str, scope: str) -> Seen:
        """The session of that id, for whoever may use it. Raises NotFound, OutOfScope, RateLimited."""
        access.to_session(id, scope)
        seen = await self.seen(id, access.principal)
        try:
            return self.callers.admit(access.principal, seen, seen.agent)
        except (NotFound, NotAllowed) as exc:
            raise views.missing(id) from exc

    async def seen(self, id: str, principal: Principal) -> Seen:
        return await self.log.database.read(lambda conn: views.find(conn, id, principal.id))

    async def list(self, access: Access, asked: ListSessions) -> SessionPage:
        access.to_all()
        if access.principal.anonymous and not self.settings.lists_anonymously:
            raise NotAllowed("Sessions are listed only for callers who sign in.", SIGN_IN)
        return await self.log.database.read(lambda conn: views.page(conn, access.principal, asked))

    async def result(self, seen: Seen, wait: float) -> Result:
        if wait and not seen.rests:
            with anyio.move_on_after(wait):
                await self._until_rest(seen)
        return await self.log.database.read(lambda conn: views.result(conn, views.find(conn, seen.id, seen.principal)))

    async def _until_rest(self, seen: Seen) -> None:
        async for batch in tail(self.log, seen.id, Position(seen.seq)):
            if any(row.type == "done" for row in batch.rows) and (await self.seen(seen.id, Principal(seen.principal))).rests:
                return

    # -- writing

    async def create(self, access: Access, asked: CreateSession) -> Created:
        access.to_all()
        face = self.callers.admit(access.principal, await self.directory.face(asked.agent), asked.agent)
        new = self._inbound(asked.input, {})
        principal = access.principal.id

        def keep(conn: Connection, accepted: queue.Accepted) -> None:
            conn.execute(update(_session).where(_session.c.id == accepted.session_id).values(meta=asked.metadata or None))

        room = room_for_task(access.principal, None)
        accepted = await self.engine.accept(face.agent_id, face.version, principal, new, room, keep)
        seen = await self.seen(accepted.session_id, access.principal)
        token = self.token(access, seen, CreateToken())
        return Created(**seen.fields(), task_id=accepted.task_id, turn_id=accepted.turn_id, client_token=token)

    async def send(self, access: Access, seen: Seen, asked: SendMessage) -> Sent:
        new = self._inbound(asked.input, asked.metadata, context_id=seen.id)
        room = room_for_task(access.principal, new.task_id)
        accepted = await self.engine.accept(seen.agent_id, 0, seen.principal, new, room)
        ids = {"session_id": seen.id, "task_id": accepted.task_id, "turn_id": accepted.turn_id}
        return Sent(**ids, seq=accepted.seq, delivery="queued")

    async def cancel(self, seen: Seen) -> Canceled:
        return Canceled(session_id=seen.id, tasks=await self.engine.cancel_session(seen.id))

    async def archive(self, seen: Seen) -> Session:
        await self.log.write(lambda conn: queue.archive(conn, seen.id))
        return Session(**(await self.seen(seen.id, Principal(seen.principal))).fields())

    def token(self, access: Access, seen: Seen, asked: CreateToken) -> Token:
        """Raises OutOfScope for more than who asks has, InvalidParams for longer than is allowed."""
        for scope in asked.scopes:
            access.to_session(seen.id, scope)
        grant = self.gate.tokens.grant(seen.id, seen.principal, frozenset(asked.scopes), asked.seconds, access.grant)
        return Token(
            token=self.gate.tokens.token(grant),
            session_id=seen.id,
            scopes=asked.scopes,
            expires_at=iso(grant.expires_at * 1_000_000),
        )

    def _inbound(self, input: Input, metadata: dict[str, object], context_id: str | None = None) -> Inbound:
        parts = stored(input)
        size = len(prompt_of([{"parts": parts}]))
        if size > self.settings.max_prompt_chars:
            raise TooLarge(f"The message has {size} characters; at most {self.settings.max_prompt_chars} are taken.")
        return Inbound(parts, new_id("msg"), context_id, metadata=metadata)
