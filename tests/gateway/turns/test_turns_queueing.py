"""Waiting: one turn at a time in a session, so many at a time in all, and an end to the queue. [TURN-1] [INV-6]"""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path

import anyio
import pytest
from sqlalchemy import Connection, insert

from gateway.log.models import Turn
from gateway.turns import queue
from tests.gateway.log.log_tools import opened
from tests.gateway.turns.calls import AT_ONCE, calling, cancel, make_agent, of_type, speaks, state_of, turns_of
from tests.gateway.turns.parrot import DONE, RUNTIMES, chunk, say
from tests.gateway.turns.test_turns_fair import steps
from tests.support import Client, Json, message, serving, text_of

pytestmark = pytest.mark.usefixtures("database_url")


async def ended(gateway: Client, task_id: str, agent: str = "hello") -> Json:
    """The task once it has ended."""
    while state_of(task := await gateway.get(agent, task_id)) in ("SUBMITTED", "WORKING"):
        await gateway.http.get(f"{gateway.url}/health")
    return task


async def test_turns_of_a_session_run_one_after_the_other_in_the_order_they_came(tmp_path: Path) -> None:
    async with serving(tmp_path, RUNTIMES) as gateway:
        with anyio.fail_after(30):
            first = await gateway.send("hello", "N=20 D=1000", configuration=AT_ONCE)
            session = first["contextId"]
            more = [await gateway.send("hello", f"N={n}", contextId=session, configuration=AT_ONCE) for n in range(1, 5)]
            for task in (first, *more):
                assert state_of(await ended(gateway, task["id"])) == "COMPLETED"
            events = await gateway.events(session)
    edges = [(event["type"], event["task_id"]) for event in of_type(events, "turn_started", "done")]
    assert edges == [(type, task["id"]) for task in (first, *more) for type in ("turn_started", "done")]


async def test_sessions_run_beside_one_another_but_never_more_than_allowed(tmp_path: Path) -> None:
    async with serving(tmp_path, RUNTIMES, concurrency=2, stop_seconds=0) as gateway:
        with anyio.fail_after(30):
            async with AsyncExitStack() as calls:
                two = [await calls.enter_async_context(calling(gateway, "N=1 HANG")) for _ in range(2)]
                for call in two:
                    await call.until(speaks)
                third = await calls.enter_async_context(calling(gateway, "N=1"))
                assert state_of(await gateway.get("hello", third.task["id"])) == "SUBMITTED"
                await cancel(gateway, two[0].task["id"])
                await third.ended.wait()
                assert state_of(await gateway.get("hello", two[1].task["id"])) == "WORKING"
                await cancel(gateway, two[1].task["id"])
    assert third.states == ["SUBMITTED", "WORKING", "COMPLETED"]


async def test_many_sessions_share_few_places_and_all_end(tmp_path: Path) -> None:
    async with serving(tmp_path, RUNTIMES, concurrency=3) as gateway:
        with anyio.fail_after(30):
            tasks: list[Json] = []

            async def call(number: int) -> None:
                tasks.append(await gateway.send("hello", f"N={number}"))

            async with anyio.create_task_group() as group:
                for number in range(12):
                    group.start_soon(call, number)
            logs = [await gateway.events(task["contextId"]) for task in tasks]
    edges = sorted(
        (event["created_at"], event["type"] == "turn_started") for log in logs for event in of_type(log, "turn_started", "done")
    )
    running = [sum(1 if begins else -1 for _, begins in edges[:count]) for count in range(len(edges) + 1)]
    assert max(running) <= 3
    assert sorted(text_of(task).count("word") for task in tasks) == list(range(12))


async def test_a_full_queue_refuses_and_keeps_nothing(tmp_path: Path) -> None:
    async with serving(tmp_path, RUNTIMES, concurrency=1, queue_limit=2, stop_seconds=0) as gateway:
        await gateway.sign_in()
        with anyio.fail_after(20):
            async with calling(gateway, "N=1 HANG") as call:
                await call.until(speaks)
                waiting = [await gateway.send("hello", "N=1", configuration=AT_ONCE) for _ in range(2)]
                refused = await gateway.rpc("hello", "SendMessage", {"message": message("N=1")})
                listed = await gateway.rpc("hello", "ListTasks", {})
                await cancel(gateway, call.task["id"])
                states = [state_of(await ended(gateway, task["id"])) for task in waiting]
            after = await gateway.send("hello", "N=1")
    assert refused["error"]["code"] == -32014
    assert refused["error"]["message"].startswith("The agent is not available now. Try again later (incident inc_")
    assert listed["result"]["totalSize"] == 3
    assert states == ["COMPLETED"] * 2
    assert state_of(after) == "COMPLETED"


