"""Turns that fail: callers get a category and a neutral sentence, owners the rest, and nothing stays open or alive."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import anyio
import pytest

from adapters.events import NEUTRAL
from tests.gateway.turns.calls import calling, error_of, make_agent, of_type, processes_of, state_of, tools, turns_of
from tests.gateway.turns.parrot import DONE, PARROT, RUNTIMES, chunk, say
from tests.support import Client, Json, message, serving, streamed_text, text_of

TOOL = {"type": "tool_start", "call_id": "1", "tool": "shell", "input": {"command": "make"}}


async def details(gateway: Client, task: Json) -> list[Json]:
    """What the owner is told about the task's failure."""
    return [event["body"] for event in of_type(await gateway.events(task["contextId"]), "error_detail")]


def error(category: str, *, retryable: bool = False) -> Json:
    return {"category": category, "message": NEUTRAL[category], "retryable": retryable}  # type: ignore[index]


async def test_a_crash_keeps_what_was_said_and_names_an_incident(tmp_path: Path) -> None:
    async with serving(tmp_path, RUNTIMES, turn_attempts=1) as gateway:
        with anyio.fail_after(20):
            task = await gateway.send("hello", "N=10 CRASH")
            found = await gateway.get("hello", task["id"])
            (detail,) = await details(gateway, task)
            (turn,) = await turns_of(gateway, task["contextId"])
            status = (await gateway.owner("sessions.show", id=task["contextId"]))["status"]
    assert state_of(task) == "FAILED"
    told = error_of(task)
    assert told == {**error("runtime_crash", retryable=True), "incident": told["incident"]}
    assert text_of(task) == "word0 word1 word2 word3 word4 "
    assert found == task
    assert (detail["category"], "exit code 3" in detail["text"]) == ("runtime_crash", True)
    assert turn["error"]["incident"] == told["incident"]
    assert status == "failed"


async def test_a_crash_closes_the_tool_that_ran(tmp_path: Path) -> None:
    """[DLG-2]"""
    async with serving(tmp_path, RUNTIMES, turn_attempts=1) as gateway:
        with anyio.fail_after(20):
            await make_agent(gateway, "parrot", "parrot")
            async with calling(gateway, say(chunk("a"), TOOL, ["exit", 9]), agent="parrot") as call:
                await call.ended.wait()
    start, result = tools(call.frames)
    assert (start["type"], result["type"], result["call_id"]) == ("tool_start", "tool_result", start["call_id"])
    assert (result["is_error"], result["output"], result["exit_code"]) == (True, "", None)
    assert call.states == ["SUBMITTED", "WORKING", "FAILED"]


async def test_a_runtime_that_dies_without_a_word_could_not_be_started(tmp_path: Path) -> None:
    async with serving(tmp_path, RUNTIMES) as gateway:
        with anyio.fail_after(20):
            await make_agent(gateway, "parrot", "parrot")
            task = await gateway.send("parrot", say(["exit", 1]))
            again = await gateway.send("parrot", "this is no JSON, and the parrot dies of it")
            (_, stderr) = await details(gateway, task), await details(gateway, again)
    assert error_of(task)["category"] == error_of(again)["category"] == "startup_crash"
    assert "JSONDecodeError" in stderr[0]["text"]
    assert "JSON" not in json.dumps(again["status"])


@pytest.mark.parametrize(("category", "retryable"), [("rate_limit", True), ("auth_error", False), ("content_refused", False)])
async def test_a_failure_is_told_by_its_category(tmp_path: Path, category: str, retryable: bool) -> None:
    async with serving(tmp_path, RUNTIMES) as gateway:
        with anyio.fail_after(20):
            task = await gateway.send("hello", f"N=1 FAIL={category}")
            owners = await details(gateway, task)
    told = error_of(task)
    assert told == {**error(category, retryable=retryable), "incident": told["incident"]}
    assert owners == [{"category": category, "text": "a rehearsed failure"}]
    assert "rehearsed" not in json.dumps(task)


async def test_a_session_whose_turn_failed_can_go_on(tmp_path: Path) -> None:
    async with serving(tmp_path, RUNTIMES) as gateway:
        with anyio.fail_after(20):
            first = await gateway.send("hello", "N=2 FAIL=rate_limit")
            second = await gateway.send("hello", "N=1", contextId=first["contextId"])
    assert state_of(second) == "COMPLETED"
    assert text_of(second).startswith("Turn 2.")


