"""Cancelling: when a caller is told "canceled", the process is gone, whatever the turn was at. [TURN-2]"""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from tests.gateway.sessions.api import Api
from tests.gateway.turns.calls import (
    AT_ONCE,
    calling,
    cancel,
    make_agent,
    of_type,
    processes_of,
    speaks,
    state_of,
    tools,
    turns_of,
    uses_tool,
)
from tests.gateway.turns.parrot import DONE, RUNTIMES, chunk, say
from tests.support import Client, serving, text_of

pytestmark = pytest.mark.usefixtures("database_url")

NOT_CANCELABLE = -32002
TOOL_START = {"type": "tool_start", "call_id": "1", "tool": "shell", "input": {"command": "true"}}
TOOL_RESULT = {"type": "tool_result", "call_id": "1", "output": ""}


async def cancel_while_it_speaks(gateway: Client, prompt: str) -> str:
    """Cancel a turn in the midst of its work; check what was told, and that nothing of it lives. Answers the text."""
    async with calling(gateway, prompt) as call:
        await call.until(speaks)
        turns = {turn["id"] for turn in await turns_of(gateway, call.task["contextId"])}
        assert processes_of(turns)
        answer = await cancel(gateway, call.task["id"])
        assert processes_of(turns) == []
    assert state_of(answer["result"]) == "CANCELED"
    assert call.states == ["SUBMITTED", "WORKING", "CANCELED"]
    assert text_of(answer["result"]) == call.text
    return call.text


async def test_a_running_turn_is_asked_to_stop(tmp_path: Path) -> None:
    async with serving(tmp_path, RUNTIMES, stop_seconds=60) as gateway:
        with anyio.fail_after(20):
            text = await cancel_while_it_speaks(gateway, "N=100000 D=1000")
    assert text.startswith("word0 word1 ")


async def test_a_turn_that_does_not_listen_is_killed(tmp_path: Path) -> None:
    async with serving(tmp_path, RUNTIMES, stop_seconds=0.3) as gateway:
        with anyio.fail_after(20):
            assert await cancel_while_it_speaks(gateway, "N=3 HANG") == "word0 word1 word2 "


async def test_a_turn_without_patience_is_killed_at_once(tmp_path: Path) -> None:
    async with serving(tmp_path, RUNTIMES, stop_seconds=0) as gateway:
        with anyio.fail_after(20):
            await cancel_while_it_speaks(gateway, "N=3 HANG ORPHAN")


async def test_the_tool_of_a_canceled_turn_is_closed_and_killed(tmp_path: Path) -> None:
    async with serving(tmp_path, RUNTIMES) as gateway:
        with anyio.fail_after(20):
            async with calling(gateway, "SLEEPTOOL=600") as call:
                await call.until(uses_tool)
                turns = {turn["id"] for turn in await turns_of(gateway, call.task["contextId"])}
                await cancel(gateway, call.task["id"])
                assert processes_of(turns) == []
    start, result = tools(call.frames)
    assert result["call_id"] == start["call_id"]
    assert (result["is_error"], result["output"]) == (True, "")
    assert call.states[-1] == "CANCELED"


async def test_a_queued_turn_never_begins(tmp_path: Path) -> None:
    async with serving(tmp_path, RUNTIMES, stop_seconds=0) as gateway:
        with anyio.fail_after(20):
            async with calling(gateway, "N=3 HANG") as call:
                await call.until(speaks)
                session = call.task["contextId"]
                waiting = await gateway.send("hello", "N=1", contextId=session, configuration=AT_ONCE)
                assert state_of(waiting) == "SUBMITTED"
                answer = await cancel(gateway, waiting["id"])
                shown = await gateway.owner("sessions.show", id=session)
                assert state_of(await gateway.get("hello", call.task["id"])) == "WORKING"
                await cancel(gateway, call.task["id"])
            events = await gateway.events(session)
    assert state_of(answer["result"]) == "CANCELED"
    assert shown["status"] == "running"  # the other turn
    assert [event["type"] for event in events if event["task_id"] == waiting["id"]] == ["message", "done"]


async def test_the_next_turn_of_the_session_runs_after_a_cancel(tmp_path: Path) -> None:
    async with serving(tmp_path, RUNTIMES, stop_seconds=0) as gateway:
        with anyio.fail_after(20):
            async with calling(gateway, "N=3 HANG") as call:
                await call.until(speaks)
                async with calling(gateway, "N=2", contextId=call.task["contextId"]) as after:
                    await cancel(gateway, call.task["id"])
    assert after.states == ["SUBMITTED", "WORKING", "COMPLETED"]
    assert after.text.endswith("word0 word1 ")


async def test_two_who_cancel_at_once_are_told_the_same(tmp_path: Path) -> None:
    answers = []
    async with serving(tmp_path, RUNTIMES, stop_seconds=0.1) as gateway:

        async def once() -> None:
            answers.append(await cancel(gateway, call.task["id"]))

        with anyio.fail_after(20):
            async with calling(gateway, "N=3 HANG") as call:
                await call.until(speaks)
                async with anyio.create_task_group() as group:
                    for _ in range(3):
                        group.start_soon(once)
            late = await cancel(gateway, call.task["id"])
    assert [state_of(answer["result"]) for answer in answers] == ["CANCELED"] * 3
    assert late["error"]["code"] == NOT_CANCELABLE


