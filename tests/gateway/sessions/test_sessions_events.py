"""Reading a session's log: every way tells the same, and goes on where it was cut. [SES-6]"""

from __future__ import annotations

import json
from pathlib import Path

import anyio
import pytest

from gateway.db.engine import Database
from gateway.files.links import Links
from gateway.log.rows import Batch, Position, Row
from gateway.log.store import Log
from gateway.sessions.frames import NDJSON, SSE, Filter, Teller
from tests.gateway.sessions.api import WAIT, Api, problem
from tests.gateway.turns.parrot import DONE, RUNTIMES, chunk, say
from tests.support import Json, serving

LINE_ENDS = "a\x85b\u2028c\u2029d\n\r\u0000"


async def archived(api: Api, input: str = "N=3 TOOLFAIL", agent: str = "hello") -> tuple[str, list[Json]]:
    """A session whose streams end, and its log."""
    session = await api.finished(input, agent=agent)
    await api.post(f"/{session['id']}/archive")
    return session["id"], await api.log(session["id"])


@pytest.mark.usefixtures("database_url")
async def test_every_way_of_reading_tells_the_same(tmp_path: Path) -> None:
    async with serving(tmp_path, RUNTIMES) as gateway:
        api = Api(gateway)
        await gateway.owner("agent.create", name="parrot", runtime="parrot")
        id, log = await archived(api, say(chunk(LINE_ENDS), DONE), "parrot")
        assert "".join(event["body"]["text"] for event in log if event["type"] == "chunk") == LINE_ENDS
        assert [event["seq"] for event in log] == list(range(1, len(log) + 1))
        with anyio.fail_after(WAIT):
            streamed = [(seq, event) async for seq, event in api.sse(id)]
            ndjson = await api.ask("GET", f"/{id}/events", headers={"Accept": "application/x-ndjson"})
        assert streamed == [(event["seq"], event) for event in log]
        assert [json.loads(line) for line in ndjson.text.splitlines() if line] == log
        paged: list[Json] = []
        after = 0
        while (page := await api.get(f"/{id}/events", after=after, limit=2))["events"]:
            paged += page["events"]
            after = page["next"]
        assert (paged, after) == (log, len(log))
        told = await gateway.events(id)
        internal = [event for event in told if event["level"] == "internal"]
        assert internal
        assert [{**event, "sub": 0} for event in log] == [event for event in told if event["level"] != "internal"]


