"""Webhooks of a session: what they are told, in what pieces, signed by what; what is refused.

[HOOK-1] [HOOK-2]
"""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest
from sqlalchemy import Connection, func, select, text, update
from sqlalchemy.util import await_only
from standardwebhooks import Webhook, WebhookVerificationError

from adapters.events import Event, artifact, ask, chunk, done, notice, tool_start
from gateway.db.engine import Database
from gateway.deliver import destinations, outbox
from gateway.deliver.guard import Guard
from gateway.deliver.models import Outbox
from gateway.deliver.sender import Sender
from gateway.deliver.worker import Courier
from gateway.errors import Conflict, InvalidParams, NotFound
from gateway.files.links import Links
from gateway.files.refs import Kept
from gateway.files.shown import Shown
from gateway.files.store import Disk, put
from gateway.log.rows import Position, Row
from gateway.log.store import Log, append, entries
from gateway.settings import Settings
from gateway.turns import queue
from gateway.turns.spec import Inbound
from registry.secrets import Secrets
from tests.gateway.deliver.receivers import Receiver
from tests.postgres import PostgresServer

NEW, OLD = ("whsec_" + base64.b64encode(bytes([n]) * 32).decode() for n in (1, 2))
GUARD = Guard.allowing("127.0.0.1")
_outbox = Outbox.__table__  # type: ignore[attr-defined]


@dataclass
class Stage:
    """A session with its log, its destinations and a courier that stands still until it is run."""

    log: Log
    secrets: Secrets
    courier: Courier
    task: queue.Accepted
    store: Disk

    async def hook(self, url: str, **given: Any) -> str:
        wanted = await destinations.validate(GUARD, [{"url": url, **given}])
        (made,) = await self.log.database.write(
            lambda conn: destinations.save(conn, self.secrets, self.task.session_id, wanted)
        )
        return str(made["id"])

    async def happen(self, *events: Event) -> None:
        new = entries(events, task_id=self.task.task_id, turn_id=self.task.turn_id)
        await self.log.write(lambda conn: [append(conn, self.task.session_id, new)])

    async def rows(self) -> list[Row]:
        return [row for row in await self.log.read(self.task.session_id, Position(0)) if row.sub == 0]

    async def owed(self) -> int:
        query = select(func.count()).select_from(_outbox)
        return int(await self.log.database.read(lambda conn: conn.execute(query).scalar_one()))


@pytest.fixture
async def stage(tmp_path: Path, database_url: str) -> AsyncIterator[Stage]:
    async with staged(tmp_path, database_url) as stage:
        yield stage


@asynccontextmanager
async def staged(tmp_path: Path, database_url: str) -> AsyncIterator[Stage]:
    settings = Settings(data_dir=tmp_path, database_url=database_url, webhook_backoff_seconds=0.01, webhook_seconds=5)
    database, secrets = Database(settings.database), Secrets.load(tmp_path / "secrets.key")
    await database.start()
    log, store = Log(database), Disk(settings.files_dir)

    async def no_push(_: outbox.Due) -> bytes | None:
        return None

    files = Shown(store, Links("http://gateway.test", b"key"), inline=10)
    courier = Courier(database, settings, secrets, Sender(GUARD, 5), files, no_push)
    log.within.append(outbox.enqueue)
    log.after.append(courier.wake)
    new = Inbound(({"text": "Hi"},))
    task = await database.write(lambda conn: queue.accept(conn, "agt_1", 1, "me", new, 10))
    yield Stage(log, secrets, courier, task, store)
    await database.aclose()


@asynccontextmanager
async def delivering(stage: Stage) -> AsyncIterator[None]:
    with anyio.fail_after(20):
        async with anyio.create_task_group() as group:
            await group.start(stage.courier.run)
            yield
            group.cancel_scope.cancel()


async def test_couriers_of_several_gateways_share_an_outbox(tmp_path: Path, database_url: str, receiver: Receiver) -> None:
    """Each event goes out once, and in order; what one of them has taken and never settles another one takes over."""
    async with staged(tmp_path, database_url) as one, staged(tmp_path, database_url) as two:
        ids = [await one.hook(f"{receiver.url}/ok?{number}") for number in range(3)]
        other = Stage(two.log, two.secrets, two.courier, one.task, two.store)
        await one.happen(chunk("taken by a third one that dies"))
        dead = await one.log.database.write(lambda conn: outbox.claim(conn, 1, 60_000_000, {}, 10))
        async with delivering(one), delivering(two):
            for number in range(40):
                await (one if number % 2 else other).happen(chunk(f"{number}"), ask(f"{number}?"))
            await receiver.until(lambda: all(len(of(receiver, id)) == 81 for id in ids if id != dead[0].config_id))
            assert of(receiver, dead[0].config_id) == []
            over = update(_outbox).where(_outbox.c.pos == dead[0].pos).values(next_at=0)
            await one.log.database.write(lambda conn: conn.execute(over).close())
            await receiver.until(lambda: len(of(receiver, dead[0].config_id)) == 81)
    assert len({got.id for got in receiver.got}) == len(receiver.got)
    assert all(of(receiver, id) == list(range(2, 83)) for id in ids)