async def test_a_message_to_a_working_task_is_the_tasks_next_turn(tmp_path: Path) -> None:
    async with serving(tmp_path, RUNTIMES) as gateway:
        with anyio.fail_after(20):
            await make_agent(gateway, "parrot", "parrot")
            async with calling(gateway, say(chunk("one"), ["wait", "go"], DONE), agent="parrot") as call:
                await call.until(speaks)
                task, session = call.task["id"], call.task["contextId"]
                async with calling(gateway, say(chunk("two"), DONE), agent="parrot", taskId=task) as second:
                    assert state_of(second.task) == "WORKING"
                    (tmp_path / "sessions" / session / "work" / "go").touch()
            found = await gateway.get("parrot", task)
            events = await gateway.events(session)
            turns = await turns_of(gateway, session)
    assert call.states == ["SUBMITTED", "WORKING", "COMPLETED"]
    assert second.states == ["WORKING", "COMPLETED"]
    assert (call.text, second.text, text_of(found)) == ("onetwo", "onetwo", "onetwo")
    assert len(found["artifacts"]) == len(found["history"]) == 2
    assert [event["body"]["final"] for event in of_type(events, "done")] == [False, True]
    assert [turn["task_id"] for turn in turns] == [task, task]


async def test_a_message_that_waits_outlives_the_failure_of_the_turn_before(tmp_path: Path) -> None:
    async with serving(tmp_path, RUNTIMES, turn_attempts=1) as gateway:
        with anyio.fail_after(20):
            await make_agent(gateway, "parrot", "parrot")
            async with calling(gateway, say(chunk("one"), ["wait", "go"], ["exit", 3]), agent="parrot") as call:
                await call.until(speaks)
                await gateway.send("parrot", say(chunk("two"), DONE), taskId=call.task["id"], configuration=AT_ONCE)
                (tmp_path / "sessions" / call.task["contextId"] / "work" / "go").touch()
            turns = await turns_of(gateway, call.task["contextId"])
    assert call.states == ["SUBMITTED", "WORKING", "COMPLETED"]
    assert call.text == "onetwo"
    assert [turn["yield_reason"] for turn in turns] == ["failed", "completed"]


async def test_whether_the_queue_is_full_is_known_after_as_many_turns_as_may_wait(tmp_path: Path) -> None:
    """However many wait: a lowered limit, or turns that were handed back, make it more than may."""
    async with opened(tmp_path) as log:

        def wait(conn: Connection, first: int, last: int) -> None:
            rest = {"state": "queued", "attempt": 0, "fence": 0, "cancel_requested": False, "queued_at": 1, "session_id": "s"}
            names = ({"id": f"trn_{number}", "task_id": f"tsk_{number}", "ordinal": number} for number in range(first, last))
            conn.execute(insert(Turn), [{**rest, **name} for name in names])

        def read(conn: Connection) -> int:
            """Turns that were looked at."""
            if conn.dialect.name == "sqlite":
                return steps(conn, lambda: conn.execute(queue._FULL, {"most": 9}).first())
            conn.exec_driver_sql("ANALYZE turn")
            sql = queue._FULL.params(most=9).compile(conn, compile_kwargs={"literal_binds": True})
            plan = conn.exec_driver_sql(f"EXPLAIN (ANALYZE, FORMAT JSON) {sql}").scalar_one()
            scan = plan[0]["Plan"]["Plans"][0]
            assert "Index" in scan["Node Type"], plan
            return int(scan["Actual Rows"])

        await log.database.write(lambda conn: wait(conn, 0, 500))
        few = await log.database.write(read)
        await log.database.write(lambda conn: wait(conn, 500, 10_000))
        many = await log.database.write(read)
        assert await log.database.read(lambda conn: conn.execute(queue._FULL, {"most": 9_999}).first()) is not None
        assert await log.database.read(lambda conn: conn.execute(queue._FULL, {"most": 10_000}).first()) is None
    assert many <= few
