"""A session from its first message to its archive, and the same session over A2A. [SES-1] [SES-2]"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.gateway.sessions.api import WAIT, Api, problem
from tests.gateway.turns.parrot import DONE, RUNTIMES, chunk, say
from tests.support import Json, serving

pytestmark = pytest.mark.usefixtures("database_url")

ASK = [{"type": "ask", "question": "Which one?"}, {"type": "done", "yield_reason": "needs_input"}]
FILE = {"name": "a.txt", "parts": [{"text": "one"}], "append": False, "last": False}


async def parrot(api: Api) -> None:
    await api.gateway.owner("agent.create", name="parrot", runtime="parrot")


def known(result: Json) -> Json:
    """A result without what differs from run to run."""
    turn = {name: result["turn"][name] for name in ("yield_reason", "error")}
    return {**{name: result[name] for name in ("status", "text", "question", "artifacts")}, **turn}


async def test_a_session_works_rests_asks_and_goes_on(tmp_path: Path) -> None:
    async with serving(tmp_path, RUNTIMES) as gateway:
        api = Api(gateway)
        await parrot(api)
        first = say({"type": "artifact", **FILE}, {"type": "artifact", **FILE, "append": True}, chunk("Done."), DONE)
        session = await api.create(first, "parrot", metadata={"ticket": 4711})
        assert session["status"] in ("queued", "running")
        assert (session["metadata"], session["agent"]) == ({"ticket": 4711}, "parrot")
        nothing = {"question": None, "error": None, "artifacts": []}
        assert known(await api.rest(session["id"])) == nothing | {
            "status": "idle",
            "text": "Done.",
            "artifacts": [{"name": "a.txt", "parts": [{"text": "one"}, {"text": "one"}]}],
            "yield_reason": "completed",
        }
        asked = await api.post(f"/{session['id']}/messages", {"input": say(chunk("Hm."), *ASK)})
        assert known(await api.rest(session["id"])) == nothing | {
            "status": "awaiting_input",
            "text": "Hm.",
            "question": "Which one?",
            "yield_reason": "needs_input",
        }
        answer = await api.post(f"/{session['id']}/messages", {"input": say(chunk("I see."), DONE)})
        assert answer["task_id"] == asked["task_id"] != session["task_id"]
        assert known(await api.rest(session["id"])) == nothing | {
            "status": "idle",
            "text": "I see.",
            "yield_reason": "completed",
        }
        found = await api.get(f"/{session['id']}")
        log = await api.log(session["id"])
        assert (found["seq"], found["status"]) == (log[-1]["seq"], "idle")
        assert [event["seq"] for event in log] == list(range(1, len(log) + 1))


async def test_before_a_turn_has_ended_there_is_no_result(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        api = Api(gateway)
        session = await api.create("HANG")
        result = await api.get(f"/{session['id']}/result")
        assert result.pop("status") in ("queued", "running")
        nothing = {"turn": None, "text": "", "question": None, "artifacts": []}
        assert result == {"session_id": session["id"], **nothing}
        await api.post(f"/{session['id']}/cancel")


async def running(api: Api, id: str) -> None:
    """Wait until the agent speaks."""
    with anyio.fail_after(WAIT):
        async for _, event in api.sse(id, types="chunk"):
            assert event["type"] == "chunk"
            return


async def test_an_interrupt_ends_the_turn_and_the_session_goes_on(tmp_path: Path) -> None:
    async with serving(tmp_path, stop_seconds=0.1) as gateway:
        api = Api(gateway)
        session = await api.create("N=1 HANG")
        await running(api, session["id"])
        assert await api.post(f"/{session['id']}/interrupt") == {
            "session_id": session["id"],
            "turn_id": session["turn_id"],
        }
        result = await api.get(f"/{session['id']}/result")
        assert (result["turn"]["yield_reason"], result["status"]) == ("canceled", "idle")
        assert problem(await api.ask("POST", f"/{session['id']}/interrupt")) == (409, "nothing_running")
        await api.post(f"/{session['id']}/messages", {"input": "N=1"})
        assert (await api.rest(session["id"]))["turn"]["yield_reason"] == "completed"


async def test_a_cancel_ends_all_work_and_may_be_repeated(tmp_path: Path) -> None:
    async with serving(tmp_path, stop_seconds=0.1) as gateway:
        api = Api(gateway)
        session = await api.create("N=1 HANG")
        waiting = await api.post(f"/{session['id']}/messages", {"input": "N=1", "mode": "queue"})
        tasks = {session["task_id"], waiting["task_id"]}
        assert set((await api.post(f"/{session['id']}/cancel"))["tasks"]) == tasks
        assert (await api.get(f"/{session['id']}/result"))["turn"]["yield_reason"] == "canceled"
        assert (await api.post(f"/{session['id']}/cancel"))["tasks"] == []


async def test_a_message_steers_what_runs_or_is_queued_behind_it(tmp_path: Path) -> None:
    async with serving(tmp_path, RUNTIMES) as gateway:
        api = Api(gateway)
        await parrot(api)
        session = await api.create(say(chunk("one "), ["take"], ["take"], DONE), "parrot")
        await running(api, session["id"])
        messages = f"/{session['id']}/messages"
        queued = await api.post(messages, {"input": say(chunk("another turn"), DONE), "mode": "queue"})
        assert (queued["delivery"], queued["task_id"] == session["task_id"]) == ("queued", False)
        for mode in ("steer", "auto"):
            steered = await api.post(messages, {"input": mode, "mode": mode})
            told = (steered["delivery"], steered["task_id"], steered["turn_id"])
            assert told == ("steered", session["task_id"], session["turn_id"])
        result = await api.rest(session["id"])
        assert (result["text"], result["turn"]["task_id"]) == ("another turn", queued["task_id"])
        texts = [event["body"]["text"] for event in await api.log(session["id"], types="chunk")]
        assert "".join(texts) == "one steerautoanother turn"


async def test_a_steer_where_nothing_runs_is_refused_and_stored_nowhere(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        api = Api(gateway)
        session = await api.finished("N=1")
        before = await api.log(session["id"])
        steer = {"input": "two", "mode": "steer"}
        assert problem(await api.ask("POST", f"/{session['id']}/messages", steer)) == (409, "nothing_running")
        assert await api.log(session["id"]) == before


async def test_an_archived_session_is_read_only_for_good(tmp_path: Path) -> None:
    """[SES-3]"""
    async with serving(tmp_path) as gateway:
        api = Api(gateway)
        session = await api.finished("ASK")
        archived = await api.post(f"/{session['id']}/archive")
        assert archived["status"] == "archived"
        log = await api.log(session["id"])
        assert [event["type"] for event in log[-2:]] == ["done", "system"]
        assert (log[-2]["body"]["yield_reason"], log[-1]["body"]["kind"]) == ("canceled", "archived")
        for mode in ("auto", "queue", "steer"):
            answer = await api.ask("POST", f"/{session['id']}/messages", {"input": "x", "mode": mode})
            assert problem(answer) == (409, "session_archived")
        over_a2a = await gateway.rpc("hello", "SendMessage", {"message": {**_message("x"), "contextId": session["id"]}})
        assert "archived" in over_a2a["error"]["message"]
        assert await api.post(f"/{session['id']}/archive") == archived
        assert await api.log(session["id"]) == log


async def test_a_session_at_work_is_not_archived(tmp_path: Path) -> None:
    async with serving(tmp_path, stop_seconds=0.1) as gateway:
        api = Api(gateway)
        session = await api.create("HANG")
        assert problem(await api.ask("POST", f"/{session['id']}/archive")) == (409, "session_busy")
        await api.post(f"/{session['id']}/cancel")
        assert (await api.post(f"/{session['id']}/archive"))["status"] == "archived"


def _message(text: str) -> Json:
    return {"messageId": "m", "role": "ROLE_USER", "parts": [{"text": text}]}


async def test_a_session_is_one_over_both_apis(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        api = Api(gateway)
        given: Any = [{"text": "N=1"}, {"context": {"text": "a", "path": "a.py"}}, {"data": {"b": 1}}]
        session = await api.finished(given)
        task = await gateway.get("hello", session["task_id"])
        assert (task["contextId"], task["status"]["state"]) == (session["id"], "TASK_STATE_COMPLETED")
        assert task["history"][0]["parts"] == [
            {"text": "N=1"},
            {"text": "From a.py:\n```\na\n```", "metadata": {"context": {"path": "a.py"}}},
            {"data": {"b": 1}},
        ]
        second = await gateway.send("hello", "ASK", contextId=session["id"])
        result = await api.rest(session["id"])
        assert (result["turn"]["task_id"], result["question"]) == (second["id"], "Shall I go on?")
        answer = await api.post(f"/{session['id']}/messages", {"input": "N=1"})
        assert answer["task_id"] == second["id"]
        await api.rest(session["id"])
        assert (await gateway.get("hello", second["id"]))["status"]["state"] == "TASK_STATE_COMPLETED"


async def test_a_request_under_a_key_is_done_once(tmp_path: Path) -> None:
    """[SES-4]"""
    async with serving(tmp_path) as gateway:
        api = Api(gateway)
        body = {"agent": "hello", "input": "N=1", "metadata": {"a": 1}}
        first = await api.post("", body, headers={"Idempotency-Key": "one"})
        await api.rest(first["id"])
        again = await api.post("", {**body, "idempotency_key": "one"})
        ids = ("id", "task_id", "turn_id")
        assert [again[name] for name in ids] == [first[name] for name in ids]
        other = {**body, "metadata": {"a": 2}, "idempotency_key": "one"}
        assert problem(await api.ask("POST", "", other)) == (422, "key_reused")
        messages = f"/{first['id']}/messages"
        sent = await api.post(messages, {"input": "N=1", "idempotency_key": "one"})
        await api.rest(first["id"])
        assert await api.post(messages, {"input": "N=1"}, headers={"Idempotency-Key": '"one"'}) == sent
        refused = await api.ask("POST", messages, {"input": "N=2", "idempotency_key": "one"})
        assert problem(refused) == (422, "key_reused")
        twice = await api.ask("POST", messages, {"input": "x", "idempotency_key": "a"}, headers={"Idempotency-Key": "b"})
        assert problem(twice) == (400, "invalid_params")
        assert len((await api.get(""))["sessions"]) == 1
        await api.post(f"/{first['id']}/archive")
        assert await api.post(messages, {"input": "N=1", "idempotency_key": "one"}) == sent


async def test_pages_of_a_list_tell_every_session_once(tmp_path: Path) -> None:
    """[SES-5]"""
    async with serving(tmp_path) as gateway:
        api = Api(gateway)
        await gateway.owner("agent.create", name="other", runtime="rehearsal")
        made = [(await api.finished("ASK" if n == 2 else "N=1"))["id"] for n in range(5)]
        other = (await api.finished("N=1", agent="other"))["id"]
        seen: list[str] = []
        page = await api.get("", agent="hello", limit=2)
        while True:
            seen += [session["id"] for session in page["sessions"]]
            if page["next"] is None:
                break
            await api.post(f"/{made[0]}/messages", {"input": "N=1"})  # an update moves nothing
            page = await api.get("", agent="hello", limit=2, cursor=page["next"])
        assert seen == made[::-1]
        assert [session["id"] for session in (await api.get(""))["sessions"]] == [other, *made[::-1]]
        assert [session["id"] for session in (await api.get("", status="awaiting_input"))["sessions"]] == [made[2]]
        assert (await api.get("", agent="nobody"))["sessions"] == []
        await api.rest(made[0])
