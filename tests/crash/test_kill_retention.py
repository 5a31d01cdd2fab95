"""The gateway dies, by kill -9, while it moves closed sessions into the archive, again and again: what they did is there once.

[KEEP-1]. SWITCHBOARD_CRASH_ROUNDS raises the number of kills, SWITCHBOARD_CRASH_SEED plays a printed seed again.
"""

from __future__ import annotations

import os
import random
import sqlite3
from contextlib import closing
from pathlib import Path

import anyio
import pytest

from tests.crash.witness import calling
from tests.support import Client, GatewayProcess, gateway_process

ROUNDS = int(os.environ.get("SWITCHBOARD_CRASH_ROUNDS", "2"))
SESSIONS = 10
LATEST_KILL = 0.5  # seconds after the gateway answers
KEEP = {"SWITCHBOARD_RETENTION_DAYS": "0.000000001"}


async def exported(client: Client, session_id: str) -> list[bytes]:
    headers = {"Authorization": f"Bearer {client.owner_key}"}
    answer = await client.http.get(f"{client.url}/owner/sessions/{session_id}/export", headers=headers)
    assert answer.status_code == 200, answer.text
    return [line for line in answer.content.splitlines() if line.startswith(b'{"kind":"event"')]


async def work(client: Client, logs: dict[str, list[bytes]]) -> None:
    """New sessions, and some that go on."""
    contexts = [*random.sample(sorted(logs), len(logs) // 4), *[None] * (SESSIONS - len(logs) // 4)]
    async with anyio.create_task_group() as group:
        for context in contexts:
            group.start_soon(one, client, context, logs)


async def one(client: Client, context: str | None, logs: dict[str, list[bytes]]) -> None:
    task = await client.send("hello", "N=30 TOOLS=3", **({"contextId": context} if context else {}))
    session_id = task["contextId"]
    with anyio.fail_after(20):
        while True:
            turns = (await client.owner("sessions.show", id=session_id))["turns"]
            if all(turn["state"] == "ended" for turn in turns):
                break
            await anyio.sleep(0.02)  # there is no event for a row
    before, logs[session_id] = logs.get(session_id, []), await exported(client, session_id)
    assert logs[session_id][: len(before)] == before


async def end(gateway: GatewayProcess, data_dir: Path) -> tuple[int, int]:
    """Wait until all is archived; (events in the database, sessions)."""
    with anyio.fail_after(60), closing(sqlite3.connect(data_dir / "switchboard.db")) as connection:
        while True:
            left = connection.execute("SELECT count(*) FROM session WHERE floor_seq = 0").fetchone()[0]
            unpruned = connection.execute("SELECT count(*) FROM archive WHERE pruned_at IS NULL").fetchone()[0]
            if not left and not unpruned:
                return tuple(connection.execute("SELECT count(DISTINCT seq), count(DISTINCT session_id) FROM event").fetchone())
            await anyio.sleep(0.05)


@pytest.mark.timeout(60 + 15 * ROUNDS)
async def test_no_kill_loses_or_repeats_what_goes_into_the_archive(tmp_path: Path) -> None:
    seed = os.environ.get("SWITCHBOARD_CRASH_SEED") or str(random.randrange(10**9))
    print(f"SWITCHBOARD_CRASH_SEED={seed} SWITCHBOARD_CRASH_ROUNDS={ROUNDS}")
    random.seed(seed)
    logs: dict[str, list[bytes]] = {}
    with gateway_process(tmp_path) as gateway:
        for _ in range(ROUNDS):
            async with calling(gateway) as client:
                await work(client, logs)
            gateway.kill()
            gateway.env = KEEP
            gateway.start()
            await anyio.sleep(random.uniform(0, LATEST_KILL))
            gateway.kill()
            gateway.env = {}
            gateway.start()
            async with calling(gateway) as client:
                assert {session_id: await exported(client, session_id) for session_id in logs} == logs
        gateway.kill()
        gateway.env = KEEP
        gateway.start()
        assert (await end(gateway, tmp_path))[1] == len(logs)
        async with calling(gateway) as client:
            assert {session_id: await exported(client, session_id) for session_id in logs} == logs
