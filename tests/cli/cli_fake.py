"""A small real HTTP server that speaks the gateway's two APIs with canned answers, and a way to run the command at it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

ROOT = Path(__file__).resolve().parents[2]
KEY = "sbo_test"
TASK, CONTEXT = "tsk_1", "ses_1"
IDS = {"taskId": TASK, "contextId": CONTEXT}

Json = dict[str, Any]
Frame = tuple[str, Json]  # the SSE id ("" for none) and the result


class Cut(Exception):
    """Makes uvicorn drop the connection in the middle of the answer."""


@dataclass
class Fake:
    """`owner` holds results (or errors) of owner methods, `frames` the whole stream of the one task.

    `breaks` says of each streaming connection in turn after how many bytes it is cut; None: never. A connection whose
    task is `held` stays open after its last frame until CancelTask comes.
    """

    owner: dict[str, Any] = field(default_factory=dict)
    frames: list[Frame] = field(default_factory=list)
    breaks: list[int | None] = field(default_factory=list)
    held: bool = False
    clean: bool = False  # a break is an early but proper end of the stream
    refusals: dict[str, tuple[int, Json]] = field(default_factory=dict)  # of A2A methods: HTTP status and body
    asked: list[Json] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    url: str = ""
    canceled: anyio.Event | None = None

    def methods(self) -> list[str]:
        return [str(request["method"]) for request in self.asked]

    async def on_owner(self, request: Request) -> Response:
        if request.headers.get("authorization") != f"Bearer {KEY}":
            return JSONResponse({"code": "not_allowed", "message": "The owner key is wrong.", "hint": ""}, 401)
        body = await self._note(request)
        found = self.owner[body["method"]]
        found = found.pop(0) if isinstance(found, list) else found
        return JSONResponse({"jsonrpc": "2.0", "id": body["id"]} | (found if "error" in found else {"result": found}))

    async def on_agent(self, request: Request) -> Response:
        body = await self._note(request)
        if body["method"] in self.refusals:
            status, answer = self.refusals[body["method"]]
            return JSONResponse(answer, status)
        if body["method"] == "CancelTask":
            return self._cancel(body)
        if body["method"] == "GetTask":
            return JSONResponse({"jsonrpc": "2.0", "id": body["id"], "result": self._task()})
        return StreamingResponse(self._stream(request, body), media_type="text/event-stream")

    async def _note(self, request: Request) -> Json:
        body: Json = await request.json()
        self.asked.append(body)
        self.headers.append(dict(request.headers))
        return body

    def _cancel(self, body: Json) -> Response:
        assert self.canceled is not None
        self.canceled.set()
        return JSONResponse({"jsonrpc": "2.0", "id": body["id"], "result": task("TASK_STATE_CANCELED")})

    def _task(self) -> Json:
        """The task at its end: all the text, and the last status."""
        texts = [f[1]["artifactUpdate"] for f in self.frames if "artifactUpdate" in f[1]]
        whole = "".join(update["artifact"]["parts"][0]["text"] for update in texts if update["append"] is not None)
        status = [f[1]["statusUpdate"]["status"] for f in self.frames if "statusUpdate" in f[1]][-1]
        return {
            "id": TASK,
            "contextId": CONTEXT,
            "status": status,
            "artifacts": [artifact(whole)["artifactUpdate"]["artifact"]],
        }

    async def _stream(self, request: Request, body: Json) -> AsyncIterator[bytes]:
        self.canceled = self.canceled or anyio.Event()
        frames = self.frames
        after = request.headers.get("last-event-id")
        if after is not None:
            ids = [id for id, _ in frames]
            frames = frames[ids.index(after) + 1 :]
        data = b"".join(frame_bytes(id, body["id"], result) for id, result in frames)
        limit = self.breaks.pop(0) if self.breaks else None
        yield data[:limit]
        if limit is not None and not self.clean:
            raise Cut
        if limit is None and self.held:
            await self.canceled.wait()


def frame_bytes(id: str, request_id: object, result: Json) -> bytes:
    body = result if "error" in result else {"result": result}
    answer = json.dumps({"jsonrpc": "2.0", "id": request_id} | body, ensure_ascii=False)
    return (f"id: {id}\n" if id else "").encode() + f"data: {answer}\n\n".encode()


def task(state: str = "TASK_STATE_SUBMITTED") -> Json:
    return {"id": TASK, "contextId": CONTEXT, "status": {"state": state}, "history": []}


def artifact(text: str, *, append: bool = True, id: str = "response-1") -> Json:
    return {
        "artifactUpdate": {
            **IDS,
            "artifact": {"artifactId": id, "name": "response", "parts": [{"text": text}]},
            "append": append,
        }
    }


def status(state: str, *parts: Json) -> Json:
    message = {"message": {"messageId": "m", "role": "ROLE_AGENT", "parts": list(parts)}} if parts else {}
    return {"statusUpdate": {**IDS, "status": {"state": f"TASK_STATE_{state}", **message}}}


def tool(type: str, text: str, **body: Any) -> Json:
    return status("WORKING", {"text": text}, {"data": {"type": type, "call_id": "call_1", **body}})


def answer(*, end: Json | None = None) -> list[Frame]:
    """A whole stream as the gateway sends it: the last event of a row has the id, the others of the row have none."""
    return [
        ("1", {"task": task()}),
        ("2", status("WORKING")),
        ("3", artifact("Grüße, ", append=False)),
        ("4", tool("tool_start", "Read notes.md", tool="read_file", title="Read notes.md")),
        ("5", tool("tool_result", "Done", is_error=False, exit_code=None)),
        ("6", artifact("\u2028Welt\n")),
        ("7", artifact("und Ende")),
        ("", artifact("Grüße, \u2028Welt\nund Ende", append=False)),
        ("8", end or status("COMPLETED")),
    ]


ANSWER = "Grüße, \u2028Welt\nund Ende"


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = threading.Event()

    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        self.up.set()


class Server:
    """One port for the whole session; each test puts its own Fake behind it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.fake = Fake(url=url)

    async def on_owner(self, request: Request) -> Response:
        return await self.fake.on_owner(request)

    async def on_agent(self, request: Request) -> Response:
        return await self.fake.on_agent(request)


