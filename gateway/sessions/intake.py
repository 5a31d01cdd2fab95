"""Messages on their way into the engine: checked, under their idempotency key, into the task they belong to."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from sqlalchemy import Connection

from gateway import idempotency
from gateway.auth.callers import Principal, room_for_task
from gateway.clock import new_id
from gateway.db.engine import Database
from gateway.errors import Archived, Conflict, InvalidParams, TooLarge
from gateway.files.intake import Intake as Files
from gateway.idempotency import HEADER, Once, parse_key
from gateway.sessions import views
from gateway.sessions.parts import given
from gateway.sessions.shapes import CreateSession, SendMessage
from gateway.settings import Settings
from gateway.turns.engine import Engine
from gateway.turns.queue import Accepted
from gateway.turns.spec import Inbound, prompt_of

TRIES = 3  # a task that waits for input may be ended by somebody else just before the message comes

Keep = Callable[[Connection, Accepted], object]


@dataclass(frozen=True, slots=True)
class Intake:
    database: Database
    engine: Engine
    settings: Settings
    files: Files

    async def inbound(self, asked: CreateSession | SendMessage, modes: Sequence[str]) -> Inbound:
        """A message, its files stored. Raises TooLarge, UnsupportedType, InvalidParams, Unavailable."""
        parts = given(asked.input)
        size, limit = len(prompt_of([{"parts": [one.part for one in parts if one.part]}])), self.settings.max_prompt_chars
        if size > limit:
            raise TooLarge(f"The message has {size} characters; at most {limit} are taken.", "Send less.")
        taken = await self.files.take(parts, modes)
        return Inbound(taken.parts, new_id("msg"), files=taken.files)

    def once(self, scope: str, principal: Principal, asked: CreateSession | SendMessage, header: str | None) -> Once | None:
        """The request under its key; None where it has none. Raises InvalidParams, UsageError."""
        keys = [key for key in (header, asked.idempotency_key) if key is not None]
        if len(set(keys)) > 1:
            raise InvalidParams(f"{HEADER} and idempotency_key hold two different keys.", "Send one of them.")
        if not keys:
            return None
        secret = principal.anonymous and not self.settings.lists_anonymously
        said = json.dumps(asked.model_dump(mode="json", exclude={"idempotency_key"}), sort_keys=True)
        return Once.of(scope, principal.id, parse_key(keys[0], secret=secret), hashlib.sha256(said.encode()).hexdigest())

    async def earlier(self, once: Once | None) -> Accepted | None:
        """What came of a request before. Raises KeyReused."""
        found = await self.database.read(lambda conn: idempotency.find(conn, once)) if once else None
        return Accepted.again(found) if found else None

    async def begin(
        self, agent_id: str, version: int, principal: Principal, new: Inbound, once: Once | None, keep: Keep | None = None
    ) -> Accepted:
        """Store a message and queue its turn, or answer what came of it before. Raises as `Engine.accept` does."""

        def known(conn: Connection) -> Accepted | None:
            found = idempotency.begin(conn, once) if once else None
            return Accepted.again(found) if found else None

        def within(conn: Connection, accepted: Accepted) -> None:
            if keep is not None:
                keep(conn, accepted)
            if once is not None:
                idempotency.settle(conn, once, accepted.kept(), self.settings.idempotency_hours * 3600)

        room = room_for_task(principal, new.task_id)

        def check(conn: Connection) -> None:
            if new.context_id is not None:
                views.check_open(conn, new.context_id)
            if room is not None:
                room(conn)

        return await self.engine.accept(agent_id, version, principal.id, new, check, within, known)

    async def go_on(self, agent_id: str, principal: Principal, new: Inbound, once: Once | None) -> Accepted:
        """The same for a session that is there: a task of it that waits for input gets the message."""
        tries = TRIES
        while True:
            waiting = None
            if new.mode != "steer":
                waiting = await self.database.read(lambda conn: views.waiting_task(conn, new.context_id or ""))
            try:
                return await self.begin(agent_id, 0, principal, replace(new, task_id=waiting), once)
            except Conflict as exc:
                tries -= 1
                if waiting is None or not tries or isinstance(exc, Archived):
                    raise
