"""What a runtime is told of a message: its parts, ids and metadata, and the tasks it refers to. [A2A-14]"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from unittest.mock import ANY

import anyio
import pytest

from tests.gateway.turns.calls import make_agent
from tests.gateway.turns.parrot import RUNTIMES
from tests.gateway.turns.teller import PLAIN_TELLER, TELLER, told
from tests.support import Client, Json, message, serving, text_of

UNKNOWN = "tsk_" + "0" * 24
INVALID = -32602


@asynccontextmanager
async def telling(data_dir: Path) -> AsyncIterator[Client]:
    async with serving(data_dir, {**RUNTIMES, "teller": TELLER, "plain": PLAIN_TELLER}) as gateway:
        for name in ("teller", "plain", "rehearsal"):
            await make_agent(gateway, name, name)
        with anyio.fail_after(30):
            yield gateway


async def test_a_runtime_is_told_the_whole_message(tmp_path: Path) -> None:
    async with telling(tmp_path) as gateway:
        parts = [{"text": "Look", "metadata": {"lang": "en"}}, {"data": {"n": [1, "two"]}}]
        sent = {"messageId": "m-1", "role": "ROLE_USER", "parts": parts, "metadata": {"trace": {"id": 7}}}
        task = (await gateway.rpc("teller", "SendMessage", {"message": sent}))["result"]["task"]
    assert told(task) == {
        "type": "turn",
        "prompt": 'Look\n\n{"n": [1.0, "two"]}',
        "workspace": "/workspace",
        "session": None,
        "parts": [parts[0], {"data": {"n": [1, "two"]}}],
        "metadata": {"trace": {"id": 7}},
        "message_id": "m-1",
        "context_id": task["contextId"],
        "task_id": task["id"],
        "references": [],
    }


async def test_referenced_tasks_reach_the_runtime_and_stand_in_the_history(tmp_path: Path) -> None:
    async with telling(tmp_path) as gateway:
        first = await gateway.send("teller", "First")
        answer = await gateway.send("teller", "Second", referenceTaskIds=[first["id"], UNKNOWN])
        old = {"jsonrpc": "2.0", "id": 1, "method": "tasks/get", "params": {"id": answer["id"]}}
        answer03 = (await gateway.http.post(f"{gateway.url}/agents/teller", json=old)).json()["result"]
    assert told(answer)["references"] == [
        {"task_id": first["id"], "state": "completed", "text": "[told]"},
        {"task_id": UNKNOWN, "state": None, "text": None},
    ]
    assert told(answer)["prompt"] == "Second"
    assert answer["history"][0]["referenceTaskIds"] == [first["id"], UNKNOWN]
    assert answer03["history"][0]["referenceTaskIds"] == [first["id"], UNKNOWN]


async def test_a_message_of_the_old_version_refers_to_tasks_too(tmp_path: Path) -> None:
    async with telling(tmp_path) as gateway:
        sent = {"messageId": "m", "role": "user", "parts": [{"kind": "text", "text": "Hi"}], "referenceTaskIds": [UNKNOWN]}
        body = {"jsonrpc": "2.0", "id": 1, "method": "message/send", "params": {"message": sent}}
        task = (await gateway.http.post(f"{gateway.url}/agents/teller", json=body)).json()["result"]
    assert told(task)["references"] == [{"task_id": UNKNOWN, "state": None, "text": None}]


async def test_a_runtime_without_a_field_for_references_reads_them_in_its_prompt(tmp_path: Path) -> None:
    async with telling(tmp_path) as gateway:
        spoken = await gateway.send("plain", "Hi")
        task = await gateway.send("plain", "Go on.", referenceTaskIds=[spoken["id"], UNKNOWN])
    assert told(task)["prompt"] == (
        f"Go on.\n\n[Referenced task {spoken['id']}, completed. Its answer:]\n[told]\n\n"
        f"[Referenced task {UNKNOWN}: there is no such task.]"
    )


async def test_of_a_long_answer_the_end_is_told_and_a_question_is_told_too(tmp_path: Path) -> None:
    async with telling(tmp_path) as gateway:
        long = await gateway.send("rehearsal", "N=600 ASK")
        whole = text_of(long) + "\nShall I go on?"
        await gateway.owner("agent.update", name="rehearsal", changes={"runtime": "teller"})
        task = await gateway.send("rehearsal", "And now?", referenceTaskIds=[long["id"]])
    [reference] = told(task)["references"]
    assert reference == {"task_id": long["id"], "state": "input_required", "text": "…" + whole[-2000:]}


async def test_a_task_of_somebody_else_is_told_as_one_there_is_not(tmp_path: Path) -> None:
    """[INV-7]"""
    async with telling(tmp_path) as gateway:
        own = await gateway.send("teller", "Mine")
        other = await gateway.send("plain", "Another agent's")
        await gateway.sign_in()
        foreign = await _references(gateway, own["id"])
        absent = await _references(gateway, UNKNOWN)
        mine = await gateway.send("teller", "Now mine")
        assert (await _references(gateway, mine["id"]))[0]["state"] == "completed"
        assert await _references(gateway, other["id"]) == [{"task_id": other["id"], "state": None, "text": None}]
    assert [{**foreign[0], "task_id": UNKNOWN}] == absent


async def _references(gateway: Client, id: str) -> list[Json]:
    references: list[Json] = told(await gateway.send("teller", "Hi", referenceTaskIds=[id]))["references"]
    return references


@pytest.mark.parametrize("ids", [[UNKNOWN] * 21, [""], ["x" * 129], ["a\0b"]])
async def test_references_that_make_no_sense_are_refused(tmp_path: Path, ids: list[str]) -> None:
    """[A2A-5]"""
    async with telling(tmp_path) as gateway:
        refused = await gateway.rpc("teller", "SendMessage", {"message": message("Hi", referenceTaskIds=ids)})
    assert refused == {"jsonrpc": "2.0", "id": 1, "error": {"code": INVALID, "message": ANY, "data": ANY}}