def of(receiver: Receiver, id: str) -> list[int]:
    """The numbers of the events a webhook was told, as they came."""
    told = [got.json["data"] for got in receiver.got]
    return [event["seq"] for data in told if data["destination"] == id for event in data["events"]]


def told(receiver: Receiver, path: str = "/ok") -> list[dict[str, Any]]:
    """The events of every delivery, each once, in the order they came."""
    return [event for got in receiver.once() if got.path == path for event in got.json["data"]["events"]]


async def test_a_webhook_is_told_every_event_a_caller_may_read_once_and_in_order(stage: Stage, receiver: Receiver) -> None:
    id = await stage.hook(f"{receiver.url}/ok")
    await stage.happen(chunk("a"), notice("runtime", "secret"), tool_start("call_1", "shell", {"command": "ls"}, "ls"))
    async with delivering(stage):
        await receiver.until(lambda: len(told(receiver)) == 2)
        await stage.happen(ask("Which?"), done("needs_input"))
        await receiver.until(lambda: len(told(receiver)) == 4)
    first, *_ = receiver.got
    rows = (await stage.rows())[1:]
    assert told(receiver) == [
        {
            "seq": row.seq,
            "id": row.id,
            "type": row.type,
            "level": row.level,
            "actor": row.actor,
            "task_id": stage.task.task_id,
            "turn_id": stage.task.turn_id,
            "body": json.loads(row.body),
            "created_at": event["created_at"],
        }
        for row, event in zip(rows, told(receiver), strict=True)
    ]
    session = {"id": stage.task.session_id, "agent": None, "metadata": {}}
    assert first.json == {
        "type": "session.events",
        "timestamp": first.json["data"]["events"][-1]["created_at"],
        "data": {"destination": id, "session": session, "events": first.json["data"]["events"]},
    }
    assert {key for key in first.headers if key.startswith("webhook")} == {"webhook-id", "webhook-timestamp"}


async def test_level_and_types_choose_what_is_owed_when_it_happens(stage: Stage, receiver: Receiver) -> None:
    await stage.hook(f"{receiver.url}/ok", level="user", types=["tool_start", "done"])
    await stage.happen(chunk("a"), tool_start("call_1", "shell", {"command": "ls"}, "ls"), notice("runtime", "x"))
    assert await stage.owed() == 0
    await stage.happen(chunk("b"), done("completed"))
    async with delivering(stage):
        await receiver.until(lambda: [event["type"] for event in told(receiver)] == ["done"])


async def test_a_burst_is_one_delivery_while_nobody_has_taken_it(stage: Stage, receiver: Receiver) -> None:
    await stage.hook(f"{receiver.url}/ok")
    for number in range(50):
        await stage.happen(chunk(f"{number} "))
    assert await stage.owed() == 1
    async with delivering(stage):
        await receiver.until(lambda: len(told(receiver)) == 50)
    assert "".join(event["body"]["text"] for event in told(receiver)) == "".join(f"{number} " for number in range(50))


async def test_a_delivery_does_not_grow_beyond_its_bound(
    stage: Stage, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "ROOM", 4 * (outbox.ROW_SIZE + 20))
    await stage.hook(f"{receiver.url}/ok")
    for number in range(5):
        await stage.happen(chunk("x"), ask(f"{number}"))
    await stage.happen(chunk("y" * 5000), ask("z"))
    async with delivering(stage):
        await receiver.until(lambda: len(told(receiver)) == 12)
    assert [event["seq"] for event in told(receiver)] == [row.seq for row in (await stage.rows())[1:]]
    assert [len(got.json["data"]["events"]) for got in receiver.once()] == [4, 4, 2, 1, 1]


