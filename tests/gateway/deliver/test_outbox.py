"""The outbox in the database: rows are part of their event's transaction, and a lease is only its holder's.

[PUSH-2]
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import Connection, select, update

from adapters.events import chunk, done
from gateway.db.engine import Database
from gateway.deliver import configs, outbox
from gateway.deliver.configs import Wanted
from gateway.deliver.models import Outbox
from gateway.errors import Conflict, NotFound
from gateway.log.rows import Batch, Position
from gateway.log.store import Log, append, entries
from gateway.turns import queue
from gateway.turns.spec import Inbound
from registry.secrets import Secrets

LEASE = 60_000_000
_outbox = Outbox.__table__  # type: ignore[attr-defined]


@pytest.fixture
async def log(database_url: str) -> AsyncIterator[Log]:
    database = Database(database_url)
    await database.start()
    log = Log(database)
    log.within.append(outbox.enqueue)
    yield log
    await database.aclose()


async def task_of(log: Log, tmp_path: Path, *names: str) -> queue.Accepted:
    """A task with push configs of these names."""
    secrets = Secrets.load(tmp_path / "secrets.key")

    def op(conn: Connection) -> queue.Accepted:
        accepted = queue.accept(conn, "agt_1", 1, "me", Inbound(({"text": "Hi"},)), 10)
        for name in names:
            wanted = Wanted(name, f"http://{name}.test/", f"http://{name}.test", token="t")
            configs.save(conn, secrets, "agt_1", "me", accepted.task_id, wanted)
        return accepted

    return await log.database.write(op)


async def end(log: Log, task: queue.Accepted, *, final: bool = True) -> None:
    last = done("completed")
    last.body["final"] = final
    new = entries([chunk("a"), last], task_id=task.task_id, turn_id=task.turn_id)
    await log.write(lambda conn: [append(conn, task.session_id, new)])


async def states(log: Log) -> list[tuple[str, str, int]]:
    query = select(_outbox.c.part, _outbox.c.state, _outbox.c.attempts).order_by(_outbox.c.pos)
    return [tuple(row) for row in await log.database.read(lambda conn: conn.execute(query).all())]


async def claim(log: Log, limit: int = 10, share: int = 10, **running: int) -> list[outbox.Due]:
    taken = {f"http://{name}.test": count for name, count in running.items()}
    return await log.database.write(lambda conn: outbox.claim(conn, limit, LEASE, taken, share))


async def test_what_is_owed_stands_in_the_transaction_of_its_event(log: Log, tmp_path: Path) -> None:
    task = await task_of(log, tmp_path, "a")

    def fails(conn: Connection, batch: Batch) -> None:
        assert conn.execute(select(_outbox)).all()
        raise Conflict("no", "never")

    log.within.append(fails)
    with pytest.raises(Conflict):
        await end(log, task)
    assert await states(log) == []
    assert [row.type for row in await log.read(task.session_id, Position(0))] == ["message"]
    log.within.remove(fails)
    await end(log, task)
    assert [state[:2] for state in await states(log)] == [("artifactUpdate", "pending"), ("statusUpdate", "pending")]


async def test_a_turn_that_ends_while_its_task_goes_on_owes_no_status(log: Log, tmp_path: Path) -> None:
    task = await task_of(log, tmp_path, "a")
    await end(log, task, final=False)
    assert [state[0] for state in await states(log)] == ["artifactUpdate"]


async def test_a_task_without_configs_owes_nothing(log: Log, tmp_path: Path) -> None:
    await end(log, await task_of(log, tmp_path))
    assert await states(log) == []


async def test_one_delivery_of_a_config_is_on_its_way_at_a_time(log: Log, tmp_path: Path) -> None:
    await end(log, await task_of(log, tmp_path, "a", "b"))
    first = await claim(log)
    assert [(due.origin, due.part) for due in first] == [
        ("http://a.test", "artifactUpdate"),
        ("http://b.test", "artifactUpdate"),
    ]
    assert await claim(log) == []
    await log.database.write(lambda conn: outbox.delivered(conn, first[1]))
    assert [(due.origin, due.part) for due in await claim(log)] == [("http://b.test", "statusUpdate")]


async def test_no_receiver_gets_more_than_its_share(log: Log, tmp_path: Path) -> None:
    for _ in range(3):
        await end(log, await task_of(log, tmp_path, "a", "b"))
    assert [due.origin for due in await claim(log, share=2, a=1)] == ["http://a.test", "http://b.test", "http://b.test"]
    assert [due.origin for due in await claim(log, share=2, a=2, b=2)] == []
    assert [due.origin for due in await claim(log, limit=1, share=2, a=1)] == ["http://a.test"]


async def test_a_lease_that_ran_out_is_taken_over_and_its_old_holder_settles_nothing(log: Log, tmp_path: Path) -> None:
    await end(log, await task_of(log, tmp_path, "a"))
    (old,) = await claim(log)
    await log.database.write(lambda conn: conn.execute(update(_outbox).values(next_at=0)) and None)
    (new,) = await claim(log)
    assert (new.id, new.attempts) == (old.id, 2)
    for settle in (outbox.delivered, outbox.put_back, outbox.drop, lambda conn, due: outbox.failed(conn, due, "x", None)):
        await log.database.write(lambda conn, settle=settle: settle(conn, old))  # type: ignore[misc]
    assert (await states(log))[0] == ("artifactUpdate", "delivering", 2)
    await log.database.write(lambda conn: outbox.failed(conn, new, "x", 1_000_000))
    assert (await states(log))[0] == ("artifactUpdate", "pending", 2)
    assert await claim(log) == []  # neither before its time, nor the one behind it
    assert await log.database.read(outbox.next_due)


async def test_a_dead_delivery_does_not_hold_up_the_next_and_can_be_sent_again(log: Log, tmp_path: Path) -> None:
    await end(log, await task_of(log, tmp_path, "a"))
    (first,) = await claim(log)
    with pytest.raises(Conflict):
        await log.database.write(lambda conn: outbox.redeliver(conn, first.id))
    await log.database.write(lambda conn: outbox.failed(conn, first, "x", None))
    (second,) = await claim(log)
    assert (second.part, await log.database.read(outbox.counts)) == ("statusUpdate", {"dead": 1, "delivering": 1})
    await log.database.write(lambda conn: outbox.delivered(conn, second))
    await log.database.write(lambda conn: outbox.redeliver(conn, first.id))
    assert [(due.id, due.attempts) for due in await claim(log)] == [(first.id, 1)]
    with pytest.raises(NotFound):
        await log.database.write(lambda conn: outbox.redeliver(conn, "dlv_0"))


async def test_what_was_delivered_long_ago_is_forgotten(log: Log, tmp_path: Path) -> None:
    await end(log, await task_of(log, tmp_path, "a"))
    (first,) = await claim(log)
    await log.database.write(lambda conn: outbox.delivered(conn, first))
    assert await log.database.write(lambda conn: outbox.forget(conn, 60_000_000, 100)) == 0
    assert await log.database.write(lambda conn: outbox.forget(conn, -60_000_000, 100)) == 1
    assert await states(log) == [("statusUpdate", "pending", 0)]


def test_the_parts_told_are_those_of_a_stream_response() -> None:
    from a2a.types import a2a_pb2 as pb

    names = {field.json_name for field in pb.StreamResponse.DESCRIPTOR.fields}
    assert {part for parts in outbox.TOLD.values() for part in parts} <= names
