"""A session goes on where it was, on whatever machine; and while it rests it costs nothing.

[JRNL-1] [JRNL-2] [IDLE-1]
"""

from __future__ import annotations

import gc
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from errno import EIO
from pathlib import Path
from typing import Any

import anyio
import psutil
import pytest

from gateway.log.hub import Channel
from gateway.turns.journals import Journals
from gateway.turns.runner import Runner
from tests.gateway.retention.archives import Stage, keeping
from tests.gateway.turns.calls import calling, processes_of, uses_tool
from tests.support import Client, Json, serving, text_of

IDLE = int(os.environ.get("SWITCHBOARD_IDLE_SESSIONS", "60"))


@asynccontextmanager
async def machine(
    tmp_path: Path, name: str, database_url: str, *, shared: bool = True, **settings: Any
) -> AsyncIterator[Stage]:
    """A gateway with directories of its own on the one database."""
    (tmp_path / "shared").mkdir(exist_ok=True)
    more: dict[str, Any] = {"journals_dir": tmp_path / "shared"} if shared else {}
    async with keeping(tmp_path / name, database_url=database_url, **more, **settings) as stage:
        yield stage


def notices(events: list[Json]) -> list[str]:
    return [event["body"]["text"] for event in events if event["body"].get("kind") in ("journal", "primed")]


async def test_another_machine_goes_on_with_the_copy_of_the_journal(tmp_path: Path, database_url: str) -> None:
    async with machine(tmp_path, "a", database_url) as a:
        task = await a.send("N=1 one")
        session = task["contextId"]
        (tmp_path / "a" / "sessions" / session / "work" / "file").write_text("of the first turn", "utf-8")
        await a.send("N=1 two", contextId=session)
    async with machine(tmp_path, "b", database_url) as b:
        third = await b.send("N=1 three", contextId=session)
        assert text_of(third).startswith("Turn 3. Before this you said: N=1 two")
        assert (tmp_path / "b" / "sessions" / session / "work" / "file").read_text("utf-8") == "of the first turn"
        assert notices(await b.client.events(session)) == ["The journal was restored from its shared copy."]
    async with machine(tmp_path, "a", database_url) as a:
        fourth = await a.send("N=1 four", contextId=session)
        assert text_of(fourth).startswith("Turn 4. Before this you said: N=1 three")
        assert len(notices(await a.client.events(session))) == 2
        assert [path.name for path in (tmp_path / "shared" / session).iterdir()] == ["4"]


