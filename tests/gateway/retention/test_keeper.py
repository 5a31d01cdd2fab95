"""Closed sessions go into the archive, and nothing of them is lost, repeated or told differently.

[KEEP-1] [KEEP-2]
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from gateway.log import snapshot
from gateway.log.models import EventRow
from gateway.log.rows import Position
from gateway.retention import keeper, segments
from gateway.retention.keeper import _piece, pieces, raise_floor
from tests.gateway.retention.archives import Stage, keeping
from tests.support import Client, Json, streamed_text, text_of

_event = EventRow.__table__  # type: ignore[attr-defined]


async def resumed(client: Client, task_id: str, last: str) -> list[Any]:
    headers = {"Last-Event-ID": last}
    return [frame async for frame in client.frames("hello", "SubscribeToTask", {"id": task_id}, headers)]


async def archived(stage: Stage, session_id: str) -> list[Any]:
    """What the archive's files hold, as the database names them."""
    found = await stage.database.read(lambda conn: pieces(conn, session_id))
    return [row for piece in found for row in segments.read(stage.keeper.directory, piece.path, session_id)]


async def listed(client: Client) -> list[Json]:
    sessions: list[Json] = (await client.owner("sessions.list"))["sessions"]
    return sessions


async def test_a_closed_session_is_in_the_archive_but_for_how_it_ended(tmp_path: Path, database_url: str) -> None:
    async with keeping(tmp_path) as stage:
        client = stage.client
        task = await stage.send("N=4 TOOLS=1")
        session_id = task["contextId"]
        before, shown, titles = (
            await stage.rows(session_id),
            await client.owner("sessions.show", id=session_id),
            await listed(client),
        )
        assert await stage.keeper.sweep() == 1
        last = before[-1].seq
        assert await stage.rows(session_id) == [row for row in before if row.seq == last]
        assert await archived(stage, session_id) == [row for row in before if row.seq < last]
        assert await client.get("hello", task["id"]) == task
        assert await stage.show(session_id) == {**shown, "floor": last - 1}
        assert await listed(client) == titles
        assert await stage.keeper.sweep() == 0


async def test_reading_below_the_floor_gives_a_snapshot_and_then_what_follows(tmp_path: Path, database_url: str) -> None:
    async with keeping(tmp_path) as stage:
        client = stage.client
        first = await stage.send("N=2")
        session_id = first["contextId"]
        await stage.keeper.sweep()
        second = await stage.send("N=3", contextId=session_id)  # it goes on all the same
        events = await client.events(session_id)
        snapshot = events[0]
        assert snapshot.pop("created_at")
        assert snapshot == {
            "seq": snapshot["body"]["upto"],
            "sub": 0,
            "id": f"snapshot-{snapshot['seq']}",
            "type": "snapshot",
            "level": "user",
            "actor": "system",
            "task_id": None,
            "turn_id": None,
            "body": {"upto": snapshot["seq"], "tasks": [first], "older_tasks": 0},
        }
        seqs = [event["seq"] for event in events if not event["sub"]]
        assert seqs == list(range(snapshot["seq"], seqs[-1] + 1))
        assert text_of(second) == "Turn 2. Before this you said: N=2\nword0 word1 word2 "
        assert {event["task_id"] for event in events[1:]} == {first["id"], second["id"]}


async def test_a_stream_resumed_below_the_floor_tells_the_whole_task_and_ends(tmp_path: Path) -> None:
    """[A2A-3]"""
    async with keeping(tmp_path) as stage:
        client = stage.client
        frames = [frame async for frame in client.stream("hello", "N=3")]
        task = await client.get("hello", frames[0].result["task"]["id"])
        other = await stage.send("N=1", contextId=task["contextId"])
        await stage.keeper.sweep()
        (whole,) = await resumed(client, task["id"], frames[1].id)
        assert (whole.id, whole.result) == (frames[-1].id, {"task": task})
        assert await resumed(client, task["id"], frames[-1].id) == []
        later = [frame async for frame in client.stream("hello", "N=2", contextId=task["contextId"])]
        again = await resumed(client, later[0].result["task"]["id"], "1")  # a task that is not archived, from far before it
        assert (streamed_text(again), again[-1].id) == (streamed_text(later), later[-1].id)
        listed = (await client.rpc("hello", "ListTasks", {"contextId": task["contextId"]}))["result"]["tasks"]
        assert [found["id"] for found in listed] == [later[0].result["task"]["id"], other["id"], task["id"]]


async def test_what_is_not_closed_stays(tmp_path: Path) -> None:
    async with keeping(tmp_path) as stage:
        asking = await stage.send("ASK")
        assert asking["status"]["state"] == "TASK_STATE_INPUT_REQUIRED"
        running = await stage.client.send("hello", "N=1 HANG", configuration={"returnImmediately": True})
        counts = [await stage.count(task["contextId"]) for task in (asking,)]
        assert await stage.keeper.sweep() == 0
        assert [await stage.count(asking["contextId"])] == counts
        await stage.client.owner("sessions.cancel", id=running["contextId"])
        assert await stage.keeper.sweep() == 1