@contextmanager
def serving() -> Iterator[Server]:
    ours = Server("")
    routes = [
        Route("/owner", ours.on_owner, methods=["POST"]),
        Route("/agents/{name}", ours.on_agent, methods=["POST"]),
    ]
    config = uvicorn.Config(Starlette(routes=routes), port=0, log_level="critical", ws="none", lifespan="off")
    server = _Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        assert server.up.wait(10)
        ours.url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
        yield ours
    finally:
        server.should_exit = server.force_exit = True
        thread.join(10)


@dataclass
class Shell:
    """Runs the real command in a home and a working directory of its own."""

    home: Path
    env: dict[str, str]

    @property
    def command(self) -> list[str]:
        return [sys.executable, "-m", "gateway.cli"]

    def start(self, *args: str, **kwargs: Any) -> subprocess.Popen[str]:
        pipes: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        options: dict[str, Any] = {"cwd": self.home, "env": self.env, "encoding": "utf-8"}
        return subprocess.Popen([*self.command, *args], **(pipes | options | kwargs))

    def run(self, *args: str, input: str = "") -> subprocess.CompletedProcess[str]:
        with self.start(*args) as process:
            out, err = process.communicate(input, timeout=60)
        return subprocess.CompletedProcess(args, process.returncode, out, err)


def shell(home: Path, **env: str) -> Shell:
    base = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "PYTHONPATH": str(ROOT),
        "PYTHONWARNINGS": "error",
        "LANG": "C.UTF-8",
    }
    return Shell(home, base | env)
