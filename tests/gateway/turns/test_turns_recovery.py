"""What a gateway left behind is cleared up by the next one. [INV-6]"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import anyio
import pytest

from tests.gateway.turns.calls import AT_ONCE, error_of, of_type, state_of, tools, turns_of
from tests.gateway.turns.parrot import RUNTIMES
from tests.support import Client, Json, gateway_process, run_sql, serving, text_of

pytestmark = pytest.mark.usefixtures("database_url")


async def ended(gateway: Client, agent: str, task_id: str) -> Json:
    while state_of(task := await gateway.get(agent, task_id)) in ("SUBMITTED", "WORKING"):
        await gateway.http.get(f"{gateway.url}/health")
    return task


async def test_a_turn_whose_gateway_was_killed_fails_and_what_waited_runs(tmp_path: Path) -> None:
    once = {"SWITCHBOARD_CONCURRENCY": "1", "SWITCHBOARD_TURN_ATTEMPTS": "1"}
    with gateway_process(tmp_path, once) as gateway, anyio.fail_after(60):
        client = gateway.client()
        await client.owner("agent.create", name="mine", runtime="rehearsal")
        seen = []
        async for frame in client.stream("mine", "N=2 SLEEPTOOL=600"):
            seen.append(frame)
            if tools(seen):
                break
        task = seen[0].result["task"]
        same = await client.send("mine", "N=1", contextId=task["contextId"], configuration=AT_ONCE)
        other = await client.send("mine", "N=1", configuration=AT_ONCE)
        gateway.kill()
        gateway.start()
        found = [await ended(client, "mine", one["id"]) for one in (task, same, other)]
        events = await client.events(task["contextId"])
        await client.http.aclose()
    assert [state_of(one) for one in found] == ["FAILED", "COMPLETED", "COMPLETED"]
    assert error_of(found[0])["category"] == "runtime_crash"
    assert text_of(found[0]) == "word0 word1 "
    start, result = of_type(events, "tool_start", "tool_result")
    assert (start["type"], result["type"], result["body"]["is_error"]) == ("tool_start", "tool_result", True)
    assert result["body"]["call_id"] == start["body"]["call_id"]


async def test_a_turn_that_was_done_stays_done_although_its_gateway_died_before_it_was_put_away(tmp_path: Path) -> None:
    async with serving(tmp_path, RUNTIMES) as gateway:
        with anyio.fail_after(20):
            task = await gateway.send("hello", "N=1")
            waits = await gateway.send("hello", "N=1 ASK")
    await run_sql(tmp_path, "UPDATE turn SET state = 'running', owner = 'wrk_dead', ended_at = NULL")
    async with serving(tmp_path, RUNTIMES) as gateway:
        with anyio.fail_after(20):
            assert await gateway.get("hello", task["id"]) == task
            assert await gateway.get("hello", waits["id"]) == waits
            listed = await gateway.rpc("hello", "ListTasks", {"contextId": task["contextId"], "status": "TASK_STATE_COMPLETED"})
            session = await gateway.owner("sessions.show", id=task["contextId"])
            (turn,) = await turns_of(gateway, waits["contextId"])
            answer = await gateway.send("hello", "N=1", taskId=waits["id"])
    assert [one["id"] for one in listed["result"]["tasks"]] == [task["id"]]
    assert session["status"] == "idle"
    assert (turn["state"], turn["yield_reason"]) == ("ended", "needs_input")
    assert state_of(answer) == "COMPLETED"


async def test_no_more_turns_run_than_may_though_more_are_taken_over(tmp_path: Path) -> None:
    """[LEASE-8] Those there is no room for wait, and go on in their next attempt."""
    async with serving(tmp_path) as gateway:
        with anyio.fail_after(20):
            tasks = [await gateway.send("hello", f"N={number}") for number in (1, 2, 3)]
    await run_sql(
        tmp_path,
        "UPDATE turn SET state = 'running', owner = 'wrk_dead', ended_at = NULL, yield_reason = NULL, settled = false",
        "UPDATE task SET state = 'working'",
        "UPDATE session SET status = 'running'",
        "DELETE FROM event WHERE type = 'done'",
    )
    async with serving(tmp_path, concurrency=1) as gateway:
        with anyio.fail_after(20):
            found = [await ended(gateway, "hello", task["id"]) for task in tasks]
            logs = [await gateway.events(task["contextId"]) for task in tasks]
    assert [state_of(one) for one in found] == ["COMPLETED"] * 3
    spans = []
    for events in logs:
        began = next(event for event in of_type(events, "turn_started") if event["body"]["attempt"] == 2)
        spans.append((began["created_at"], of_type(events, "done")[-1]["created_at"]))
    spans.sort()
    assert all(before[1] <= after[0] for before, after in pairwise(spans)), spans


@pytest.mark.parametrize(("begun", "ends"), [(True, "FAILED"), (False, "COMPLETED")], ids=["begun", "not begun"])
async def test_a_turn_whose_worker_died_fails_if_it_had_begun_and_else_is_queued_again(
    tmp_path: Path, begun: bool, ends: str
) -> None:
    """[LEASE-3] Nothing of it stands in the log."""
    async with serving(tmp_path, RUNTIMES) as gateway:
        with anyio.fail_after(20):
            task = await gateway.send("hello", "N=1")
    await run_sql(
        tmp_path,
        "UPDATE turn SET state = 'running', owner = 'wrk_dead', ended_at = NULL, yield_reason = NULL",
        f"UPDATE turn SET attempt = {int(begun)}, lease_until = {2**60}",
        "UPDATE task SET state = 'working'",
        "UPDATE session SET status = 'running'",
        "DELETE FROM event WHERE type != 'message'",
    )
    async with serving(tmp_path, RUNTIMES, turn_attempts=1) as gateway:
        with anyio.fail_after(20):
            found = await ended(gateway, "hello", task["id"])
            events = await gateway.events(task["contextId"])
    assert state_of(found) == ends
    assert [event["body"]["attempt"] for event in of_type(events, "turn_started")] == ([] if begun else [1])
