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
from tests.fuzz.requests import CONTEXT, TASK, Asked, odd_requests
from tests.support import Client, Json, serving, text_of

EXAMPLES = int(os.environ.get("SWITCHBOARD_FUZZ_EXAMPLES", "300"))
# A runtime that is not there: what is accepted ends at once, and without a process.
DEAF = replace(REHEARSAL, name="deaf", title="Deaf", executable="no-such-vendor")
RUNTIMES = {"rehearsal": REHEARSAL, "deaf": DEAF}
TRACES = re.compile(
    r"Traceback|File \"|\.py\b|site-packages|object at 0x|<class|Errno|sqlite|sqlalchemy|pydantic|starlette|protobuf|jsonrpcserver|asyncio"
)
HIDDEN = re.compile(r"deaf|rehears|no-such-vendor|/tmp/|/root/|/home/|/usr/", re.IGNORECASE)  # from callers; owners see all
INTERNAL = -32603
PLAIN = {404: "Not Found", 405: "Method Not Allowed"}  # addresses that are nobody's

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
            await client.owner("agent.create", name=name, runtime="deaf")
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
    if asked.kind == "rest" and status >= 400:
        assert told["error"]["code"] == status
    if asked.kind == "public" and status >= 400:
        assert told.keys() == {"code", "message", "hint"}


@fuzzed
@given(odd=odd_requests)
async def test_an_odd_request_gets_the_protocols_answer(target: Target, odd: Asked) -> None:
    with anyio.fail_after(20):
        answer = await target.ask(odd)
        if answer is not None:
            note(f"{answer.status_code} {answer.headers}")
            check(odd, answer, target.folder)