async def test_of_a_turn_whose_copy_was_not_made_the_runtime_is_told(
    tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """[JRNL-1] Its caller has its answer; the newest copy is of the turn before."""

    def lost(*_: object) -> None:
        raise OSError(EIO, "The machine is gone.")

    async with machine(tmp_path, "a", database_url) as a:
        session = (await a.send("N=1 one"))["contextId"]
        monkeypatch.setattr(Journals, "keep", lost)
        await a.send("N=1 two", contextId=session)
        monkeypatch.undo()
    async with machine(tmp_path, "b", database_url) as b:
        third = await b.send("N=1 three", contextId=session)
        fourth = await b.send("N=1 four", contextId=session)
        told = notices(await b.client.events(session))
    assert text_of(third).startswith("Turn 2. Before this you said: N=1 one")
    quoted = text_of(fourth)
    assert quoted.startswith("Turn 3. Before this you said: [You have no memory of this conversation, or not of its end.")
    assert "User: N=1 two" in quoted
    assert told[0] == "The journal was restored from a copy older than the last turn's end."
    assert told[1].startswith("The runtime was told what was said: ")


async def test_the_copy_of_a_turn_that_began_again_is_that_of_its_last_attempt(tmp_path: Path, database_url: str) -> None:
    """[JRNL-1] [RESUME-1]"""
    async with machine(tmp_path, "a", database_url, turn_backoff_seconds=0.01) as a:
        with anyio.fail_after(30):
            async with calling(a.client, "N=1 SLEEPTOOL=3") as call:
                await call.until(uses_tool)
                session = call.task["contextId"]
                for process in processes_of({event["turn_id"] for event in await a.client.events(session)}):
                    process.kill()
    async with machine(tmp_path, "b", database_url) as b:
        second = await b.send("N=1 two", contextId=session)
    assert call.states[-1] == "COMPLETED"
    assert text_of(second).startswith("Turn 2. Before this you said: N=1 SLEEPTOOL=3")


async def test_another_machine_goes_on_with_a_copy_among_objects(tmp_path: Path, database_url: str) -> None:
    store = {"journals_url": f"file://{tmp_path}/store"}
    async with keeping(tmp_path / "a", database_url=database_url, **store) as a:
        session = (await a.send("N=1 one"))["contextId"]
    async with keeping(tmp_path / "b", database_url=database_url, **store) as b:
        second = await b.send("N=1 two", contextId=session)
        assert text_of(second).startswith("Turn 2. Before this you said: N=1 one")
        assert notices(await b.client.events(session)) == ["The journal was restored from its shared copy."]


async def test_without_a_copy_the_runtime_is_told_what_was_said_and_the_owner_that_it_was(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'one.db'}"
    async with machine(tmp_path, "a", url, shared=False) as a:
        session = (await a.send("N=2 What is your name?"))["contextId"]
    async with machine(tmp_path, "b", url, shared=False) as b:
        second = await b.send("N=1 And then?", contextId=session)
        third = await b.send("N=1 And then?", contextId=session)
        events = await b.client.events(session)
    assert text_of(second) == "word0 "
    quoted = text_of(third)
    assert quoted.startswith("Turn 2. Before this you said: [You have no memory of this conversation, or")
    assert "User: N=2 What is your name?" in quoted
    assert "You: word0 word1" in quoted
    assert notices(events) == [
        "The journal is not on this machine, and there is no copy of it.",
        "The runtime was told what was said: 46 characters of the log.",
    ]
    shown = [event for event in events if event["level"] != "internal" and event["task_id"] == second["id"]]
    assert [event["type"] for event in shown] == ["message", "turn_started", "chunk", "done"]
    assert shown[0]["body"]["parts"] == [{"text": "N=1 And then?"}]


async def test_what_was_said_is_told_of_archived_sessions_too(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'one.db'}"
    async with machine(tmp_path, "a", url, shared=False) as a:
        session = (await a.send("N=2 What is your name?"))["contextId"]
        await a.keeper.sweep()
    async with machine(tmp_path, "b", url, shared=False) as b:
        await b.send("N=1", contextId=session)
        quoted = text_of(await b.send("N=1", contextId=session))
    assert "User: N=2 What is your name?\n\nYou: word0 word1" in quoted


async def test_an_idle_session_holds_no_process_and_no_memory(tmp_path: Path) -> None:
    """SWITCHBOARD_IDLE_SESSIONS says how many; 1,000 take half a minute."""
    with anyio.fail_after(300):
        async with serving(tmp_path, concurrency=8) as client:
            await rest(client, 10)
            before = held()
            await rest(client, IDLE)
            after = held()
            assert after["processes"] == before["processes"]
            assert max(after["Runner"], after["Channel"]) <= 1


async def rest(client: Client, count: int) -> None:
    """Have so many sessions that have done something."""
    limiter = anyio.CapacityLimiter(8)

    async def one() -> None:
        async with limiter:
            await client.send("hello", "N=1")

    async with anyio.create_task_group() as group:
        for _ in range(count):
            group.start_soon(one)
    while True:
        if not (await client.owner("sessions.list", status="running"))["sessions"] and held()["Runner"] <= 1:
            return  # the last one is at hand until the next one begins
        await anyio.sleep(0.1)  # there is no event for a row


def held() -> dict[str, int]:
    """What this process holds that could belong to a session: the warden is its only child."""
    gc.collect()
    found = {"processes": len(psutil.Process().children(recursive=True)), "Runner": 0, "Channel": 0}
    for one in gc.get_objects():
        for kind in (Runner, Channel):
            found[kind.__name__] += type(one) is kind
    return found
