"""What conformance kits ask of an agent, done by the runtime `conformance`, told alike by every transport in every version.

[A2A-7] [A2A-15]
"""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from a2a.types import a2a_pb2 as pb
from a2a.utils.errors import A2AError
from google.protobuf.json_format import MessageToDict

from tests.gateway.a2a.clients import LEGS, Caller, Leg, calling
from tests.support import GatewayProcess, Json

on_every_leg = pytest.mark.parametrize("leg", LEGS, ids=str)
pytestmark = pytest.mark.anyio

TEXT_FILE = {"filename": "output.txt", "mediaType": "text/plain"}
RAW_FILE = {"raw": "R2VuZXJhdGVkIGZpbGUgY29udGVudA==", **TEXT_FILE}
# messageId -> (state, what the status says, the parts of the artifacts)
ANSWERS: dict[str, tuple[str, str, list[Json]]] = {
    "tck-complete-task-1": ("COMPLETED", "Hello from TCK", []),
    "tck-artifact-text-1": ("COMPLETED", "", [{"text": "Generated text content"}]),
    "tck-artifact-file-1": ("COMPLETED", "", [RAW_FILE]),
    "tck-artifact-file-url-1": ("COMPLETED", "", [{"url": "https://example.com/output.txt", **TEXT_FILE}]),
    "tck-artifact-data-1": ("COMPLETED", "", [{"data": {"key": "value", "count": 42}}]),
    "tck-input-required-1": ("INPUT_REQUIRED", "What else do you want to say?", []),
    "tck-auth-required-1": ("AUTH_REQUIRED", "Authorize the agent, then send a message to this task.", []),
    "tck-reject-task-1": ("REJECTED", "rejected", []),
    "tck-stream-002-1": ("COMPLETED", "Stream completed", []),
    "tck-stream-artifact-text-1": ("COMPLETED", "", [{"text": "Streamed text content"}]),
    "tck-stream-artifact-file-1": ("COMPLETED", "", [RAW_FILE]),
    "anything": ("COMPLETED", "", [{"text": "Hello from the conformance agent."}]),
}
WORKS = {
    "tck-stream-001-1": "Stream hello from TCK",
    "tck-stream-003-1": "Stream task lifecycle",
    "tck-stream-ordering-001-1": "Ordered output",
}


def told(task: pb.Task) -> tuple[str, str, list[Json]]:
    parts: list[Json] = [_plain(part) for artifact in task.artifacts for part in artifact.parts]
    return state(task.status), said(task.status), parts


def _plain(part: pb.Part) -> Json:
    """A part without what 0.3 adds or cannot say: 0.3 gRPC knows no file names and no media types on text."""
    return {key: value for key, value in MessageToDict(part).items() if value and key != "metadata"}


def state(status: pb.TaskStatus) -> str:
    return str(pb.TaskState.Name(status.state).removeprefix("TASK_STATE_"))


def said(status: pb.TaskStatus) -> str:
    return "".join(part.text for part in status.message.parts)


def shape(events: list[pb.StreamResponse]) -> list[Any]:
    """What a stream told, in order: task, states once in a row, pieces of artifacts."""
    found: list[Any] = []
    for event in events:
        match event.WhichOneof("payload"):
            case "task":
                found.append("task")
            case "status_update":
                found.append(state(event.status_update.status))
            case "artifact_update":
                update = event.artifact_update
                text = "".join(part.text for part in update.artifact.parts)
                found.append((text, update.append, update.last_chunk))
            case other:
                found.append(other)
    return [one for n, one in enumerate(found) if not n or one != found[n - 1]]


@on_every_leg
async def test_every_behaviour_is_answered(gateway: GatewayProcess, leg: Leg) -> None:
    """[A2A-13]"""
    answers: dict[str, tuple[str, str, list[Json]]] = {}
    with anyio.fail_after(60):
        async with calling(gateway, leg, agent="tck") as caller:
            for message_id in ANSWERS:
                answers[message_id] = told(await caller.send("Hi", message_id=message_id))
    assert answers == ANSWERS


@on_every_leg
async def test_streams_tell_working_then_the_artifact_then_the_end(gateway: GatewayProcess, leg: Leg) -> None:
    streams: dict[str, list[Any]] = {}
    with anyio.fail_after(60):
        async with calling(gateway, leg, agent="tck", streaming=True) as caller:
            for message_id in (*WORKS, "tck-stream-artifact-chunked-1"):
                streams[message_id] = shape(await caller.stream("Hi", message_id=message_id))
    expected = {id: ["task", "WORKING", (text, False, True), "COMPLETED"] for id, text in WORKS.items()}
    pieces = [("chunk-1 ", False, False), ("chunk-2", True, True)]
    assert streams == expected | {"tck-stream-artifact-chunked-1": ["task", "WORKING", *pieces, "COMPLETED"]}