async def test_a_program_that_is_not_installed_is_told_to_the_owner_only(tmp_path: Path) -> None:
    absent = replace(PARROT, name="absent", executable="no-such-program", modes={"jsonl": RUNTIMES["rehearsal"].mode()})
    async with serving(tmp_path, {**RUNTIMES, "absent": absent}) as gateway:
        with anyio.fail_after(20):
            await make_agent(gateway, "mailer", "absent")
            task = await gateway.send("mailer", "hello")
            (detail,) = await details(gateway, task)
    told = error_of(task)
    assert told == {**error("runtime_missing"), "incident": told["incident"]}
    assert detail["category"] == "runtime_missing"
    assert "Runtime 'absent' of agent 'mailer' was not found on PATH." in detail["text"]
    assert "absent" not in json.dumps(task)


async def test_a_runtime_that_was_uninstalled_is_told_to_the_owner_only(tmp_path: Path) -> None:
    async with serving(tmp_path, RUNTIMES) as gateway:
        with anyio.fail_after(20):
            await make_agent(gateway, "mailer", "parrot")
    async with serving(tmp_path, {"rehearsal": RUNTIMES["rehearsal"]}) as gateway:
        with anyio.fail_after(20):
            task = await gateway.send("mailer", "hello")
            (detail,) = await details(gateway, task)
    assert error_of(task)["category"] == detail["category"] == "runtime_missing"
    assert "'parrot'" in detail["text"]


async def test_no_process_outlives_its_turn(tmp_path: Path) -> None:
    """[TURN-4]"""
    async with serving(tmp_path, RUNTIMES) as gateway:
        with anyio.fail_after(20):
            task = await gateway.send("hello", "N=2 ORPHAN")
            while (turn := (await turns_of(gateway, task["contextId"]))[0])["state"] != "ended":
                pass
            events = await gateway.events(task["contextId"])
            assert processes_of({turn["id"]}) == []
    assert state_of(task) == "COMPLETED"
    assert [event["body"]["kind"] for event in of_type(events, "notice")] == ["runtime", "orphan"]


async def test_lines_nobody_knows_change_nothing_and_are_kept_for_the_owner(tmp_path: Path) -> None:
    """[DLG-3]"""
    async with serving(tmp_path, RUNTIMES) as gateway:
        with anyio.fail_after(20):
            frames = [frame async for frame in gateway.stream("hello", "N=3 GARBAGE")]
            events = await gateway.events(frames[0].result["task"]["contextId"])
    assert streamed_text(frames) == "word0 word1 word2 "
    assert len(of_type(events, "raw")) == 5


async def test_a_failed_tool_is_told_and_the_turn_goes_on(tmp_path: Path) -> None:
    async with serving(tmp_path, RUNTIMES) as gateway:
        with anyio.fail_after(20):
            async with calling(gateway, "N=1 TOOLFAIL") as call:
                await call.ended.wait()
    _, result = tools(call.frames)
    assert (result["is_error"], result["exit_code"], result["output"]) == (True, 7, "rehearsal")
    assert call.states[-1] == "COMPLETED"


async def test_a_line_of_five_million_bytes_is_text_like_any_other(tmp_path: Path) -> None:
    async with serving(tmp_path, RUNTIMES) as gateway:
        with anyio.fail_after(30):
            task = await gateway.send("hello", "BIG=3000000 N=1")
            long = await gateway.send("hello", "BIG=5000000 N=1")
            events = await gateway.events(long["contextId"])
    assert text_of(task) == "x" * 3_000_000
    assert state_of(long) == "COMPLETED"
    assert [len(event["body"]["line"]) for event in of_type(events, "raw")] == [64 * 1024]  # beyond what a line may have


ODD = {
    "a lone surrogate": (chunk("a\ud800b"), "a\N{REPLACEMENT CHARACTER}b"),
    "line ends of Unicode": (chunk("a\u2028b\u0085c\rd\x00e"), "a\u2028b\u0085c\rd\x00e"),
    "emoji": (chunk("\U0001f600" * 9000), "\U0001f600" * 9000),
    "nothing": (chunk(""), ""),
}


