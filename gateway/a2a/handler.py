"""The SDK's `RequestHandler` over our log: every answer is read back from it (spec v1.0, section 3).

The SDK gives types, errors and dispatchers; its task machinery is not used. Streams are `TaskStream`s, so that every
transport tells the same story.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import structlog
from a2a.server.context import ServerCallContext
from a2a.server.request_handlers.request_handler import RequestHandler, validate_request_params
from a2a.types import a2a_pb2 as pb
from a2a.utils.errors import (
    A2AError,
    ContentTypeNotSupportedError,
    InternalError,
    InvalidParamsError,
    InvalidRequestError,
    TaskNotCancelableError,
    TaskNotFoundError,
    UnsupportedOperationError,
)
from a2a.utils.proto_utils import validate_proto_required_fields
from google.protobuf.json_format import Error as JsonError  # type: ignore[import-untyped]  # has no stubs
from google.protobuf.json_format import MessageToDict, ParseDict
from sqlalchemy import Connection

from gateway.a2a import security
from gateway.a2a.cards import Face, input_modes
from gateway.a2a.extension import TOOL_EVENTS
from gateway.a2a.published import Cards
from gateway.a2a.push import OLD, Push, version_of
from gateway.a2a.repeats import Repeats, digest_of
from gateway.a2a.stream import TaskStream, ends, reply_to
from gateway.a2a.tasks import Caller, Tasks
from gateway.a2a.translate import Json, direct_message, task_json, user_message
from gateway.auth.callers import SIGN_IN, Principal, room_for_task
from gateway.clock import new_id
from gateway.errors import (
    Conflict,
    KeyReused,
    NotAllowed,
    NotFound,
    OutcomeUnknown,
    RateLimited,
    SwitchboardError,
    Unavailable,
    UnsupportedType,
    UsageError,
)
from gateway.files.intake import Given, Intake, Taken
from gateway.idempotency import Once
from gateway.log.rows import Position
from gateway.log.snapshot import SNAPSHOT
from gateway.log.store import Log
from gateway.log.tail import tail
from gateway.settings import Settings
from gateway.turns.engine import Engine
from gateway.turns.queue import TERMINAL, Accepted
from gateway.turns.spec import Inbound, prompt_of

MAX_PAGE = 100
PAGE = 50
MAX_PARTS = 1000
MAX_REFERENCES = 20
MAX_ID = 128
NO_CONTEXT = "\0"  # for anonymous callers, who share a name and nothing else: without a context they list nothing

Within = Callable[[Connection, Accepted], object]

log_ = structlog.get_logger("switchboard.a2a")


class Handler(RequestHandler):
    """The agent and the principal of a call stand in its context's state: `face`, `principal`."""

    def __init__(
        self, log: Log, engine: Engine, settings: Settings, cards: Cards, tasks: Tasks, push: Push, intake: Intake
    ) -> None:
        self.log, self.engine, self.settings, self.cards = log, engine, settings, cards
        self.tasks, self.push, self.intake = tasks, push, intake
        self.repeats = Repeats(log.database, settings)

    # -- messages

    @validate_request_params
    async def on_message_send(self, params: pb.SendMessageRequest, context: ServerCallContext) -> pb.Task | pb.Message:
        with _a2a_errors(context):
            waits = not params.configuration.return_immediately
            accepted, _ = await self._accept(params, context, waits=waits)
            if accepted.direct and (reply := await reply_to(self.log, accepted)):
                made: pb.Message = ParseDict(direct_message(reply), pb.Message())
                return made
            if waits:
                await self._until_done(accepted)
            found = await self.tasks.get(_caller(context), accepted.task_id)
            return _task(found.task, _history(params.configuration))

    @validate_request_params
    async def stream_message(self, params: pb.SendMessageRequest, context: ServerCallContext) -> TaskStream:
        """The stream of a message: the task first, then what happens to it; with Last-Event-ID, what comes after that.

        Of one that was sent before nothing is made again: its stream is told from its beginning.
        """
        with _a2a_errors(context):
            last = _last_event_id(context)
            if last is not None:
                return await self._continued(params, context, last)
            accepted, body = await self._accept(params, context, waits=True)
            at = Position(accepted.seq)
            stream = TaskStream(self.log, self.tasks, accepted.task_id, accepted.session_id, at)
            stream.undecided = accepted if accepted.direct else None
            stream.tools = _tools(context)
            if params.message.task_id or not accepted.batch.rows:
                stream.first = await self.tasks.at(accepted.task_id, accepted.seq)
                stream.begun = _artifact_ids(stream.first)
            else:
                message = user_message(body, accepted.task_id, accepted.session_id)
                task = task_json(accepted.task_id, accepted.session_id, "submitted", accepted.at, [message])
                stream.first = await self.tasks.files.task(task)
            return stream

    async def on_message_send_stream(self, params: pb.SendMessageRequest, context: ServerCallContext) -> AsyncGenerator[Any]:
        stream = await self.stream_message(params, context)
        async for event in _events(stream):
            yield event

    # -- tasks

    @validate_request_params
    async def on_get_task(self, params: pb.GetTaskRequest, context: ServerCallContext) -> pb.Task:
        with _a2a_errors(context):
            found = await self.tasks.get(_caller(context), params.id)
            return _task(found.task, _history(params))

    @validate_request_params
    async def on_list_tasks(self, params: pb.ListTasksRequest, context: ServerCallContext) -> pb.ListTasksResponse:
        size = params.page_size if params.HasField("page_size") else PAGE
        if not 1 <= size <= MAX_PAGE:
            raise InvalidParamsError(f"pageSize {size} is not between 1 and {MAX_PAGE}.")
        since, history = params.status_timestamp_after, _history(params)
        with _a2a_errors(context):
            tasks, token, total = await self.tasks.list(
                _caller(context),
                context_id=params.context_id or self._every_context(context),
                state=_state(params.status),
                since_us=since.ToMicroseconds() if params.HasField("status_timestamp_after") else 0,
                limit=size,
                token=params.page_token,
            )
        listed = [_task(task, history, artifacts=params.include_artifacts) for task in tasks]
        return pb.ListTasksResponse(tasks=listed, next_page_token=token, page_size=size, total_size=total)

    @validate_request_params
    async def on_cancel_task(self, params: pb.CancelTaskRequest, context: ServerCallContext) -> pb.Task:
        caller = _caller(context)
        with _a2a_errors(context):
            found = await self.tasks.get(caller, params.id)
            if found.state in TERMINAL:
                raise TaskNotCancelableError(f"Task {params.id!r} has ended as {found.state}.")
            await self.engine.cancel(params.id)
            return _task((await self.tasks.get(caller, params.id)).task)

    @validate_request_params
    async def stream_task(self, params: pb.SubscribeToTaskRequest, context: ServerCallContext) -> TaskStream:
        """A task's stream: from Last-Event-ID on, or the task as it is and then what happens to it."""
        with _a2a_errors(context):
            last = _last_event_id(context)
            if last is not None:
                return await self._resumed(context, params.id, last)
            found = await self.tasks.get(_caller(context), params.id)
            if found.state in TERMINAL:
                said = f"Task {params.id!r} has ended as {found.state}. Read the task itself instead."
                raise UnsupportedOperationError(said)
            stream = TaskStream(self.log, self.tasks, params.id, found.session_id, found.position)
            stream.first, stream.begun = found.task, _artifact_ids(found.task)
            stream.tools = _tools(context)
            return stream

    async def _resumed(self, context: ServerCallContext, task_id: str, last: Position) -> TaskStream:
        place = await self.tasks.place(_caller(context), task_id, last.seq)
        if last.seq > place.last_seq:
            raise InvalidRequestError(
                f"Last-Event-ID {last.seq} is not an id of this stream. Send the id of the last event you read."
            )
        stream = TaskStream(self.log, self.tasks, task_id, place.session_id, last)
        stream.begun, stream.live, stream.tools = place.begun, not place.rests, _tools(context)
        return stream

    async def on_subscribe_to_task(self, params: pb.SubscribeToTaskRequest, context: ServerCallContext) -> AsyncGenerator[Any]:
        stream = await self.stream_task(params, context)
        async for event in _events(stream):
            yield event

    def _every_context(self, context: ServerCallContext) -> str:
        """What stands for "every context": nothing an anonymous caller may ask for where strangers share that name."""
        return NO_CONTEXT if _principal(context).anonymous and not self.settings.lists_anonymously else ""

    # -- the card for callers who signed in

    async def on_get_extended_agent_card(self, params: Any, context: ServerCallContext) -> pb.AgentCard:
        face: Face = context.state["face"]
        found = self.cards.extended(face)
        if _principal(context).anonymous:
            raise _refused(context, NotAllowed("The extended card is for callers who sign in.", SIGN_IN))
        made: pb.AgentCard = ParseDict(found, pb.AgentCard())
        return made

    # -- push notifications

    async def on_create_task_push_notification_config(
        self, params: pb.TaskPushNotificationConfig, context: ServerCallContext
    ) -> pb.TaskPushNotificationConfig:
        validate_proto_required_fields(params)
        with _a2a_errors(context):
            return await self.push.create(_caller(context), params, context)

    async def on_get_task_push_notification_config(
        self, params: pb.GetTaskPushNotificationConfigRequest, context: ServerCallContext
    ) -> pb.TaskPushNotificationConfig:
        if version_of(context) != OLD:  # which may leave out the config's id
            validate_proto_required_fields(params)
        with _a2a_errors(context):
            return await self.push.get(_caller(context), params.task_id, params.id)

    @validate_request_params
    async def on_list_task_push_notification_configs(
        self, params: pb.ListTaskPushNotificationConfigsRequest, context: ServerCallContext
    ) -> pb.ListTaskPushNotificationConfigsResponse:
        with _a2a_errors(context):
            return await self.push.list(_caller(context), params.task_id)

    @validate_request_params
    async def on_delete_task_push_notification_config(
        self, params: pb.DeleteTaskPushNotificationConfigRequest, context: ServerCallContext
    ) -> None:
        with _a2a_errors(context):
            await self.push.delete(_caller(context), params.task_id, params.id)

    # --

    async def _accept(self, params: pb.SendMessageRequest, context: ServerCallContext, *, waits: bool) -> tuple[Accepted, Json]:
        """What came of a message, and its body; one that was sent before under its key is not stored again.

        Who `waits` takes a message for an answer, unless it names a task or wants one pushed.
        """
        face, principal, digest = context.state["face"], _principal(context), digest_of(params)
        once = self.repeats.once(params, digest, context)
        given, metadata = self._checked(params.message)
        pushed = params.configuration.HasField("task_push_notification_config")
        direct = waits and not params.message.task_id and not pushed
        try:
            accepted = await self.repeats.find(once) if once else None
            if accepted is not None:
                return accepted, {}
            within = await self._within(params, context, once)
            known = self.repeats.begin(once) if once else None
            room = room_for_task(principal, params.message.task_id or None)
            taken = await self.intake.take(given, input_modes(face))
            new = replace(_inbound(params.message, taken, metadata), digest=digest, direct=direct)
            accepted = await self.engine.accept(face.agent_id, face.version, principal.id, new, room, within, known)
        except (RateLimited, KeyReused) as exc:
            raise _refused(context, exc) from exc
        return accepted, new.body()

    async def _continued(self, params: pb.SendMessageRequest, context: ServerCallContext, last: Position) -> TaskStream:
        """The stream of a message that was sent before, after an event."""
        digest = digest_of(params)
        try:
            sent = await self.repeats.sent(params, digest, self.repeats.once(params, digest, context), _caller(context))
        except KeyReused as exc:
            raise _refused(context, exc) from exc
        if not await self._told(sent, last):
            return await self._resumed(context, sent.task_id, last)
        stream = TaskStream(self.log, self.tasks, sent.task_id, sent.session_id, last)
        stream.over = True
        return stream

    async def _told(self, sent: Accepted, last: Position) -> bool:
        """Whether an event ends the stream of a message: its task may have gone on with another since."""
        rows = await self.log.read(sent.session_id, Position(last.seq - 1, 2**31), 1)
        return any(row.seq == last.seq > sent.seq and ends(row, sent.task_id) for row in rows)

    async def _within(self, params: pb.SendMessageRequest, context: ServerCallContext, once: Once | None) -> Within | None:
        """What is kept in the transaction of a message: its push config, its key."""
        config = await self._inline_config(params, context)
        if once is None:
            return config

        def within(conn: Connection, accepted: Accepted) -> None:
            if config is not None:
                config(conn, accepted)
            self.repeats.settle(once, conn, accepted)

        return within

    async def _inline_config(self, params: pb.SendMessageRequest, context: ServerCallContext) -> Within | None:
        """The push config that comes with a message, checked: what keeps it in the transaction of the message."""
        if not params.configuration.HasField("task_push_notification_config"):
            return None
        config = params.configuration.task_push_notification_config
        if config.task_id and config.task_id != params.message.task_id:
            raise InvalidParamsError("The taskId of a message's push notification config is left out.")
        if not config.url:
            raise InvalidParamsError("The push notification config has no url.")
        wanted, caller = await self.push.wanted(config, context), _caller(context)
        return lambda conn, accepted: self.push.save(conn, caller, accepted.task_id, wanted)

    def _checked(self, message: pb.Message) -> tuple[list[Given], Json]:
        """A message's parts and its metadata."""
        if message.role == pb.ROLE_AGENT:
            raise InvalidParamsError("A message to an agent has the role ROLE_USER.")
        if len(message.parts) > MAX_PARTS:
            raise InvalidParamsError(f"The message has {len(message.parts)} parts; at most {MAX_PARTS} are taken.")
        given = [_given(part) for part in message.parts]
        self._check_text(prompt_of([{"parts": [one.part for one in given if one.part is not None]}]))
        metadata = _json(message.metadata) if message.HasField("metadata") else {}
        _check_references(message.reference_task_ids)
        return given, metadata

    def _check_text(self, text: str) -> None:
        if "\0" in text:
            raise InvalidParamsError("The message's text has a NUL character.")
        if len(text) > self.settings.max_prompt_chars:
            limit = self.settings.max_prompt_chars
            raise InvalidParamsError(f"The message has {len(text)} characters; at most {limit} are taken.")

    async def _until_done(self, accepted: Accepted) -> None:
        """Or until this gateway is about to stop: the caller gets the task as it is, and can ask for it elsewhere."""
        async for batch in tail(self.log, accepted.session_id, Position(accepted.seq), leaves=True):
            for row in batch.rows:
                if row.type == SNAPSHOT or ends(row, accepted.task_id):
                    return


