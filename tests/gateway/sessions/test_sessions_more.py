"""What sessions share with A2A: files, limits, webhooks, the archive."""

from __future__ import annotations

import base64
from pathlib import Path

import anyio

from tests.gateway.deliver.receivers import Receiver, receiving
from tests.gateway.retention.archives import keeping
from tests.gateway.sessions.api import WAIT, Api, problem
from tests.gateway.turns.parrot import DONE, RUNTIMES, say
from tests.support import Json, serving


async def test_files_go_in_and_come_out_as_urls(tmp_path: Path) -> None:
    async with serving(tmp_path, RUNTIMES) as gateway:
        api = Api(gateway)
        await gateway.owner("agent.create", name="parrot", runtime="parrot")
        raw = base64.b64encode(b"one,two\n").decode()
        file = {"file": {"raw": raw, "name": "a.csv", "media_type": "text/plain"}}
        session = await api.create([{"text": "N=1"}, file])
        (message,) = await api.log(session["id"], types="message")
        text, link = message["body"]["parts"]
        assert text == {"text": "N=1"}
        assert {name: link[name] for name in ("filename", "mediaType", "metadata")} == {
            "filename": "a.csv",
            "mediaType": "text/plain",
            "metadata": {"size": 8},
        }
        assert (await gateway.http.get(link["url"])).content == b"one,two\n"
        await api.rest(session["id"])
        refused = await api.ask("POST", "", {"agent": "hello", "input": [{"file": {"raw": raw, "media_type": "image/png"}}]})
        assert problem(refused) == (415, "unsupported_type")
        big = bytes(range(256)) * 1024
        made = {"raw": base64.b64encode(big).decode(), "filename": "b.bin", "mediaType": "application/octet-stream"}
        session = await api.create(say({"type": "artifact", "name": "b", "parts": [made]}, DONE), "parrot")
        (artifact,) = (await api.rest(session["id"]))["artifacts"]
        (part,) = artifact["parts"]
        assert (part["filename"], part["metadata"]) == ("b.bin", {"size": len(big)})
        assert (await gateway.http.get(part["url"])).content == big
        events = await api.log(session["id"], types="artifact")
        pieces = [part["metadata"] for event in events for part in event["body"]["parts"]]
        assert sum(piece.get("length", len(big)) for piece in pieces) == len(big)
        assert "stored" not in str(events)


async def test_a_session_keeps_the_limits_it_was_given(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        api = Api(gateway)
        session = await api.create("N=1", limits={"session_turns": 1})
        assert session["limits"] == {"session_turns": 1}
        await api.rest(session["id"])
        await api.post(f"/{session['id']}/messages", {"input": "N=1"})
        assert (await api.rest(session["id"]))["turn"]["yield_reason"] == "max_turns"
        for limits in ({"bogus": 1}, {"session_turns": 0}, {"turn_seconds": "1"}):
            answer = await api.ask("POST", "", {"agent": "hello", "input": "x", "limits": limits})
            assert problem(answer) == (400, "invalid_params")


async def told(receiver: Receiver, type: str) -> list[Json]:
    """What a webhook was told, once it was told of an event of a type."""
    with anyio.fail_after(WAIT):
        while True:
            bodies = [got.json for got in receiver.got]
            if any(event["type"] == type for body in bodies for event in body["data"]["events"]):
                return bodies
            await anyio.sleep(0.02)


async def test_webhooks_are_given_with_the_session_listed_and_removed(tmp_path: Path) -> None:
    with receiving() as receiver:
        async with serving(tmp_path, allow_private_hosts="127.0.0.1") as gateway:
            api = Api(gateway)
            hook = {"url": f"{receiver.url}/ok", "types": ["message", "done"]}
            session = await api.create("N=1", metadata={"ticket": 4711}, destinations=[hook])
            bodies = await told(receiver, "done")
            about = {"id": session["id"], "agent": "hello", "metadata": {"ticket": 4711}}
            assert {str(body["data"]["session"]) for body in bodies} == {str(about)}
            (shown,) = (await api.get(f"/{session['id']}/destinations"))["destinations"]
            assert {name: shown[name] for name in ("url", "types", "signed")} == hook | {"signed": False}
            assert (await api.ask("DELETE", f"/{session['id']}/destinations/{shown['id']}")).status_code == 204
            assert (await api.get(f"/{session['id']}/destinations"))["destinations"] == []


async def test_of_events_that_went_into_the_archive_there_is_a_snapshot(tmp_path: Path) -> None:
    async with keeping(tmp_path) as stage:
        api = Api(stage.client)
        session = await api.create("N=3")
        before, log = await api.rest(session["id"]), await api.log(session["id"])
        while not await stage.keeper.take(session["id"]):  # noqa: ASYNC110  (there is no event for a process that is gone)
            await anyio.sleep(0.02)
        snapshot, last = await api.log(session["id"], types="done")
        assert (snapshot["type"], snapshot["seq"], last) == ("snapshot", log[-2]["seq"], log[-1])
        assert [task["id"] for task in snapshot["body"]["tasks"]] == [session["task_id"]]
        result = await api.get(f"/{session['id']}/result")
        kept = ("text", "question", "status", "artifacts")
        assert [result[name] for name in kept] == [before[name] for name in kept]
        assert await api.log(session["id"], after=log[-2]["seq"]) == log[-1:]