@pytest.mark.parametrize("name", ODD)
async def test_odd_text_comes_through_streams_and_tasks_alike(tmp_path: Path, name: str) -> None:
    line, text = ODD[name]
    async with serving(tmp_path, RUNTIMES) as gateway:
        with anyio.fail_after(20):
            await make_agent(gateway, "parrot", "parrot")
            async with calling(gateway, say(line, chunk("!"), DONE), agent="parrot") as call:
                await call.ended.wait()
            found = await gateway.get("parrot", call.task["id"])
    assert call.text == text_of(found) == text + "!"


DEEP: Json = {"data": {}}
for _ in range(200):
    DEEP = {"data": DEEP}
PARTS = {
    "no kind": [{}, {"foo": 1}],
    "a wrong type": [{"text": 5}, {"raw": "not base64!"}],
    "two kinds": [{"text": "a", "url": "b"}],
    "no JSON": [{"data": {"a": float("nan"), "b": float("inf")}}],
    "a huge number": [{"data": 10**400}],
    "many levels": [DEEP],
    "surrogates": [{"text": "\ud800"}, {"data": {"\udfff": 1}}],
}


@pytest.mark.parametrize("name", PARTS)
async def test_an_artifact_of_odd_parts_leaves_a_task_that_can_be_read(tmp_path: Path, name: str) -> None:
    line = {"type": "artifact", "name": "odd", "parts": PARTS[name]}
    async with serving(tmp_path, RUNTIMES) as gateway:
        await gateway.sign_in()
        with anyio.fail_after(20):
            await make_agent(gateway, "parrot", "parrot")
            async with calling(gateway, say(chunk("a"), line, DONE), agent="parrot") as call:
                await call.ended.wait()
            found = await gateway.get("parrot", call.task["id"])
            listed = await gateway.rpc("parrot", "ListTasks", {"includeArtifacts": True})
    assert call.states[-1] == "COMPLETED"
    for task in (found, listed["result"]["tasks"][0]):
        assert [artifact["name"] for artifact in task["artifacts"]] == ["response", "odd"]
        assert len(task["artifacts"][1]["parts"]) == len(PARTS[name])


async def test_pieces_of_an_artifact_are_appended_to_the_one_of_their_name(tmp_path: Path) -> None:
    def piece(text: str, **more: bool) -> Json:
        return {"type": "artifact", "name": "a.txt", "parts": [{"text": text}], **more}

    lines = [piece("one", last=False), piece("two", append=True, last=False), piece("three", append=True)]
    async with serving(tmp_path, RUNTIMES) as gateway:
        with anyio.fail_after(20):
            await make_agent(gateway, "parrot", "parrot")
            async with calling(gateway, say(*lines, DONE), agent="parrot") as call:
                await call.ended.wait()
            (artifact,) = (await gateway.get("parrot", call.task["id"]))["artifacts"]
    updates = [frame.result["artifactUpdate"] for frame in call.frames if "artifactUpdate" in frame.result]
    assert [part["text"] for part in artifact["parts"]] == ["one", "two", "three"]
    assert {update["artifact"]["artifactId"] for update in updates} == {artifact["artifactId"]}
    flags = [(update.get("append", False), update.get("lastChunk", False)) for update in updates]
    assert flags == [(False, False), (True, False), (True, True)]


async def test_a_full_disk_refuses_calls_fails_turns_and_is_got_over(small_disk: Path) -> None:
    ballast = small_disk / "ballast"
    async with serving(small_disk, RUNTIMES) as gateway:
        await gateway.sign_in()
        with anyio.fail_after(40):
            fill(ballast)
            refused = await gateway.rpc("hello", "SendMessage", {"message": message("x" * 900_000)})
            ballast.unlink()
            after = await gateway.send("hello", "N=1")
            broken = await gateway.send("hello", "BIG=3000000")
            listed = await gateway.rpc("hello", "ListTasks", {})
    assert error_of(broken)["category"] == "runtime_crash"
    assert refused["error"]["code"] == -32014
    assert refused["error"]["message"].startswith("The agent is not available now. Try again later (incident inc_")
    assert state_of(after) == "COMPLETED"
    assert listed["result"]["totalSize"] == 2


def fill(path: Path) -> None:
    """All that is left of a disk."""
    with suppress(OSError), path.open("wb", buffering=0) as file:
        while file.write(bytes(4096)):
            pass
