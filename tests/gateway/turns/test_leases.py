"""The lease of a turn: who holds it, who finds it lost, and what arrives too late."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from types import SimpleNamespace

import anyio
import pytest
from anyio.lowlevel import checkpoint
from sqlalchemy import Connection, select
from sqlalchemy.util import await_only

import gateway.clock
import gateway.turns.watch
from adapters import events as ev
from gateway.db.engine import Database
from gateway.errors import Fenced
from gateway.log.models import EventRow, Session
from gateway.log.rows import Entry
from gateway.log.store import append
from gateway.turns import leases, orders, queue
from gateway.turns.leases import Claimed
from gateway.turns.queue import Accepted
from gateway.turns.spec import Inbound
from gateway.turns.watch import Watch
from tests.gateway.log.log_tools import opened
from tests.gateway.turns.calls import calling, cancel, make_agent, speaks, state_of
from tests.gateway.turns.parrot import RUNTIMES, chunk, say
from tests.support import serving

pytestmark = pytest.mark.usefixtures("database_url")
LEASE = 6
HOUR_US = 3_600_000_000


class Clock:
    """The machine's clocks, as a test sets them."""

    def __init__(self) -> None:
        self.wall_us, self.seconds = 1_800_000_000_000_000, 1000.0

    def time_ns(self) -> int:
        return self.wall_us * 1000

    def monotonic(self) -> float:
        return self.seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(gateway.clock, "time", SimpleNamespace(time_ns=clock.time_ns))
    monkeypatch.setattr(gateway.turns.watch, "time", SimpleNamespace(monotonic=clock.monotonic))
    return clock


def accept(conn: Connection, **more: str) -> Accepted:
    return queue.accept(conn, "agt_1", 1, "anonymous", Inbound(({"text": "hello"},), **more), 10)  # type: ignore[arg-type]


def claim(conn: Connection, owner: str = "wrk_1") -> Claimed:
    (turn,) = queue.claim(conn, owner, 1, LEASE)
    return turn


def begin(conn: Connection, turn: Claimed) -> None:
    leases.begin(conn, turn, [Entry("turn_started", "progress", "system", "{}", turn.task_id, turn.id, 1)])


def dones(conn: Connection) -> int:
    event = EventRow.__table__.c  # type: ignore[attr-defined]
    return len(conn.execute(select(event.seq).where(event.type == "done")).all())


def status(conn: Connection) -> str | None:
    found: str | None = conn.execute(select(Session.__table__.c.status)).scalar()  # type: ignore[attr-defined]
    return found


@pytest.mark.parametrize("jump", [-HOUR_US, HOUR_US], ids=["back", "ahead"])
async def test_a_lease_does_not_end_because_a_clock_jumps(tmp_path: Path, clock: Clock, jump: int) -> None:
    """[LEASE-7]"""
    async with opened(tmp_path) as log:
        database = log.database
        await database.appear("wrk_1")
        turn = await database.write(lambda conn: (accept(conn), claim(conn))[1])
        watch = Watch(database, "wrk_2", LEASE)
        assert await watch.lost(()) == []
        clock.wall_us += jump
        clock.seconds += LEASE - 0.1
        assert await watch.lost(()) == []
        assert await database.write(lambda conn: leases.beat(conn, "wrk_1", [turn.id], LEASE)) == {turn.id}
        clock.seconds += LEASE - 0.1
        assert await watch.lost(()) == []
        clock.seconds += LEASE + 0.1
        (lost,) = await watch.lost(())
        assert lost.id == turn.id


async def test_a_holder_that_is_heard_of_at_the_last_moment_keeps_its_turn(tmp_path: Path, clock: Clock) -> None:
    """[LEASE-7]"""
    async with opened(tmp_path) as log:
        turn = await log.database.write(lambda conn: (accept(conn), claim(conn))[1])
        (seen,) = await log.database.read(lambda conn: leases.others(conn, ()))
        clock.wall_us += 1
        await log.database.write(lambda conn: leases.beat(conn, "wrk_1", [turn.id], LEASE))
        assert await log.database.write(lambda conn: leases.take_over(conn, "wrk_2", [seen], LEASE)) == []
        (seen,) = await log.database.read(lambda conn: leases.others(conn, ()))
        (taken,) = await log.database.write(lambda conn: leases.take_over(conn, "wrk_2", [seen], LEASE))
        assert taken.fence > turn.fence


async def test_a_turn_that_its_worker_gave_up_is_found_though_the_worker_is_busy(tmp_path: Path, clock: Clock) -> None:
    """[LEASE-1] It renews what it holds, nothing else."""
    async with opened(tmp_path) as log:
        await log.database.appear("wrk_1")
        held, given_up = await log.database.write(
            lambda conn: (accept(conn), accept(conn), *queue.claim(conn, "wrk_1", 2, LEASE))[2:]
        )
        watch = Watch(log.database, "wrk_2", LEASE)
        await watch.lost(())
        clock.seconds += LEASE + 1
        clock.wall_us += 1
        await log.database.write(lambda conn: leases.beat(conn, "wrk_1", [held.id], LEASE))
        assert [turn.id for turn in await watch.lost(())] == [given_up.id]