async def test_what_was_taken_out_stays_as_it_is_in_every_try(stage: Stage, receiver: Receiver) -> None:
    """Whatever comes while a delivery is tried, put back or sent again is told by another one."""
    await stage.hook(f"{receiver.url}/status")
    receiver.status = 500
    await stage.happen(chunk("a"))
    async with delivering(stage):
        await receiver.until(lambda: len(receiver.got) >= 2)
        await stage.happen(chunk("b"))
    await stage.happen(chunk("c"))  # the gateway stands still: the first one was put back
    receiver.status = 200
    async with delivering(stage):
        await receiver.until(lambda: len(receiver.acknowledged) == 2)
    texts = {got.id: "".join(event["body"]["text"] for event in got.json["data"]["events"]) for got in receiver.got}
    assert list(texts.values()) == ["a", "bc"]
    assert len({got.body for got in receiver.got}) == 2


async def test_files_are_told_as_urls_or_by_their_bytes(stage: Stage, receiver: Receiver) -> None:
    await stage.hook(f"{receiver.url}/ok", types=["artifact"])
    for name, data in (("small", b"few"), ("large", b"more than ten")):
        content = put(stage.store, [data])
        await stage.happen(artifact(name, [Kept(f"fil_{name}", name, "text/plain", content.size, content.sha256).part()]))
    async with delivering(stage):
        await receiver.until(lambda: len(told(receiver)) == 2)
    small, large = (event["body"]["parts"][0] for event in told(receiver))
    assert small == {"raw": base64.b64encode(b"few").decode(), "filename": "small", "mediaType": "text/plain"}
    assert large.pop("url").startswith("http://gateway.test/files/fil_large?expires=")
    assert large == {"filename": "large", "mediaType": "text/plain"}


async def test_every_secret_signs_so_that_receivers_can_change_over(stage: Stage, receiver: Receiver) -> None:
    id = await stage.hook(f"{receiver.url}/ok", secrets=[OLD])
    await stage.happen(chunk("a"))
    async with delivering(stage):
        await receiver.until(lambda: len(receiver.got) == 1)
        for seen, secrets in ((1, (NEW, OLD)), (2, (NEW,))):
            await stage.log.database.write(
                lambda conn, secrets=secrets: destinations.sign(conn, stage.secrets, stage.task.session_id, id, secrets)  # type: ignore[misc]
            )
            await stage.happen(chunk(secrets[0]))
            await receiver.until(lambda: len(receiver.got) == seen + 1)  # noqa: B023
    assert [verified(got, OLD) for got in receiver.got] == [True, True, False]
    assert [verified(got, NEW) for got in receiver.got] == [False, True, True]


def verified(got: Any, secret: str) -> bool:
    try:
        Webhook(secret).verify(got.body, got.headers)
    except WebhookVerificationError:
        return False
    return True


async def test_a_ping_is_signed_as_deliveries_are_and_tells_what_came_of_it(stage: Stage, receiver: Receiver) -> None:
    id = await stage.hook(f"{receiver.url}/status", secrets=[NEW])
    receiver.statuses = [204, 500]
    well, badly = [await stage.courier.ping(id) for _ in range(2)]
    assert verified(receiver.got[0], NEW)
    assert receiver.got[0].json == {
        "type": "ping",
        "timestamp": receiver.got[0].json["timestamp"],
        "data": {"destination": id},
    }
    url = f"{receiver.url}/status"
    assert well == {"id": id, "url": url, "delivery": receiver.got[0].id, "ok": True, "reason": None, "ms": well["ms"]}
    assert (badly["ok"], badly["reason"]) == (False, "The receiver answered 500.")
    assert await stage.owed() == 0
    with pytest.raises(NotFound):
        await stage.courier.ping("dst_0")


