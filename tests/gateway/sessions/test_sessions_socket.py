"""The WebSocket bridge: replay, then live; commands; who may not come in. [SES-9]"""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import anyio
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from gateway.clock import now_us
from gateway.sessions import socket as bridge
from tests.gateway.log.log_tools import entry, write
from tests.gateway.sessions.api import PATH, WAIT, Api
from tests.gateway.turns.parrot import DONE, RUNTIMES, chunk, say
from tests.support import Client, Json, serving


class Bridge:
    """One connection; frames that are waited for by their type, events collected."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self.events: list[Json] = []

    async def say(self, **command: Any) -> None:
        await self.connection.send(json.dumps(command))

    async def next(self, *types: str) -> Json:
        """The next frame of one of these types."""
        with anyio.fail_after(WAIT):
            while True:
                frame: Json = json.loads(await self.connection.recv())
                if frame["type"] == "events":
                    self.events += frame["events"]
                if frame["type"] in types:
                    return frame

    async def until(self, type: str) -> Json:
        """The first event of a type from here on."""
        while True:
            for event in (await self.next("events"))["events"]:
                if event["type"] == type:
                    return dict(event)


@asynccontextmanager
async def bridged(
    gateway: Client, id: str, query: str = "", headers: dict[str, str] | None = None, **more: Any
) -> AsyncIterator[Bridge]:
    url = f"{gateway.url.replace('http', 'ws')}{PATH}/{id}/ws{query}"
    async with connect(url, additional_headers=headers, max_size=2**24, **more) as connection:
        yield Bridge(connection)


async def test_a_connection_replays_and_goes_on_live(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        api = Api(gateway)
        session = await api.finished("N=3")
        before = await api.log(session["id"])
        async with bridged(gateway, session["id"]) as ws:
            assert await ws.next("live") == {"type": "live", "seq": before[-1]["seq"]}
            assert ws.events == before
            await ws.say(type="ping", id="p")
            assert await ws.next("pong", "events") == {"type": "pong", "id": "p"}
            await ws.say(type="message", id="m", input="N=2", metadata={"a": 1})
            answer = await ws.next("answer")
            assert (answer["id"], answer["result"]["delivery"]) == ("m", "queued")
            if ws.events[-1]["type"] != "done" or ws.events[-1]["seq"] <= before[-1]["seq"]:
                await ws.until("done")
            log = await api.log(session["id"])
            assert ws.events == log
            assert answer["result"]["seq"] == before[-1]["seq"] + 1
        async with bridged(gateway, session["id"], f"?after={log[-3]['seq']}&types=done&level=user") as ws:
            await ws.next("live")
            assert ws.events == [event for event in log[-2:] if event["type"] == "done"]
        async with bridged(gateway, session["id"], f"?after={log[-1]['seq']}") as ws:
            assert (await ws.next("live"))["seq"] == log[-1]["seq"]
            await api.post(f"/{session['id']}/archive")
            assert (await ws.until("system"))["body"]["kind"] == "archived"
            with pytest.raises(ConnectionClosed) as closed, anyio.fail_after(WAIT):
                await ws.connection.recv()
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1000


async def test_commands_do_what_their_operations_do(tmp_path: Path) -> None:
    async with serving(tmp_path, RUNTIMES, stop_seconds=0.1) as gateway:
        api = Api(gateway)
        await gateway.owner("agent.create", name="parrot", runtime="parrot")
        session = await api.create(say(chunk("one "), ["take"], DONE), "parrot")
        async with bridged(gateway, session["id"]) as ws:
            if not any(event["type"] == "chunk" for event in ws.events):
                await ws.until("chunk")
            await ws.say(type="steer", id="s", input="two")
            assert (await ws.next("answer"))["result"]["delivery"] == "steered"
            if ws.events[-1]["type"] != "done":
                await ws.until("done")
            assert (await api.rest(session["id"]))["text"] == "one two"
            await ws.say(type="steer", id="t", input="three")
            error = await ws.next("error")
            assert (error["id"], error["code"]) == ("t", "nothing_running")
            await ws.say(type="message", input=say(chunk("more"), ["sleep"]))
            await ws.next("answer")
            if ws.events[-1]["type"] != "chunk":
                await ws.until("chunk")
            await ws.say(type="interrupt", id="i")
            assert (await ws.next("answer"))["id"] == "i"
            await ws.say(type="cancel", id="c")
            assert (await ws.next("answer"))["result"] == {"session_id": session["id"], "tasks": []}


async def test_a_command_that_makes_no_sense_is_refused_and_the_connection_stays(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        session = await Api(gateway).finished("N=1")
        async with bridged(gateway, session["id"]) as ws:
            wrong = [
                "{",
                "[]",
                '"x"',
                "{}",
                '{"type": "shout"}',
                '{"type": "message"}',
                '{"type": "ping", "a": NaN}',
                "[" * 200,
            ]
            wrong += ['{"type": "steer", "input": "x", "mode": "queue"}', '{"type": "ping", "id": 5}', '{"type":"ping","x":1}']
            for text in wrong:
                await ws.connection.send(text)
                assert (await ws.next("error"))["code"] == "invalid_params", text
            await ws.say(type="ping", id="still here")
            assert (await ws.next("pong"))["id"] == "still here"
            await ws.connection.send(b"binary")
            with pytest.raises(ConnectionClosed), anyio.fail_after(WAIT):
                await ws.next("none")


async def refused(gateway: Client, id: str, query: str = "", **more: Any) -> tuple[int, str]:
    with pytest.raises(InvalidStatus) as caught, anyio.fail_after(WAIT):
        async with bridged(gateway, id, query, **more):
            pass
    answer = caught.value.response
    problem = json.loads(answer.body or b"{}")
    assert set(problem) == {"code", "message", "hint"}
    return answer.status_code, problem["code"]


async def test_a_handshake_is_refused_as_a_request_is(tmp_path: Path) -> None:
    async with serving(tmp_path, cors_origins="https://app.example.com") as gateway:
        api = Api(gateway)
        session, other = await api.finished("N=1"), await api.finished("N=1")
        id = session["id"]
        token = session["client_token"]["token"]
        assert await refused(gateway, "ses_none") == (404, "not_found")
        assert await refused(gateway, other["id"], f"?token={token}") == (404, "not_found")
        assert await refused(gateway, id, "?token=x") == (401, "not_allowed")
        assert await refused(gateway, id, headers={"X-API-Key": "wrong"}) == (401, "not_allowed")
        assert await refused(gateway, id, "?after=999") == (400, "invalid_params")
        assert await refused(gateway, id, "?bogus=1") == (400, "invalid_params")
        assert await refused(gateway, id, origin="https://evil.example.com") == (403, "out_of_scope")
        for origin in ("https://app.example.com", gateway.url, None):
            async with bridged(gateway, id, f"?token={token}", origin=origin) as ws:
                await ws.next("live")


async def test_a_token_to_read_reads(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        api = Api(gateway)
        id = (await api.finished("N=1"))["id"]
        token = (await api.post(f"/{id}/tokens", {"scopes": ["read"]}))["token"]
        async with bridged(gateway, id, headers={"Authorization": f"Bearer {token}"}) as ws:
            await ws.next("live")
            await ws.say(type="message", id="m", input="x")
            error = await ws.next("error")
            assert (error["id"], error["code"]) == ("m", "out_of_scope")


async def test_a_connection_whose_token_has_expired_does_and_tells_nothing_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(tmp_path) as gateway:
        api = Api(gateway)
        session = await api.finished("N=1")
        id = session["id"]
        async with bridged(gateway, id, f"?token={session['client_token']['token']}") as ws:
            await ws.next("live")
            monkeypatch.setattr("gateway.sessions.access.now_us", lambda: now_us() + 10**12)
            await ws.say(type="message", id="m", input="x")
            assert (await ws.next("error"))["code"] == "not_allowed"
            seen = list(ws.events)
            await api.post(f"/{id}/messages", {"input": "N=1"})
            with pytest.raises(ConnectionClosed) as closed:
                await ws.next("none")
            assert closed.value.rcvd is not None
            assert (closed.value.rcvd.code, ws.events) == (bridge.EXPIRED, seen)
        await api.rest(id)


async def test_a_connection_is_closed_when_its_token_expires(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """[TOK-4] Whether or not there is anything to tell."""
    async with serving(tmp_path) as gateway:
        session = await Api(gateway).finished("N=1")
        token = session["client_token"]
        soon = int(datetime.fromisoformat(token["expires_at"]).timestamp() * 1_000_000) - now_us() - 200_000
        monkeypatch.setattr("gateway.sessions.access.now_us", lambda: now_us() + soon)
        async with bridged(gateway, session["id"], f"?token={token['token']}") as ws:
            with pytest.raises(ConnectionClosed) as closed:
                await ws.next("none")
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == bridge.EXPIRED


async def test_who_does_not_read_is_cut_off_and_may_come_again(tmp_path: Path) -> None:
    """[INV-5]"""
    async with serving(tmp_path, send_timeout=0.2) as gateway:
        api = Api(gateway)
        assert gateway.app is not None
        id = (await api.finished("N=1"))["id"]
        for _ in range(50):  # more than the kernel holds for a connection
            await write(gateway.app.state.log, id, [entry(body=json.dumps({"text": "x" * 1_000_000}))])
        async with bridged(gateway, id, max_queue=1, compression=None) as ws:
            with anyio.fail_after(WAIT):
                while gateway.app.state.log.hub.readers(id):  # noqa: ASYNC110
                    await anyio.sleep(0.05)
            with pytest.raises(ConnectionClosed):
                await ws.next("none")
            last = ws.events[-1]["seq"] if ws.events else 0
        log = await api.log(id)
        assert ws.events == log[:last]
        async with bridged(gateway, id, f"?after={last}") as again:
            await again.next("live")
        assert again.events == log[last:]


async def test_the_log_of_connections_does_not_see_a_token(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """[TOK-3]"""
    async with serving(tmp_path) as gateway:
        session = await Api(gateway).finished("N=1")
        token = session["client_token"]["token"]
        monkeypatch.setattr(logging.getLogger("uvicorn.error"), "handlers", [caplog.handler])
        with caplog.at_level(logging.INFO, "uvicorn.error"):
            async with bridged(gateway, session["id"], f"?token={token}") as ws:
                await ws.next("live")
            await refused(gateway, session["id"], f"?token={token}x")
    assert f"{PATH}/{session['id']}/ws" in caplog.text
    assert token[:20] not in caplog.text
