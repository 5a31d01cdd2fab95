"""A session moved between installations is the same there; what is no whole session is refused and leaves nothing.

[MOVE-1]
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from gateway.cli.main import main
from gateway.errors import Fenced, InvalidParams
from gateway.files.store import Disk
from gateway.transfer.load import Loader, Whose
from tests.gateway.retention.archives import Stage, keeping
from tests.support import Client, Json


async def export(client: Client, session_id: str, **params: str) -> bytes:
    headers = {"Authorization": f"Bearer {client.owner_key}"}
    answer = await client.http.get(f"{client.url}/owner/sessions/{session_id}/export", params=params, headers=headers)
    assert answer.status_code == 200, answer.text
    return answer.content


async def load(client: Client, data: bytes, **params: str) -> tuple[int, Json]:
    headers = {"Authorization": f"Bearer {client.owner_key}"}
    answer = await client.http.post(f"{client.url}/owner/sessions/import", params=params, content=data, headers=headers)
    return answer.status_code, answer.json()


async def everything(stage: Stage, task_id: str, session_id: str) -> list[Any]:
    """What callers and owners read of a session, to compare; but for what belongs to an installation."""
    shown = await stage.show(session_id)
    for name in ("workspace", "floor"):
        del shown[name]
    frames = stage.client.frames("hello", "SubscribeToTask", {"id": task_id}, {"Last-Event-ID": "0"})
    listed = await stage.client.rpc("hello", "ListTasks", {"contextId": session_id, "includeArtifacts": True})
    return [shown, await stage.rows(session_id), [frame async for frame in frames], listed["result"]["tasks"]]


async def test_a_session_moved_to_another_installation_replays_identically(tmp_path: Path, database_url: str) -> None:
    plain = f"sqlite:///{tmp_path / 'a.db'}"
    async with keeping(tmp_path / "a", database_url=plain) as here, keeping(tmp_path / "b", database_url=database_url) as there:
        task = await here.send("N=4 TOOLS=1 Grüße")
        await here.send("N=2", contextId=task["contextId"])
        before = await everything(here, task["id"], task["contextId"])
        data = await export(here.client, task["contextId"])
        status, answer = await load(there.client, data)
        assert (status, answer) == (
            200,
            {"id": task["contextId"], "events": len(before[1]), "tasks": 2, "journal": False},
        )
        assert await everything(there, task["id"], task["contextId"]) == before
        assert events_of(await export(there.client, task["contextId"])) == events_of(data)
        again, refused = await load(there.client, data)
        assert (again, refused["code"]) == (409, "conflict")
        assert await everything(there, task["id"], task["contextId"]) == before
        last = before[1][-1].seq
        await there.send("N=1", contextId=task["contextId"])
        rows = await there.rows(task["contextId"])
        assert rows[: len(before[1])] == before[1]
        assert [row.seq for row in rows if not row.sub] == list(range(1, rows[-1].seq + 1))
        assert rows[-1].seq > last


async def test_an_archived_session_is_exported_whole(tmp_path: Path) -> None:
    async with keeping(tmp_path / "a") as here, keeping(tmp_path / "b") as there:
        task = await here.send("N=4 TOOLS=1")
        data = await export(here.client, task["contextId"])
        await here.keeper.sweep()
        archived = await export(here.client, task["contextId"])
        assert events_of(archived) == events_of(data)
        assert (await load(there.client, archived))[0] == 200
        assert (await there.rows(task["contextId"]))[0].seq == 1
        assert await there.client.get("hello", task["id"]) == task


async def test_files_go_along(tmp_path: Path) -> None:
    async with keeping(tmp_path / "a") as here, keeping(tmp_path / "b") as there:
        await here.client.owner("agent.update", name="hello", changes={"input_modes": ["text/plain"]})
        contents = [b"small", b"", b"small", bytes(1000) * 500]
        parts = [
            {"raw": base64.b64encode(data).decode(), "filename": f"{number}.txt", "mediaType": "text/plain"}
            for number, data in enumerate(contents)
        ]
        task = await here.send("N=1", parts=[{"text": "N=1"}, *parts])
        data = await export(here.client, task["contextId"])
        names = sorted(line["row"]["name"] for line in parsed(data) if line["kind"] == "file")
        assert names == [part["filename"] for part in parts]
        assert (await load(there.client, data.replace(b'"c21hbGw="', b'"c21hbGs="')))[0] == 400
        status, _ = await load(there.client, written(parsed(data.replace(b'"c21hbGw="', b'"c21hbGs="'))))
        assert status == 400
        assert (await load(there.client, data))[0] == 200
        moved = await there.client.get("hello", task["id"])
        *small, large = moved["history"][0]["parts"]
        assert small == task["history"][0]["parts"][:-1]
        assert (await there.client.http.get(large["url"])).content == contents[-1]


async def test_the_journal_goes_along_when_it_is_asked_for(tmp_path: Path) -> None:
    async with keeping(tmp_path / "a") as here, keeping(tmp_path / "b") as there:
        task = await here.send("N=2")
        place, other = (tmp_path / name / "sessions" / task["contextId"] for name in ("a", "b"))
        (place / "work" / "notes").mkdir()
        (place / "work" / "notes" / "a.txt").write_text("kept" * 100_000, "utf-8")
        (place / "work" / "run").write_text("#!/bin/sh", "utf-8")
        (place / "work" / "run").chmod(0o700)
        (place / "work" / "link").symlink_to("notes/a.txt")
        (place / "work" / "out").symlink_to("/etc/hostname")
        (place / "home" / ".cache").mkdir()
        os.mkfifo(place / "home" / "s")
        data = await export(here.client, task["contextId"], journal="true")
        assert (await load(there.client, data))[1]["journal"] is True
        assert (other / "work" / "link").read_text("utf-8") == "kept" * 100_000
        assert (other / "work" / "run").stat().st_mode & 0o777 == 0o700
        assert not (other / "work" / "out").is_symlink()
        assert not [name for name in ("s", ".cache", "tmp") if (other / "home" / name).exists()]
        again = await there.send("N=1", contextId=task["contextId"])
        assert again["artifacts"][0]["parts"][0]["text"].startswith("Turn 2. Before this you said: N=2")


async def test_without_its_journal_a_session_begins_anew_in_its_runtime(tmp_path: Path) -> None:
    async with keeping(tmp_path / "a") as here, keeping(tmp_path / "b") as there:
        task = await here.send("N=2")
        await load(there.client, await export(here.client, task["contextId"]))
        again = await there.send("N=1", contextId=task["contextId"])
        assert again["status"]["state"] == "TASK_STATE_COMPLETED"


async def test_a_session_can_be_given_to_another_agent_and_caller(tmp_path: Path) -> None:
    async with keeping(tmp_path / "a") as here, keeping(tmp_path / "b") as there:
        task = await here.send("N=2")
        data = await export(here.client, task["contextId"])
        await there.client.owner("agent.create", name="mailer", runtime="rehearsal")
        assert (await load(there.client, data, agent="nobody"))[1]["code"] == "not_found"
        added = await there.client.owner("callers.add", name="shop")
        assert (await load(there.client, data, agent="mailer", principal=added["principal"]))[0] == 200
        assert (await there.show(task["contextId"]))["agent"] == "mailer"
        assert "error" in await there.client.rpc("mailer", "GetTask", {"id": task["id"]})
        await there.client.sign_in(added["key"])
        assert await there.client.get("mailer", task["id"]) == task


async def test_a_session_at_work_is_not_exported(tmp_path: Path) -> None:
    async with keeping(tmp_path) as stage:
        task = await stage.client.send("hello", "N=1 HANG", configuration={"returnImmediately": True})
        headers = {"Authorization": f"Bearer {stage.client.owner_key}"}
        for id, code in ((task["contextId"], "conflict"), ("ses_0", "not_found")):
            answer = await stage.client.http.get(f"{stage.client.url}/owner/sessions/{id}/export", headers=headers)
            assert answer.json()["code"] == code
        answer = await stage.client.http.get(f"{stage.client.url}/owner/sessions/{task['contextId']}/export")
        assert answer.status_code == 401
        await stage.client.owner("sessions.cancel", id=task["contextId"])


def events_of(data: bytes) -> list[bytes]:
    return [line for line in data.splitlines() if line.startswith(b'{"kind":"event"')]


def parsed(data: bytes) -> list[Json]:
    return [json.loads(line) for line in data.splitlines()]


def written(lines: list[Json]) -> bytes:
    """Lines with an end that fits."""
    body = "".join(json.dumps(line) + "\n" for line in lines if line["kind"] != "end").encode()
    events = sum(line["kind"] == "event" for line in lines)
    end = {"kind": "end", "events": events, "sha256": hashlib.sha256(body).hexdigest()}
    return body + json.dumps(end).encode() + b"\n"


def changed(data: bytes, kind: str, **row: Any) -> bytes:
    lines = parsed(data)
    found = [line for line in lines if line["kind"] == kind]
    found[-1]["row"] |= row
    return written(lines)


async def test_what_is_no_whole_session_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    async with keeping(tmp_path / "a") as here, keeping(tmp_path / "b") as there:
        data = await export(here.client, (await here.send("N=4 TOOLS=1"))["contextId"])
        lines = data.splitlines(keepends=True)
        events = [number for number, line in enumerate(lines) if b'"kind":"event"' in line]
        bad = {
            "nothing": b"",
            "no JSON": b"\x1f\x8b\x08",
            "a list": b"[]\n",
            "cut": b"".join(lines[:-1]),
            "cut in a line": data[: len(data) // 2],
            "an event is missing": b"".join(line for number, line in enumerate(lines) if number != events[1]),
            "something behind the end": data + lines[1],
            "two sessions": data + data,
            "no session": b"".join(lines[1:]),
            "changed": data.replace(b"word1", b"WORD1"),
            "another format": data.replace(b'"format":1', b'"format":2'),
            "an unknown kind": data.replace(b'"kind":"task"', b'"kind":"tusk"'),
            "at work": changed(data, "session", status="running"),
            "an id that leads out": changed(data, "session", id="../../etc"),
            "a number that is none": changed(data, "event", seq="x"),
            "a level that is none": changed(data, "event", level="secret"),
            "a row that does not fit": changed(data, "turn", ordinal=None),
            "something large behind the end": data + b"x" * 5_000_000,
            "a journal that is none": written([*parsed(data), {"kind": "journal", "data": "aGFsbG8="}]),
        }
        for what, given in bad.items():
            status, answer = await load(there.client, given)
            assert (what, status, answer["code"]) == (what, 400, "invalid_params")
        assert (await there.client.owner("sessions.list"))["sessions"] == []
        assert not list((tmp_path / "b").glob("sessions/*"))
        assert await load(there.client, data, agent="hello") == (200, (await load_answer(there, data)))


async def load_answer(stage: Stage, data: bytes) -> Json:
    lines = parsed(data)
    id = lines[0]["row"]["id"]
    return {"id": id, "events": lines[-1]["events"], "tasks": 1, "journal": False}


async def test_an_import_that_was_killed_is_taken_over_by_the_next_one(tmp_path: Path) -> None:
    async with keeping(tmp_path / "a") as here, keeping(tmp_path / "b") as there:
        task = await here.send("N=4 TOOLS=1")
        data = await export(here.client, task["contextId"])
        with (tmp_path / "packed").open("w+b") as packed:
            dead = Loader(there.database, tmp_path / "b" / "sessions", Disk(tmp_path / "b" / "files"), Whose(), packed)
            lines = data.splitlines(keepends=True)
            await dead.take(1, lines[:6])  # and no more of it
            assert "error" in await there.client.rpc("hello", "GetTask", {"id": task["id"]})
            refused = await there.client.rpc("hello", "SendMessage", {"message": {"contextId": task["contextId"]}})
            assert "error" in refused
            assert (await load(there.client, data))[0] == 200
            assert await there.client.get("hello", task["id"]) == task
            with pytest.raises(Fenced):  # it was only asleep
                await dead.take(7, lines[6:])
            await dead.undo()
        assert await there.rows(task["contextId"]) == await here.rows(task["contextId"])


async def test_the_command_writes_a_file_and_takes_it_in(tmp_path: Path) -> None:
    async with keeping(tmp_path / "a") as here, keeping(tmp_path / "b") as there:
        task = await here.send("N=4")
        file = str(tmp_path / "session.jsonl")
        assert await command(here, "sessions", "export", task["contextId"], "--with-journal", "-o", file) == 0
        assert await command(there, "sessions", "import", file, "--json") == 0
        assert await there.client.get("hello", task["id"]) == task
        assert await command(there, "sessions", "import", file) == 1
        assert await command(there, "sessions", "import", file + ".not") == 2
        assert await command(there, "sessions", "export", "ses_0", "-o", file) == 1
        assert await command(there, "sessions", "export", "ses_0", "--key", "wrong") == 4


async def command(stage: Stage, *args: str) -> int:
    at = ["--url", stage.client.url, *([] if "--key" in args else ["--key", stage.client.owner_key])]
    return await anyio.to_thread.run_sync(main, [*args, *at])


async def test_a_line_without_an_end_is_not_kept_in_memory_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    from gateway.transfer import load as module

    monkeypatch.setattr(module, "MAX_LINE", 1000)

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 100
            await anyio.lowlevel.checkpoint()

    with pytest.raises(InvalidParams, match="longer than 1000 bytes"):
        async for _ in module._batches(endless()):
            pass