@contextmanager
def _a2a_errors(context: ServerCallContext) -> Iterator[None]:
    """Our errors as A2A's, at the border. Callers get what concerns their call; the rest is an incident."""
    try:
        yield
    except A2AError:
        raise
    except NotFound as exc:
        raise TaskNotFoundError(exc.said) from exc
    except Conflict as exc:
        raise UnsupportedOperationError(exc.said) from exc
    except UnsupportedType as exc:
        raise ContentTypeNotSupportedError(exc.said) from exc
    except UsageError as exc:
        raise InvalidParamsError(exc.said) from exc
    except (Unavailable, OutcomeUnknown) as exc:
        exc.incident = _incident(exc)
        raise _refused(context, exc) from exc
    except Exception as exc:
        raise InternalError(f"The agent could not answer (incident {_incident(exc)}).") from exc


def _incident(exc: Exception) -> str:
    incident = new_id("inc")
    log_.error("call_failed", incident=incident, exc_info=exc)
    return incident


def _caller(context: ServerCallContext) -> Caller:
    return Caller(context.state["face"].agent_id, _principal(context).id)


def _refused(context: ServerCallContext, exc: SwitchboardError) -> A2AError:
    context.state.setdefault("refused", []).append(exc)
    return security.a2a_error(exc)


def _principal(context: ServerCallContext) -> Principal:
    principal: Principal = context.state["principal"]
    return principal


