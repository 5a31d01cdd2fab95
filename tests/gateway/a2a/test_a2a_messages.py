"""SendMessage: answered when the task ends or waits, or at once; and where a message belongs. [A2A-1]"""

from __future__ import annotations

import os
from pathlib import Path
from unittest.mock import ANY

import anyio
import pytest

from tests.gateway.turns.calls import AT_ONCE, cancel, make_agent, state_of
from tests.gateway.turns.parrot import RUNTIMES
from tests.support import HEADERS, message, serving, text_of

NOT_FOUND, UNSUPPORTED, INVALID = -32001, -32004, -32602


async def test_a_blocking_message_answers_the_whole_task(tmp_path: Path) -> None:
    async with serving(tmp_path, RUNTIMES) as gateway:
        with anyio.fail_after(20):
            sent = message("N=2", metadata={"key": "value"})
            answer = await gateway.rpc("hello", "SendMessage", {"message": sent})
    task = answer["result"]["task"]
    ids = {"taskId": task["id"], "contextId": task["contextId"]}
    assert answer == {
        "jsonrpc": "2.0",
        "id": 1,
        "result": {
            "task": {
                "id": ANY,
                "contextId": ANY,
                "status": {"state": "TASK_STATE_COMPLETED", "timestamp": ANY},
                "artifacts": [{"artifactId": ANY, "name": "response", "parts": [{"text": "word0 word1 "}]}],
                "history": [{**sent, **ids}],
            }
        },
    }


async def test_a_message_that_does_not_wait_answers_the_submitted_task(tmp_path: Path) -> None:
    async with serving(tmp_path, RUNTIMES, stop_seconds=0) as gateway:
        with anyio.fail_after(20):
            task = await gateway.send("hello", "N=1 HANG", configuration=AT_ONCE)
            assert state_of(task) in ("SUBMITTED", "WORKING")
            assert "artifacts" not in task
            await cancel(gateway, task["id"])


async def test_a_blocking_answer_is_given_when_the_agent_asks(tmp_path: Path) -> None:
    async with serving(tmp_path, RUNTIMES) as gateway:
        with anyio.fail_after(20):
            assert state_of(await gateway.send("hello", "N=1 ASK")) == "INPUT_REQUIRED"


async def test_both_forms_of_the_address_are_the_same_agent(tmp_path: Path) -> None:
    body = {"jsonrpc": "2.0", "id": 1, "method": "SendMessage", "params": {"message": message("N=1")}}
    async with serving(tmp_path, RUNTIMES) as gateway:
        with anyio.fail_after(20):
            answer = await gateway.http.post(f"{gateway.url}/agents/hello/", json=body, headers=HEADERS)
    assert text_of(answer.json()["result"]["task"]) == "word0 "


async def test_the_version_may_stand_in_the_address(tmp_path: Path) -> None:
    body = {"jsonrpc": "2.0", "id": 1, "method": "ListTasks", "params": {}}
    async with serving(tmp_path, RUNTIMES) as gateway:
        with anyio.fail_after(20):
            answer = await gateway.http.post(f"{gateway.url}/agents/hello?A2A-Version=1.0", json=body)
            refused = await gateway.http.post(f"{gateway.url}/agents/hello?A2A-Version=0.3", json=body)
    assert answer.json()["result"]["tasks"] == []
    assert refused.json()["error"]["code"] == -32009


async def test_a_notification_is_obeyed_and_not_answered(tmp_path: Path) -> None:
    body = {"jsonrpc": "2.0", "method": "SendMessage", "params": {"message": message("N=1")}}
    async with serving(tmp_path, RUNTIMES) as gateway:
        await gateway.sign_in()
        with anyio.fail_after(20):
            answer = await gateway.http.post(f"{gateway.url}/agents/hello", json=body, headers=HEADERS)
            listed = await gateway.rpc("hello", "ListTasks", {})
    assert (answer.status_code, answer.content) == (204, b"")
    assert [state_of(task) for task in listed["result"]["tasks"]] == ["COMPLETED"]


@pytest.mark.parametrize("chosen", ["project-1", "3f0b8c1e-7d5a-4a52-9c57-0d6c9b1f0a11", "a.b_c-d", "x" * 64])
async def test_a_context_id_that_is_free_may_be_chosen(tmp_path: Path, chosen: str) -> None:
    async with serving(tmp_path, RUNTIMES) as gateway:
        with anyio.fail_after(20):
            first = await gateway.send("hello", "N=1", contextId=chosen)
            second = await gateway.send("hello", "N=1", contextId=chosen)
    assert first["contextId"] == second["contextId"] == chosen
    assert text_of(second).startswith("Turn 2.")


@pytest.mark.parametrize(
    "chosen", ["../escape", "/tmp/escape", "..", ".", ".hidden", "a/b", "a\\b", "a b", "é", "x" * 65, "a\n"]
)
async def test_a_context_id_that_is_no_plain_name_is_refused(tmp_path: Path, chosen: str) -> None:
    """It would name a directory."""
    data = tmp_path / "data"
    async with serving(data, RUNTIMES) as gateway:
        await gateway.sign_in()
        with anyio.fail_after(20):
            answer = await gateway.rpc("hello", "SendMessage", {"message": message("N=1", contextId=chosen)})
            listed = await gateway.rpc("hello", "ListTasks", {})
    assert answer["error"]["code"] == INVALID
    assert listed["result"]["totalSize"] == 0
    assert os.listdir(tmp_path) == ["data"]
    assert not (data / "sessions").exists()


async def test_the_context_of_another_agent_is_not_found(tmp_path: Path) -> None:
    async with serving(tmp_path, RUNTIMES) as gateway:
        with anyio.fail_after(20):
            await make_agent(gateway, "other", "rehearsal")
            task = await gateway.send("other", "N=1")
            answer = await gateway.rpc("hello", "SendMessage", {"message": message("N=1", contextId=task["contextId"])})
    assert answer["error"]["code"] == NOT_FOUND


async def test_a_message_to_a_task_says_where_it_does_not_belong(tmp_path: Path) -> None:
    async with serving(tmp_path, RUNTIMES) as gateway:
        with anyio.fail_after(20):
            asked = await gateway.send("hello", "N=1 ASK")
            ended = await gateway.send("hello", "N=1")
            sent = {
                "unknown": message("x", taskId="tsk_nobody"),
                "ended": message("x", taskId=ended["id"]),
                "elsewhere": message("x", taskId=asked["id"], contextId=ended["contextId"]),
                "nowhere": message("x", taskId=asked["id"], contextId="nowhere"),
            }
            codes = {
                name: (await gateway.rpc("hello", "SendMessage", {"message": one}))["error"]["code"]
                for name, one in sent.items()
            }
            found = await gateway.get("hello", asked["id"])
    assert codes == {"unknown": NOT_FOUND, "ended": UNSUPPORTED, "elsewhere": UNSUPPORTED, "nowhere": UNSUPPORTED}
    assert found == asked


async def test_a_caller_who_goes_away_leaves_the_task_at_work(tmp_path: Path) -> None:
    async with serving(tmp_path, RUNTIMES) as gateway:
        with anyio.fail_after(20):
            async for frame in gateway.stream("hello", "N=30 D=10000", contextId="mine"):
                if "artifactUpdate" in frame.result:
                    break
            answer = await gateway.send("hello", "N=1", contextId="mine")
            listed = await gateway.rpc("hello", "ListTasks", {"contextId": "mine"})
    assert text_of(answer).startswith("Turn 2.")
    assert [state_of(task) for task in listed["result"]["tasks"]] == ["COMPLETED", "COMPLETED"]