async def test_a_webhook_that_is_removed_is_owed_nothing(stage: Stage, receiver: Receiver) -> None:
    id = await stage.hook(f"{receiver.url}/ok", secrets=[NEW])
    await stage.happen(chunk("a"))
    session = stage.task.session_id
    (shown,) = await stage.log.database.read(lambda conn: destinations.listing(conn, session))
    created_at = shown["created_at"]
    assert shown == {
        "id": id,
        "url": f"{receiver.url}/ok",
        "level": "progress",
        "types": [],
        "signed": True,
        "created_at": created_at,
    }
    with pytest.raises(NotFound):
        await stage.log.database.write(lambda conn: destinations.remove(conn, "ses_0", id))
    await stage.log.database.write(lambda conn: destinations.remove(conn, session, id))
    assert await stage.owed() == 0
    with pytest.raises(NotFound):
        await stage.log.database.write(lambda conn: destinations.sign(conn, stage.secrets, session, id, ()))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"url": "https://127.0.0.2/"}, "destinations.0.url cannot be used"),
        ({"url": "http://10.0.0.1/"}, "destinations.0.url cannot be used"),
        ({"url": "nonsense"}, "destinations.0.url cannot be used"),
        ({"level": "user"}, "destinations.0.url: Field required"),
        ({"url": "http://127.0.0.1/", "level": "internal"}, "destinations.0.level: "),
        ({"url": "http://127.0.0.1/", "types": ["raw"]}, "'raw' is no type of event"),
        ({"url": "http://127.0.0.1/", "types": ["steered"]}, "'steered' is no type of event"),
        ({"url": "http://127.0.0.1/", "secrets": ["whsec_short"]}, "destinations.0.secrets: a secret is whsec_"),
        ({"url": "http://127.0.0.1/", "secrets": [NEW, OLD, NEW]}, "destinations.0.secrets: "),
        ({"url": "http://127.0.0.1/", "colour": "red"}, "destinations.0.colour: "),
        ("http://127.0.0.1/", "destinations.0: "),
    ],
)
async def test_a_destination_that_cannot_be_kept_is_refused(given: Any, said: str) -> None:
    """[PUSH-4]"""
    with pytest.raises(InvalidParams) as caught:
        await destinations.validate(GUARD, [given])
    assert said in caught.value.message
    assert NEW not in caught.value.message


async def test_a_session_has_a_bounded_number_of_destinations(stage: Stage) -> None:
    wanted = await destinations.validate(GUARD, [{"url": "http://127.0.0.1/"}] * destinations.MAX_DESTINATIONS)
    with pytest.raises(InvalidParams):
        await destinations.validate(GUARD, [{"url": "http://127.0.0.1/"}] * (destinations.MAX_DESTINATIONS + 1))
    save = destinations.save
    await stage.log.database.write(lambda conn: save(conn, stage.secrets, stage.task.session_id, wanted))
    with pytest.raises(Conflict):
        await stage.log.database.write(lambda conn: save(conn, stage.secrets, stage.task.session_id, wanted[:1]))
    with pytest.raises(NotFound):
        await stage.log.database.write(lambda conn: save(conn, stage.secrets, "ses_0", wanted[:1]))


async def test_nothing_is_owed_for_ever_to_a_webhook_that_is_removed_while_something_happens(
    tmp_path: Path, postgres: PostgresServer
) -> None:
    name = postgres.create()
    async with staged(tmp_path, postgres.url(name)) as stage:
        id, written = await stage.hook("http://127.0.0.1:9/"), anyio.Event()
        new = entries([chunk("a")], task_id=stage.task.task_id, turn_id=stage.task.turn_id)

        def happen(conn: Connection) -> None:
            outbox.enqueue(conn, append(conn, stage.task.session_id, new))
            written.set()
            while not waits_for_a_lock(conn):
                await_only(anyio.sleep(0.01))

        async def remove() -> None:
            await written.wait()
            await stage.log.database.write(lambda conn: destinations.remove(conn, stage.task.session_id, id))

        with anyio.fail_after(20):
            async with anyio.create_task_group() as group:
                group.start_soon(partial(stage.log.database.write, happen, beside=True))
                group.start_soon(remove)
        assert await stage.owed() == 0
    postgres.drop(name)


async def test_what_happens_while_a_webhook_is_added_is_before_it_or_owed_to_it(
    tmp_path: Path, postgres: PostgresServer
) -> None:
    """[HOOK-1] Who was told that the webhook is there misses nothing that comes into the log after that."""
    name = postgres.create()
    async with staged(tmp_path, postgres.url(name)) as stage:
        written, added = anyio.Event(), anyio.Event()
        new = entries([chunk("a")], task_id=stage.task.task_id, turn_id=stage.task.turn_id)

        def happen(conn: Connection) -> None:
            outbox.enqueue(conn, append(conn, stage.task.session_id, new))
            written.set()
            while not (waits_for_a_lock(conn) or added.is_set()):
                await_only(anyio.sleep(0.01))
            assert not added.is_set(), "the webhook was there before the event, which is not owed to it"

        async def add() -> None:
            await written.wait()
            await stage.hook("http://127.0.0.1:9/")
            added.set()

        with anyio.fail_after(20):
            async with anyio.create_task_group() as group:
                group.start_soon(partial(stage.log.database.write, happen, beside=True))
                group.start_soon(add)
        assert len(await stage.rows()) == 2
        await stage.happen(chunk("b"))
        assert await stage.owed() == 1
    postgres.drop(name)


def waits_for_a_lock(conn: Connection) -> bool:
    """Whether somebody else does."""
    return bool(conn.execute(text("SELECT count(*) FROM pg_locks WHERE NOT granted")).scalar())
