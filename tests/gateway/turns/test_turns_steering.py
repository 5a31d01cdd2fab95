"""Messages to a task at work: they join the running turn where the runtime takes them, else they are its next turn."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from errno import ENOSPC
from pathlib import Path
from typing import Any

import anyio
import pytest
from sqlalchemy import text

from gateway.db.engine import Database
from gateway.errors import Conflict, NotFound
from gateway.log.store import Log
from gateway.turns import inbox
from gateway.turns.engine import Engine
from gateway.turns.spec import Inbound, Mode
from tests.gateway.turns.calls import (
    AT_ONCE,
    Call,
    calling,
    cancel,
    make_agent,
    of_type,
    processes_of,
    speaks,
    state_of,
    turns_of,
)
from tests.gateway.turns.parrot import DONE, RUNTIMES, chunk, say
from tests.support import Client, Json, serving, text_of

pytestmark = pytest.mark.usefixtures("database_url")


@asynccontextmanager
async def speaking(tmp_path: Path, *lines: Any, **settings: Any) -> AsyncIterator[tuple[Client, Call]]:
    """A turn of the parrot that has begun to speak, and then does this."""
    async with serving(tmp_path, RUNTIMES, stop_seconds=0.1, **settings) as gateway:
        with anyio.fail_after(20):
            await make_agent(gateway, "parrot", "parrot")
            async with calling(gateway, say(chunk("one "), *lines), agent="parrot") as call:
                await call.until(speaks)
                yield gateway, call


def ends(turns: Sequence[Json]) -> list[str]:
    return [turn["yield_reason"] for turn in turns]


async def push(engine: Engine, call: Call, mode: Mode, words: str = "two", **more: Any) -> str | None:
    """What the session API will do: a message into the session. Answers the turn it is to join."""
    agent_id, version, principal = await whose(engine)
    new = Inbound(({"text": words},), mode=mode, context_id=call.task["contextId"], **more)
    return (await engine.accept(agent_id, version, principal, new)).steers


async def whose(engine: Engine) -> tuple[str, int, str]:
    query = text("SELECT agent_id, agent_version, principal FROM session")
    row = await engine.log.database.read(lambda conn: conn.execute(query).one())
    return row.agent_id, row.agent_version, row.principal


async def until_given(gateway: Client, call: Call) -> None:
    """The runtime was given a message; whether it takes it is another thing."""
    while not [event for event in await gateway.events(call.task["contextId"]) if event["body"].get("kind") == "given"]:
        await gateway.http.get(f"{gateway.url}/health")


async def test_a_message_joins_the_running_turn_and_the_task_ends_with_it(tmp_path: Path) -> None:
    """[STEER-1]"""
    async with speaking(tmp_path, ["take"], DONE) as (gateway, call):
        answer = await gateway.send("parrot", "two", taskId=call.task["id"])
        session = call.task["contextId"]
        events, turns = await gateway.events(session), await turns_of(gateway, session)
    assert call.states == ["SUBMITTED", "WORKING", "COMPLETED"]
    assert (call.text, text_of(answer), len(answer["history"])) == ("one two", "one two", 2)
    assert ends(turns) == ["completed", "steered"]
    assert [event["type"] for event in of_type(events, "message", "turn_started", "steered", "done")] == [
        "message",
        "turn_started",
        "message",
        "steered",
        "done",
    ]
    (taken,) = of_type(events, "steered")
    assert (taken["level"], taken["turn_id"], taken["body"]) == ("internal", turns[0]["id"], {"turn": turns[1]["id"]})


async def test_messages_join_in_the_order_they_came_and_one_that_comes_too_late_is_the_next_turn(tmp_path: Path) -> None:
    """[STEER-1]"""
    async with speaking(tmp_path, ["take"], ["take"], ["wait", "go"], DONE) as (gateway, call):
        late = say(chunk(" late"), DONE)
        for words in ("two ", "three", late):
            await gateway.send("parrot", words, taskId=call.task["id"], configuration=AT_ONCE)
        await call.until(lambda call: call.text == "one two three")
        (tmp_path / "sessions" / call.task["contextId"] / "work" / "go").touch()
        await call.ended.wait()
        turns = await turns_of(gateway, call.task["contextId"])
    assert call.text == "one two three late"
    assert ends(turns) == ["completed", "steered", "steered", "completed"]


@pytest.mark.parametrize("end", [DONE, ["exit", 3]], ids=["done", "crash"])
async def test_a_message_that_was_given_but_never_taken_is_told_again_as_the_next_turn(tmp_path: Path, end: Any) -> None:
    """[STEER-2]"""
    async with speaking(tmp_path, ["hear"], end, turn_attempts=1) as (gateway, call):
        await gateway.send("parrot", say(chunk(" two"), DONE), taskId=call.task["id"], configuration=AT_ONCE)
        await call.ended.wait()
        turns = await turns_of(gateway, call.task["contextId"])
        events = await gateway.events(call.task["contextId"])
    assert call.text == "one steer two"
    assert ends(turns) == ["completed" if end == DONE else "failed", "completed"]
    assert [event["body"]["final"] for event in of_type(events, "done")] == [False, True]
    assert call.states[-1] == "COMPLETED"


async def test_a_message_with_a_context_only_never_joins_another_task(tmp_path: Path) -> None:
    """[STEER-3]"""
    async with speaking(tmp_path, ["wait", "go"], DONE) as (gateway, call):
        session = call.task["contextId"]
        other = await gateway.send("parrot", say(chunk("two"), DONE), contextId=session, configuration=AT_ONCE)
        (tmp_path / "sessions" / session / "work" / "go").touch()
        await call.ended.wait()
        async with calling(gateway, say(chunk("three"), DONE), agent="parrot", contextId=session) as last:
            pass
        found = await gateway.get("parrot", other["id"])
        events = await gateway.events(session)
    assert [text_of(found), call.text, last.text] == ["two", "one ", "three"]
    assert of_type(events, "steered") == []


async def test_a_message_given_to_a_turn_that_is_canceled_goes_with_its_task(tmp_path: Path) -> None:
    """[STEER-2]"""
    async with speaking(tmp_path, ["sleep"]) as (gateway, call):
        await gateway.send("parrot", "two", taskId=call.task["id"], configuration=AT_ONCE)
        await until_given(gateway, call)
        answer = await cancel(gateway, call.task["id"], "parrot")
        turns = await turns_of(gateway, call.task["contextId"])
    assert state_of(answer["result"]) == "CANCELED"
    assert ends(turns) == ["canceled", "canceled"]


async def test_an_interrupt_ends_the_turn_and_what_waits_in_the_task_goes_on(tmp_path: Path) -> None:
    """[STEER-4] Also what was given to the runtime and not taken."""
    async with speaking(tmp_path, ["sleep"]) as (gateway, call):
        await gateway.send("parrot", say(chunk("two"), DONE), taskId=call.task["id"], configuration=AT_ONCE)
        await until_given(gateway, call)
        before = await turns_of(gateway, call.task["contextId"])
        stopped = await gateway.engine.interrupt(call.task["contextId"])
        assert processes_of({before[0]["id"]}) == []
        await call.ended.wait()
        turns = await turns_of(gateway, call.task["contextId"])
    assert stopped == turns[0]["id"]
    assert call.states == ["SUBMITTED", "WORKING", "COMPLETED"]
    assert call.text == "one two"
    assert ends(turns) == ["canceled", "completed"]


async def test_an_interrupt_cancels_a_task_in_which_nothing_waits_and_the_session_lives_on(tmp_path: Path) -> None:
    """[STEER-4]"""
    async with speaking(tmp_path, ["sleep"]) as (gateway, call):
        session = call.task["contextId"]
        assert await gateway.engine.interrupt(session) is not None
        await call.ended.wait()
        assert await gateway.engine.interrupt(session) is None
        status = (await gateway.owner("sessions.show", id=session))["status"]
        after = await gateway.send("parrot", say(chunk("two"), DONE), contextId=session)
    assert call.states[-1] == "CANCELED"
    assert (status, text_of(after)) == ("idle", "two")


async def test_a_cancel_overtakes_an_interrupt(tmp_path: Path) -> None:
    async with speaking(tmp_path, ["sleep"]) as (gateway, call):
        await gateway.send("parrot", say(chunk("two"), DONE), taskId=call.task["id"], configuration=AT_ONCE)
        async with anyio.create_task_group() as group:
            group.start_soon(gateway.engine.interrupt, call.task["contextId"])
            group.start_soon(gateway.engine.cancel, call.task["id"])
        turns = await turns_of(gateway, call.task["contextId"])
    assert call.states[-1] == "CANCELED"
    assert ends(turns) == ["canceled", "canceled"]


async def test_a_steer_joins_whatever_runs_in_the_session_and_is_refused_where_nothing_does(tmp_path: Path) -> None:
    """[STEER-5]"""
    async with speaking(tmp_path, ["take"], ["wait", "go"], DONE) as (gateway, call):
        (running,) = await turns_of(gateway, call.task["contextId"])
        assert await push(gateway.engine, call, "steer") == running["id"]
        await call.until(lambda call: call.text == "one two")
        waits = await push(gateway.engine, call, "queue", say(chunk("three"), DONE))
        (tmp_path / "sessions" / call.task["contextId"] / "work" / "go").touch()
        await call.ended.wait()
        async with calling(gateway, say(chunk("four"), DONE), agent="parrot", contextId=call.task["contextId"]):
            pass
        before = await gateway.events(call.task["contextId"])
        with pytest.raises(Conflict):
            await push(gateway.engine, call, "steer")
        agent_id, version, _ = await whose(gateway.engine)
        for foreign in ({"context_id": call.task["contextId"]}, {"task_id": call.task["id"]}, {"context_id": "nowhere"}):
            with pytest.raises(NotFound):
                await gateway.engine.accept(agent_id, version, "caller:other", Inbound((), mode="steer", **foreign))
        turns = await turns_of(gateway, call.task["contextId"])
        assert await gateway.events(call.task["contextId"]) == before
    assert waits is None
    assert ends(turns) == ["completed", "steered", "completed", "completed"]
    assert len({turn["task_id"] for turn in turns[:2]}) == 1


async def test_a_message_never_overtakes_one_of_its_task_that_waits(tmp_path: Path) -> None:
    """[STEER-1]"""
    async with speaking(tmp_path, ["wait", "go"], DONE) as (gateway, call):
        task = call.task["id"]
        assert await push(gateway.engine, call, "queue", say(chunk("two "), DONE), task_id=task) is None
        assert await push(gateway.engine, call, "auto", say(chunk("three"), DONE), task_id=task) is None
        (tmp_path / "sessions" / call.task["contextId"] / "work" / "go").touch()
        await call.ended.wait()
        events = await gateway.events(call.task["contextId"])
    assert call.text == "one two three"
    assert [event for event in events if event["body"].get("kind") == "given"] == []


@asynccontextmanager
async def another_process(tmp_path: Path, gateway: Client) -> AsyncIterator[Engine]:
    """An engine on the same database, which knows nothing of what the gateway's own engine holds."""
    database = Database(gateway.engine.settings.database)
    await database.start()
    ours = gateway.engine
    yield Engine(Log(database), ours.settings, ours.profiles, ours.load_agent, ours.worker.maker.store, ours.worker.maker.gates)
    await database.aclose()


