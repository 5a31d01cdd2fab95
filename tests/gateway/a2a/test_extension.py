"""Tool events are told to machines only where the caller activated the extension. [EXT-1]"""

from __future__ import annotations

import json
from pathlib import Path

import anyio
import grpc.aio
import pytest
from a2a.types import a2a_pb2 as pb
from a2a.types.a2a_pb2_grpc import A2AServiceStub

from gateway.a2a.extension import TOOL_EVENTS
from tests.gateway.a2a.clients import LEGS, Leg, calling, grpc_address, request
from tests.gateway.turns.calls import calling as streaming
from tests.gateway.turns.calls import make_agent, tools
from tests.gateway.turns.parrot import DONE, RUNTIMES, chunk, say
from tests.support import Client, Frame, GatewayProcess, Json, message, serving

PROMPT = "N=3 TOOLFAIL"
OTHER = "https://example.com/extensions/other/v1"
PLAIN, FULL = [["text"], ["text"]], [["text", "data"], ["text", "data"]]


@pytest.mark.anyio
@pytest.mark.parametrize("leg", LEGS, ids=str)
@pytest.mark.parametrize(("asked", "told"), [(OTHER, PLAIN), (f"{OTHER}, {TOOL_EVENTS}", FULL)])
async def test_every_transport_tells_data_only_to_who_asked(
    gateway: GatewayProcess, leg: Leg, asked: str, told: list[list[str]]
) -> None:
    """[A2A-7]"""
    with anyio.fail_after(30):
        async with calling(gateway, leg, streaming=True) as caller:
            parameters = {**(caller.context.service_parameters or {}), "A2A-Extensions": asked}
            context = caller.context.model_copy(update={"service_parameters": parameters})
            events = [event async for event in caller.client.send_message(request(PROMPT), context=context)]
    messages = [event.status_update.status.message for event in events if event.HasField("status_update")][1:3]
    assert [[part.WhichOneof("content") for part in said.parts] for said in messages] == told
    assert [list(said.extensions) for said in messages] == [[TOOL_EVENTS] if told is FULL else []] * 2
    assert [said.parts[0].text for said in messages] == ["echo rehearsal; exit 7", "Failed with exit code 7"]


@pytest.mark.parametrize(
    ("headers", "told"),
    [
        ({"A2A-Extensions": f"{OTHER},{TOOL_EVENTS}"}, (TOOL_EVENTS, None)),
        ({"X-A2A-Extensions": TOOL_EVENTS}, (None, TOOL_EVENTS)),
        ({"A2A-Extensions": OTHER}, (None, None)),
        ({}, (None, None)),
    ],
)
@pytest.mark.parametrize("version", ["1.0", "0.3"])
async def test_an_answer_tells_back_what_was_activated(
    tmp_path: Path, headers: dict[str, str], told: tuple[str | None, str | None], version: str
) -> None:
    sent: Json = {"message": message("N=1")}
    rest = "message:send" if version == "1.0" else "v1/message:stream"
    if version == "0.3":
        sent = {"message": {"messageId": "1", "role": "ROLE_USER", "content": [{"text": "N=1"}]}}
    call = {"jsonrpc": "2.0", "id": 1, "method": "GetTask" if version == "1.0" else "tasks/get", "params": {"id": "tsk_nope"}}
    async with serving(tmp_path) as gateway:
        with anyio.fail_after(30):
            answers = [
                await gateway.http.post(f"{gateway.url}/agents/{path}", json=body, headers={"A2A-Version": version, **headers})
                for path, body in (("hello", call), (f"hello/{rest}", sent))
            ]
    assert [answer.status_code for answer in answers] == [200, 200]
    for answer in answers:
        assert (answer.headers.get("a2a-extensions"), answer.headers.get("x-a2a-extensions")) == told


@pytest.mark.anyio
async def test_grpc_tells_back_in_its_first_metadata(gateway: GatewayProcess) -> None:
    metadata = [("a2a-version", "1.0"), ("a2a-extensions", f"{OTHER},{TOOL_EVENTS}")]
    with anyio.fail_after(30):
        async with grpc.aio.insecure_channel(grpc_address(gateway)) as channel:
            stub = A2AServiceStub(channel)  # type: ignore[no-untyped-call]
            call = stub.SendMessage(pb.SendMessageRequest(tenant="echo", message=request("N=1").message), metadata=metadata)
            first = dict(await call.initial_metadata())
            assert (await call).task.status.state == pb.TASK_STATE_COMPLETED
    assert first["a2a-extensions"] == TOOL_EVENTS


def without_data(frame: Frame) -> Frame:
    """A frame as it is told to who did not activate the extension."""
    data = json.loads(json.dumps(frame.data))
    said = data["result"].get("statusUpdate", {}).get("status", {}).get("message", {})
    if said.pop("extensions", None):
        del said["parts"][1:]
    return Frame(frame.id, data)


async def test_readers_of_both_kinds_beside_one_another_are_told_of_the_same_events(tmp_path: Path) -> None:
    tool = [
        {"type": "tool_start", "call_id": "1", "tool": "shell", "input": {"command": "true"}},
        {"type": "tool_result", "call_id": "1", "output": "out"},
    ]
    prompt = say(["wait", "go"], *tool, chunk("a"), DONE)
    got: dict[str, list[list[Frame]]] = {asked: [[], []] for asked in (TOOL_EVENTS, OTHER)}

    async def read(frames: list[Frame], task_id: str, asked: str) -> None:
        async for frame in gateway.frames("parrot", "SubscribeToTask", {"id": task_id}, {"A2A-Extensions": asked}):
            frames.append(frame)
            if all(frames for both in got.values() for frames in both):
                (tmp_path / "sessions" / "mine" / "work" / "go").touch()

    async with serving(tmp_path, RUNTIMES) as gateway:
        with anyio.fail_after(30):
            await make_agent(gateway, "parrot", "parrot")
            async with streaming(gateway, prompt, agent="parrot", contextId="mine") as call:
                await call.until(lambda call: len(call.frames) == 2)
                async with anyio.create_task_group() as group:
                    for asked, both in got.items():
                        for frames in both:
                            group.start_soon(read, frames, call.task["id"], asked)
    full, plain = got[TOOL_EVENTS][0], got[OTHER][0]
    assert [data["type"] for data in tools(full)] == ["tool_start", "tool_result"]
    assert got == {TOOL_EVENTS: [full] * 2, OTHER: [[without_data(frame) for frame in full]] * 2}
    assert tools(plain) == []


async def test_a_stream_goes_on_as_the_request_that_resumes_it_asks(tmp_path: Path) -> None:
    async def read(gateway: Client, asked: str) -> list[Frame]:
        headers = {"Last-Event-ID": full[0].id, "A2A-Extensions": asked}
        params = {"id": full[0].result["task"]["id"]}
        return [frame async for frame in gateway.frames("hello", "SubscribeToTask", params, headers)]

    async with serving(tmp_path) as gateway:
        with anyio.fail_after(30):
            full = [frame async for frame in gateway.stream("hello", PROMPT)]
            assert await read(gateway, "") == [without_data(frame) for frame in full[1:]]
            assert await read(gateway, TOOL_EVENTS) == full[1:]
