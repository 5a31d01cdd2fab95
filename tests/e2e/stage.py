"""One gateway with an agent on each leg, and turns played on it: once each, however many tests look at them."""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio

from tests.e2e.legs import Json, Leg
from tests.e2e.model import Model
from tests.support import Client, Frame, GatewayProcess, message, streamed_text

SECONDS = 90
_PATH = re.compile(r"/(?:root|home|tmp|work|var|private|opt|Users)/[^\s\"]*")


@dataclass(frozen=True)
class Played:
    """A turn from its first frame to its last, as its caller saw it."""

    frames: list[Frame]

    @property
    def task_id(self) -> str:
        return str(self.frames[0].result["task"]["id"])

    @property
    def context_id(self) -> str:
        return str(self.frames[0].result["task"]["contextId"])

    @property
    def text(self) -> str:
        return streamed_text(self.frames)

    @property
    def status(self) -> Json:
        status: Json = self.frames[-1].result["statusUpdate"]["status"]
        return status

    @property
    def calls(self) -> list[Json]:
        """The data parts of tool events."""
        return [part["data"] for frame in self.frames for part in _status_parts(frame) if "type" in part.get("data", {})]

    @property
    def tools(self) -> list[Json]:
        """The data parts of tool events, without what differs from run to run."""
        return [{key: value for key, value in data.items() if key not in ("call_id", "duration_ms")} for data in self.calls]

    @property
    def kinds(self) -> list[str]:
        """What each frame is, adjacent pieces of text as one."""
        kinds: list[str] = []
        for frame in self.frames:
            kind = _kind(frame)
            if not (kind == "text" and kinds[-1:] == ["text"]):
                kinds.append(kind)
        return kinds


def _status_parts(frame: Frame) -> list[Json]:
    parts: list[Json] = frame.result.get("statusUpdate", {}).get("status", {}).get("message", {}).get("parts", [])
    return parts


def _kind(frame: Frame) -> str:
    if "task" in frame.result:
        return "task"
    if "artifactUpdate" in frame.result:
        return "whole text" if frame.result["artifactUpdate"].get("lastChunk") else "text"
    data: Json = next((part["data"] for part in _status_parts(frame) if "data" in part), {})
    state: str = frame.result["statusUpdate"]["status"]["state"]
    return str(data.get("type") or state.removeprefix("TASK_STATE_").lower())


@dataclass
class Stage:
    model: Model
    gateway: GatewayProcess
    _played: dict[tuple[str, str], Played] = field(default_factory=dict)

    def workspace(self, context_id: str) -> Path:
        return self.gateway.data_dir / "sessions" / context_id / "work"

    @asynccontextmanager
    async def client(self) -> AsyncIterator[Client]:
        client = self.gateway.client()
        try:
            yield client
        finally:
            await client.http.aclose()

    async def play(self, leg: Leg, scenario: str) -> Played:
        """The scenario as a turn of its own on this leg; played at most once a test run."""
        key = (leg.runtime, scenario)
        if key not in self._played:
            async with self.client() as client:
                self._played[key] = await self.say(client, leg.agent, scenario)
        return self._played[key]

    async def say(self, client: Client, agent: str, text: str, **more: Any) -> Played:
        with anyio.fail_after(SECONDS):
            return Played([frame async for frame in client.stream(agent, text, **more)])

    async def until(self, client: Client, agent: str, text: str, seen: Callable[[Played], bool]) -> Played:
        """The turn so far, as soon as `seen` says so; it goes on."""
        frames: list[Frame] = []
        stream = client.frames(agent, "SendStreamingMessage", {"message": message(text)})
        with anyio.fail_after(SECONDS):
            async for frame in stream:
                frames.append(frame)
                if seen(Played(frames)):
                    break
        await stream.aclose()  # type: ignore[attr-defined]  # it is a generator
        return Played(frames)

    async def turn_of(self, client: Client, played: Played) -> str:
        events = await client.events(played.context_id)
        return str(next(event["body"]["turn"] for event in events if event["type"] == "turn_started"))


def processes_of(turn: str) -> list[int]:
    """Living processes that carry the turn's mark in their environment."""
    mark = f"SWITCHBOARD_TURN={turn}".encode()
    found = []
    for folder in Path("/proc").iterdir():
        with suppress(OSError):
            if folder.name.isdigit() and mark in (folder / "environ").read_bytes().split(b"\0"):
                found.append(int(folder.name))
    return found


def program_of(pids: list[int]) -> int:
    """The process of a turn that the gateway started: the one whose parent is none of them."""
    return next(pid for pid in pids if parent_of(pid) not in pids)


def parent_of(pid: int) -> int:
    stat = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
    return int(stat.rpartition(")")[2].split()[1])


def command_of(pid: int) -> list[str]:
    with suppress(OSError):
        return [os.fsdecode(word) for word in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[:-1]]
    return []


def machine_paths(value: Any) -> list[str]:
    """Paths of this machine that stand in what a caller reads."""
    return _PATH.findall(str(value))


def unique(scenario: str) -> str:
    return f"{scenario} {uuid.uuid4().hex}"
