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
from tests.gateway.turns.calls import tools
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


async def test_readers_of_both_kinds_are_told_of_the_same_events(tmp_path: Path) -> None:
    """Live beside one another, and once more from the log."""

    async def read(gateway: Client, last: str, asked: str) -> list[Frame]:
        params, headers = {"id": task_id}, {"Last-Event-ID": last, "A2A-Extensions": asked}
        return [frame async for frame in gateway.frames("hello", "SubscribeToTask", params, headers)]

    async with serving(tmp_path) as gateway:
        with anyio.fail_after(30):
            full = [frame async for frame in gateway.stream("hello", PROMPT)]
            task_id = full[0].result["task"]["id"]
            plain = await read(gateway, full[0].id, "")
            assert await read(gateway, full[0].id, TOOL_EVENTS) == full[1:]
    assert [data["type"] for data in tools(full)] == ["tool_start", "tool_result"]
    assert len(plain) == len(full) - 1
    for mine, other in zip(plain, full[1:], strict=True):
        expected = json.loads(json.dumps(other.data))
        said = expected["result"].get("statusUpdate", {}).get("status", {}).get("message", {})
        if said.pop("extensions", None):
            del said["parts"][1:]
        assert (mine.id, mine.data) == (other.id, expected)
