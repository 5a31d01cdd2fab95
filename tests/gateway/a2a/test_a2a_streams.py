"""Streams: the task, then every update, then the end; and from any point on once more. [A2A-2] [INV-5]"""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from tests.gateway.turns.calls import calling, cancel, make_agent, speaks, state_of, tools
from tests.gateway.turns.parrot import DONE, RUNTIMES, chunk, say
from tests.support import Client, Frame, message, serving, streamed_text, text_of

PROMPTS = ["N=30 D=1000 TOOLFAIL", "N=3 ASK", "N=10 D=1000 CRASH", "N=0", "two words"]


async def resumed(gateway: Client, task_id: str, last_id: str) -> list[Frame]:
    """The stream of a task after an event."""
    frames = gateway.frames("hello", "SubscribeToTask", {"id": task_id}, {"Last-Event-ID": last_id})
    return [frame async for frame in frames]


async def check_resume_everywhere(gateway: Client, frames: list[Frame]) -> None:
    task_id = frames[0].result["task"]["id"]
    for number, frame in enumerate(frames):
        if frame.id:
            assert await resumed(gateway, task_id, frame.id) == frames[number + 1 :]


async def test_a_stream_tells_the_task_then_its_updates_then_the_whole_and_the_end(tmp_path: Path) -> None:
    async with serving(tmp_path, RUNTIMES) as gateway:
        with anyio.fail_after(20):
            frames = [frame async for frame in gateway.stream("hello", "N=20 D=1000 TOOLFAIL")]
            found = await gateway.get("hello", frames[0].result["task"]["id"])
    kinds = [next(iter(frame.result)) for frame in frames]
    assert kinds[0] == "task"
    assert state_of(frames[0].result["task"]) == "SUBMITTED"
    assert state_of(frames[1].result["statusUpdate"]) == "WORKING"
    whole, end = frames[-2].result["artifactUpdate"], frames[-1].result["statusUpdate"]
    assert (whole["artifact"], whole["append"], whole["lastChunk"]) == (found["artifacts"][0], False, True)
    assert end["status"] == found["status"]
    pieces = [frame.result["artifactUpdate"] for frame in frames[2:-2] if "artifactUpdate" in frame.result]
    assert [piece["append"] for piece in pieces] == [False] + [True] * (len(pieces) - 1)
    assert "".join(piece["artifact"]["parts"][0]["text"] for piece in pieces) == text_of(found)
    assert [data["type"] for data in tools(frames)] == ["tool_start", "tool_result"]


async def test_the_ids_of_a_stream_rise(tmp_path: Path) -> None:
    async with serving(tmp_path, RUNTIMES) as gateway:
        with anyio.fail_after(20):
            frames = [frame async for frame in gateway.stream("hello", "two words")]
    ids = [int(frame.id) for frame in frames if frame.id]
    assert ids == sorted(set(ids))
    assert [frame.result.keys() for frame in frames if not frame.id] == [{"artifactUpdate"}]  # it comes with the end


@pytest.mark.parametrize("prompt", PROMPTS)
async def test_a_stream_continues_exactly_after_every_one_of_its_ids(tmp_path: Path, prompt: str) -> None:
    """[A2A-3]"""
    async with serving(tmp_path, RUNTIMES, turn_attempts=2, turn_backoff_seconds=0.01) as gateway:
        with anyio.fail_after(60):
            first = await gateway.send("hello", "N=2")  # so that the task does not begin the session
            frames = [frame async for frame in gateway.stream("hello", prompt, contextId=first["contextId"])]
            await gateway.send("hello", "N=2", contextId=first["contextId"])  # nor end it
            await check_resume_everywhere(gateway, frames)
    async with serving(tmp_path, RUNTIMES) as gateway:
        with anyio.fail_after(60):
            await check_resume_everywhere(gateway, frames)


async def test_a_stream_that_is_cut_again_and_again_while_it_runs_is_whole(tmp_path: Path) -> None:
    async with serving(tmp_path, RUNTIMES) as gateway:
        with anyio.fail_after(30):
            async with calling(gateway, "N=150 D=3000") as call:
                cut: list[Frame] = [call.frames[0]]
                while not cut or "statusUpdate" not in cut[-1].result or state_of(cut[-1].result["statusUpdate"]) == "WORKING":
                    last = next(frame.id for frame in reversed(cut) if frame.id)
                    del cut[cut.index(next(frame for frame in cut if frame.id == last)) + 1 :]
                    taken = 0
                    params, headers = {"id": call.task["id"]}, {"Last-Event-ID": last}
                    async for frame in gateway.frames("hello", "SubscribeToTask", params, headers):
                        cut.append(frame)
                        taken += 1
                        if taken == 7:
                            break
    assert cut == call.frames


