"""Who reads only what is said learns where text begins anew after a crash, however it reads. [RESUME-4]"""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

import anyio

from tests.gateway.sessions.api import WAIT, Api
from tests.gateway.sessions.test_sessions_socket import bridged
from tests.gateway.turns.parrot import DONE, RUNTIMES, chunk, say
from tests.support import Json, serving

DIES = say(["once", [chunk("one "), chunk("two "), ["exit", 3]]], chunk("a "), chunk("b"), DONE)


def shown(events: Sequence[Json]) -> str:
    """The text of a turn as a page would show it that knows nothing but what it is told."""
    text, anew = "", False
    for event in events:
        if event["type"] == "turn_started":
            anew = event["body"].get("anew", False)
        elif event["type"] == "chunk":
            text, anew = ("" if anew else text) + event["body"]["text"], False
    return text


async def test_readers_of_what_is_said_show_a_text_that_begins_anew_once(tmp_path: Path) -> None:
    async with serving(tmp_path, RUNTIMES, turn_backoff_seconds=0.01) as gateway:
        api = Api(gateway)
        await gateway.owner("agent.create", name="parrot", runtime="parrot")
        id = (await api.create(DIES, agent="parrot"))["id"]
        with anyio.fail_after(WAIT):
            live: list[Json] = []
            async for _, event in api.sse(id, level="user"):
                live.append(event)
                if event["type"] == "done":
                    break
            async with bridged(gateway, id, "?level=user") as ws:
                await ws.next("live")
            await api.rest(id)
            polled = await api.get(f"/{id}/events", level="user", wait=5)
            log = await api.log(id, level="user")
            await api.post(f"/{id}/archive")
            lines = await api.ask("GET", f"/{id}/events?level=user", headers={"Accept": "application/x-ndjson"})
            typed = await api.log(id, level="user", types="turn_started,chunk")
    types = [type for type, _ in groupby(event["type"] for event in log)]
    assert types == ["message", "chunk", "turn_started", "chunk", "done"]
    assert live == ws.events == polled["events"] == log == [json.loads(line) for line in lines.text.splitlines() if line]
    assert shown(log) == shown(typed) == "a b"


async def test_a_turn_that_begins_once_tells_such_readers_nothing_of_it(tmp_path: Path) -> None:
    async with serving(tmp_path, RUNTIMES) as gateway:
        api = Api(gateway)
        id = (await api.finished("N=1"))["id"]
        assert [event["type"] for event in await api.log(id, level="user")][::2] == ["message", "done"]
