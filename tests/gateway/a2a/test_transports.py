"""One set of scenarios, told alike by every transport in every version, with the official SDK's client on a real socket."""

from __future__ import annotations

import anyio
import pytest
from a2a.utils.errors import A2AError

from tests.gateway.a2a.clients import LEGS, Leg, calling, streamed_text, text_of
from tests.support import GatewayProcess

STATE = {
    "completed": 3,
    "failed": 4,
    "canceled": 5,
    "input_required": 6,
}
ACTIVE = (1, 2)

on_every_leg = pytest.mark.parametrize("leg", LEGS, ids=str)
pytestmark = pytest.mark.anyio


@on_every_leg
async def test_a_blocking_message_answers_the_ended_task_and_get_tells_it_again(gateway: GatewayProcess, leg: Leg) -> None:
    """[A2A-1] [A2A-7]"""
    with anyio.fail_after(30):
        async with calling(gateway, leg) as caller:
            task = await caller.send("N=3")
            again = await caller.get(task.id)
    assert (task.status.state, text_of(task)) == (STATE["completed"], "word0 word1 word2 ")
    assert [part.text for message in task.history for part in message.parts] == ["N=3"]
    assert again == task


@on_every_leg
async def test_a_message_that_returns_at_once_is_canceled_later(gateway: GatewayProcess, leg: Leg) -> None:
    """[A2A-1]"""
    with anyio.fail_after(30):
        async with calling(gateway, leg) as caller:
            task = await caller.send("N=1 SLEEPTOOL=600", return_immediately=True)
            canceled = await caller.cancel(task.id)
            with pytest.raises(A2AError) as again:
                await caller.cancel(task.id)
    assert task.status.state in ACTIVE
    assert (canceled.id, canceled.status.state) == (task.id, STATE["canceled"])
    assert "has ended as canceled" in str(again.value)


@on_every_leg
async def test_a_stream_tells_the_task_its_text_and_its_end(gateway: GatewayProcess, leg: Leg) -> None:
    """[A2A-2]"""
    with anyio.fail_after(30):
        async with calling(gateway, leg, streaming=True) as caller:
            events = await caller.stream("N=20 D=1000")
    assert events[0].HasField("task")
    assert streamed_text(events) == "".join(f"word{n} " for n in range(20))
    assert events[-1].status_update.status.state == STATE["completed"]


@on_every_leg
async def test_a_subscriber_sees_the_task_and_then_its_end(gateway: GatewayProcess, leg: Leg) -> None:
    """[A2A-3]"""
    with anyio.fail_after(30):
        async with calling(gateway, leg, streaming=True) as streaming, calling(gateway, leg) as caller:
            task = await caller.send("N=1 SLEEPTOOL=600", return_immediately=True)
            events = []
            async for event in streaming.subscribe(task.id):
                events.append(event)
                if len(events) == 1:
                    await caller.cancel(task.id)
            with pytest.raises(A2AError):
                assert not [event async for event in streaming.subscribe(task.id)]
    assert events[0].task.id == task.id
    assert events[-1].status_update.status.state == STATE["canceled"]


@on_every_leg
async def test_a_follow_up_by_context_continues_the_conversation(gateway: GatewayProcess, leg: Leg) -> None:
    """[A2A-4]"""
    with anyio.fail_after(30):
        async with calling(gateway, leg) as caller:
            first = await caller.send("N=1 first")
            second = await caller.send("N=1 second", context_id=first.context_id)
    assert second.id != first.id
    assert second.context_id == first.context_id
    assert text_of(second) == "Turn 2. Before this you said: N=1 first\nword0 "


@pytest.mark.parametrize("leg", [leg for leg in LEGS if leg.version == "1.0"], ids=str)
async def test_list_tells_the_tasks_of_a_context_newest_first(gateway: GatewayProcess, leg: Leg) -> None:
    with anyio.fail_after(30):
        async with calling(gateway, leg) as caller:
            first = await caller.send("N=1")
            second = await caller.send("N=1", context_id=first.context_id)
            listed = await caller.list(first.context_id)
    assert [task.id for task in listed.tasks] == [second.id, first.id]
    assert (listed.total_size, listed.next_page_token) == (2, "")


@on_every_leg
async def test_a_question_waits_for_its_answer_in_the_same_task(gateway: GatewayProcess, leg: Leg) -> None:
    with anyio.fail_after(30):
        async with calling(gateway, leg) as caller:
            asked = await caller.send("N=1 ASK")
            answered = await caller.send("N=2 yes", task=asked)
            with pytest.raises(A2AError) as over:
                await caller.send("N=1 more", task=answered)
    assert "has ended as completed. Send the message with its contextId only." in str(over.value)
    assert asked.status.state == STATE["input_required"]
    assert [part.text for part in asked.status.message.parts] == ["Shall I go on?"]
    assert (answered.id, answered.status.state) == (asked.id, STATE["completed"])


@on_every_leg
async def test_a_stream_ends_with_a_question_too(gateway: GatewayProcess, leg: Leg) -> None:
    with anyio.fail_after(30):
        async with calling(gateway, leg, streaming=True) as caller:
            events = await caller.stream("N=1 ASK")
    assert events[-1].status_update.status.state == STATE["input_required"]


@on_every_leg
async def test_a_failure_is_told_by_category_and_a_neutral_sentence(gateway: GatewayProcess, leg: Leg) -> None:
    """[HIDE-1]"""
    with anyio.fail_after(30):
        async with calling(gateway, leg) as caller:
            task = await caller.send("N=1 FAIL=auth_error")
    told = str(task.status.message)
    assert task.status.state == STATE["failed"]
    assert "auth_error" in told
    assert "rehears" not in told


@on_every_leg
async def test_an_unknown_agent_an_unknown_task_and_bad_parameters_are_told(gateway: GatewayProcess, leg: Leg) -> None:
    """[A2A-5]"""
    with anyio.fail_after(30):
        async with calling(gateway, leg, agent="nobody") as nobody, calling(gateway, leg) as caller:
            with pytest.raises(A2AError) as no_agent:
                await nobody.send("N=1")
            with pytest.raises(A2AError) as no_task:
                await caller.get("tsk_nope")
            with pytest.raises(A2AError) as no_parts:
                await caller.send("")
    assert "not found" in str(no_agent.value).lower() or "404" in str(no_agent.value)
    assert "'tsk_nope' was not found" in str(no_task.value)
    assert "incident" not in str(no_parts.value)
