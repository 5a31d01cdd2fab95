"""GetTask and ListTasks: what a caller finds again, page by page. [A2A-6] [INV-7]"""

from __future__ import annotations

from itertools import chain
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.gateway.turns.calls import calling, cancel, make_agent, speaks, state_of
from tests.gateway.turns.parrot import RUNTIMES
from tests.support import Client, Json, serving, text_of

pytestmark = pytest.mark.usefixtures("database_url")

INVALID, NOT_FOUND = -32602, -32001


async def listed(gateway: Client, **params: Any) -> Json:
    answer = await gateway.rpc("hello", "ListTasks", params)
    assert "error" not in answer, answer
    found: Json = answer["result"]
    return found


def ids(tasks: list[Json]) -> list[str]:
    return [task["id"] for task in tasks]


async def test_a_task_is_found_again_with_as_much_history_as_asked_for(tmp_path: Path) -> None:
    async with serving(tmp_path, RUNTIMES) as gateway:
        with anyio.fail_after(20):
            asked = await gateway.send("hello", "N=1 ASK")
            task = await gateway.send("hello", "N=1 second", taskId=asked["id"])
            histories = {}
            for length in (None, 0, 1, 2, 9):
                params = {"id": task["id"]} | ({} if length is None else {"historyLength": length})
                found = (await gateway.rpc("hello", "GetTask", params))["result"]
                histories[length] = [message["parts"][0]["text"] for message in found.pop("history", [])]
                assert found == {key: value for key, value in task.items() if key != "history"}
            refused = await gateway.rpc("hello", "GetTask", {"id": task["id"], "historyLength": -1})
    both = ["N=1 ASK", "N=1 second"]
    assert histories == {None: both, 0: [], 1: ["N=1 second"], 2: both, 9: both}
    assert refused["error"]["code"] == INVALID


async def test_a_task_at_work_is_told_as_far_as_it_is(tmp_path: Path) -> None:
    async with serving(tmp_path, RUNTIMES, stop_seconds=0) as gateway:
        with anyio.fail_after(20):
            async with calling(gateway, "N=3 HANG") as call:
                await call.until(lambda call: "word2" in call.text)
                task = await gateway.get("hello", call.task["id"])
                await cancel(gateway, call.task["id"])
    assert (state_of(task), text_of(task)) == ("WORKING", "word0 word1 word2 ")


async def test_what_is_not_yours_answers_like_what_does_not_exist(tmp_path: Path) -> None:
    async with serving(tmp_path, RUNTIMES) as gateway:
        with anyio.fail_after(20):
            await make_agent(gateway, "other", "rehearsal")
            task = await gateway.send("other", "N=1 ASK")
            answers = {}
            for method in ("GetTask", "CancelTask", "SubscribeToTask"):
                theirs = await gateway.rpc("hello", method, {"id": task["id"]})
                nobodys = await gateway.rpc("hello", method, {"id": "tsk_" + "0" * 24})
                answers[method] = theirs["error"], nobodys["error"]
            assert (await listed(gateway))["tasks"] == (await listed(gateway, contextId=task["contextId"]))["tasks"] == []
            assert await gateway.get("other", task["id"]) == task
    for theirs, nobodys in answers.values():
        assert theirs["code"] == NOT_FOUND
        assert str(theirs).replace(task["id"], "tsk_" + "0" * 24) == str(nobodys)


async def test_tasks_are_listed_newest_first_and_by_what_is_asked(tmp_path: Path) -> None:
    async with serving(tmp_path, RUNTIMES) as gateway:
        await gateway.sign_in()
        with anyio.fail_after(20):
            done = await gateway.send("hello", "N=1")
            failed = await gateway.send("hello", "N=1 FAIL=rate_limit", contextId=done["contextId"])
            asked = await gateway.send("hello", "N=1 ASK")
            everything = await listed(gateway)
            of_context = await listed(gateway, contextId=done["contextId"])
            by_state = {state: ids((await listed(gateway, status=f"TASK_STATE_{state}"))["tasks"]) for state in STATES}
            since = await listed(gateway, statusTimestampAfter=asked["status"]["timestamp"])
            full = await listed(gateway, includeArtifacts=True, historyLength=0)
    assert ids(everything["tasks"]) == [asked["id"], failed["id"], done["id"]]
    assert (everything["totalSize"], everything["pageSize"], everything["nextPageToken"]) == (3, 50, "")
    assert all("artifacts" not in task for task in everything["tasks"])
    assert ids(of_context["tasks"]) == [failed["id"], done["id"]]
    assert by_state == {
        **{state: [] for state in STATES},
        "COMPLETED": [done["id"]],
        "FAILED": [failed["id"]],
        "INPUT_REQUIRED": [asked["id"]],
    }
    assert asked["id"] in ids(since["tasks"])
    assert done["id"] not in ids(since["tasks"])
    assert [text_of(task) for task in full["tasks"]] == ["word0 ", "Turn 2. Before this you said: N=1\nword0 ", "word0 "]
    assert [task["history"] for task in full["tasks"]] == [[], [], []]


