"""PostgreSQL dies under load and comes back: nothing that was acknowledged is lost, and who calls meanwhile is told to wait."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import anyio.to_thread
import grpc.aio
import httpx2
import pytest
from a2a.types import a2a_pb2 as pb
from a2a.types.a2a_pb2_grpc import A2AServiceStub

from gateway.dial import trust
from tests.crash.callers import Caller, check_all
from tests.crash.found import Found
from tests.crash.gateways import PATIENCE, Gateways, gateways
from tests.crash.witness import AGENT, wait_for_deaths
from tests.postgres import PostgresServer
from tests.support import Born, GatewayProcess, Json, free_port, message, python

GATEWAYS, CALLERS = 2, 4
LEASE = 3.0
SHORT, LONG = 1.0, LEASE + 1.5  # seconds the server is away; every fifth time longer than a lease
HOWS = (signal.SIGKILL, signal.SIGQUIT)  # of the postmaster: no word to anybody; or an immediate shutdown


async def outages(folder: Path, found: Found, rng: random.Random, server: PostgresServer, born: Born = python) -> None:
    logs: dict[str, tuple[int, str]] = {}
    enough = anyio.Event()
    ports = {"SWITCHBOARD_GRPC_PORT": "0", "SWITCHBOARD_LEASE_SECONDS": str(LEASE)}
    env = {"SWITCHBOARD_DATABASE_URL": server.url(server.create()), **ports}
    async with gateways(folder, rng, GATEWAYS, env, born) as all:
        await with_grpc(all, all.all[0])
        callers = [Caller(all, random.Random(rng.random()), found, logs) for _ in range(CALLERS)]
        async with anyio.create_task_group() as group:
            for caller in callers:
                group.start_soon(caller.work, enough)
            while found.next():
                await all.work(rng.randrange(60))
                await anyio.sleep(rng.uniform(0.2, 1.5))
                await outage(all, server, rng, found)
            enough.set()
        await check_all(callers[0])
    with found.looking_at("processes at the end"):
        assert await anyio.to_thread.run_sync(wait_for_deaths, folder, 20.0) == []


async def with_grpc(all: Gateways, gateway: GatewayProcess) -> None:
    """Start one of them again, with gRPC."""
    await all.kill(gateway)
    gateway.env = {**gateway.env, "SWITCHBOARD_GRPC_PORT": str(free_port())}
    await all.start(gateway)


async def outage(all: Gateways, server: PostgresServer, rng: random.Random, found: Found) -> None:
    how = rng.choice(HOWS)
    await anyio.to_thread.run_sync(server.stop, how)
    began = time.monotonic()
    found.counts[how.name] += 1
    with found.looking_at("answers while the database is away"), anyio.fail_after(PATIENCE):
        await told_to_wait(all)
    away = LONG if found.done % 5 == 0 else rng.uniform(0, SHORT)
    await anyio.sleep(max(0.0, began + away - time.monotonic()))
    await anyio.to_thread.run_sync(server.start)
    back = time.monotonic()
    with found.looking_at("readiness when the database is back"), anyio.fail_after(PATIENCE):
        for gateway in all.all:
            await until_ready(gateway)
    found.took("away", back - began)
    found.took("ready again after", time.monotonic() - back)


async def until_ready(gateway: GatewayProcess) -> None:
    async with plain() as http:
        while (await http.get(f"{gateway.url}/ready")).status_code != 200:  # noqa: ASYNC110
            await anyio.sleep(0.05)


async def told_to_wait(all: Gateways) -> None:
    """Everybody, in the words of their protocol; and the gateway lives, but is not ready."""
    first, second = all.all[0], all.all[-1]
    async with plain() as http:
        for gateway in (first, second):
            assert (await http.get(f"{gateway.url}/health")).status_code == 200
            await refused(http.get(f"{gateway.url}/ready"), lambda body: body["code"] == "unavailable")
        agent, owner = f"{second.url}/agents/{AGENT}", {"Authorization": f"Bearer {second.client().owner_key}"}
        new, old = {"A2A-Version": "1.0"}, {"A2A-Version": "0.3"}
        sent = {"message": message("N=1")}
        for method in ("SendMessage", "SendStreamingMessage"):
            await refused(http.post(agent, json=call(method, sent), headers=new), rpc_says(-32014))
        sent03 = {"message": {"kind": "message", "messageId": "m", "role": "user", "parts": [{"kind": "text", "text": "N=1"}]}}
        await refused(http.post(agent, json=call("message/send", sent03), headers=old), rpc_says(-32014))
        await refused(http.post(f"{agent}/message:send", json=sent, headers=new), lambda body: body["error"]["code"] == 503)
        await refused(http.get(f"{agent}/tasks/tsk_1", headers=new), lambda body: body["error"]["code"] == 503)
        begun = {"agent": AGENT, "input": "N=1"}
        await refused(http.post(f"{second.url}/v1/sessions", json=begun), lambda body: body["code"] == "unavailable")
        await refused(http.get(f"{second.url}/v1/sessions/ses_1"), lambda body: body["code"] == "unavailable")
        owners = http.post(f"{second.url}/owner", json=call("agent.list", {}), headers=owner)
        await refused(owners, lambda body: body["error"]["data"]["code"] == "unavailable")
    async with grpc.aio.insecure_channel(f"127.0.0.1:{first.env['SWITCHBOARD_GRPC_PORT']}") as channel:
        said = pb.Message(message_id="m", role=pb.ROLE_USER, parts=[pb.Part(text="N=1")])
        asked = pb.SendMessageRequest(tenant=AGENT, message=said)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await A2AServiceStub(channel).SendMessage(asked, metadata=(("a2a-version", "1.0"),), timeout=30)
        assert caught.value.code() == grpc.StatusCode.UNAVAILABLE


async def refused(asking: Awaitable[httpx2.Response], says: Callable[[Json], bool]) -> None:
    answer = await asking
    assert answer.status_code == 503, f"{answer.request.url}: {answer.status_code} {answer.text}"
    assert answer.headers.get("Retry-After", "").isdigit(), f"{answer.request.url}: no Retry-After"
    assert says(answer.json()), f"{answer.request.url}: {answer.text}"


def call(method: str, params: Json) -> Json:
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}


def rpc_says(code: int) -> Callable[[Json], bool]:
    return lambda body: body["error"]["code"] == code


@asynccontextmanager
async def plain() -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(verify=trust(), timeout=60) as http:
        yield http