def _tools(context: ServerCallContext) -> bool:
    return any(TOOL_EVENTS in uris for uris in context.state.get("extensions", {}).values())


def _inbound(message: pb.Message, taken: Taken, metadata: Json) -> Inbound:
    return Inbound(
        parts=taken.parts,
        message_id=message.message_id,
        context_id=message.context_id or None,
        task_id=message.task_id or None,
        metadata=metadata,
        reference_task_ids=tuple(message.reference_task_ids),
        mode="auto" if message.task_id else "queue",  # a message joins what runs in its own task, and in no other
        files=taken.files,
    )


def _given(part: pb.Part) -> Given:
    kind = part.WhichOneof("content")
    if kind is None:
        raise InvalidParamsError("A part has no content; it needs one of text, data, raw, url.")
    if kind in ("text", "data"):
        return Given(_json(part), media_type=part.media_type)
    metadata = _json(part.metadata) if part.HasField("metadata") else {}
    raw = part.raw if kind == "raw" else None
    return Given(None, raw, part.url, part.filename, part.media_type, metadata)


def _check_references(ids: Sequence[str]) -> None:
    if len(ids) > MAX_REFERENCES:
        raise InvalidParamsError(f"The message refers to {len(ids)} tasks; at most {MAX_REFERENCES} are taken.")
    if any(not id or len(id) > MAX_ID or "\0" in id for id in ids):
        raise InvalidParamsError(f"A referenceTaskId is 1 to {MAX_ID} characters without NUL.")


