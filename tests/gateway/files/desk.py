"""A gateway in this process with the agent `echo` on the clerk, and files to and from it."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tests.gateway.files.clerk import RUNTIMES
from tests.support import Client, Frame, Json, free_port, message, serving

PNG = b"\x89PNG\r\n\x1a\n\0picture"
MODES = ["text/*", "image/png", "application/json"]


@asynccontextmanager
async def desk(tmp_path: Path, modes: list[str] = MODES, **settings: Any) -> AsyncIterator[Client]:
    async with serving(tmp_path, RUNTIMES, **settings) as gateway:
        await gateway.owner("agent.create", name="echo", runtime="clerk", input_modes=modes)
        yield gateway


@asynccontextmanager
async def desk_with_grpc(tmp_path: Path) -> AsyncIterator[Any]:
    """As the clients of every leg want it."""
    port = free_port()
    async with desk(tmp_path, grpc_port=port, grpc_public_address=f"127.0.0.1:{port}") as gateway:
        yield SimpleNamespace(url=gateway.url, env={"SWITCHBOARD_GRPC_PORT": str(port)})


def raw(content: bytes, name: str = "", media_type: str = "") -> Json:
    part = {"raw": base64.b64encode(content).decode(), "filename": name, "mediaType": media_type}
    return {key: value for key, value in part.items() if value or key == "raw"}


async def say(gateway: Client, command: str, *parts: Json, **more: Any) -> Json:
    """The task of a command with files."""
    return await gateway.send("echo", command, parts=[{"text": command}, *parts], **more)


async def refusal(gateway: Client, *parts: Json) -> Json:
    """The error a message gets; that nothing was stored is looked at, too."""
    answer = await gateway.rpc("echo", "SendMessage", {"message": message("", parts=[{"text": "true"}, *parts])})
    listed = await gateway.rpc("echo", "ListTasks", {})
    assert listed["result"].get("tasks", []) == []
    error: Json = answer["error"]
    return error


def artifacts(task: Json) -> dict[str, list[Json]]:
    """The parts of a task's files, by name."""
    return {one["name"]: one["parts"] for one in task.get("artifacts", []) if one["name"] != "response"}


def spoken(task: Json) -> str:
    found = [one["parts"] for one in task.get("artifacts", []) if one["name"] == "response"]
    return "".join(part["text"] for parts in found for part in parts)


def updates(frames: list[Frame], name: str) -> list[Json]:
    found = [frame.result["artifactUpdate"] for frame in frames if "artifactUpdate" in frame.result]
    return [update for update in found if update["artifact"]["name"] == name]


def content(part: Json) -> bytes:
    return base64.b64decode(part["raw"])


def stored(data_dir: Path) -> list[str]:
    """The contents in the store, by their hash."""
    return sorted(path.name for path in (data_dir / "files").glob("[0-9a-f][0-9a-f]/*"))


def workspace(data_dir: Path, task: Json) -> Path:
    return data_dir / "sessions" / task["contextId"] / "work"
