"""Answers by a message alone, at their edges: repeats, restarts, push notifications, agents that cannot, runtimes for tests.

[A2A-12]
"""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest.mock import ANY

import anyio
import pytest

from tests.gateway.deliver.gateways import push
from tests.gateway.deliver.receivers import Receiver, receiving
from tests.gateway.turns.calls import AT_ONCE, calling, cancel, state_of
from tests.gateway.turns.parrot import DONE, RUNTIMES, chunk, say
from tests.support import Client, Frame, Json, gateway_process, message, serving

MESSAGE = "tck-message-response-1"
REPLY = [{"text": "Direct message response"}]
NOT_FOUND = -32001


async def make_tck(gateway: Client) -> None:
    await gateway.owner("agent.create", name="tck", runtime="conformance", quick=True)


async def ask(gateway: Client, headers: Json | None = None, **more: Any) -> Json:
    params = {"message": message("Hi", messageId=MESSAGE), **more}
    answer = await gateway.rpc("tck", "SendMessage", params, headers or {})
    assert "error" not in answer, answer
    found: Json = answer["result"]
    return found


async def frames_of(gateway: Client, headers: Json | None = None) -> list[Frame]:
    params = {"message": message("Hi", messageId=MESSAGE)}
    return [frame async for frame in gateway.frames("tck", "SendStreamingMessage", params, headers or {})]


async def test_a_direct_answer_has_its_context_and_no_task(tmp_path: Path) -> None:
    async with serving(tmp_path, conformance=True) as gateway:
        await make_tck(gateway)
        with anyio.fail_after(20):
            answer = await ask(gateway)
            [frame] = await frames_of(gateway)
    expected = {"message": {"messageId": ANY, "contextId": ANY, "role": "ROLE_AGENT", "parts": REPLY}}
    assert (answer, frame.result) == (expected, expected)


async def test_a_message_in_the_log_does_not_tell_what_the_agent_can(tmp_path: Path) -> None:
    """Callers read it there by the session API. [A2A-12]"""
    async with serving(tmp_path, conformance=True) as gateway:
        await make_tck(gateway)
        with anyio.fail_after(20):
            told = [await gateway.send(agent, "Hi", messageId="tck-complete-task-1") for agent in ("tck", "hello")]
            found = [(await gateway.events(task["contextId"]))[0]["body"] for task in told]
    assert found[0] == found[1]


async def test_a_question_under_the_same_key_is_answered_by_the_same_message(tmp_path: Path) -> None:
    key = {"Idempotency-Key": "3f1f6a52-5d1a-4a39-9f0a-6dfb3d1a7d10"}
    async with serving(tmp_path, conformance=True) as gateway:
        await make_tck(gateway)
        with anyio.fail_after(20):
            first = await ask(gateway, key)
            assert await ask(gateway, key) == first
            assert await ask(gateway, key, configuration=AT_ONCE) == first
            [frame] = await frames_of(gateway, key)
            assert frame.result == first
            assert await frames_of(gateway, {**key, "Last-Event-ID": frame.id}) == []


async def test_a_message_to_a_task_and_one_with_a_config_are_answered_by_their_task(tmp_path: Path) -> None:
    async with serving(tmp_path, conformance=True) as gateway:
        await make_tck(gateway)
        with anyio.fail_after(20):
            asked = await gateway.send("tck", "Hi", messageId="tck-input-required-1")
            task = await gateway.send("tck", "Hi", messageId=MESSAGE, taskId=asked["id"])
    assert (task["id"], state_of(task), task["status"]["message"]["parts"]) == (asked["id"], "COMPLETED", REPLY)


@pytest.mark.parametrize("version", ["1.0", "0.3"])
async def test_a_push_config_is_told_the_answer_with_the_end_of_its_task(tmp_path: Path, version: str) -> None:
    with receiving() as receiver:
        async with serving(tmp_path, conformance=True, allow_private_hosts="127.0.0.1") as gateway:
            await make_tck(gateway)
            with anyio.fail_after(20):
                status = await _pushed(gateway, receiver, version)
    assert [part["text"] for part in status["message"]["parts"]] == ["Direct message response"]


