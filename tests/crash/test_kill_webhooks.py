"""Gateway and webhook receiver fail by turns while sessions work: every event arrives, in order; what is repeated is a repeat.

[HOOK-1] [HOOK-2] [PUSH-2]

SWITCHBOARD_CRASH_ROUNDS raises the number of kills, SWITCHBOARD_CRASH_SEED plays a printed seed again.
"""

from __future__ import annotations

import os
import random
from pathlib import Path

import anyio
import pytest

from tests.crash.witness import calling
from tests.gateway.deliver.receivers import Receiver, receiving
from tests.gateway.sessions.api import Api
from tests.support import GatewayProcess, Json, gateway_process

ROUNDS = int(os.environ.get("SWITCHBOARD_CRASH_ROUNDS", "2"))
LATEST_KILL = 0.6  # seconds after the sessions began
SESSIONS = 4
ENV = {
    "SWITCHBOARD_ALLOW_PRIVATE_HOSTS": "127.0.0.1",
    "SWITCHBOARD_WEBHOOK_BACKOFF_SECONDS": "0.02",
    "SWITCHBOARD_WEBHOOK_ATTEMPTS": "1000",
    "SWITCHBOARD_WEBHOOK_SECONDS": "1",
}


def told(receiver: Receiver, session_id: str) -> list[Json]:
    """The events of a session as a receiver has them that knows a delivery by its id."""
    bodies = [got.json["data"] for got in receiver.once()]
    return [event for body in bodies if body["session"]["id"] == session_id for event in body["events"]]


async def play(gateway: GatewayProcess, receiver: Receiver, rng: random.Random) -> list[str]:
    """Sessions at work; the receiver goes and comes, the gateway dies."""
    async with calling(gateway) as client:
        hook = {"url": f"{receiver.url}/status"}
        made = [await Api(client).create("N=100 D=2000 TOOLS=2", destinations=[hook]) for _ in range(SESSIONS)]
        for _ in range(3):
            receiver.status = rng.choice((200, 503))
            await anyio.sleep(rng.uniform(0, LATEST_KILL / 3))
        gateway.kill()
    gateway.start()
    return [str(session["id"]) for session in made]


@pytest.mark.timeout(60 + 15 * ROUNDS)
async def test_no_kill_loses_or_reorders_what_webhooks_are_told(tmp_path: Path) -> None:
    seed = os.environ.get("SWITCHBOARD_CRASH_SEED") or str(random.randrange(10**9))
    print(f"SWITCHBOARD_CRASH_SEED={seed} SWITCHBOARD_CRASH_ROUNDS={ROUNDS}")
    rng = random.Random(seed)
    with receiving() as receiver, gateway_process(tmp_path, ENV) as gateway:
        ids = [id for _ in range(ROUNDS) for id in await play(gateway, receiver, rng)]
        receiver.status = 200
        async with calling(gateway) as client, anyio.create_task_group() as group:
            for id in ids:
                group.start_soon(check, Api(client), receiver, id)
        assert all(len({got.body for got in receiver.got if got.id == once.id}) == 1 for once in receiver.once())


async def check(api: Api, receiver: Receiver, session_id: str) -> None:
    await api.rest(session_id)
    log = await api.log(session_id)
    await receiver.until(lambda: len(told(receiver, session_id)) >= len(log))
    assert told(receiver, session_id) == log
