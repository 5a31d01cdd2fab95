"""An image that asks for more of its sandbox than runs at once fills no memory of the gateway's. [HAND-11]"""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from starlette.applications import Starlette
from starlette.types import Message

from gateway.errors import Crowded, InvalidParams
from gateway.hands.tools import MAX_FILE, Result, input_of
from gateway.runtime_api import app, held
from gateway.runtime_api.sandbox import CALL, MCP, routes

MANY = 100
Json = dict[str, Any]


class Acts:
    """Does nothing until it is let go; answers with `output`."""

    def __init__(self) -> None:
        self.go, self.waiting, self.output = anyio.Event(), 0, "ok"

    async def call(self, brain: Any, call_id: str, tool: str, given: Any) -> Result:
        self.waiting += 1
        await self.go.wait()
        self.waiting -= 1
        return Result(self.output)

    def cancel(self, turn_id: str, call_id: str) -> None: ...


class Gateway:
    """Takes requests as a server hands them over; `status` and `answers` are what came back, in order."""

    def __init__(self) -> None:
        self.acts, self.answers, self.brain = Acts(), list[Json](), SimpleNamespace()
        self.status: list[int] = []
        self.brain.turn, self.brain.room = SimpleNamespace(id="trn_1"), anyio.Semaphore(4)
        handlers: Any = {Crowded: app._refused, InvalidParams: app._refused}
        self.app = Starlette(routes=routes(self.acts, 16 * 2**20), exception_handlers=handlers)
        self.reads = 0

    async def ask(self, path: str, *body: bytes, taken: Callable[[], Any] = anyio.lowlevel.checkpoint) -> None:
        """`body` in its pieces, the last one for ever if it is empty; `taken`: after each piece of the answer."""
        left, said = list(body), bytearray()
        state = {"turn": self.brain}
        scope = {"type": "http", "method": "POST", "path": path, "query_string": b"", "headers": [], "state": state}

        async def receive() -> Message:
            self.reads += 1
            if not left[0]:
                await anyio.sleep_forever()
            return {"type": "http.request", "body": left.pop(0), "more_body": bool(left)}

        async def send(message: Message) -> None:
            if message["type"] == "http.response.start":
                self.status.append(message["status"])
            said.extend(message.get("body", b""))
            await taken()

        await self.app(scope, receive, send)
        self.answers.append(json.loads(said))

    async def until(self, true: Callable[[], bool]) -> None:
        with anyio.fail_after(20):
            while not true():
                await anyio.lowlevel.checkpoint()


@pytest.fixture
async def gateway() -> Gateway:
    return Gateway()


def called(number: int, content: str = "") -> bytes:
    return json.dumps({"call_id": str(number), "tool": "write", "input": {"path": "x", "content": content}}).encode()


def spoken(number: int) -> bytes:
    params = {"name": "bash", "arguments": {"command": "true"}}
    return json.dumps({"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": params}).encode()


async def test_of_many_calls_that_wait_no_more_are_held_than_there_is_room_for(gateway: Gateway) -> None:
    async with anyio.create_task_group() as group:
        for number in range(MANY):
            group.start_soon(gateway.ask, CALL, called(number))
        await gateway.until(lambda: gateway.acts.waiting + len(gateway.answers) == MANY)
        assert gateway.acts.waiting == held.CALLS
        assert gateway.status == [503] * (MANY - held.CALLS)
        assert {answer["code"] for answer in gateway.answers} == {"unavailable"}
        assert "under the same id" in gateway.answers[0]["hint"]
        await gateway.ask(MCP, spoken(7))
        assert gateway.answers[-1]["result"]["isError"]
        assert "Too many calls" in gateway.answers[-1]["result"]["content"][0]["text"]
        gateway.acts.go.set()
    await gateway.ask(CALL, called(MANY))
    assert (gateway.status.count(200), gateway.answers[-1]["output"]) == (held.CALLS + 2, "ok")


async def test_of_large_calls_no_more_bytes_are_held_than_there_is_room_for(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(held, "ASKED", 1_000_000)
    async with anyio.create_task_group() as group:
        for number in range(20):
            group.start_soon(gateway.ask, CALL, called(number, "x" * 200_000))
        await gateway.until(lambda: gateway.acts.waiting + len(gateway.answers) == 20)
        assert gateway.acts.waiting == 4
        gateway.acts.go.set()
    await gateway.ask(CALL, called(20, "x" * 2_000_000))  # alone
    assert gateway.status[-1] == 200


async def test_a_body_is_not_kept_beside_what_was_made_of_it(gateway: Gateway) -> None:
    bodies = [called(number, "x" * 1_000_000) for number in range(10)]
    pieces = [(body[:100], body[100:]) for body in bodies]
    tracemalloc.start()
    try:
        async with anyio.create_task_group() as group:
            for some in pieces:
                group.start_soon(gateway.ask, CALL, *some)
            await gateway.until(lambda: gateway.acts.waiting == 10)
            assert tracemalloc.get_traced_memory()[0] < 15_000_000
            gateway.acts.go.set()
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("path", [CALL, MCP])
async def test_few_bodies_are_read_at_once(gateway: Gateway, path: str) -> None:
    async with anyio.create_task_group() as group:
        for _ in range(20):
            group.start_soon(gateway.ask, path, b"{", b"")
        await gateway.until(lambda: gateway.reads == 8)
        for _ in range(100):
            await anyio.lowlevel.checkpoint()
        assert gateway.reads == 8
        group.cancel_scope.cancel()


async def test_answers_that_nobody_reads_are_held_up_to_a_limit(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held, "ANSWERS", 3_000_000)
    gateway.acts.output = "x" * 1_000_000
    gateway.acts.go.set()
    reads = anyio.Event()
    async with anyio.create_task_group() as group:
        for number in range(5):
            group.start_soon(lambda n: gateway.ask(CALL, called(n), taken=reads.wait), number)
        await gateway.until(lambda: len(gateway.status) == 5)
        assert sorted(gateway.status) == [200, 200, 503, 503, 503]
        reads.set()
    await gateway.ask(CALL, called(5))
    assert gateway.answers[-1]["output"] == gateway.acts.output


@pytest.mark.parametrize(
    ("tool", "input"),
    [
        ("write", {"content": "x" * (MAX_FILE + 1)}),
        ("edit", {"edits": [{"old": "x", "new": "x" * (MAX_FILE // 2)}] * 3}),
    ],
)
def test_what_is_too_large_to_write_does_not_wait(tool: str, input: Json) -> None:
    with pytest.raises(InvalidParams):
        input_of(tool, {"path": "x", **input})


def test_what_is_refused_is_told_as_it_is_and_no_incident() -> None:
    answer = app.refusal(Crowded("Too many.", "Later."))
    assert (answer.status_code, answer.headers["retry-after"], json.loads(bytes(answer.body))["message"]) == (
        503,
        "1",
        "Too many.",
    )
