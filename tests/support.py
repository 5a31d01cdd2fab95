"""What tests share: a gateway in this process on a real socket, a gateway as a process one can kill, a small A2A caller.

async with serving(tmp_path) as gateway:
    events = [event async for event in gateway.stream("hello", "N=3")]
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import httpx2
import uvicorn
from sqlalchemy import text
from starlette.applications import Starlette

from adapters.profile import Profile
from gateway.a2a.extension import TOOL_EVENTS
from gateway.app import create_app
from gateway.db.engine import Database
from gateway.dial import trust
from gateway.server import config
from gateway.settings import Settings
from gateway.turns.engine import Engine

Json = dict[str, Any]
HEADERS = {"A2A-Version": "1.0", "A2A-Extensions": TOOL_EVENTS}


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def database_url(data_dir: Path) -> str:
    """Where a gateway on `data_dir` keeps its data."""
    return Settings(data_dir=data_dir).database


async def run_sql(data_dir: Path, *statements: str) -> None:
    """Change what a gateway that does not run will find."""
    database = Database(database_url(data_dir))
    await database.start()
    await database.write(lambda conn: [conn.execute(text(statement)).close() for statement in statements])
    await database.aclose()


def message(text: str, **more: Any) -> Json:
    return {"messageId": uuid.uuid4().hex, "role": "ROLE_USER", "parts": [{"text": text}], **more}


@dataclass(frozen=True, slots=True)
class Frame:
    """One SSE frame: its id, and the JSON of its data."""

    id: str
    data: Json

    @property
    def result(self) -> Json:
        result: Json = self.data["result"]
        return result


async def framed(answer: httpx2.Response) -> AsyncGenerator[Frame, None]:
    """The frames of a stream of Server-Sent Events."""
    id, data = "", ""
    async for line in answer.aiter_lines():
        name, _, value = line.partition(": ")
        if name == "id":
            id = value
        elif name == "data":
            data = value
        elif not line and data:
            yield Frame(id, json.loads(data))
            id, data = "", ""


@dataclass
class Client:
    """A2A JSON-RPC 1.0, as plainly as it can be spoken; and the owners' API."""

    url: str
    owner_key: str = ""
    http: httpx2.AsyncClient = field(default_factory=lambda: httpx2.AsyncClient(timeout=60, verify=trust()))
    app: Starlette | None = None  # where the gateway runs in this process

    @property
    def engine(self) -> Engine:
        assert self.app is not None
        engine: Engine = self.app.state.engine
        return engine

    async def sign_in(self, key: str = "") -> str:
        """Every call from now on is that of one caller, known by its key; registered now if there is none yet."""
        key = key or (await self.owner("callers.add", name="tester"))["key"]
        self.http.headers["X-API-Key"] = key
        return key

    @property
    def database(self) -> Database:
        return self.engine.log.database

    async def rpc(self, agent: str, method: str, params: Json, headers: Mapping[str, str] = {}) -> Json:
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        answer = await self.http.post(f"{self.url}/agents/{agent}", json=body, headers={**HEADERS, **headers})
        found: Json = answer.json()
        return found

    async def send(self, agent: str, text: str, *, configuration: Json | None = None, **more: Any) -> Json:
        """The task a message made (blocking unless the configuration says otherwise)."""
        params = {"message": message(text, **more)} | ({"configuration": configuration} if configuration else {})
        answer = await self.rpc(agent, "SendMessage", params)
        assert "error" not in answer, answer
        task: Json = answer["result"]["task"]
        return task

    async def get(self, agent: str, task_id: str) -> Json:
        answer = await self.rpc(agent, "GetTask", {"id": task_id})
        assert "error" not in answer, answer
        task: Json = answer["result"]
        return task

    async def frames(self, agent: str, method: str, params: Json, headers: Mapping[str, str] = {}) -> AsyncIterator[Frame]:
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        request = self.http.stream("POST", f"{self.url}/agents/{agent}", json=body, headers={**HEADERS, **headers})
        async with request as answer:
            async for frame in framed(answer):
                yield frame

    def stream(self, agent: str, text: str, **more: Any) -> AsyncIterator[Frame]:
        return self.frames(agent, "SendStreamingMessage", {"message": message(text, **more)})

    async def owner(self, method: str, **params: Any) -> Any:
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        headers = {"Authorization": f"Bearer {self.owner_key}"}
        answer = (await self.http.post(f"{self.url}/owner", json=body, headers=headers)).json()
        assert "error" not in answer, answer
        return answer["result"]

    async def refused(self, method: str, **params: Any) -> Json:
        """The error of an owner's call, as its data has it."""
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        answer = await self.http.post(f"{self.url}/owner", json=body, headers={"Authorization": f"Bearer {self.owner_key}"})
        error: Json = answer.json()["error"]["data"]
        return error

    async def events(self, session_id: str) -> list[Json]:
        """A session's whole log, all levels."""
        found: list[Json] = []
        after = "0.0"
        while page := (await self.owner("sessions.events", id=session_id, after=after, limit=500))["events"]:
            found += page
            after = f"{page[-1]['seq']}.{page[-1]['sub']}"
        return found