def _json(message: Any) -> Json:
    try:
        made: Json = MessageToDict(message)
    except (JsonError, ValueError) as exc:
        raise InvalidParamsError("The message holds a number that JSON does not have, such as NaN or 1e999.") from exc
    return made


def _state(number: int) -> str:
    if number not in pb.TaskState.values():
        raise InvalidParamsError(f"status {number} is not a state of a task.")
    return pb.TaskState.Name(number) if number else ""


def _history(params: Any) -> int | None:
    length: int | None = params.history_length if params.HasField("history_length") else None
    if length is not None and length < 0:
        raise InvalidParamsError(f"historyLength {length} is negative.")
    return length


def _task(task: Json, history: int | None = None, *, artifacts: bool = True) -> pb.Task:
    if history is not None:
        task = {**task, "history": task["history"][-history:] if history else []}
    if not artifacts:
        task = {key: value for key, value in task.items() if key != "artifacts"}
    made: pb.Task = ParseDict(task, pb.Task())
    return made


def _artifact_ids(task: Json) -> set[str]:
    return {artifact["artifactId"] for artifact in task.get("artifacts", [])}


def _last_event_id(context: ServerCallContext) -> Position | None:
    text = context.state.get("headers", {}).get("last-event-id", "")
    if not text:
        return None
    try:
        return Position.parse(text)
    except ValueError as exc:
        raise InvalidRequestError(
            f"Last-Event-ID {text[:80]!r} is not an id of this stream. Send the id of the last event you read."
        ) from exc


async def _events(stream: TaskStream) -> AsyncIterator[Any]:
    async for update in stream.updates():
        response = ParseDict(update, pb.StreamResponse())
        yield getattr(response, response.WhichOneof("payload"))