async def test_turns_that_run_in_another_process_are_steered_interrupted_and_canceled(tmp_path: Path) -> None:
    """[STEER-6]"""
    async with speaking(tmp_path, ["take"], ["sleep"]) as (gateway, call):
        session = call.task["contextId"]
        async with another_process(tmp_path, gateway) as other:
            await push(other, call, "steer")
            await call.until(lambda call: call.text == "one two")
            await push(other, call, "queue", say(chunk("three"), ["sleep"]), task_id=call.task["id"])
            assert await other.interrupt(session) is not None
            await call.until(lambda call: call.text == "one twothree")
            await other.cancel(call.task["id"])
            turns = await turns_of(gateway, session)
            assert processes_of({turn["id"] for turn in turns}) == []
    assert call.states == ["SUBMITTED", "WORKING", "CANCELED"]
    assert ends(turns) == ["canceled", "steered", "canceled"]


async def test_a_message_whose_files_find_no_room_holds_up_no_other_turn(tmp_path: Path, monkeypatch: Any) -> None:
    """[STEER-1] It joins its own turn once there is room."""

    def full(*file: object) -> str:
        raise OSError(ENOSPC, "No space left on device")

    file = {"raw": "dHdv", "filename": "two.txt", "mediaType": "text/plain"}
    async with speaking(tmp_path, ["take"], DONE) as (client, late):
        with monkeypatch.context() as patched:
            patched.setattr(inbox, "_write", full)
            await client.send("parrot", "", parts=[file], taskId=late.task["id"], configuration=AT_ONCE)
            async with calling(client, say(chunk("one "), ["take"], DONE), agent="parrot") as other:
                await other.until(speaks)
                await client.send("parrot", "two", taskId=other.task["id"])
        await late.ended.wait()
    assert (other.states[-1], late.states[-1], other.text) == ("COMPLETED", "COMPLETED", "one two")
    assert "inbox/two.txt" in late.text
