"""Turns that do not end by themselves: canceled in mid-stream and in mid-tool, and a CLI killed with -9."""

from __future__ import annotations

import os
import signal

import anyio

from adapters.events import NEUTRAL
from tests.e2e.legs import Leg
from tests.e2e.model import text_of_scenario
from tests.e2e.stage import SECONDS, Played, Stage, command_of, processes_of, program_of, unique
from tests.support import Client, Frame, Json, text_of

# A turn in its second attempt, the first of which died in its tool.
CUT_OFF = ["task", "working", "text", "tool_start", "tool_result", "working", "working"]


async def cancel(client: Client, leg: Leg, played: Played) -> Json:
    answer = await client.rpc(leg.agent, "CancelTask", {"id": played.task_id})
    task: Json = answer["result"]
    return task


async def until_its_commands_run(turn: str) -> None:
    """Both of them: the one in the shell's session, and the one that has left it."""
    while [command_of(pid) for pid in processes_of(turn)].count(["sleep", "300"]) < 2:  # noqa: ASYNC110  (nobody tells)
        await anyio.sleep(0.05)


async def test_cancel_in_mid_stream_keeps_the_text_and_leaves_no_process(stage: Stage, leg: Leg) -> None:
    with anyio.fail_after(SECONDS):
        async with stage.client() as client:
            played = await stage.until(client, leg.agent, "SCN-slow", lambda so_far: len(so_far.text) > 8)
            turn = await stage.turn_of(client, played)
            assert processes_of(turn)
            task = await cancel(client, leg, played)
            assert processes_of(turn) == []
    assert task["status"]["state"] == "TASK_STATE_CANCELED"
    assert text_of_scenario("SCN-slow").startswith(text_of(task))
    assert 8 < len(text_of(task)) < len(text_of_scenario("SCN-slow"))


async def test_cancel_in_mid_tool_ends_its_commands_and_the_conversation_can_go_on(stage: Stage, leg: Leg) -> None:
    with anyio.fail_after(SECONDS):
        async with stage.client() as client:
            played = await stage.until(client, leg.agent, "SCN-long-tool", lambda so_far: "tool_start" in so_far.kinds)
            turn = await stage.turn_of(client, played)
            await until_its_commands_run(turn)
            task = await cancel(client, leg, played)
            assert processes_of(turn) == []
            after = await stage.say(client, leg.agent, "SCN-text", contextId=played.context_id)
    assert task["status"]["state"] == "TASK_STATE_CANCELED"
    assert text_of(task) == "This takes a while."
    assert after.text == text_of_scenario("SCN-text")


async def killed_in_mid_tool(stage: Stage, agent: str) -> Played:
    """A turn whose program is killed once its commands run."""
    frames: list[Frame] = []
    turn = ""
    with anyio.fail_after(SECONDS):
        async with stage.client() as client:
            async for frame in client.stream(agent, "SCN-long-tool"):
                frames.append(frame)
                if not turn and "tool_start" in Played(frames).kinds:
                    turn = await stage.turn_of(client, Played(frames))
                    await until_its_commands_run(turn)
                    os.kill(program_of(processes_of(turn)), signal.SIGKILL)
        assert ["sleep", "300"] not in map(command_of, processes_of(turn))
    return Played(frames)


async def test_a_cli_killed_in_mid_tool_goes_on_with_its_memory(stage: Stage, leg: Leg) -> None:
    """[RESUME-1] [RESUME-2] The scripted model knows that it is spoken to again, and by whom."""
    played = await killed_in_mid_tool(stage, leg.agent)
    assert played.kinds == [*CUT_OFF, "text", "whole text", "completed"]
    assert played.text == "This takes a while.I went on."


async def test_a_gateway_killed_in_mid_tool_goes_on_with_the_turn_and_its_memory(stage: Stage, leg: Leg) -> None:
    """[RESUME-1] [RESUME-2] The prompt is given once; what ran is ended."""
    prompt = unique("SCN-long-tool")
    with anyio.fail_after(SECONDS):
        async with stage.client() as client:
            before = await stage.until(client, leg.agent, prompt, lambda so_far: "tool_start" in so_far.kinds)
            turn = await stage.turn_of(client, before)
            await until_its_commands_run(turn)
        stage.gateway.kill()
        await anyio.to_thread.run_sync(stage.gateway.start)
        async with stage.client() as client:
            last = next(frame.id for frame in reversed(before.frames) if frame.id)
            follow = client.frames(leg.agent, "SubscribeToTask", {"id": before.task_id}, {"Last-Event-ID": last})
            played = Played([*before.frames, *[frame async for frame in follow]])
    assert played.kinds == [*CUT_OFF, "text", "whole text", "completed"]
    assert played.text == "This takes a while.I went on."
    assert ["sleep", "300"] not in map(command_of, processes_of(turn))
    if not leg.long_requests:
        assert {body.count(prompt) for body in await stage.model.requests(prompt)} == {1}


async def test_a_cli_killed_in_mid_turn_is_a_crash_and_leaves_no_orphans(stage: Stage, leg: Leg) -> None:
    async with stage.client() as client:
        made = {"runtime": leg.runtime, "model": leg.model, "env": leg.env(stage.model.url)}
        await client.owner("agent.create", name=f"{leg.agent}-once", **made, limits={"turn_attempts": 1})
    played = await killed_in_mid_tool(stage, f"{leg.agent}-once")
    assert played.kinds == ["task", "working", "text", "tool_start", "tool_result", "whole text", "failed"]
    assert played.text == "This takes a while."
    assert played.tools[1] == {"type": "tool_result", "output": "", "is_error": True, "exit_code": None, "truncated": False}
    error = played.status["message"]["parts"][1]["data"]
    assert {**error, "incident": ""} == {
        "category": "runtime_crash",
        "retryable": True,
        "message": NEUTRAL["runtime_crash"],
        "incident": "",
    }