@pytest.mark.parametrize("killed_after", ["freeze", "write", "raise", "half a prune"])
async def test_killed_anywhere_on_the_way_nothing_is_lost_or_repeated(
    tmp_path: Path, database_url: str, killed_after: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next keeper does the rest, whatever was written between them."""
    monkeypatch.setattr(keeper, "PRUNE_ROWS", 3)
    async with keeping(tmp_path) as stage:
        task = await stage.send("N=5 TOOLS=1")
        session_id = task["contextId"]
        await stage.keeper._freeze(session_id)
        if killed_after != "freeze":
            piece = await stage.database.read(lambda conn: _piece(conn, session_id))
            assert piece is not None
            await stage.keeper.write(piece)
        if killed_after in ("raise", "half a prune"):
            assert await stage.database.write(lambda conn: raise_floor(conn, piece))
        if killed_after == "half a prune":
            assert await stage.database.write(lambda conn: keeper._prune(conn, session_id, piece.last))
        if killed_after in ("freeze", "write"):
            await stage.send("N=1", contextId=session_id)
        whole = await stage.client.events(session_id) if killed_after in ("freeze", "write") else None
        await stage.keeper.sweep()
        rows = [*await archived(stage, session_id), *await stage.rows(session_id)]
        assert [row.seq for row in rows if not row.sub] == list(range(1, rows[-1].seq + 1))
        assert len({row.position for row in rows}) == len(rows)
        if whole:
            assert [(row.id, json.loads(row.body)) for row in rows] == [(event["id"], event["body"]) for event in whole]
        assert await stage.client.get("hello", task["id"]) == task
        last = rows[-1].seq
        assert {row.seq for row in await stage.rows(session_id)} == {last}


async def test_while_a_log_is_pruned_readers_get_the_snapshot_and_what_follows_it(
    tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """[INV-2]"""
    monkeypatch.setattr(keeper, "PRUNE_ROWS", 1)
    async with keeping(tmp_path) as stage:
        session_id = (await stage.send("N=5 TOOLS=1"))["contextId"]
        before = await stage.rows(session_id)
        await stage.keeper._freeze(session_id)
        piece = await stage.database.read(lambda conn: _piece(conn, session_id))
        assert piece is not None
        assert await stage.database.write(lambda conn: raise_floor(conn, piece))
        expected = [(piece.last, "snapshot"), *[(row.seq, row.type) for row in before if row.seq > piece.last]]
        for left in range(sum(row.seq <= piece.last for row in before) - 1, 0, -1):
            assert await stage.database.write(lambda conn: keeper._prune(conn, session_id, piece.last))
            assert await stage.rows(session_id) == before[-left - len(expected) + 1 :]
            told = await stage.client.events(session_id)
            assert [(event["seq"], event["type"]) for event in told] == expected
            page = await stage.database.read(lambda conn: snapshot.page(conn, session_id, Position(0), 1000))
            assert [(row.seq, row.type) for row in page] == expected


async def test_a_session_that_goes_on_meanwhile_keeps_its_log(tmp_path: Path) -> None:
    async with keeping(tmp_path) as stage:
        task = await stage.send("N=2")
        session_id = task["contextId"]
        await stage.keeper._freeze(session_id)
        piece = await stage.database.read(lambda conn: _piece(conn, session_id))
        assert piece is not None
        await stage.keeper.write(piece)
        await stage.send("N=2", contextId=session_id)
        assert not await stage.database.write(lambda conn: raise_floor(conn, piece))
        rows = await stage.rows(session_id)
        assert [row.seq for row in rows if not row.sub] == list(range(1, rows[-1].seq + 1))


async def test_a_damaged_session_keeps_no_other_from_the_archive(tmp_path: Path) -> None:
    async with keeping(tmp_path) as stage:
        damaged, whole = [(await stage.send("N=1"))["contextId"] for _ in range(2)]
        spoil = update(_event).where(_event.c.session_id == damaged, _event.c.type == "chunk").values(body="{")
        await stage.database.write(lambda conn: conn.execute(spoil).close())
        assert await stage.keeper.sweep() == 1
        assert {row.type for row in await stage.rows(whole)} == {"done"}
        assert await stage.keeper.sweep() == 0


async def test_a_damaged_file_is_said_and_a_missing_directory_is_made(tmp_path: Path) -> None:
    async with keeping(tmp_path) as stage:
        task = await stage.send("N=2")
        await stage.keeper.sweep()
        (piece,) = await stage.database.read(lambda conn: pieces(conn, task["contextId"]))
        path = stage.keeper.directory / piece.path
        assert path.parent.stat().st_mode & 0o777 == 0o700
        assert [found.name for found in path.parent.iterdir()] == [path.name]
        path.write_bytes(path.read_bytes()[:-10])
        with pytest.raises(segments.Unavailable) as caught:
            list(segments.read(stage.keeper.directory, piece.path, task["contextId"]))
        assert repr(str(path)) in caught.value.message