async def test_what_has_ended_cannot_be_canceled(tmp_path: Path) -> None:
    async with serving(tmp_path, RUNTIMES) as gateway:
        with anyio.fail_after(20):
            task = await gateway.send("hello", "N=1")
            answer = await cancel(gateway, task["id"])
            assert await gateway.get("hello", task["id"]) == task
    assert answer["error"]["code"] == NOT_CANCELABLE


async def test_a_task_that_waits_for_input_is_canceled(tmp_path: Path) -> None:
    """A long one, whose fold was kept when it began to wait."""
    lines = [
        {"type": "thinking", "text": "Hm."},
        chunk("a"),
        *[TOOL_START, TOOL_RESULT] * 60,
        {"type": "ask", "question": "Go on?"},
    ]
    async with serving(tmp_path, RUNTIMES) as gateway:
        with anyio.fail_after(20):
            await make_agent(gateway, "parrot", "parrot")
            async with calling(gateway, say(*lines, {**DONE, "yield_reason": "needs_input"}), agent="parrot") as call:
                await call.ended.wait()
            assert call.states[-1] == "INPUT_REQUIRED"
            answer = await cancel(gateway, call.task["id"], "parrot")
            found = await gateway.get("parrot", call.task["id"])
            again = await cancel(gateway, call.task["id"], "parrot")
    assert state_of(answer["result"]) == "CANCELED"
    assert found == answer["result"]
    assert again["error"]["code"] == NOT_CANCELABLE


async def test_messages_that_wait_in_the_task_go_with_it(tmp_path: Path) -> None:
    async with serving(tmp_path, RUNTIMES, stop_seconds=0.1) as gateway:
        with anyio.fail_after(20):
            async with calling(gateway, "N=3 HANG") as call:
                await call.until(speaks)
                await gateway.send("hello", "N=1", taskId=call.task["id"], configuration=AT_ONCE)
                answer = await cancel(gateway, call.task["id"])
            events = await gateway.events(call.task["contextId"])
            turns = await turns_of(gateway, call.task["contextId"])
    assert state_of(answer["result"]) == "CANCELED"
    assert len(of_type(events, "turn_started")) == 1
    assert [(turn["state"], turn["yield_reason"]) for turn in turns] == [("ended", "canceled")] * 2


async def test_a_cancel_between_two_turns_of_a_task_ends_the_task(tmp_path: Path) -> None:
    """The first turn has its `done` and its process still leaves; the second waits for that."""
    async with serving(tmp_path, RUNTIMES, stop_seconds=0.5) as gateway:
        with anyio.fail_after(20):
            await make_agent(gateway, "parrot", "parrot")
            async with calling(gateway, say(chunk("one"), ["wait", "go"], DONE, ["sleep"]), agent="parrot") as call:
                await call.until(speaks)
                second = say(chunk("two"), ["sleep"])
                await gateway.send("parrot", second, taskId=call.task["id"], configuration=AT_ONCE)
                (tmp_path / "sessions" / call.task["contextId"] / "work" / "go").touch()
                await call.until(lambda call: call.frames[-1].result.get("artifactUpdate", {}).get("lastChunk"))
                answer = await cancel(gateway, call.task["id"], "parrot")
            turns = await turns_of(gateway, call.task["contextId"])
            assert processes_of({turn["id"] for turn in turns}) == []
    assert state_of(answer["result"]) == "CANCELED"
    assert [(turn["state"], turn["yield_reason"]) for turn in turns] == [("ended", "completed"), ("ended", "canceled")]


async def test_a_cancel_at_any_moment_of_the_start_ends_the_task(tmp_path: Path) -> None:
    ended = []
    async with serving(tmp_path, RUNTIMES, stop_seconds=0.1, concurrency=4) as gateway:

        async def begin_and_cancel(number: int) -> None:
            task = await gateway.send("hello", "N=3 HANG", configuration=AT_ONCE)
            for _ in range(number):
                await gateway.get("hello", task["id"])  # so long a request takes
            answer = await cancel(gateway, task["id"])
            left = processes_of({turn["id"] for turn in await turns_of(gateway, task["contextId"])})
            ended.append((state_of(answer["result"]), left))

        with anyio.fail_after(30):
            async with anyio.create_task_group() as group:
                for number in range(16):
                    group.start_soon(begin_and_cancel, number)
    assert ended == [("CANCELED", [])] * 16


async def test_of_a_session_that_is_canceled_nothing_that_waits_begins(tmp_path: Path) -> None:
    """[SES-10] It has ended before what runs does."""
    async with serving(tmp_path, RUNTIMES, stop_seconds=60) as gateway:
        await make_agent(gateway, "parrot", "parrot")
        api = Api(gateway)
        with anyio.fail_after(20):
            session = await api.create(say(chunk("one"), ["wait", "go"], DONE), agent="parrot")
            id, ended = session["id"], list[str]()
            async with anyio.create_task_group() as group:
                async for _, event in api.sse(id, types="chunk,done,turn_started"):
                    assert event["type"] != "turn_started" or event["task_id"] == session["task_id"]
                    if event["type"] == "chunk":
                        waiting = [await api.post(f"/{id}/messages", {"input": "N=1", "mode": "queue"}) for _ in range(3)]
                        group.start_soon(api.post, f"/{id}/cancel")
                    if event["type"] == "done":
                        ended.append(event["task_id"])
                    if len(ended) == 3:
                        (tmp_path / "sessions" / id / "work" / "go").touch()
                    if len(ended) == 4:
                        break
            assert ended == [*[one["task_id"] for one in reversed(waiting)], session["task_id"]]
            assert (await api.rest(id))["status"] == "idle"