STATES = ["SUBMITTED", "WORKING", "INPUT_REQUIRED", "COMPLETED", "FAILED", "CANCELED", "REJECTED", "AUTH_REQUIRED"]


async def pages(gateway: Client, size: int, between: Any = None) -> list[list[str]]:
    found, token = [], ""
    while True:
        page = await listed(gateway, pageSize=size, **({"pageToken": token} if token else {}))
        found.append(ids(page["tasks"]))
        token = page["nextPageToken"]
        if not token:
            return found
        if between is not None:
            await between()


async def test_pages_hold_every_task_once(tmp_path: Path) -> None:
    async with serving(tmp_path, RUNTIMES) as gateway:
        await gateway.sign_in()
        with anyio.fail_after(30):
            made = [(await gateway.send("hello", "N=0", contextId="c"))["id"] for _ in range(7)]
            for size, shape in ((3, [3, 3, 1]), (7, [7]), (100, [7]), (1, [1] * 7)):
                found = await pages(gateway, size)
                assert [len(page) for page in found] == shape
                assert list(chain(*found)) == made[::-1]


async def test_pages_stay_whole_while_tasks_are_made_and_changed(tmp_path: Path) -> None:
    async with serving(tmp_path, RUNTIMES) as gateway:
        await gateway.sign_in()
        with anyio.fail_after(30):
            asked = await gateway.send("hello", "N=0 ASK")
            made = [(await gateway.send("hello", "N=0", contextId="c"))["id"] for _ in range(6)]
            newest = await gateway.send("hello", "N=0 ASK")

            async def disturb() -> None:
                """A new task, and one that was on the first page moves to the top."""
                await gateway.send("hello", "N=0")
                await gateway.send("hello", "N=0 ASK", taskId=newest["id"])

            found = list(chain(*await pages(gateway, 3, disturb)))
    assert found == [newest["id"], *made[::-1], asked["id"]]


@pytest.mark.parametrize(
    "params",
    [
        {"pageSize": 0},
        {"pageSize": -1},
        {"pageSize": 101},
        {"pageToken": "nonsense"},
        {"pageToken": "é"},
        {"pageToken": "AAAA"},
        {"pageToken": "MSAyIDM"},
        {"historyLength": -1},
        {"status": 99},
        {"status": {}},
        {"statusTimestampAfter": "yesterday"},
        {"contextId": 5},
    ],
    ids=str,
)
async def test_a_listing_that_makes_no_sense_is_refused(tmp_path: Path, params: Json) -> None:
    async with serving(tmp_path, RUNTIMES) as gateway:
        await gateway.sign_in()
        with anyio.fail_after(20):
            await gateway.send("hello", "N=0")
            answer = await gateway.rpc("hello", "ListTasks", params)
    assert answer["error"]["code"] == INVALID


@pytest.mark.parametrize("token", ["OTk5OTk5OTk5OTk5OTk5OTk5OTk5OTk5IHg=", "LTEgeA=="])
async def test_a_page_token_of_a_time_that_no_database_holds_is_refused(tmp_path: Path, token: str) -> None:
    async with serving(tmp_path, RUNTIMES) as gateway:
        await gateway.sign_in()
        with anyio.fail_after(20):
            await gateway.send("hello", "N=0")
            answer = await gateway.rpc("hello", "ListTasks", {"pageToken": token})
    assert answer["error"]["code"] == INVALID
    assert answer["error"]["message"].endswith("is none that was given out. Begin without one.")


async def test_a_message_that_waits_does_not_take_its_task_back(tmp_path: Path) -> None:
    async with serving(tmp_path, RUNTIMES, stop_seconds=0) as gateway:
        await gateway.sign_in()
        with anyio.fail_after(20):
            async with calling(gateway, "N=1 HANG") as call:
                await call.until(speaks)
                params = {"taskId": call.task["id"], "configuration": {"returnImmediately": True}}
                task = await gateway.send("hello", "N=1", **params)
                working = await listed(gateway, status="TASK_STATE_WORKING")
                await cancel(gateway, call.task["id"])
    assert state_of(task) == state_of(working["tasks"][0]) == "WORKING"
