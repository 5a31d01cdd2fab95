"""A gateway as a process whose `claude` is the fake, and a client that is as cheap as it can be."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import psutil

from tests.support import HEADERS, GatewayProcess, Json, gateway_process

HERE = Path(__file__).parent
AGENT, STAMPED = "hello", "stamped"  # the second one's runtime notes when it writes its first byte
KEY = {"ANTHROPIC_API_KEY": "not-a-key"}


@dataclass(frozen=True)
class Stage:
    gateway: GatewayProcess
    stamps: Path
    database: str  # its URL

    @property
    def server(self) -> psutil.Process:
        assert self.gateway.process is not None
        return psutil.Process(self.gateway.process.pid)

    @property
    def warden(self) -> psutil.Process:
        return self.server.children()[0]

    def url(self, agent: str) -> str:
        return f"{self.gateway.url}/agents/{agent}"

    @asynccontextmanager
    async def http(self) -> AsyncIterator[aiohttp.ClientSession]:
        timeout = aiohttp.ClientTimeout(total=300)
        async with aiohttp.ClientSession(headers=HEADERS, timeout=timeout, read_bufsize=1 << 20) as session:
            yield session


@contextmanager
def stage(folder: Path, database: str) -> Iterator[Stage]:
    """Compile the fake, start a gateway that finds it first, and wait until all is quiet."""
    folder.joinpath("bin").mkdir()
    fake = folder / "bin" / "claude"
    subprocess.run(["cc", "-O2", "-w", "-include", HERE / "stamp.h", "-o", fake, HERE / "fake_claude.c"], check=True)
    path = f"{fake.parent}:{os.environ['PATH']}"
    with gateway_process(folder / "data", {"PATH": path, "SWITCHBOARD_DATABASE_URL": database}) as gateway:
        yield Stage(gateway, folder / "stamps", database)


async def make_agents(stage: Stage) -> None:
    client = stage.gateway.client()
    await client.owner("agent.update", name=AGENT, changes={"runtime": "claude", "env": KEY})
    await client.owner("agent.create", name=STAMPED, runtime="claude", env={**KEY, "FAKE_STAMP": str(stage.stamps)})
    await client.http.aclose()


def cpu(*processes: psutil.Process) -> float:
    """Seconds of CPU that processes have used themselves."""
    times = [process.cpu_times() for process in processes]
    return sum(time.user + time.system for time in times)


def send_streaming(prompt: str, context_id: str | None) -> Json:
    message = {"messageId": uuid.uuid4().hex, "role": "ROLE_USER", "parts": [{"text": prompt}]}
    params = {"message": message | ({"contextId": context_id} if context_id else {})}
    return {"jsonrpc": "2.0", "id": 1, "method": "SendStreamingMessage", "params": params}


@dataclass
class Call:
    """One streamed turn as its client saw it; times are `time.time()`."""

    asked: float
    first_text: float = 0.0
    ended: float = 0.0
    data: bytes = b""

    @property
    def seconds(self) -> float:
        return self.ended - self.asked


async def call(http: aiohttp.ClientSession, url: str, prompt: str, context_id: str | None = None) -> Call:
    """A turn to its end. What comes is only looked at for the first text."""
    made, pieces = Call(time.time()), []
    async with http.post(url, json=send_streaming(prompt, context_id)) as answer:
        async for piece in answer.content.iter_any():
            pieces.append(piece)
            if not made.first_text and b"word0" in piece and b"artifactUpdate" in piece:
                made.first_text = time.time()
    made.ended, made.data = time.time(), b"".join(pieces)
    assert b"TASK_STATE_COMPLETED" in made.data, made.data[-500:]
    return made


async def get_task(http: aiohttp.ClientSession, url: str, task_id: str) -> tuple[float, Json]:
    """(seconds, the task)."""
    began = time.perf_counter()
    async with http.post(url, json={"jsonrpc": "2.0", "id": 1, "method": "GetTask", "params": {"id": task_id}}) as answer:
        body = await answer.json()
    return time.perf_counter() - began, body["result"]


def load(stage: Stage, **options: Any) -> Json:
    """What `load.py` prints."""
    import json

    argv = [
        sys.executable,
        str(HERE / "load.py"),
        "--driver",
        "a2a1",
        "--url",
        stage.url(AGENT),
        "--pid",
        str(stage.server.pid),
    ]
    for name, value in options.items():
        argv += [f"--{name}", str(value)]
    done = subprocess.run(argv, check=True, capture_output=True, text=True)
    found: Json = json.loads(done.stdout)
    assert found["ok"] == found["sessions"] == options["sessions"], found
    return found