def text_of(task: Json) -> str:
    return "".join(part.get("text", "") for artifact in task.get("artifacts", []) for part in artifact["parts"])


def streamed_text(frames: list[Frame]) -> str:
    """The text of a stream put together as a client does: appended pieces, a whole artifact replaces."""
    texts: dict[str, str] = {}
    for frame in frames:
        update = frame.result.get("artifactUpdate")
        if update:
            id = update["artifact"]["artifactId"]
            piece = "".join(part.get("text", "") for part in update["artifact"]["parts"])
            texts[id] = texts.get(id, "") + piece if update.get("append") else piece
    return "".join(texts.values())


@asynccontextmanager
async def serving(data_dir: Path, runtimes: Mapping[str, Profile] | None = None, **settings: Any) -> AsyncIterator[Client]:
    """A gateway in this process on a free port, stopped at the end."""
    found = Settings(data_dir=data_dir, port=free_port(), **settings)
    app = create_app(found, runtimes)
    server = uvicorn.Server(config(app, found, timeout_graceful_shutdown=1))
    async with anyio.create_task_group() as group:
        group.start_soon(server._serve)  # `serve` would take the signal handlers of the test run
        with anyio.fail_after(20):
            while not server.started:  # noqa: ASYNC110  (uvicorn has no event for it)
                await anyio.sleep(0.01)
        client = Client(found.url, found.owner_key_file.read_text().strip(), app=app)
        try:
            yield client
        finally:
            with anyio.CancelScope(shield=True):
                await client.http.aclose()
            server.should_exit = True


GATEWAY = ("-m", "gateway")
Born = Callable[[Sequence[str], Mapping[str, str], Path], Any]  # (arguments of Python, environment, log) -> a Popen, or as one


def python(argv: Sequence[str], env: Mapping[str, str], log: Path) -> subprocess.Popen[bytes]:
    with log.open("ab") as out:
        return subprocess.Popen([sys.executable, *argv], env=env, stderr=out, stdout=out)


@dataclass
class GatewayProcess:
    """A gateway as its own process on its data directory; `start` again after `kill`."""

    data_dir: Path
    env: Mapping[str, str] = field(default_factory=dict)
    port: int = field(default_factory=free_port)
    caller_key: str = ""  # of a caller that was registered, for whoever signs in after a restart
    program: Sequence[str] = GATEWAY
    process: Any = None  # a Popen, or what is as one
    born: Born = python

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        self.spawn()
        deadline = time.monotonic() + 90
        while not self.answers():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"the gateway did not start:\n{self.log()}")
            time.sleep(0.02)

    def spawn(self) -> None:
        """Start it without waiting until it answers."""
        env = {**os.environ, **self.env, "SWITCHBOARD_DATA_DIR": str(self.data_dir), "SWITCHBOARD_PORT": str(self.port)}
        self.data_dir.mkdir(parents=True, exist_ok=True)
        self.process = self.born(self.program, env, self.data_dir / "gateway.log")

    def answers(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=2)
        try:
            connection.request("GET", "/health")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def kill(self) -> None:
        """kill -9: no goodbye."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def _end(self, how: signal.Signals) -> None:
        if self.process is not None:
            self.process.send_signal(how)
            self.process.wait(30)
            self.process = None

    def log(self) -> str:
        return (self.data_dir / "gateway.log").read_text("utf-8", "replace")

    def client(self) -> Client:
        return Client(self.url, (self.data_dir / "owner.key").read_text().strip())


@dataclass
class WorkerProcess:
    """A worker as its own process, for the gateways on the same data directory."""

    data_dir: Path
    env: Mapping[str, str] = field(default_factory=dict)
    process: Any = None  # a Popen, or what is as one
    born: Born = python

    def start(self) -> None:
        env = {**os.environ, **self.env, "SWITCHBOARD_DATA_DIR": str(self.data_dir)}
        self.log_file.touch()
        self.process = self.born([*GATEWAY, "worker"], env, self.log_file)
        self.wait_for("working")

    @property
    def log_file(self) -> Path:
        return self.data_dir / f"worker-{id(self)}.log"

    def send(self, signal: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(signal)

    def wait_for(self, word: str) -> None:
        """Until the worker's log says so."""
        deadline = time.monotonic() + 90
        while word not in self.log_file.read_text("utf-8", "replace"):
            assert self.process is not None
            assert self.process.poll() is None, self.log_file.read_text("utf-8", "replace")
            assert time.monotonic() < deadline, self.log_file.read_text("utf-8", "replace")
            time.sleep(0.02)

    def end(self, how: signal.Signals = signal.SIGTERM) -> None:
        if self.process is not None:
            self.process.send_signal(how)
            self.process.wait(30)
            self.process = None


@contextmanager
def gateway_process(
    data_dir: Path, env: Mapping[str, str] | None = None, born: Born = python, program: Sequence[str] = GATEWAY
) -> Iterator[GatewayProcess]:
    gateway = GatewayProcess(data_dir, env or {}, program=program, born=born)
    gateway.start()
    try:
        yield gateway
    finally:
        gateway.stop()
