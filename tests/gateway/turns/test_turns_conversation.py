"""Conversations: a question and its answer, and sessions that go on where they were."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from tests.gateway.turns.calls import calling, make_agent, of_type, state_of, turns_of
from tests.gateway.turns.parrot import DONE, RUNTIMES, chunk, say
from tests.support import message, serving, text_of

pytestmark = pytest.mark.usefixtures("database_url")


async def test_an_answer_to_a_question_continues_the_task_to_its_end(tmp_path: Path) -> None:
    async with serving(tmp_path, RUNTIMES) as gateway:
        with anyio.fail_after(20):
            asked = await gateway.send("hello", "N=2 ASK")
            told = await gateway.send("hello", "N=1", taskId=asked["id"])
            status = (await gateway.owner("sessions.show", id=asked["contextId"]))["status"]
    assert state_of(asked) == "INPUT_REQUIRED"
    assert asked["status"]["message"]["parts"] == [{"text": "Shall I go on?"}]
    assert (told["id"], told["contextId"]) == (asked["id"], asked["contextId"])
    assert state_of(told) == "COMPLETED"
    assert "message" not in told["status"]
    assert [part["text"] for one in told["history"] for part in one["parts"]] == ["N=2 ASK", "N=1"]
    assert text_of(told) == "word0 word1 Turn 2. Before this you said: N=2 ASK\nword0 "
    assert status == "idle"


async def test_a_session_that_was_asked_something_awaits_input(tmp_path: Path) -> None:
    async with serving(tmp_path, RUNTIMES) as gateway:
        with anyio.fail_after(20):
            task = await gateway.send("hello", "N=1 ASK")
            assert (await gateway.owner("sessions.show", id=task["contextId"]))["status"] == "awaiting_input"


async def test_an_answer_can_be_streamed(tmp_path: Path) -> None:
    async with serving(tmp_path, RUNTIMES) as gateway:
        with anyio.fail_after(20):
            asked = await gateway.send("hello", "N=2 ASK")
            async with calling(gateway, "N=1", taskId=asked["id"]) as call:
                await call.ended.wait()
            found = await gateway.get("hello", asked["id"])
    assert call.states == ["SUBMITTED", "WORKING", "COMPLETED"]
    assert len(call.task["history"]) == 2
    assert text_of(call.task) == text_of(asked)
    assert text_of(asked) + call.text == text_of(found)


async def test_a_message_with_a_context_continues_the_conversation_by_the_runtimes_own_resume(tmp_path: Path) -> None:
    """[A2A-4]"""
    async with serving(tmp_path, RUNTIMES) as gateway:
        with anyio.fail_after(20):
            first = await gateway.send("hello", "N=1 remember this")
            second = await gateway.send("hello", "N=1", contextId=first["contextId"])
            third = await gateway.send("hello", "N=1", contextId=first["contextId"])
            other = await gateway.send("hello", "N=1")
    assert len({task["id"] for task in (first, second, third, other)}) == 4
    assert second["contextId"] == third["contextId"] == first["contextId"] != other["contextId"]
    assert text_of(second) == "Turn 2. Before this you said: N=1 remember this\nword0 "
    assert text_of(third) == "Turn 3. Before this you said: N=1\nword0 "
    assert text_of(other) == "word0 "


async def test_a_conversation_goes_on_after_a_restart(tmp_path: Path) -> None:
    async with serving(tmp_path, RUNTIMES) as gateway:
        with anyio.fail_after(20):
            first = await gateway.send("hello", "N=1 ASK")
    async with serving(tmp_path, RUNTIMES) as gateway:
        with anyio.fail_after(20):
            second = await gateway.send("hello", "N=1", taskId=first["id"])
    assert text_of(second) == "word0 Turn 2. Before this you said: N=1 ASK\nword0 "


async def test_a_session_keeps_the_agents_version_it_began_with(tmp_path: Path) -> None:
    """[TURN-5]"""
    async with serving(tmp_path, RUNTIMES) as gateway:
        with anyio.fail_after(20):
            await make_agent(gateway, "changing", "rehearsal")
            first = await gateway.send("changing", "N=1")
            await gateway.owner("agent.update", name="changing", changes={"runtime": "parrot"})
            second = await gateway.send("changing", "N=1", contextId=first["contextId"])
            new = await gateway.send("changing", say(chunk("I am new."), DONE))
            events = await gateway.events(first["contextId"])
    assert text_of(second).startswith("Turn 2.")
    assert text_of(new) == "I am new."
    told = [event["body"]["text"] for event in of_type(events, "notice") if event["body"]["kind"] == "runtime"]
    assert told == ["rehearsal, mode jsonl, agent version 1"] * 2


async def test_data_reaches_the_runtime_as_json(tmp_path: Path) -> None:
    parts = [{"text": "N=1 first"}, {"data": {"key": ["é", 1, None]}}, {"text": "last"}]
    async with serving(tmp_path, RUNTIMES) as gateway:
        with anyio.fail_after(20):
            params = {"message": message("") | {"parts": parts}}
            task = (await gateway.rpc("hello", "SendMessage", params))["result"]["task"]
            second = await gateway.send("hello", "N=0", contextId=task["contextId"])
    assert task["history"][0]["parts"] == parts
    assert text_of(second) == 'Turn 2. Before this you said: N=1 first\n\n{"key": ["é", 1.0, null]}\n\nlast\n'


async def test_every_turn_gets_only_the_messages_that_asked_for_it(tmp_path: Path) -> None:
    async with serving(tmp_path, RUNTIMES) as gateway:
        with anyio.fail_after(20):
            first = await gateway.send("hello", "N=1 one ASK")
            await gateway.send("hello", "N=1 two", taskId=first["id"])
            third = await gateway.send("hello", "N=1 three", contextId=first["contextId"])
            turns = await turns_of(gateway, first["contextId"])
    assert text_of(third).startswith("Turn 3. Before this you said: N=1 two\n")
    assert [turn["yield_reason"] for turn in turns] == ["needs_input", "completed", "completed"]