async def _pushed(gateway: Client, receiver: Receiver, version: str) -> Json:
    """The last status a receiver was told."""
    config: Json = push(f"{receiver.url}/ok")
    if version == "1.0":
        assert "task" in await ask(gateway, configuration=config)
        await receiver.until_said("working", "completed")
        return dict(receiver.got[-1].json["statusUpdate"]["status"])
    sent = {"messageId": MESSAGE, "role": "user", "parts": [{"kind": "text", "text": "Hi"}]}
    params = {"message": sent, "configuration": {"pushNotificationConfig": {"url": f"{receiver.url}/ok"}}}
    body = {"jsonrpc": "2.0", "id": 1, "method": "message/send", "params": params}
    answer = (await gateway.http.post(f"{gateway.url}/agents/tck", json=body)).json()
    assert answer["result"]["kind"] == "task"
    await receiver.until(lambda: any(got.json["status"]["state"] == "completed" for got in receiver.got))
    return dict(receiver.got[-1].json["status"])


async def test_after_a_restart_all_is_as_it_was(tmp_path: Path) -> None:
    with gateway_process(tmp_path, {"SWITCHBOARD_CONFORMANCE": "1"}) as process:
        with anyio.fail_after(60):
            first = process.client()
            async with first.http:
                await make_tck(first)
                context_id = (await ask(first))["message"]["contextId"]
                asked = await first.send("tck", "Hi", messageId="tck-auth-required-1")
                at_once = (await ask(first, configuration=AT_ONCE))["task"]
                await first.send("tck", "Hi", contextId=at_once["contextId"])  # so that it has ended
            process.stop()
            process.start()
            again = process.client()
            async with again.http:
                [hidden] = (await again.owner("sessions.show", id=context_id))["tasks"]
                refused = await again.rpc("tck", "GetTask", {"id": hidden["id"]})
                assert refused["error"]["code"] == NOT_FOUND
                assert (await again.rpc("tck", "ListTasks", {"contextId": context_id}))["result"]["tasks"] == []
                assert (await again.get("tck", at_once["id"]))["status"]["message"]["parts"] == REPLY
                assert state_of(await again.get("tck", asked["id"])) == "AUTH_REQUIRED"
                done = await again.send("tck", "Hi", messageId="tck-complete-task-1", taskId=asked["id"])
    assert (done["id"], state_of(done)) == (asked["id"], "COMPLETED")


async def test_a_stream_waits_for_nothing_where_the_runtime_cannot_answer_directly(tmp_path: Path) -> None:
    """The parrot says nothing until it is stopped; its stream has begun."""
    async with serving(tmp_path, RUNTIMES, stop_seconds=0) as gateway:
        await gateway.owner("agent.create", name="silent", runtime="parrot")
        with anyio.fail_after(20):
            async with calling(gateway, say(["sleep"]), agent="silent") as call:
                assert call.frames[0].result["task"]["status"]["state"] == "TASK_STATE_SUBMITTED"
                await cancel(gateway, call.task["id"], "silent")


async def test_what_such_a_runtime_says_as_a_message_is_told_with_the_end_of_its_task(tmp_path: Path) -> None:
    line = {"type": "message", "parts": [{"text": "Well."}, {"data": {"n": 1}}]}
    async with serving(tmp_path, RUNTIMES) as gateway:
        await gateway.owner("agent.create", name="loud", runtime="parrot")
        with anyio.fail_after(20):
            task = await gateway.send("loud", say(line))
            late = await gateway.send("loud", say(chunk("First this. "), line))
            rejected = await gateway.send("loud", say({**DONE, "yield_reason": "rejected", "message": "Not today."}))
    assert (state_of(task), task["status"]["message"]["parts"]) == ("COMPLETED", line["parts"])
    assert late["artifacts"][0]["parts"] == [{"text": "First this. "}]
    assert late["status"]["message"]["parts"] == line["parts"]
    assert (state_of(rejected), rejected["status"]["message"]["parts"]) == ("REJECTED", [{"text": "Not today."}])


async def test_the_conformance_runtime_is_unknown_unless_it_is_switched_on(tmp_path: Path) -> None:
    """[A2A-15]"""
    async with serving(tmp_path) as gateway:
        with pytest.raises(AssertionError, match="There is no runtime 'conformance'"):
            await make_tck(gateway)
        listed = await gateway.owner("runtimes.list")
    assert "conformance" not in str(listed)
