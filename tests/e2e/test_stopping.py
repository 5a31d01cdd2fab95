"""Turns that do not end by themselves: canceled in mid-stream and in mid-tool, and a CLI or its worker killed with -9."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass, field

import anyio
import anyio.to_thread
import psutil
import pytest

from adapters.events import NEUTRAL
from tests.crash.nursery import Nursery, nursery
from tests.e2e.legs import LEGS, Leg
from tests.e2e.model import text_of_scenario
from tests.e2e.stage import SECONDS, Played, Stage, command_of, processes_of, program_of, unique
from tests.postgres import PostgresServer
from tests.support import Client, Frame, Json, WorkerProcess, gateway_process, text_of

# A turn in its second attempt, the first of which died in its tool.
CUT_OFF = ["task", "working", "text", "tool_start", "tool_result", "working", "working"]


@dataclass
class Workshop:
    """A gateway on PostgreSQL that runs no turns, and the workers that do."""

    stage: Stage
    born: Nursery
    workers: list[WorkerProcess] = field(default_factory=list)

    def two(self) -> list[WorkerProcess]:
        """Who is at work, and somebody new for each who died."""
        self.workers = [worker for worker in self.workers if worker.process is not None]
        while len(self.workers) < 2:
            gateway = self.stage.gateway
            self.workers.append(WorkerProcess(gateway.data_dir, gateway.env, born=self.born))
            self.workers[-1].start()
        return self.workers


@pytest.fixture(scope="module")
def workshop(stage: Stage, postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workshop]:
    """Beside the stage, whose scripted model and environment it shares."""
    env = {**stage.gateway.env, "SWITCHBOARD_DATABASE_URL": postgres.url(postgres.create())}
    alone = {**env, "SWITCHBOARD_WORKER": "false"}
    with nursery() as born, gateway_process(tmp_path_factory.mktemp("workshop"), alone, born) as gateway:
        gateway.env = env
        found = Workshop(Stage(stage.model, gateway), born)
        anyio.run(make_agents, found.stage)
        try:
            yield found
        finally:
            for worker in found.workers:
                worker.end()


async def make_agents(stage: Stage) -> None:
    async with stage.client() as client:
        for leg in LEGS:
            made = {"runtime": leg.runtime, "model": leg.model, "env": leg.env(stage.model.url)}
            await client.owner("agent.create", name=leg.agent, **made)


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


async def test_a_worker_killed_in_mid_tool_leaves_the_turn_and_its_memory_to_another(workshop: Workshop, leg: Leg) -> None:
    """[RESUME-1] [RESUME-2] [LEASE-1] On PostgreSQL. The prompt is given once, what ran is ended, the stream is not cut."""
    prompt = unique("SCN-long-tool")
    frames: list[Frame] = []
    turn = ""
    with anyio.fail_after(SECONDS):
        victim, other = await anyio.to_thread.run_sync(workshop.two)
        async with workshop.stage.client() as client:
            async for frame in client.stream(leg.agent, prompt):
                frames.append(frame)
                if not turn and "tool_start" in Played(frames).kinds:
                    turn = await workshop.stage.turn_of(client, Played(frames))
                    await until_its_commands_run(turn)
                    if not runs(victim, turn):
                        victim, other = other, victim
                    assert runs(victim, turn)
                    await anyio.to_thread.run_sync(victim.end, signal.SIGKILL)
    played = Played(frames)
    assert played.kinds == [*CUT_OFF, "text", "whole text", "completed"]
    assert played.text == "This takes a while.I went on."
    assert ["sleep", "300"] not in map(command_of, processes_of(turn))
    assert any("turn_taken_over" in line and turn in line for line in other.log_file.read_text("utf-8").splitlines())
    if not leg.long_requests:
        assert {body.count(prompt) for body in await workshop.stage.model.requests(prompt)} == {1}


def runs(worker: WorkerProcess, turn: str) -> bool:
    below = {process.pid for process in psutil.Process(worker.process.pid).children(recursive=True)}
    return program_of(processes_of(turn)) in below


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
