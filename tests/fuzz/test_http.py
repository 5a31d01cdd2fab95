"""Whatever is sent over HTTP gets the protocol's answer: no 5xx, no traceback, no word of what runs behind. [A2A-5] [HIDE-1]

SWITCHBOARD_FUZZ_EXAMPLES plays more than the few hundred requests of every day.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import anyio
import httpx2
import pytest
from hypothesis import HealthCheck, Phase, given, note, settings
from hypothesis import strategies as st

from adapters.runtimes.rehearsal.profile import PROFILE as REHEARSAL
from tests.crash.witness import check_log
from tests.fuzz.requests import CONTEXT, TASK, Asked, odd_requests
from tests.support import Client, Json, serving, text_of

EXAMPLES = int(os.environ.get("SWITCHBOARD_FUZZ_EXAMPLES", "300"))
# A runtime that is not there: what is accepted ends at once, and without a process.
MUTE = replace(REHEARSAL, name="mute", title="Mute", executable="no-such-vendor")
RUNTIMES = {"rehearsal": REHEARSAL, "mute": MUTE}
TRACES = re.compile(
    r"Traceback|File \"|\.py\b|site-packages|object at 0x|<class|Errno|asyncio|"
    r"sqlite|sqlalchemy|pydantic|starlette|protobuf|jsonrpcserver"
)
HIDDEN = re.compile(r"mute|rehears|no-such-vendor|/tmp/|/root/|/home/|/usr/", re.IGNORECASE)  # from callers; owners see all
INTERNAL = -32603
PLAIN = {404: "Not Found", 405: "Method Not Allowed"}  # addresses that are nobody's

BODY = b'{"jsonrpc": "2.0", "id": 1, "method": "ListTasks", "params": {}}'
HEAD = b"POST /agents/face HTTP/1.1\r\nHost: x\r\nA2A-Version: 1.0\r\nContent-Type: application/json\r\n"
STARTS = [
    b"GET / HTTP/1.1\r\n",
    b"GET /agents/face/.well-known/agent-card.json HTTP/1.1\r\nHost: x\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01",
    HEAD,
    HEAD + b"Content-Length: 1000\r\n\r\n" + BODY,
    HEAD + b"Content-Length: 64\r\n\r\n" + BODY,
    HEAD + b"Content-Length: -1\r\n\r\n",
    HEAD + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n" + BODY,
    HEAD + b"Transfer-Encoding: chunked\r\n\r\n40\r\n" + BODY,
    HEAD + b"Transfer-Encoding: chunked\r\n\r\nfffffffff\r\n",
    HEAD + b"Expect: 100-continue\r\nContent-Length: 5\r\n\r\n",
    HEAD + b"Upgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
    b"POST /owner HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{",
]

fuzzed = settings(
    max_examples=EXAMPLES,
    derandomize=True,
    database=None,
    deadline=None,
    phases=(Phase.generate, Phase.shrink),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture],
)


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


class Target:
    """A gateway to fuzz, with a task there is."""

    def __init__(self, client: Client, folder: Path, task: Json) -> None:
        self.client, self.folder, self.task = client, folder, task

    def meant(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {key: self.meant(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self.meant(item) for item in value]
        return {TASK: self.task["id"], CONTEXT: self.task["contextId"]}.get(value, value) if isinstance(value, str) else value

    async def ask(self, asked: Asked) -> httpx2.Response | None:
        """The answer; of a stream what comes first. None: this client cannot even send it."""
        path = asked.path.replace(TASK, self.task["id"]).replace(CONTEXT, self.task["contextId"])
        headers = [(name.encode(), value.encode("latin-1")) for name, value in asked.headers.items()]
        if asked.kind == "owner" and "Authorization" not in asked.headers:
            headers.append((b"Authorization", f"Bearer {self.client.owner_key}".encode()))
        url = self.client.url + quote(path, safe="/:?&=%;+,.~")
        content = asked.content.replace(b'"TASK"', b'"%s"' % self.task["id"].encode())
        content = content.replace(b'"CONTEXT"', b'"%s"' % self.task["contextId"].encode())
        try:
            async with self.client.http.stream(asked.method, url, headers=headers, content=content) as answer:
                if answer.headers.get("content-type", "").startswith("text/event-stream"):
                    await anext(answer.aiter_bytes())
                else:
                    await answer.aread()
                return answer
        except (httpx2.LocalProtocolError, httpx2.InvalidURL):
            return None


@pytest.fixture(scope="module")
async def target(tmp_path_factory: pytest.TempPathFactory, anyio_backend: str) -> AsyncIterator[Target]:
    folder = tmp_path_factory.mktemp("fuzz")
    async with serving(folder, RUNTIMES, max_body_bytes=200_000) as client:
        for name in ("face", "spare"):
            await client.owner("agent.create", name=name, runtime="mute")
        yield Target(client, folder, await client.send("face", "a first task"))


def check(asked: Asked, answer: httpx2.Response, folder: Path) -> None:
    streams = answer.headers.get("content-type", "").startswith("text/event-stream")
    told = "" if streams else answer.text
    assert answer.status_code < 500 or answer.status_code in (501, 503), (answer.status_code, told)
    everything = f"{told}\n{answer.headers}"
    patterns = [TRACES] if asked.kind == "owner" else [TRACES, HIDDEN, re.compile(re.escape(str(folder)))]
    assert [found for pattern in patterns if (found := pattern.search(everything))] == [], told
    assert len(told) < 200_000
    if streams:
        assert answer.status_code == 200
    elif told and told != PLAIN.get(answer.status_code):
        check_shape(asked, answer.status_code, json.loads(told))


def check_shape(asked: Asked, status: int, told: Any) -> None:
    for one in told if isinstance(told, list) and asked.kind == "owner" else [told]:
        assert isinstance(one, dict)
        if "jsonrpc" in one:
            assert one["jsonrpc"] == "2.0"
            assert ("result" in one) != ("error" in one)
        if "error" in one:
            assert isinstance(one["error"]["code"], int)
            assert isinstance(one["error"]["message"], str)
            assert one["error"]["code"] != INTERNAL, one
    if status >= 400 and asked.kind in ("rest", "public") and not isinstance(told.get("error"), dict):
        assert told.keys() == {"code", "message", "hint"}
    elif status >= 400 and asked.kind == "rest" and "jsonrpc" not in told:
        assert told["error"]["code"] == status


@fuzzed
@given(odd=odd_requests)
async def test_an_odd_request_gets_the_protocols_answer(target: Target, odd: Asked) -> None:
    with anyio.fail_after(20):
        answer = await target.ask(odd)
        if answer is not None:
            note(f"{answer.status_code} {answer.headers}")
            check(odd, answer, target.folder)


raw = st.one_of(
    st.binary(max_size=300),
    st.builds(lambda start, rest: start + rest, st.sampled_from(STARTS), st.binary(max_size=100)),
)


@settings(fuzzed, max_examples=EXAMPLES // 4)
@given(data=raw)
async def test_odd_bytes_on_a_connection_end_it_and_nothing_else(target: Target, data: bytes) -> None:
    """Also bodies that end in the middle: the connection is closed for writing at once."""
    with anyio.fail_after(20):
        host, port = target.client.url.removeprefix("http://").split(":")
        async with await anyio.connect_tcp(host, int(port)) as connection:
            told = b""
            try:
                await connection.send(data)
                await connection.send_eof()
                while True:
                    told += await connection.receive()
            except (anyio.EndOfStream, anyio.BrokenResourceError):
                pass
    status = told.split(b" ", 2)[1:2]
    assert status == [] or status[0] < b"500", told
    assert TRACES.search(told.decode("latin-1")) is None


async def test_afterwards_the_gateway_works_and_nothing_is_half_stored(target: Target) -> None:
    """Runs last in this module. Every task has its message and its end, every session its numbers."""
    client = target.client
    with anyio.fail_after(60):
        assert text_of(await client.send("hello", "N=1")) == "word0 "
        assert client.http.headers.get("x-api-key") is None
        sessions: list[Json] = []
        page: Json = {"next": None}
        while not sessions or page["next"]:
            page = await client.owner("sessions.list", limit=500, **({"cursor": page["next"]} if page["next"] else {}))
            sessions += page["sessions"]
        for session in sessions:
            await check_session(client, session["id"])
    assert len(sessions) > 1


async def check_session(client: Client, id: str) -> None:
    events = await client.events(id)
    while open_tasks(events):  # the last ones may still be at work
        events = await client.events(id)
    check_log(events)


def open_tasks(events: list[Json]) -> list[str]:
    """Tasks without an end; every one has a message first."""
    found: dict[str, list[str]] = {}
    for event in events:
        if event["task_id"] and event["level"] != "internal":
            found.setdefault(event["task_id"], []).append(event["type"])
    assert {types[0] for types in found.values()} == {"message"}
    return [task for task, types in found.items() if types[-1] != "done"]
