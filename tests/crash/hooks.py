"""Gateway and webhook receiver are killed by turns while sessions work: all arrives, in order; what is repeated is a repeat."""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path

import anyio
import anyio.to_thread

from tests.crash.found import Found
from tests.crash.receiver import FATES, Mortal, receiving
from tests.crash.witness import calling
from tests.gateway.sessions.api import Api
from tests.support import Born, GatewayProcess, Json, gateway_process, python

LATEST_KILL = 0.6  # seconds after the sessions began
SESSIONS = 4
PATIENCE = 300.0
TOGETHER = 10  # rounds after which all is looked at
ENV = {
    "SWITCHBOARD_ALLOW_PRIVATE_HOSTS": "127.0.0.1",
    "SWITCHBOARD_WEBHOOK_BACKOFF_SECONDS": "0.02",
    "SWITCHBOARD_WEBHOOK_ATTEMPTS": "1000",
    "SWITCHBOARD_WEBHOOK_SECONDS": "1",
}


async def kill_by_turns(folder: Path, found: Found, rng: random.Random, env: Mapping[str, str], born: Born = python) -> None:
    with gateway_process(folder, {**ENV, **env}, born) as gateway:
        while found.done < found.rounds:
            async with receiving() as receiver:
                await some_rounds(gateway, receiver, found, rng)
    found.next()


async def some_rounds(gateway: GatewayProcess, receiver: Mortal, found: Found, rng: random.Random) -> None:
    ids: list[str] = []
    for _ in range(min(TOGETHER, found.rounds - found.done)):
        found.next()
        ids += await play(gateway, receiver, rng)
    await receiver.be("up")
    async with calling(gateway) as client, anyio.create_task_group() as group:
        for id in ids:
            group.start_soon(check, Api(client), receiver, id, found)
    with found.looking_at("repeats"):
        assert all(len({one.body for one in receiver.stored if one.id == once.id}) == 1 for once in receiver.once())
    found.counts["deliveries"] += len(receiver.once())
    found.counts["repeats"] += len(receiver.stored) - len(receiver.once())
    found.counts["cut off"] += receiver.cut


def told(receiver: Mortal, session_id: str) -> list[Json]:
    """The events of a session as a receiver has them that knows a delivery by its id."""
    bodies = [one.json["data"] for one in receiver.once()]
    return [event for body in bodies if body["session"]["id"] == session_id for event in body["events"]]


async def play(gateway: GatewayProcess, receiver: Mortal, rng: random.Random) -> list[str]:
    """Sessions at work; the receiver dies and comes back, then the gateway dies."""
    async with calling(gateway) as client:
        hook = {"url": receiver.url}
        await receiver.be("up")
        made = [await Api(client).create("N=100 D=2000 TOOLS=2", destinations=[hook]) for _ in range(SESSIONS)]
        for fate in rng.sample(FATES, 3):
            await receiver.be(fate)
            await anyio.sleep(rng.uniform(0, LATEST_KILL / 6))
            await receiver.be("up")
            await anyio.sleep(rng.uniform(0, LATEST_KILL / 6))
        await receiver.be(rng.choice(FATES))
        gateway.kill()
    await anyio.to_thread.run_sync(gateway.start)
    return [str(session["id"]) for session in made]


async def check(api: Api, receiver: Mortal, session_id: str, found: Found) -> None:
    with found.looking_at(f"deliveries of {session_id}"), anyio.fail_after(PATIENCE):
        while (await api.get(f"/{session_id}/result", wait=5))["status"] in ("queued", "running"):
            pass
        log = await api.log(session_id)
        while len(told(receiver, session_id)) < len(log):
            await receiver.changed.wait()
        assert told(receiver, session_id) == log
        found.counts["events"] += len(log)
