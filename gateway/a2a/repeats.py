"""The same message sent again: which one it was, so that it is not done twice (specs/idempotency.md).

    Idempotency-Key     opt-in by header, gRPC metadata or message metadata: the first task is answered again
    Last-Event-ID       with a streaming message: its stream goes on after that event, and nothing new is made

A repeat is told by its key, or, with Last-Event-ID, by its words: the digest of the request stands with its turn. Callers who
do not sign in share a name, so for them key or messageId must be one that nobody guesses; on loopback they share all anyway.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from a2a.server.context import ServerCallContext
from a2a.types import a2a_pb2 as pb
from a2a.utils.errors import InvalidParamsError, InvalidRequestError
from sqlalchemy import Connection, select

from gateway import idempotency
from gateway.a2a.tasks import Caller
from gateway.auth.callers import Principal
from gateway.db.engine import Database
from gateway.errors import UsageError
from gateway.idempotency import HEADER, MIN_SECRET, Once
from gateway.log.models import EventRow, Task, Turn
from gateway.settings import Settings
from gateway.turns.queue import Accepted

METADATA = "https://switchboard.dev/extensions/idempotency/v1"  # of a message: its key, where no header can be sent

_event, _task, _turn = EventRow.__table__, Task.__table__, Turn.__table__  # type: ignore[attr-defined]


def digest_of(params: pb.SendMessageRequest) -> str:
    """What is asked for, whatever the transport; how the answer is wanted (at once, how much history) does not count."""
    asked = pb.SendMessageRequest(message=params.message, metadata=params.metadata)
    wanted = pb.SendMessageConfiguration()
    wanted.CopyFrom(params.configuration)
    wanted.ClearField("return_immediately")
    wanted.ClearField("history_length")
    asked.configuration.CopyFrom(wanted)
    return hashlib.sha256(asked.SerializeToString(deterministic=True)).hexdigest()


@dataclass(frozen=True, slots=True)
class Repeats:
    database: Database
    settings: Settings

    def once(self, params: pb.SendMessageRequest, digest: str, context: ServerCallContext) -> Once | None:
        """The request under its key; None where it has none. Raises InvalidParamsError."""
        key = _key(params, context)
        if not key:
            return None
        principal: Principal = context.state["principal"]
        try:
            key = idempotency.parse_key(key, secret=self._shared(principal))
        except UsageError as exc:
            raise InvalidParamsError(exc.said) from exc
        return Once.of(f"a2a {context.state['face'].agent_id}", principal.id, key, digest)

    async def find(self, once: Once) -> Accepted | None:
        """What was accepted under a key already. Raises KeyReused."""
        found = await self.database.read(lambda conn: idempotency.find(conn, once))
        return Accepted.again(found) if found else None

    def begin(self, once: Once) -> Callable[[Connection], Accepted | None]:
        def op(conn: Connection) -> Accepted | None:
            found = idempotency.begin(conn, once)
            return Accepted.again(found) if found else None

        return op

    def settle(self, once: Once, conn: Connection, accepted: Accepted) -> None:
        seconds = self.settings.idempotency_hours * 3600
        idempotency.settle(conn, once, accepted.kept(), seconds)

    async def sent(self, params: pb.SendMessageRequest, digest: str, once: Once | None, caller: Caller) -> Accepted:
        """The message that is sent again with Last-Event-ID. Raises KeyReused, InvalidRequestError."""
        if once is not None:
            found = await self.find(once)
        else:
            self._check_secret(params.message.message_id, caller)
            found = await self.database.read(lambda conn: _sent(conn, caller, digest))
        if found is None:
            said = "Last-Event-ID continues a message that was sent before, and this one was not."
            raise InvalidRequestError(f"{said} Leave it out to send the message.")
        return found

    def _check_secret(self, message_id: str, caller: Caller) -> None:
        if self._shared(Principal(caller.principal)) and len(message_id) < MIN_SECRET:
            said = f"Callers who do not sign in continue a message by a messageId of at least {MIN_SECRET} characters"
            raise InvalidRequestError(f"{said}, such as a UUID. Subscribe to its task instead, or sign in.")

    def _shared(self, principal: Principal) -> bool:
        """Whether strangers go by the same name, who must not learn of one another."""
        return principal.anonymous and not self.settings.lists_anonymously


def _key(params: pb.SendMessageRequest, context: ServerCallContext) -> str:
    header: str | None = context.state.get("headers", {}).get(HEADER.lower())
    if METADATA not in params.message.metadata.fields:
        if header == "":
            raise InvalidParamsError(f"The {HEADER} is empty. Leave it out, or send one.")
        return header or ""
    key: str = params.message.metadata.fields[METADATA].string_value
    if not key or header not in (None, key):
        raise InvalidParamsError(f"The metadata {METADATA} must be a text, and the same as the {HEADER} if there is one.")
    return key


def _sent(conn: Connection, caller: Caller, digest: str) -> Accepted | None:
    """The newest turn of the caller that was asked for in the same words."""
    columns = (_event.c.session_id, _event.c.task_id, _event.c.turn_id, _event.c.seq, _event.c.created_at.label("at"))
    joined = _turn.join(_task, _task.c.id == _turn.c.task_id).join(_event, _event.c.turn_id == _turn.c.id)
    mine = (_task.c.agent_id == caller.agent_id, _task.c.principal == caller.principal)
    same = (_turn.c.digest == digest, _event.c.type == "message")
    query = select(*columns).select_from(joined).where(*mine, *same).order_by(_turn.c.queued_at.desc(), _event.c.seq).limit(1)
    row = conn.execute(query).first()
    return Accepted.again(dict(row._mapping)) if row else None
