"""The gateway dies while it moves closed sessions into the archive, again and again: what they did is there once."""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path

import anyio
import anyio.to_thread
from sqlalchemy import Connection, func, select

from gateway.db.engine import Database
from gateway.log.models import EventRow, Session
from gateway.retention.models import Archived
from tests.crash.found import Found
from tests.crash.witness import calling
from tests.support import Born, Client, GatewayProcess, database_url, gateway_process, python

SESSIONS = 10
WORK_AGAIN = 4  # rounds that kill one and the same lot of closed sessions' archiving
LATEST_KILL = 0.5  # seconds after the gateway answers
KEEP = {"SWITCHBOARD_RETENTION_DAYS": "0.000000001"}

_session, _archive = Session.__table__.c, Archived.__table__.c  # type: ignore[attr-defined]
_event = EventRow.__table__.c  # type: ignore[attr-defined]


async def kill_keepers(folder: Path, found: Found, rng: random.Random, env: Mapping[str, str], born: Born = python) -> None:
    logs: dict[str, list[bytes]] = {}
    with gateway_process(folder, env, born) as gateway:
        while found.next():
            if found.done % WORK_AGAIN == 1:
                async with calling(gateway) as client:
                    await work(client, logs, rng)
            await restart(gateway, {**env, **KEEP})
            await anyio.sleep(rng.uniform(0, LATEST_KILL))
            await restart(gateway, env)
            found.counts["kills"] += 2
            with found.looking_at("what was closed"):
                async with calling(gateway) as client:
                    for session_id in rng.sample(sorted(logs), min(len(logs), 2 * SESSIONS)):
                        assert await exported(client, session_id) == logs[session_id], session_id
        await restart(gateway, {**env, **KEEP})
        with found.looking_at("the archive at the end"):
            url = env.get("SWITCHBOARD_DATABASE_URL") or database_url(folder)
            assert await end(url) == len(logs)
            async with calling(gateway) as client:
                assert {session_id: await exported(client, session_id) for session_id in logs} == logs
        found.counts["sessions"] += len(logs)
        found.counts["events"] += sum(map(len, logs.values()))


async def restart(gateway: GatewayProcess, env: Mapping[str, str]) -> None:
    await anyio.to_thread.run_sync(gateway.kill)
    gateway.env = env
    await anyio.to_thread.run_sync(gateway.start)


async def exported(client: Client, session_id: str) -> list[bytes]:
    headers = {"Authorization": f"Bearer {client.owner_key}"}
    answer = await client.http.get(f"{client.url}/owner/sessions/{session_id}/export", headers=headers)
    assert answer.status_code == 200, answer.text
    return [line for line in answer.content.splitlines() if line.startswith(b'{"kind":"event"')]


async def work(client: Client, logs: dict[str, list[bytes]], rng: random.Random) -> None:
    """New sessions, and some that go on."""
    again = rng.sample(sorted(logs), min(len(logs) // 4, SESSIONS // 2))
    async with anyio.create_task_group() as group:
        for context in [*again, *[None] * (SESSIONS - len(again))]:
            group.start_soon(one, client, context, logs)


async def one(client: Client, context: str | None, logs: dict[str, list[bytes]]) -> None:
    task = await client.send("hello", "N=30 TOOLS=3", **({"contextId": context} if context else {}))
    session_id = task["contextId"]
    with anyio.fail_after(60):
        while True:
            turns = (await client.owner("sessions.show", id=session_id))["turns"]
            if all(turn["state"] == "ended" for turn in turns):
                break
            await anyio.sleep(0.02)  # there is no event for a row
    before, logs[session_id] = logs.get(session_id, []), await exported(client, session_id)
    assert logs[session_id][: len(before)] == before


async def end(url: str) -> int:
    """Wait until all is archived; then what the database still has is one event of each session. Answers how many."""
    database = Database(url)
    await database.start()
    try:
        with anyio.fail_after(120):
            while await database.read(_left):  # noqa: ASYNC110  (there is no event for a row)
                await anyio.sleep(0.05)
        return await database.read(lambda conn: conn.execute(select(func.count(_event.session_id.distinct()))).scalar_one())
    finally:
        await database.aclose()


def _left(conn: Connection) -> int:
    unkept = select(func.count()).where(_session.floor_seq == 0)
    unpruned = select(func.count()).select_from(Archived.__table__).where(_archive.pruned_at.is_(None))  # type: ignore[attr-defined]
    return int(conn.execute(unkept).scalar_one() + conn.execute(unpruned).scalar_one())
