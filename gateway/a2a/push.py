"""Push notifications as A2A has them (spec v1.0, sections 3.1.7 to 3.1.10 and 4.3): configs in, notifications out.

    1.0   each notification is a StreamResponse: a working status, a file, and at a turn's end its whole text and its status
    0.3   each notification is the task as it then was, which is what receivers of that version expect

A config belongs to a task, so it gets what comes after it was made; one of a task that has ended gets nothing and is
kept all the same (the specification knows no error for it). Its token and credentials are never told again.
"""

from __future__ import annotations

import re

from a2a.compat.v0_3.conversions import to_compat_task
from a2a.server.context import ServerCallContext
from a2a.types import a2a_pb2 as pb
from a2a.utils.errors import InvalidParamsError
from google.protobuf.json_format import ParseDict  # type: ignore[import-untyped]  # has no stubs
from sqlalchemy import Connection

from gateway.a2a.tasks import Caller, Tasks
from gateway.a2a.translate import final_updates, update_of
from gateway.deliver import configs
from gateway.deliver.configs import Kept, Wanted
from gateway.deliver.envelope import dumps
from gateway.deliver.guard import Guard, Refused
from gateway.deliver.outbox import STATUS, Due
from gateway.log.rows import Position
from gateway.log.store import Log
from registry.secrets import Secrets

MAX_ID, MAX_SECRET = 128, 4096
OLD = "0.3"
_ID = re.compile(r"[A-Za-z0-9_.:~-]+")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9!#$%&'*+.^_`|~-]{0,63}")  # RFC 9110, section 11.1
_VALUE = re.compile(r"[\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?")  # what a header can carry


def version_of(context: ServerCallContext) -> str:
    """The protocol version of a call, as its transport noted it."""
    return str(context.state.get("version", "1.0"))


class Push:
    def __init__(self, log: Log, tasks: Tasks, secrets: Secrets, guard: Guard) -> None:
        self._log, self._tasks, self._secrets, self._guard = log, tasks, secrets, guard

    # -- configs

    async def wanted(self, config: pb.TaskPushNotificationConfig, context: ServerCallContext) -> Wanted:
        """A config, checked. Raises InvalidParamsError."""
        _check_texts(config)
        try:
            vetted = await self._guard.vet(config.url)
        except Refused as exc:
            raise InvalidParamsError(f"The push notification URL cannot be used: {exc.told}") from exc
        return Wanted(
            name=config.id,
            url=config.url,
            origin=vetted.origin,
            token=config.token,
            scheme=config.authentication.scheme,
            credentials=config.authentication.credentials,
            version=version_of(context),
        )

    def save(self, conn: Connection, caller: Caller, task_id: str, wanted: Wanted) -> Kept:
        return configs.save(conn, self._secrets, caller.agent_id, caller.principal, task_id, wanted)

    async def create(
        self, caller: Caller, params: pb.TaskPushNotificationConfig, context: ServerCallContext
    ) -> pb.TaskPushNotificationConfig:
        """The config as it was given, with its id."""
        if not params.task_id:
            raise InvalidParamsError("The taskId is missing.")
        await self._tasks.get(caller, params.task_id)  # what is not there is not worth a look-up
        wanted = await self.wanted(params, context)
        kept = await self._log.database.write(lambda conn: self.save(conn, caller, params.task_id, wanted))
        made = pb.TaskPushNotificationConfig()
        made.CopyFrom(params)
        made.id = kept.name
        return made

    async def get(self, caller: Caller, task_id: str, name: str) -> pb.TaskPushNotificationConfig:
        found = await self._log.database.read(
            lambda conn: configs.get(conn, caller.agent_id, caller.principal, task_id, name or task_id)
        )
        return _shown(found)

    async def list(self, caller: Caller, task_id: str) -> pb.ListTaskPushNotificationConfigsResponse:
        found = await self._log.database.read(lambda conn: configs.listing(conn, caller.agent_id, caller.principal, task_id))
        return pb.ListTaskPushNotificationConfigsResponse(configs=map(_shown, found))

    async def delete(self, caller: Caller, task_id: str, name: str) -> None:
        await self._log.database.write(lambda conn: configs.remove(conn, caller.agent_id, caller.principal, task_id, name))

    # -- notifications

    async def render(self, due: Due) -> bytes | None:
        """A delivery's body, made from the log: the same bytes whenever it is made, but for files' URLs.

        None: there is nothing to tell.
        """
        if due.version == OLD:
            return await self._old(due)
        row = (await self._log.read(due.session_id, Position(due.seq - 1, 2**31), 1))[0]
        if row.type == "done":
            updates = final_updates(await self._tasks.at(due.task_id, due.seq), row.turn_id or "", due.part == STATUS)
        else:
            updates = [await self._tasks.files.update(update) for update in [update_of(row)] if update]
        found = next((update for update in updates if due.part in update), None)
        return None if found is None else dumps(found)

    async def _old(self, due: Due) -> bytes | None:
        if due.part != STATUS:
            return None
        task = to_compat_task(ParseDict(await self._tasks.at(due.task_id, due.seq), pb.Task()))
        return dumps(task.model_dump(mode="json", by_alias=True, exclude_none=True))


def _check_texts(config: pb.TaskPushNotificationConfig) -> None:
    """What is sent in headers must be able to stand there; nothing secret is quoted."""
    if config.id and (len(config.id) > MAX_ID or not _ID.fullmatch(config.id)):
        raise InvalidParamsError(
            f"The config's id {config.id[:80]!r} cannot be chosen: take 1 to {MAX_ID} of A-Z a-z 0-9 - _ . : ~"
        )
    for name, value in (("token", config.token), ("credentials", config.authentication.credentials)):
        if value and (len(value) > MAX_SECRET or not _VALUE.fullmatch(value)):
            raise InvalidParamsError(f"The config's {name} must be 1 to {MAX_SECRET} printable ASCII characters.")
    scheme = config.authentication.scheme
    if scheme and not _SCHEME.fullmatch(scheme):
        raise InvalidParamsError(f"The config's authentication scheme {scheme[:80]!r} is none, such as Bearer.")


def _shown(kept: Kept) -> pb.TaskPushNotificationConfig:
    made = pb.TaskPushNotificationConfig(id=kept.name, task_id=kept.task_id, url=kept.url)
    if kept.scheme:
        made.authentication.scheme = kept.scheme
    return made