async def test_a_task_that_takes_its_time_is_told_while_it_works_and_can_be_subscribed_again(gateway: GatewayProcess) -> None:
    """[A2A-12] All legs at once, because it lasts. A stream whose agent may answer directly has its task before the end."""
    found: dict[str, list[Any]] = {}

    async def resubscribe(leg: Leg) -> None:
        async with calling(gateway, leg, agent="tck", streaming=True) as caller:
            stream = caller.events("Hi", message_id="test-resubscribe-message-id-1")
            first = await anext(stream)
            await stream.aclose()  # type: ignore[attr-defined]  # it is a generator
            events = [event async for event in caller.subscribe(first.task.id)]
            found[str(leg)] = [shape([first]), shape(events), said(events[-1].status_update.status)]

    with anyio.fail_after(60):
        async with anyio.create_task_group() as group:
            for leg in LEGS:
                group.start_soon(resubscribe, leg)
    for leg in LEGS:
        first, then, end = found[str(leg)]
        assert (first, then[0], then[-1], end) == (["task"], "task", "COMPLETED", "Resubscribed"), leg


async def test_delayed_work_is_waited_for_or_not_as_the_caller_wants(gateway: GatewayProcess) -> None:
    found: dict[str, tuple[str, str]] = {}

    async def both(leg: Leg) -> None:
        async with calling(gateway, leg, agent="tck") as caller:
            at_once = await caller.send("Hi", message_id="tck-delayed-complete-1", return_immediately=True)
            waited = await caller.send("Hi", message_id="tck-delayed-complete-2")
            found[str(leg)] = state(at_once.status), said(waited.status)

    with anyio.fail_after(60):
        async with anyio.create_task_group() as group:
            for leg in LEGS:
                group.start_soon(both, leg)
    for leg in LEGS:
        at_once, waited = found[str(leg)]
        assert at_once in ("SUBMITTED", "WORKING"), leg
        assert waited == "Done after delay", leg


@on_every_leg
@pytest.mark.parametrize("waits", ["input", "auth"])
async def test_a_task_that_waits_goes_on_with_the_next_message_to_it(gateway: GatewayProcess, leg: Leg, waits: str) -> None:
    """[A2A-13]"""
    with anyio.fail_after(30):
        async with calling(gateway, leg, agent="tck", streaming=True) as caller:
            asked = await caller.stream("Hi", message_id=f"tck-{waits}-required-1")
            task = asked[0].task
            answered = await caller.stream("Here", message_id="tck-complete-task-1", task=task)
            whole = await caller.get(task.id)
    assert shape(asked)[-1] == f"{waits.upper()}_REQUIRED"
    assert shape(answered)[-1] == "COMPLETED"
    assert (whole.id, told(whole)) == (task.id, ("COMPLETED", "Hello from TCK", []))
    assert [part.text for message in whole.history for part in message.parts] == ["Hi", "Here"]


@on_every_leg
async def test_a_direct_answer_is_a_message_and_no_task(gateway: GatewayProcess, leg: Leg) -> None:
    """[A2A-12]"""
    with anyio.fail_after(30):
        async with (
            calling(gateway, leg, agent="tck") as caller,
            calling(gateway, leg, agent="tck", streaming=True) as streaming,
        ):
            for found in (await caller.stream("Hi", message_id=MESSAGE), await streaming.stream("Hi", message_id=MESSAGE)):
                assert [event.WhichOneof("payload") for event in found] == ["message"]
                message = found[0].message
                assert (message.role, message.task_id) == (pb.ROLE_AGENT, "")
                assert [part.text for part in message.parts] == ["Direct message response"]
                await _no_task(gateway, caller, leg, message.context_id)


MESSAGE = "tck-message-response-1"


async def _no_task(gateway: GatewayProcess, caller: Caller, leg: Leg, context_id: str) -> None:
    """The log has it, callers have not."""
    owner = gateway.client()
    async with owner.http:
        session = await owner.owner("sessions.show", id=context_id)
    [task] = session["tasks"]
    assert task["state"] == "answered"
    for call in (caller.get, caller.cancel):
        with pytest.raises(A2AError, match="was not found"):
            await call(task["id"])
    if leg.version == "1.0":
        assert not (await caller.list(context_id)).tasks
    follow_up = await caller.send("Hi", message_id="tck-complete-task-1", context_id=context_id)
    assert follow_up.context_id == context_id


@on_every_leg
async def test_who_does_not_wait_gets_a_task_whose_status_says_the_answer(gateway: GatewayProcess, leg: Leg) -> None:
    """[A2A-12]"""
    with anyio.fail_after(30):
        async with calling(gateway, leg, agent="tck") as caller:
            task = await caller.send("Hi", message_id=MESSAGE, return_immediately=True)
            # A turn of the same context comes after it: when that has ended, so has this.
            await caller.send("Hi", message_id="tck-complete-task-1", context_id=task.context_id)
            assert told(await caller.get(task.id)) == ("COMPLETED", "Direct message response", [])