async def test_a_subscriber_is_told_the_task_as_it_is_and_then_what_happens(tmp_path: Path) -> None:
    async with serving(tmp_path, RUNTIMES) as gateway:
        with anyio.fail_after(20):
            async with calling(gateway, "N=600 D=5000") as call:
                await call.until(lambda call: "word20" in call.text)
                frames = [frame async for frame in gateway.frames("hello", "SubscribeToTask", {"id": call.task["id"]})]
            found = await gateway.get("hello", call.task["id"])
    task = frames[0].result["task"]
    assert state_of(task) == "WORKING"
    assert "word20" in text_of(task)
    later = [frame.result["artifactUpdate"] for frame in frames[1:-2]]
    assert all(update["append"] for update in later)
    pieces = "".join(update["artifact"]["parts"][0]["text"] for update in later)
    assert text_of(task) + pieces == text_of(found) == call.text
    assert frames[-2:] == call.frames[-2:]


async def test_a_subscriber_who_comes_before_the_first_word_gets_every_word(tmp_path: Path) -> None:
    async with serving(tmp_path, RUNTIMES) as gateway:
        with anyio.fail_after(20):
            await make_agent(gateway, "parrot", "parrot")
            async with calling(gateway, say(["wait", "go"], chunk("a"), DONE), agent="parrot", contextId="mine") as call:
                await call.until(lambda call: len(call.frames) == 2)
                frames: list[Frame] = []
                async for frame in gateway.frames("parrot", "SubscribeToTask", {"id": call.task["id"]}):
                    frames.append(frame)
                    (tmp_path / "sessions" / "mine" / "work" / "go").touch()
    assert frames[1:] == call.frames[2:]
    assert streamed_text(frames) == "a"


async def test_every_subscriber_sees_the_same(tmp_path: Path) -> None:
    """The turn hangs until everybody reads, and ends by a cancel."""
    got: list[list[Frame]] = [[] for _ in range(10)]
    joined = anyio.Event()
    async with serving(tmp_path, RUNTIMES) as gateway:

        async def read(frames: list[Frame], task_id: str) -> None:
            async for frame in gateway.frames("hello", "SubscribeToTask", {"id": task_id}):
                frames.append(frame)
                if all(got):
                    joined.set()

        with anyio.fail_after(20):
            async with calling(gateway, "N=60 D=3000 HANG") as call:
                await call.until(speaks)
                async with anyio.create_task_group() as group:
                    for frames in got:
                        group.start_soon(read, frames, call.task["id"])
                    await joined.wait()
                    await gateway.rpc("hello", "CancelTask", {"id": call.task["id"]})
    for frames in got:
        begin = int(frames[0].id)
        rest = [frame for frame in call.frames[:-2] if int(frame.id) > begin] + call.frames[-2:]
        assert frames[1:] == rest


async def test_what_has_ended_cannot_be_subscribed_to_but_read_again(tmp_path: Path) -> None:
    async with serving(tmp_path, RUNTIMES) as gateway:
        with anyio.fail_after(20):
            frames = [frame async for frame in gateway.stream("hello", "N=3")]
            task_id = frames[0].result["task"]["id"]
            refused = await gateway.rpc("hello", "SubscribeToTask", {"id": task_id})
            assert await resumed(gateway, task_id, "0") == frames[1:]
            assert await resumed(gateway, task_id, frames[-1].id) == []
    assert refused["error"]["code"] == -32004


@pytest.mark.parametrize("last", ["99999", "x", "-1", "1e3", "9" * 30, "1.2.3"])
async def test_an_id_that_is_none_of_the_stream_is_refused(tmp_path: Path, last: str) -> None:
    async with serving(tmp_path, RUNTIMES, stop_seconds=0) as gateway:
        with anyio.fail_after(20):
            async with calling(gateway, "N=1 HANG") as call:
                await call.until(speaks)
                answer = await gateway.rpc("hello", "SubscribeToTask", {"id": call.task["id"]}, {"Last-Event-ID": last})
                await cancel(gateway, call.task["id"])
    assert answer["error"]["code"] == -32600


async def test_whoever_waits_with_a_task_for_input_sees_its_next_turn(tmp_path: Path) -> None:
    async with serving(tmp_path, RUNTIMES) as gateway:
        with anyio.fail_after(20):
            asked = await gateway.send("hello", "N=2 ASK")
            frames: list[Frame] = []
            async with anyio.create_task_group() as group:
                async for frame in gateway.frames("hello", "SubscribeToTask", {"id": asked["id"]}):
                    if not frames:
                        params = {"message": message("N=3", taskId=asked["id"])}
                        group.start_soon(gateway.rpc, "hello", "SendMessage", params)
                    frames.append(frame)
            found = await gateway.get("hello", asked["id"])
    assert frames[0].result["task"] == asked
    assert frames[-1].result["statusUpdate"]["status"] == found["status"]
    assert text_of(asked) + streamed_text(frames) == text_of(found)