async def test_nothing_arrives_after_the_end_of_a_turn_that_was_broken_off(tmp_path: Path) -> None:
    """[INV-3] What its runner had on its way comes too late."""

    def broken_off(conn: Connection) -> Claimed:
        accept(conn)
        turn = claim(conn)
        begin(conn, turn)
        queue.end_abandoned(conn, turn, "inc_1", "It was stopped.")
        return turn

    async with opened(tmp_path) as log:
        turn = await log.database.write(broken_off)
        late = Entry("chunk", "user", "agent", '{"text":"late"}', turn.task_id, turn.id, 1)
        with pytest.raises(Fenced):
            await log.database.write(lambda conn: append(conn, turn.session_id, [late], turn.fence))
        with pytest.raises(Fenced):
            await log.database.write(lambda conn: queue.finish(conn, turn, [ev.done("completed")], None))
        assert await log.database.read(dones) == 1


async def test_a_turn_whose_done_is_on_its_way_when_it_is_broken_off_ends_once(tmp_path: Path) -> None:
    """[INV-6] Who breaks it off waits for what is on its way, and sees it."""
    async with opened(tmp_path) as log:
        turn = await log.database.write(lambda conn: (accept(conn), claim(conn))[1])
        await log.database.write(lambda conn: begin(conn, turn))
        written = anyio.Event()

        def slow(conn: Connection) -> None:
            queue.finish(conn, turn, [ev.done("completed")], None)
            if conn.dialect.name == "postgresql":  # on SQLite they never run beside one another
                await_only(until_somebody_waits(log.database))

        async def until_somebody_waits(database: Database) -> None:
            written.set()
            waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"
            while not await database.read(lambda conn: conn.exec_driver_sql(waiting).scalar_one(), snapshot=False):
                await checkpoint()

        async with anyio.create_task_group() as group:
            group.start_soon(partial(log.database.write, slow, beside=True))
            await (written.wait() if log.database.url.startswith("postgresql") else checkpoint())
            await log.database.write(lambda conn: queue.end_abandoned(conn, turn, "inc_1", "It was stopped."))
        assert await log.database.read(dones) == 1


async def test_a_turn_that_was_to_be_interrupted_and_was_queued_again_can_be_canceled(tmp_path: Path) -> None:
    """[INV-6] With one end."""

    def queued_again(conn: Connection) -> Accepted:
        accepted = accept(conn)
        turn = claim(conn)
        orders.interrupt(conn, accepted.session_id)
        leases.hand_back(conn, turn)
        return accepted

    async with opened(tmp_path) as log:
        accepted = await log.database.write(queued_again)
        for _ in range(2):
            await log.database.write(lambda conn: queue.cancel_waiting(conn, accepted.task_id))
        assert await log.database.read(lambda conn: queue.is_over(conn, accepted.task_id))
        assert await log.database.read(dones) == 1


async def test_a_session_rests_whose_last_task_is_canceled_while_a_process_is_on_its_way_out(tmp_path: Path) -> None:
    """[INV-6]"""

    def canceled(conn: Connection) -> None:
        first = accept(conn)
        turn = claim(conn)
        second = accept(conn, context_id=first.session_id)
        queue.finish(conn, turn, [ev.done("completed")], None)
        queue.cancel_waiting(conn, second.task_id)
        leases.release(conn, turn)

    async with opened(tmp_path) as log:
        await log.database.write(canceled)
        assert await log.database.read(status) == "idle"


async def test_a_worker_that_has_a_turn_again_runs_it_when_its_old_process_is_gone(tmp_path: Path) -> None:
    """[LEASE-2] It was lost to another worker, who put it back into the queue."""
    async with serving(tmp_path, RUNTIMES, stop_seconds=0.5) as gateway:
        await make_agent(gateway, "parrot", "parrot")
        with anyio.fail_after(20):
            async with calling(gateway, say(chunk("one"), ["sleep"]), agent="parrot") as call:
                await call.until(speaks)
                worker = gateway.engine.worker
                (held,) = worker._held.values()

                def lose(conn: Connection) -> None:
                    (seen,) = leases.others(conn, ())
                    leases.hand_back(conn, leases.take_over(conn, "wrk_other", [seen], LEASE)[0])

                await gateway.engine.log.database.write(lose)
                held.lease.cancel()
                worker.wake()
                await held.finished.wait()
                answer = await cancel(gateway, call.task["id"], "parrot")
            assert state_of(answer["result"]) == "CANCELED"
            assert state_of(await gateway.send("hello", "N=1")) == "COMPLETED"


async def test_nothing_is_begun_on_a_write_of_which_nobody_knows(tmp_path: Path) -> None:
    """[LEASE-5] It may still be carried out, when the turn has long gone on."""
    async with serving(tmp_path, RUNTIMES, lease_seconds=0.5) as gateway:

        async def never(op: object) -> None:
            await anyio.sleep_forever()

        async def at_once(op: object) -> None: ...

        async def refused(op: object) -> None:
            raise Fenced("Fence 1 is old.")

        with anyio.fail_after(10):
            written = [await gateway.engine.worker.settling.insist(write, print) for write in (never, at_once, refused)]
    assert written == [False, True, False]
