"""Every transport asks the same: JSON-RPC and HTTP+JSON in both versions, and gRPC. [AUTH-1] [AUTH-5]"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import grpc.aio
import httpx2
import pytest
from a2a.compat.v0_3 import a2a_v0_3_pb2 as pb03
from a2a.compat.v0_3.a2a_v0_3_pb2_grpc import A2AServiceStub as Stub03
from a2a.types import a2a_pb2 as pb
from a2a.types.a2a_pb2_grpc import A2AServiceStub as Stub10

from tests.support import Client, free_port, message, serving

Json = dict[str, Any]
V10, V03 = {"A2A-Version": "1.0"}, {"A2A-Version": "0.3"}
LATER = {"message": message("N=100000 D=100000"), "configuration": {"returnImmediately": True}}
PARTS03 = {"messageId": "m", "role": "user", "parts": [{"kind": "text", "text": "N=100000 D=100000"}]}
CONTENT03 = {"messageId": "m", "role": "ROLE_USER", "content": [{"text": "N=100000 D=100000"}]}
# path below the agent, headers, body of a message that is handed in and not waited for
SENDS: dict[str, tuple[str, dict[str, str], Json]] = {
    "jsonrpc 1.0": ("", V10, {"jsonrpc": "2.0", "id": 1, "method": "SendMessage", "params": LATER}),
    "jsonrpc 1.0 stream": ("", V10, {"jsonrpc": "2.0", "id": 1, "method": "SendStreamingMessage", "params": LATER}),
    "jsonrpc 0.3": (
        "",
        V03,
        {
            "jsonrpc": "2.0",
            "id": 1,
            "method": "message/send",
            "params": {"message": PARTS03, "configuration": {"blocking": False}},
        },
    ),
    "rest 1.0": ("/message:send", V10, LATER),
    "rest 1.0 tenant": ("/vault/message:send", V10, LATER),
    "rest 1.0 stream": ("/message:stream", V10, LATER),
    "rest 0.3": ("/v1/message:send", V03, {"message": CONTENT03, "configuration": {"blocking": False}}),
}


@asynccontextmanager
async def vault(tmp_path: Path, **settings: Any) -> AsyncIterator[tuple[Client, str]]:
    """A gateway with a restricted agent, and the key of a caller who may have one task at work."""
    async with serving(tmp_path, stop_seconds=0, **settings) as gateway:
        await gateway.owner("agent.create", name="vault", runtime="rehearsal", public=False)
        yield gateway, (await gateway.owner("callers.add", name="shop", running_tasks=1))["key"]


async def post(gateway: Client, leg: str, **more: str) -> httpx2.Response:
    path, headers, body = SENDS[leg]
    return await gateway.http.post(f"{gateway.url}/agents/vault{path}", json=body, headers={**headers, **more})


def code_of(answer: httpx2.Response) -> int:
    code: int = answer.json()["error"]["code"]
    return code


@pytest.mark.parametrize("leg", SENDS)
async def test_over_http_every_way_in_asks_to_sign_in_and_keeps_the_limits(leg: str, tmp_path: Path) -> None:
    async with vault(tmp_path) as (gateway, key):
        with anyio.fail_after(30):
            missing, wrong = await post(gateway, leg), await post(gateway, leg, Authorization="Bearer sbk_x_y")
            first = await gateway.http.post(
                f"{gateway.url}/agents/vault/message:send", json=LATER, headers={**V10, "X-API-Key": key}
            )
            more = await post(gateway, leg, **{"X-API-Key": key})
            sessions = (await gateway.owner("sessions.list"))["sessions"]
            await gateway.owner("sessions.cancel", id=sessions[0]["id"])
    rpc = leg.startswith("jsonrpc")
    assert (missing.status_code, missing.headers["www-authenticate"]) == (401, 'Bearer realm="agents"')
    assert (wrong.status_code, wrong.headers["www-authenticate"]) == (401, 'Bearer realm="agents", error="invalid_token"')
    assert code_of(missing) == code_of(wrong) == (-32012 if rpc else 401)
    assert first.status_code == 200
    assert (more.status_code, more.headers["retry-after"], code_of(more)) == (429, "5", -32015 if rpc else 429)
    assert len(sessions) == 1


async def test_grpc_asks_the_same_of_its_metadata(tmp_path: Path) -> None:
    port = free_port()
    async with vault(tmp_path, grpc_port=port) as (gateway, key), grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:

        async def call10(*metadata: tuple[str, str], tenant: str = "vault") -> Any:
            made = pb.Message(message_id="m", role=pb.ROLE_USER, parts=[pb.Part(text="N=100000 D=100000")])
            configuration = pb.SendMessageConfiguration(return_immediately=True)
            request = pb.SendMessageRequest(tenant=tenant, message=made, configuration=configuration)
            return await Stub10(channel).SendMessage(request, metadata=(("a2a-version", "1.0"), *metadata))

        async def call03(*metadata: tuple[str, str]) -> Any:
            request = pb03.GetTaskRequest(name="tasks/tsk_none")
            fixed = (("a2a-version", "0.3"), ("a2a-tenant", "vault"))
            return await Stub03(channel).GetTask(request, metadata=(*fixed, *metadata))

        async def refusal(call: Any) -> tuple[grpc.StatusCode, str]:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call
            return caught.value.code(), caught.value.details() or ""

        code, status = grpc.StatusCode, ("authorization", f"Bearer {key}")
        with anyio.fail_after(30):
            assert (await refusal(call10()))[0] == (await refusal(call03()))[0] == code.UNAUTHENTICATED
            assert (await refusal(call10(("x-api-key", "sbk_x_y"))))[1].startswith("The key is wrong.")
            assert await refusal(call10(status, tenant="nobody")) == (
                code.NOT_FOUND,
                "Agent 'nobody' was not found. The directory, GET /agents, tells which there are.",
            )
            assert (await refusal(call03(status)))[0] == code.NOT_FOUND  # the task, not the agent
            assert (await call10(status)).task.id
            assert (await refusal(call10(("x-api-key", key))))[0] == code.RESOURCE_EXHAUSTED
            for session in (await gateway.owner("sessions.list"))["sessions"]:
                await gateway.owner("sessions.cancel", id=session["id"])


async def test_the_extended_card_can_be_had_on_every_transport(tmp_path: Path) -> None:
    async with vault(tmp_path) as (gateway, key):
        await gateway.owner("agent.update", name="hello", changes={"extended": {"description": "More."}})
        where, signed_in = f"{gateway.url}/agents/hello", {"X-API-Key": key}
        rest = await gateway.http.get(f"{where}/extendedAgentCard", headers={**V10, **signed_in})
        refused = await gateway.http.get(f"{where}/extendedAgentCard", headers=V10)
        body = {"jsonrpc": "2.0", "id": 1, "method": "agent/getAuthenticatedExtendedCard"}
        old = await gateway.http.post(where, json=body, headers={**V03, **signed_in})
        old_refused = await gateway.http.post(where, json=body, headers=V03)
    assert (rest.json()["description"], old.json()["result"]["description"]) == ("More.", "More.")
    for answer in (refused, old_refused):
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, 'Bearer realm="agents"')
