"""What belongs to one principal does not exist for another: whole answers are compared, ids made alike."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.support import HEADERS, Client, message, serving

Json = dict[str, Any]
WRONG_TASK, WRONG_CONTEXT = "tsk_" + "0" * 24, "ses_" + "0" * 24

# method -> params with the ids under test
METHODS: list[tuple[str, Json, dict[str, str]]] = [
    ("SendMessage", {"message": message("N=1", taskId="TASK")}, {}),
    ("SendMessage", {"message": message("N=1", contextId="CONTEXT")}, {}),
    ("SendMessage", {"message": message("N=1", taskId="TASK", contextId="CONTEXT")}, {}),
    ("SendStreamingMessage", {"message": message("N=1", taskId="TASK")}, {}),
    ("SendStreamingMessage", {"message": message("N=1", contextId="CONTEXT")}, {}),
    ("GetTask", {"id": "TASK"}, {}),
    ("GetTask", {"id": "TASK", "historyLength": 0}, {}),
    ("ListTasks", {"contextId": "CONTEXT"}, {}),
    ("CancelTask", {"id": "TASK"}, {}),
    ("SubscribeToTask", {"id": "TASK"}, {}),
    ("SubscribeToTask", {"id": "TASK"}, {"Last-Event-ID": "1"}),
    ("SubscribeToTask", {"id": "TASK"}, {"Last-Event-ID": "999999"}),
    ("CreateTaskPushNotificationConfig", {"taskId": "TASK", "id": "c", "url": "https://hooks.example.com/"}, {}),
    ("GetTaskPushNotificationConfig", {"taskId": "TASK", "id": "c"}, {}),
    ("ListTaskPushNotificationConfigs", {"taskId": "TASK"}, {}),
    ("DeleteTaskPushNotificationConfig", {"taskId": "TASK", "id": "c"}, {}),
]


def filled(value: Any, task: str, context: str) -> Any:
    if isinstance(value, dict):
        return {key: filled(item, task, context) for key, item in value.items()}
    return {"TASK": task, "CONTEXT": context}.get(value, value) if isinstance(value, str) else value


async def answer(
    gateway: Client,
    agent: str,
    who: Mapping[str, str],
    method: str,
    params: Json,
    headers: dict[str, str],
    task: str,
    context: str,
) -> tuple[int, str, str]:
    """(status, content type, body with its ids made alike)."""
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": filled(params, task, context)}
    url, sent = f"{gateway.url}/agents/{agent}", {**HEADERS, **who, **headers}
    found = await gateway.http.post(url, json=body, headers=sent)
    text = found.text.replace(task, "TASK").replace(context, "CONTEXT")
    return found.status_code, found.headers.get("content-type", ""), text


@pytest.mark.parametrize(("mine", "other"), [("a", "b"), ("a", "anonymous"), ("anonymous", "b")])
async def test_foreign_ids_answer_as_wrong_ones_in_every_method(mine: str, other: str, tmp_path: Path) -> None:
    """[INV-7]"""
    async with serving(tmp_path) as gateway:
        who: dict[str, dict[str, str]] = {"anonymous": {}}
        for name in ("a", "b"):
            who[name] = {"X-API-Key": (await gateway.owner("callers.add", name=name))["key"]}
        await gateway.owner("agent.create", name="second", runtime="rehearsal")
        with anyio.fail_after(60):
            sent = await gateway.rpc("hello", "SendMessage", {"message": message("N=2")}, who[mine])
            task = sent["result"]["task"]
            before = await gateway.rpc("hello", "GetTask", {"id": task["id"]}, who[mine])
            # Another principal of the same agent; and the same principal at another agent.
            for agent, stranger in (("hello", who[other]), ("second", who[mine])):
                for method, params, headers in METHODS:
                    foreign = await answer(gateway, agent, stranger, method, params, headers, task["id"], task["contextId"])
                    absent = await answer(gateway, agent, stranger, method, params, headers, WRONG_TASK, WRONG_CONTEXT)
                    assert foreign == absent, method
                    assert "error" in foreign[2] or method == "ListTasks"
            assert await gateway.rpc("hello", "GetTask", {"id": task["id"]}, who[mine]) == before


async def test_anonymous_callers_list_only_what_they_can_name(tmp_path: Path) -> None:
    """[AUTH-4]"""
    async with serving(tmp_path, anonymous_listing=False) as gateway:
        with anyio.fail_after(30):
            task = await gateway.send("hello", "N=1")
            await gateway.send("hello", "N=1")
        blind = (await gateway.rpc("hello", "ListTasks", {}))["result"]
        named = (await gateway.rpc("hello", "ListTasks", {"contextId": task["contextId"]}))["result"]
    assert (blind["tasks"], blind["totalSize"], blind["nextPageToken"]) == ([], 0, "")
    assert [found["id"] for found in named["tasks"]] == [task["id"]]


async def test_on_loopback_anonymous_callers_list_their_tasks(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        with anyio.fail_after(30):
            tasks = [await gateway.send("hello", "N=1") for _ in range(2)]
            await gateway.send("hello", "N=1", contextId=tasks[0]["contextId"])
            key = (await gateway.owner("callers.add", name="a"))["key"]
            await gateway.rpc("hello", "SendMessage", {"message": message("N=1")}, {"X-API-Key": key})
        listed = (await gateway.rpc("hello", "ListTasks", {}))["result"]["tasks"]
    assert len(listed) == 3
    assert {task["id"] for task in tasks} < {task["id"] for task in listed}


async def test_a_caller_lists_its_own_tasks_and_no_others(tmp_path: Path) -> None:
    """[AUTH-4]"""
    async with serving(tmp_path) as gateway:
        keys = [{"X-API-Key": (await gateway.owner("callers.add", name=name))["key"]} for name in ("a", "b")]
        ids = []
        with anyio.fail_after(30):
            await gateway.send("hello", "N=1")
            for headers in keys:
                sent = await gateway.rpc("hello", "SendMessage", {"message": message("N=1")}, headers)
                ids.append(sent["result"]["task"]["id"])
        listed = [(await gateway.rpc("hello", "ListTasks", {}, headers))["result"] for headers in keys]
        principals = {
            (await gateway.owner("sessions.show", id=session["id"]))["principal"]
            for session in (await gateway.owner("sessions.list"))["sessions"]
        }
        callers = {caller["principal"] for caller in (await gateway.owner("callers.list"))["callers"]}
    assert [[task["id"] for task in page["tasks"]] for page in listed] == [[id] for id in ids]
    assert principals == callers | {"anonymous"}


async def test_a_context_id_that_looks_like_ours_cannot_be_chosen(tmp_path: Path) -> None:
    """[INV-7] Otherwise one that is taken and one that is free would answer differently."""
    async with serving(tmp_path) as gateway:
        refused = await gateway.rpc("hello", "SendMessage", {"message": message("N=1", contextId=WRONG_CONTEXT)})
        with anyio.fail_after(30):
            chosen = await gateway.send("hello", "N=1", contextId="6f1c9f0e-mine")
        assert (await gateway.owner("sessions.list"))["sessions"][0]["id"] == chosen["contextId"] == "6f1c9f0e-mine"
    assert refused["error"]["code"] == -32001
