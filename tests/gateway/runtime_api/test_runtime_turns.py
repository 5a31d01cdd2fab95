"""Turns of an image that speaks to the runtime API: what it appends, reads and is told, without a container."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import anyio
import pytest
from sqlalchemy import text

from registry.images import Image, make_current, push
from tests.gateway.runtime_api.stand_in import Played, chunk, thinking
from tests.support import message, text_of

Json = dict[str, Any]


async def test_a_turn_is_asked_for_answered_and_yielded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, database_url: str
) -> None:
    seen: Json = {}

    async def play(image: Played) -> int:
        turn = seen["turn"] = await image.get("turn")
        seen["env"] = dict(image.env)
        read = seen["read"] = await image.get("events", after=image.env["READ_CURSOR"])
        said = read["events"][0]["body"]["parts"][0]["text"]
        answered = await image.post(chunk("1", f"{turn['prompt']}, "), chunk("2", said))
        assert answered == {"accepted": 2, "duplicates": 0, "cursor": answered["cursor"]}
        seen["after"] = await image.get("events", after=answered["cursor"] - 1)
        return 0

    async with thinking(tmp_path, monkeypatch, play) as gateway:
        task = await gateway.send("thinker", "Hello")
    assert text_of(task) == "Hello, Hello"
    assert task["status"]["state"] == "TASK_STATE_COMPLETED"
    env, turn = seen["env"], seen["turn"]
    assert (env["CONTRACT_VERSION"], env["ATTEMPT"], env["READ_CURSOR"]) == ("1", "1", "0")
    assert env["DEADLINE_MS"] == str(turn["deadline_ms"])
    assert (env["SESSION_ID"], env["TASK_ID"], env["TURN_ID"]) == (turn["session_id"], turn["task_id"], turn["turn_id"])
    assert (turn["contract"], turn["prompt"], turn["parts"]) == (1, "Hello", [{"text": "Hello"}])
    assert [event["type"] for event in seen["read"]["events"]] == ["message", "turn_started"]
    assert seen["read"]["control"] == []
    assert [event["body"] for event in seen["after"]["events"]] == [{"text": "Hello, Hello"}]


async def test_an_event_is_appended_once_whoever_repeats_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """[RUN-2]"""
    answers: list[Json] = []

    async def play(image: Played) -> int:
        for batch in ([chunk("1", "a")], [chunk("1", "other"), chunk("2", "b")], [chunk("2", "b")]):
            answers.append(await image.post(*batch))
        async with anyio.create_task_group() as group:  # the same at once
            for _ in range(5):
                group.start_soon(image.post, chunk("3", "c"))
        await image.post({"id": "4", "type": "done"})
        answers.append(await image.post({"id": "4", "type": "done"}))
        return 0

    async with thinking(tmp_path, monkeypatch, play) as gateway:
        task = await gateway.send("thinker", "Hello")
    assert text_of(task) == "abc"
    assert [(one["accepted"], one["duplicates"]) for one in answers] == [(1, 0), (1, 1), (0, 1), (0, 1)]


@pytest.mark.parametrize(
    ("batch", "index"),
    [
        ([chunk("1", "a"), {"id": "2", "type": "surprise"}], 1),
        ([chunk("1", "a"), chunk("1", "b")], 1),
        ([{"id": "1", "type": "done"}, chunk("2", "b")], 1),
        ([{"type": "chunk", "text": "a"}], 0),
        ([chunk("1", "a"), "junk"], 1),
    ],
)
async def test_of_a_batch_with_junk_nothing_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch: list[Any], index: int
) -> None:
    """[RUN-3]"""
    told: list[Any] = []

    async def play(image: Played) -> int:
        told.append(await image.try_post(*batch))
        told.append(await image.http.post("/runtime/v1/events", content=b"{"))
        return 0

    async with thinking(tmp_path, monkeypatch, play) as gateway:
        task = await gateway.send("thinker", "Hello")
    assert text_of(task) == ""
    assert [answer.status_code for answer in told] == [400, 400]
    first = told[0].json()
    assert (first["code"], first["index"]) == ("invalid_event", index)
    assert first["reason"]
    assert told[1].json()["code"] == "invalid_params"


async def test_every_kind_of_event_becomes_what_every_runtime_tells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def play(image: Played) -> int:
        await image.post(
            {"id": "1", "type": "status", "text": "I read."},
            {"id": "2", "type": "thinking", "text": "hm"},
            {"id": "3", "type": "tool_start", "call_id": "c", "tool": "shell", "input": {"command": "ls"}},
            {"id": "4", "type": "tool_result", "call_id": "c", "output": "a.txt", "exit_code": 0},
            {"id": "5", "type": "artifact", "name": "report", "parts": [{"text": "all is well"}]},
            {"id": "6", "type": "usage", "input_tokens": 3, "output_tokens": 4},
            {"id": "7", "type": "notice", "kind": "retry", "text": "once more"},
            {"id": "8", "type": "ask", "question": "Which one?"},
        )
        return 0

    async with thinking(tmp_path, monkeypatch, play) as gateway:
        task = await gateway.send("thinker", "Hello")
        events = await gateway.events(task["contextId"])
    assert task["status"]["state"] == "TASK_STATE_INPUT_REQUIRED"
    told = {event["type"]: event["body"] for event in events}
    assert told["tool_start"]["tool"] == "shell"
    assert told["tool_start"]["call_id"] == told["tool_result"]["call_id"] != "c"
    assert told["tool_result"]["output"] == "a.txt"
    assert told["usage"]["output_tokens"] == 4
    assert told["ask"] == {"question": "Which one?"}
    assert [part["text"] for artifact in task["artifacts"] for part in artifact["parts"]] == ["all is well"]


async def test_who_is_nobody_gets_in_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[tuple[int, str]] = []

    async def play(image: Played) -> int:
        for token in ("", "Basic x", "Bearer x", "Bearer " + image.env["TURN_TOKEN"][:-3] + "AAA"):
            for path in ("turn", "events", "heartbeat", "nothing"):
                answer = await image.http.get(f"/runtime/v1/{path}", headers={"Authorization": token})
                found.append((answer.status_code, answer.json()["code"]))
        answer = await image.http.get("/runtime/v1/nothing")
        found.append((answer.status_code, answer.json()["code"]))
        answer = await image.http.delete("/runtime/v1/turn")
        found.append((answer.status_code, answer.json()["code"]))
        return 0

    async with thinking(tmp_path, monkeypatch, play) as gateway:
        await gateway.send("thinker", "Hello")
    assert set(found[:-2]) == {(401, "not_allowed")}
    assert found[-2:] == [(404, "not_found"), (405, "wrong_method")]


async def test_who_has_lost_the_turn_appends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, database_url: str
) -> None:
    """[RUN-2]"""
    answers: list[Json] = []

    async def play(image: Played) -> int:
        await image.post(chunk("1", "a"))
        raise_fence = text("UPDATE session SET fence = fence + 1")
        await gateway.database.write(lambda conn: conn.execute(raise_fence).close())
        answers.extend([(await image.try_post(chunk("2", "stale"))).json(), (await image.http.get("/runtime/v1/turn")).json()])
        return 0

    async with thinking(tmp_path, monkeypatch, play, lease_seconds=300) as gateway:
        sent = await gateway.send("thinker", "Hello", configuration={"returnImmediately": True})
        with anyio.fail_after(20):
            while len(answers) < 2:  # noqa: ASYNC110
                await anyio.sleep(0.05)
        events = await gateway.events(sent["contextId"])
    assert [answer["code"] for answer in answers] == ["turn_superseded"] * 2
    assert [event["body"]["text"] for event in events if event["type"] == "chunk"] == ["a"]


async def test_too_much_at_once_is_refused_and_a_lot_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Any] = []

    async def play(image: Played) -> int:
        told.append(await image.try_post(*(chunk(str(n), "a") for n in range(501))))
        told.append(await image.try_post(*(chunk(str(n), "a" * 1000) for n in range(100))))
        told.append(await image.http.get("/runtime/v1/events", params={"limit": 2000}))
        told.append(await image.http.get("/runtime/v1/events", params={"wait": 61}))
        async with anyio.create_task_group() as group:
            for batch in range(20):
                group.start_soon(image.post, *(chunk(f"{batch}.{n}", "b") for n in range(50)))
        return 0

    async with thinking(tmp_path, monkeypatch, play, max_body_bytes=65536) as gateway:
        task = await gateway.send("thinker", "Hello")
    assert [answer.status_code for answer in told] == [400, 413, 400, 400]
    assert told[1].json()["code"] == "too_large"
    assert text_of(task) == "b" * 1000


async def test_the_log_is_read_in_pages_and_files_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pages: list[Json] = []
    given: list[Json] = []

    async def play(image: Played) -> int:
        given.append(await image.get("turn"))
        after, more = 0, True
        while more:
            page = await image.get("events", after=after, limit=2)
            pages.append(page)
            after, more = page["cursor"], page["more"]
        return 0

    async with thinking(tmp_path, monkeypatch, play) as gateway:
        await gateway.owner("agent.update", name="thinker", changes={"input_modes": ["*/*"]})
        first = await gateway.send("thinker", "One")
        parts = [{"raw": "aGVsbG8=", "filename": "a.bin", "mediaType": "application/octet-stream"}]
        pages.clear()
        await gateway.send("thinker", "Two", contextId=first["contextId"], parts=parts)
    events = [event for page in pages for event in page["events"]]
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert {event["level"] for event in events} <= {"user", "progress"}
    [file] = [part for event in events if event["type"] == "message" for part in event["body"]["parts"] if "filename" in part]
    assert file == {"filename": "a.bin", "mediaType": "application/octet-stream", "size": 5}
    assert given[1]["parts"] == [{"path": "inbox/a.bin", "filename": "a.bin", "mediaType": "application/octet-stream"}]
    assert (given[0]["read_cursor"], given[1]["read_cursor"]) == (0, 3)


async def test_cancel_is_told_to_whoever_waits_and_ends_what_does_not_listen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Json] = []
    begun = anyio.Event()

    async def play(image: Played) -> int:
        cursor = (await image.post(chunk("1", "a")))["cursor"]
        begun.set()
        told.append(await image.get("events", after=cursor, wait=30))
        told.append(await image.get("events", after=cursor))
        await anyio.sleep_forever()
        return 0

    async with thinking(tmp_path, monkeypatch, play) as gateway:
        with anyio.fail_after(20):
            async with anyio.create_task_group() as group:
                sent: list[Json] = []

                async def send() -> None:
                    sent.append(await gateway.send("thinker", "Hello"))

                group.start_soon(send)
                await begun.wait()
                task = (await gateway.rpc("thinker", "ListTasks", {}))["result"]["tasks"][0]
                await gateway.rpc("thinker", "CancelTask", {"id": task["id"]})
    assert sent[0]["status"]["state"] == "TASK_STATE_CANCELED"
    assert [page["control"] for page in told] == [[{"type": "cancel"}]] * 2


async def test_a_cancel_that_the_image_ends_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Any] = []
    begun = anyio.Event()

    async def play(image: Played) -> int:
        begun.set()
        while not (page := await image.get("events", after=9, wait=30))["control"]:
            pass
        assert page["control"] == [{"type": "cancel"}]
        told.append(await image.try_post(chunk("1", "bye"), {"id": "2", "type": "done", "yield_reason": "canceled"}))
        return 0

    async with thinking(tmp_path, monkeypatch, play, stop_seconds=10) as gateway:
        with anyio.fail_after(20):
            sent = await gateway.send("thinker", "Hello", configuration={"returnImmediately": True})
            await begun.wait()
            await gateway.rpc("thinker", "CancelTask", {"id": sent["id"]})
            task = await gateway.get("thinker", sent["id"])
    assert task["status"]["state"] == "TASK_STATE_CANCELED"
    assert text_of(task) == "bye"
    assert (told[0].status_code, told[0].json()["code"]) == (409, "turn_ended")


async def test_a_lost_journal_changes_nothing_of_what_the_image_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[Json] = []

    async def play(image: Played) -> int:
        given.append(await image.get("turn"))
        return 0

    async with thinking(tmp_path, monkeypatch, play) as gateway:
        first = await gateway.send("thinker", "One")
        shutil.rmtree(tmp_path / "sessions" / first["contextId"])
        await gateway.send("thinker", "Two", contextId=first["contextId"])
        events = await gateway.events(first["contextId"])
    assert [(turn["prompt"], turn["parts"]) for turn in given] == [("One", [{"text": "One"}]), ("Two", [{"text": "Two"}])]
    assert "journal" in [event["body"]["kind"] for event in events if event["type"] == "notice"]


async def test_a_steer_is_told_and_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, told = anyio.Event(), []

    async def play(image: Played) -> int:
        cursor = (await image.post(chunk("1", "a")))["cursor"]
        begun.set()
        while not (page := await image.get("events", after=cursor, wait=30))["control"]:
            cursor = page["cursor"]
        [steer] = page["control"]
        told.append(steer)
        await image.post({"id": "2", "type": "steered", "steer": steer["id"]}, chunk("3", steer["text"]))
        told.append(await image.get("events"))
        return 0

    async with thinking(tmp_path, monkeypatch, play) as gateway:
        with anyio.fail_after(20):
            async with anyio.create_task_group() as group:
                sent: list[Json] = []

                async def send() -> None:
                    sent.append(await gateway.send("thinker", "Hello"))

                group.start_soon(send)
                await begun.wait()
                task = (await gateway.rpc("thinker", "ListTasks", {}))["result"]["tasks"][0]
                await gateway.rpc("thinker", "SendMessage", {"message": message("and b", taskId=task["id"])})
    assert text_of(sent[0]) == "aand b"
    assert (told[0]["type"], told[0]["text"]) == ("steer", "and b")
    assert told[1]["control"] == []


async def test_heartbeats_hold_off_the_stall_and_reading_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def play(image: Played) -> int:
        for _ in range(8):
            answer = await image.http.post("/runtime/v1/heartbeat")
            assert answer.json() == {"deadline_ms": int(image.env["DEADLINE_MS"]), "control": []}
            await anyio.sleep(0.1)
        while (await image.http.get("/runtime/v1/turn")).status_code == 200:  # noqa: ASYNC110
            await anyio.sleep(0.1)
        return 9

    async with thinking(tmp_path, monkeypatch, play, stall_seconds=0.5) as gateway:
        with anyio.fail_after(20):
            task = await gateway.send("thinker", "Hello")
            events = await gateway.events(task["contextId"])
    assert [event["body"]["yield_reason"] for event in events if event["type"] == "done"] == ["deadline_exceeded"]
    began = next(event["created_at"] for event in events if event["type"] == "turn_started")
    ended = next(event["created_at"] for event in events if event["type"] == "done")
    assert began < ended


async def test_the_agents_variables_and_instructions_are_told_by_the_api_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: Json = {}

    async def play(image: Played) -> int:
        seen.update(turn=await image.get("turn"), env=dict(image.env))
        return 0

    async with thinking(tmp_path, monkeypatch, play) as gateway:
        env = {"GITHUB_TOKEN": "hush-1", "OPENAI_API_KEY": "hush-2"}
        more = {"prompt": "Be brief.", "model": "openai/gpt-5.2", "env": env}
        await gateway.owner("agent.create", name="deep", runtime="mine", description="x", **more)
        await gateway.send("deep", "Hello")
    turn = seen["turn"]
    assert turn["variables"] == {"GITHUB_TOKEN": "hush-1"}
    assert (turn["system_prompt"], turn["provider"], turn["model"]) == ("Be brief.", "openai", "gpt-5.2")
    assert seen["env"]["MODEL"] == "openai/gpt-5.2"
    assert seen["env"]["OPENAI_API_KEY"] == "placeholder"
    assert "hush" not in str(seen["env"])
    assert "hush-2" not in str(turn)


async def test_a_session_keeps_the_version_of_its_runtime(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, database_url: str
) -> None:
    """[RUN-7]"""
    ran: list[str] = []

    async def play(image: Played) -> int:
        ran.append(image.digest)
        return 0

    async with thinking(tmp_path, monkeypatch, play) as gateway:
        first = await gateway.send("thinker", "Hello")
        write = gateway.database.write
        await write(lambda conn: push(conn, "mine", Image("mine:2", "sha256:2"), 2))
        await gateway.send("thinker", "Hello", contextId=first["contextId"])
        await gateway.send("thinker", "Hello")
        await write(lambda conn: make_current(conn, "mine", 1, 3))
        await gateway.send("thinker", "Hello")
    assert ran == ["sha256:1", "sha256:1", "sha256:2", "sha256:1"]


async def test_an_agent_on_an_image_is_checked_like_any_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def play(image: Played) -> int:
        return 0

    async with thinking(tmp_path, monkeypatch, play) as gateway:
        shown = await gateway.owner("agent.show", name="thinker")
        refused = [
            await gateway.refused("agent.update", name="thinker", changes=changes)
            for changes in ({"placement": "local"}, {"model": "anthropic/claude-opus-4-6"}, {"runtime": "nine"})
        ]
        await gateway.owner("agent.update", name="thinker", changes={"egress": ["example.com"]})
        changed = await gateway.owner("agent.update", name="thinker", changes={"prompt": "Be brief."})
        content = await gateway.owner("agent.update", name="thinker", changes={"env": {"GITHUB_TOKEN": "hush"}})
    assert (shown["values"]["placement"]["value"], shown["values"]["egress"]["value"]) == ("docker", "none")
    assert [error["code"] for error in refused] == ["invalid_params", "model_mismatch", "not_found"]
    assert changed["changed"] == {"prompt": {"old": "", "new": "Be brief."}}
    assert any("wants GITHUB_TOKEN" in warning for warning in changed["warnings"])
    assert not any("GITHUB_TOKEN" in warning for warning in content["warnings"])
