"""Calls that go on beside a test, and looks at what they left."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import anyio
import psutil

from tests.support import Client, Frame, Json, streamed_text

AT_ONCE = {"returnImmediately": True}


@dataclass
class Call:
    """A streaming call. `ended` is set when its stream has ended."""

    frames: list[Frame] = field(default_factory=list)
    ended: anyio.Event = field(default_factory=anyio.Event)
    _more: anyio.Event = field(default_factory=anyio.Event)

    async def run(self, frames: AsyncIterator[Frame]) -> None:
        async for frame in frames:
            self.frames.append(frame)
            self._tell()
        self.ended.set()
        self._tell()

    def _tell(self) -> None:
        self._more.set()
        self._more = anyio.Event()

    async def until(self, enough: Callable[[Call], Any]) -> None:
        while not enough(self):
            assert not self.ended.is_set(), self.frames
            await self._more.wait()

    @property
    def task(self) -> Json:
        task: Json = self.frames[0].result["task"]
        return task

    @property
    def text(self) -> str:
        return streamed_text(self.frames)

    @property
    def states(self) -> list[str]:
        """The states that were told, each once in a row."""
        updates = [frame.result["statusUpdate"]["status"]["state"] for frame in self.frames if "statusUpdate" in frame.result]
        told = [self.task["status"]["state"], *updates]
        return [state.removeprefix("TASK_STATE_") for n, state in enumerate(told) if not n or told[n - 1] != state]


@asynccontextmanager
async def calling(gateway: Client, text: str, *, agent: str = "hello", **more: Any) -> AsyncIterator[Call]:
    """A streaming call beside the block, which ends by itself before the block is left, or is left behind if it raises."""
    call = Call()
    async with anyio.create_task_group() as group:
        group.start_soon(call.run, gateway.stream(agent, text, **more))
        await call.until(lambda call: call.frames)
        yield call


def speaks(call: Call) -> bool:
    """There is text: the runtime runs."""
    return bool(call.text)


def uses_tool(call: Call) -> bool:
    return any(data["type"] == "tool_start" for data in tools(call.frames))


def tools(frames: list[Frame]) -> list[Json]:
    """The data parts of tool events."""
    messages = [frame.result.get("statusUpdate", {}).get("status", {}).get("message") for frame in frames]
    parts = [part for message in messages if message and "extensions" in message for part in message["parts"]]
    return [part["data"] for part in parts if "data" in part]


async def cancel(gateway: Client, task_id: str, agent: str = "hello") -> Json:
    return await gateway.rpc(agent, "CancelTask", {"id": task_id})


async def make_agent(gateway: Client, name: str, runtime: str, **fields: Any) -> None:
    await gateway.owner("agent.create", name=name, runtime=runtime, **fields)


def state_of(task: Json) -> str:
    return str(task["status"]["state"].removeprefix("TASK_STATE_"))


def error_of(task: Json) -> Json:
    """The machine-readable half of a failed task's message."""
    text, data = task["status"]["message"]["parts"]
    assert data["data"]["message"] in text["text"]
    assert data["data"]["incident"] in text["text"]
    found: Json = data["data"]
    return found


def of_type(events: list[Json], *types: str) -> list[Json]:
    return [event for event in events if event["type"] in types]


def processes_of(turn_ids: set[str]) -> list[psutil.Process]:
    """Living processes that carry one of the turns' marks."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.status() != psutil.STATUS_ZOMBIE and process.environ().get("SWITCHBOARD_TURN") in turn_ids:
                found.append(process)
        except psutil.Error:
            continue
    return found


def kill_processes_of(turn_ids: set[str]) -> None:
    """SIGKILL to each; one may be gone already by the death of another."""
    for process in processes_of(turn_ids):
        with suppress(psutil.NoSuchProcess):
            process.kill()


async def turns_of(gateway: Client, session_id: str) -> list[Json]:
    turns: list[Json] = (await gateway.owner("sessions.show", id=session_id))["turns"]
    return turns