async def test_a_stream_goes_on_after_any_event(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        api = Api(gateway)
        id, log = await archived(api)
        with anyio.fail_after(WAIT):
            for seq in range(len(log)):
                for given in ({"params": {"after": seq}}, {"headers": {"Last-Event-ID": str(seq)}, "params": {"after": 0}}):
                    found = [event async for _, event in api.sse(id, given.get("headers"), **given["params"])]  # type: ignore[arg-type]
                    assert found == log[seq:]


async def test_an_event_source_is_told_not_to_come_again(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        api = Api(gateway)
        id, log = await archived(api)
        done = next(event["seq"] for event in log if event["type"] == "done")
        for after, types, status in (
            (len(log), None, 204),
            (len(log) - 1, None, 200),
            (done, "done", 204),
            (done - 1, "done", 200),
        ):
            headers = {"Accept": "text/event-stream", "Last-Event-ID": str(after)}
            answer = await api.ask("GET", f"/{id}/events", headers=headers, params={"types": types} if types else {})
            assert (after, types, answer.status_code) == (after, types, status)


async def test_a_stream_begins_with_retry_and_has_its_type(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        api = Api(gateway)
        id, _ = await archived(api)
        answer = await api.ask("GET", f"/{id}/events", headers={"Accept": "text/event-stream"})
        assert answer.text.startswith("retry: 1000\n\nid: 1\ndata: {")
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["cache-control"] == "no-store"


async def test_filters_choose_and_numbers_stay(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        api = Api(gateway)
        id, log = await archived(api)
        user = [event for event in log if event["level"] == "user"]
        assert {"tool_start", "turn_started"} <= {event["type"] for event in log} - {event["type"] for event in user}
        assert await api.log(id, level="user") == user
        ends = [event for event in log if event["type"] in ("message", "done")]
        assert await api.log(id, types="message,done") == ends
        assert [event async for _, event in api.sse(id, types="message,done", level="user")] == ends
        page = await api.get(f"/{id}/events", types="done", limit=1, after=1)
        assert page == {"events": ends[1:], "next": ends[1]["seq"]}
        assert await api.get(f"/{id}/events", types="ask") == {"events": [], "next": len(log)}


async def test_a_long_poll_waits_for_what_is_wanted(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        api = Api(gateway)
        session = await api.finished("N=1")
        after = (await api.get(f"/{session['id']}"))["seq"]
        assert (await api.get(f"/{session['id']}/events", after=after)) == {"events": [], "next": after}
        found: list[Json] = []

        async def poll() -> None:
            found.append(await api.get(f"/{session['id']}/events", after=after, wait=WAIT, types="done"))

        with anyio.fail_after(WAIT):
            async with anyio.create_task_group() as group:
                group.start_soon(poll)
                await api.post(f"/{session['id']}/messages", {"input": "N=1"})
        (page,) = found
        log = await api.log(session["id"])
        assert page["events"] == [event for event in log[after:] if event["type"] == "done"]
        assert page["next"] == log[-1]["seq"]
        short = await api.get(f"/{session['id']}/events", after=log[-1]["seq"], wait=0.01)
        assert short == {"events": [], "next": log[-1]["seq"]}


async def test_the_log_is_a_file_to_download(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        api = Api(gateway)
        id, log = await archived(api)
        answer = await api.ask("GET", f"/{id}/log", params={"after": 2})
        assert answer.headers["content-disposition"] == f'attachment; filename="{id}.jsonl"'
        assert [json.loads(line) for line in answer.text.splitlines()] == log[2:]


async def test_a_live_stream_has_what_many_readers_have(tmp_path: Path) -> None:
    """[INV-5]"""
    async with serving(tmp_path) as gateway:
        api = Api(gateway)
        session = await api.create("N=200 D=200")
        read: list[list[Json]] = []

        async def reader(after: int) -> None:
            found = []
            async for _, event in api.sse(session["id"], after=after):
                found.append(event)
                if event["type"] == "done":
                    break
            read.append(found)

        with anyio.fail_after(WAIT):
            async with anyio.create_task_group() as group:
                for number in range(30):
                    group.start_soon(reader, number % 2)
        log = await api.log(session["id"])
        assert all(found in (log, log[1:]) for found in read)


def batch(*rows: tuple[int, str, str]) -> Batch:
    made = [Row("s", seq, 0, f"e{seq}", None, None, type, level, "agent", "{}", 0) for seq, type, level in rows]
    return Batch("s", Position(0), made)


def test_what_many_read_is_encoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """[INV-4]"""
    encoded: list[int] = []
    teller = Teller(Log(Database(f"sqlite:///{tmp_path / 'a.db'}")), Links("https://x", b"key"))
    real = teller.encoded
    monkeypatch.setattr(teller, "encoded", lambda row: [encoded.append(row.seq), real(row)][1])
    rows = batch((1, "chunk", "user"), (2, "tool_start", "progress"), (2, "usage", "internal"))
    wanted = [Filter(), Filter("user"), Filter(types=frozenset({"chunk"}))]
    for framing in (SSE, NDJSON):
        for _ in range(2):
            texts = [teller.framed(rows, framing, one) for one in wanted]
            assert texts[1] == texts[2] != texts[0]
            assert teller.framed(rows, framing, Filter()) is texts[0]
    assert encoded == [1, 2]


WRONG: list[tuple[Json, dict[str, str]]] = [
    ({"after": 999}, {}),
    ({"after": -1}, {}),
    ({"after": "x"}, {}),
    ({"after": 2**62}, {}),
    ({}, {"Last-Event-ID": "999"}),
    ({}, {"Last-Event-ID": "1.5"}),
    ({}, {"Last-Event-ID": "-1"}),
    ({}, {"Last-Event-ID": "9" * 30}),
    ({"level": "internal"}, {}),
    ({"types": "chunk,usage"}, {}),
    ({"types": ""}, {}),
    ({"limit": 0}, {}),
    ({"wait": 61}, {}),
    ({"wait": "nan"}, {}),
    ({"afer": 1}, {}),
]


async def test_a_cursor_or_a_filter_that_makes_no_sense_is_refused(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        api = Api(gateway)
        session = await api.create("N=1")
        for params, headers in WRONG:
            for accept in ("application/json", "text/event-stream", "application/x-ndjson"):
                asked = {"Accept": accept, **headers}
                answer = await api.ask("GET", f"/{session['id']}/events", params=params, headers=asked)
                assert (params, headers, *problem(answer)) == (params, headers, 400, "invalid_params")
        await api.rest(session["id"])
