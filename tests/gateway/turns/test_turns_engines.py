"""Workers of which some have a container engine that answers: who begins what, and a turn that is handed over."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import anyio
import pytest
from sqlalchemy import Connection, select

import gateway.turns.engines
from adapters import events as ev
from adapters.launch.process import LaunchError
from gateway.db.engine import Database
from gateway.errors import Fenced
from gateway.log.store import append, entries
from gateway.turns import leases, orders, queue
from gateway.turns.engines import STILL_SECONDS, Engines
from gateway.turns.leases import Claimed
from gateway.turns.models import WorkerRow
from gateway.turns.spec import Inbound
from tests.gateway.log.log_tools import opened
from tests.gateway.turns.calls import AT_ONCE, make_agent
from tests.gateway.turns.test_leases import LEASE, Clock, accept, begin, claim, dones
from tests.gateway.turns.test_turns_fair import steps
from tests.support import serving

MOVED = ev.notice("engine_moved", "Another worker goes on.")


class Worker:
    """One with an engine that says what the test wants."""

    def __init__(self, database: Database, name: str, why: str = "") -> None:
        self.why, self.back = why, 0
        self.engines = Engines(database, name, self._ask, self._back)

    async def _ask(self) -> str:
        return self.why

    async def _back(self) -> None:
        self.back += 1

    async def look(self) -> bool:
        """Whether what needs an engine may begin here."""
        await self.engines._look()
        return self.engines.may_begin


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(gateway.turns.engines, "time", SimpleNamespace(monotonic=clock.monotonic))
    return clock


@pytest.mark.usefixtures("database_url")
async def test_who_has_no_engine_leaves_turns_to_who_has_one(tmp_path: Path, clock: Clock) -> None:
    """[BOX-8] Where nobody has one, everybody may begin them."""
    async with opened(tmp_path) as mine, opened(tmp_path) as yours:
        one, two = Worker(mine.database, "wrk_1", "It is away."), Worker(yours.database, "wrk_2")
        await mine.database.appear("wrk_1")
        assert await one.look()
        await yours.database.appear("wrk_2")
        assert await two.look()
        assert (await one.look(), await two.look()) == (False, True)
        assert await one.engines.where() == "unsure"
        clock.seconds += 60
        two.why = "It is away, too."
        assert await two.look()
        assert await one.look()
        assert await one.engines.where() == "here"
        one.why = two.why = ""
        assert (await one.look(), await two.look()) == (True, True)
        assert (one.back, two.back) == (1, 1)


async def test_a_worker_says_which_engine_its_own_is(tmp_path: Path, clock: Clock) -> None:
    """[HAND-12] Once it answers, and there are others who want to know."""

    async def identity() -> str:
        if not told:
            raise LaunchError(1, "It is away.")
        return told[0]

    async def said() -> list[tuple[str, str | None]]:
        rows = select(WorkerRow.name, WorkerRow.engine_id).order_by(WorkerRow.name)  # type: ignore[call-overload]
        return [tuple(row) for row in await mine.database.read(lambda conn: conn.execute(rows).all())]

    told: list[str] = []
    async with opened(tmp_path) as mine, opened(tmp_path) as yours:
        one, two = Worker(mine.database, "wrk_1"), Worker(yours.database, "wrk_2")
        one.engines._identity = identity
        for database, name, worker in ((mine.database, "wrk_1", one), (yours.database, "wrk_2", two)):
            await database.appear(name)
            await worker.look()
        await one.look()
        assert await said() == [("wrk_1", None), ("wrk_2", None)]
        told.append("ABCD:EFGH")
        await one.look()
        assert await said() == [("wrk_1", "ABCD:EFGH"), ("wrk_2", None)]


@pytest.mark.usefixtures("database_url")
async def test_nobody_waits_for_a_worker_that_is_dead_or_stands_still(tmp_path: Path, clock: Clock) -> None:
    """[INV-6]"""
    async with opened(tmp_path) as mine, opened(tmp_path) as yours:
        await mine.database.appear("wrk_1")
        await yours.database.appear("wrk_2")
        one = Worker(mine.database, "wrk_1", "It is away.")
        two, dead = Worker(yours.database, "wrk_2"), Worker(yours.database, "wrk_dead")
        assert await one.look()
        await two.look()
        await dead.look()
        assert not await one.look()
        clock.seconds += 4
        assert await one.engines.where() == "elsewhere"
        clock.seconds += STILL_SECONDS - 5
        await two.look()
        assert not await one.look()
        clock.seconds += STILL_SECONDS + 1
        assert await one.look()
        assert await one.engines.where() == "here"
        await two.look()
        assert not await one.look()
        await two.engines.leave()
        assert await one.look()


async def test_a_claim_without_an_engine_takes_what_needs_none(tmp_path: Path) -> None:
    """[BOX-8]"""
    async with serving(tmp_path, worker=False) as gateway:
        await make_agent(gateway, "boxed", "claude", placement="docker")
        with anyio.fail_after(20):
            boxed = await gateway.send("boxed", "go", configuration=AT_ONCE)
            assert not await gateway.database.read(lambda conn: queue.some_wait(conn, engines=False))
            plain = await gateway.send("hello", "go", configuration=AT_ONCE)
            assert await gateway.database.read(lambda conn: queue.some_wait(conn, engines=False))
            one = await gateway.database.write(lambda conn: queue.claim(conn, "wrk_1", 9, LEASE, engines=False))
            two = await gateway.database.write(lambda conn: queue.claim(conn, "wrk_2", 9, LEASE))
    assert [turn.task_id for turn in one] == [plain["id"]]
    assert [turn.task_id for turn in two] == [boxed["id"]]


def moved(conn: Connection) -> Claimed:
    """A turn that has begun and was handed over."""
    accept(conn)
    turn = claim(conn)
    begin(conn, turn)
    assert queue.move(conn, turn, MOVED)
    return turn


@pytest.mark.usefixtures("database_url")
async def test_a_turn_that_is_handed_over_goes_on_under_a_fence_of_its_own(tmp_path: Path) -> None:
    """[BOX-8]"""
    async with opened(tmp_path) as log:
        before = await log.database.write(moved)
        late = entries([ev.chunk("late")], task_id=before.task_id, turn_id=before.id)
        with pytest.raises(Fenced):
            await log.database.write(lambda conn: append(conn, before.session_id, late, before.fence))
        assert not await log.database.write(lambda conn: queue.claim(conn, "wrk_1", 9, LEASE, engines=False))
        after = await log.database.write(lambda conn: claim(conn, "wrk_2"))
        assert (after.id, after.attempt, after.begun) == (before.id, 2, True)
        assert after.fence > before.fence
        assert after.spent == {"turns": 1}


@pytest.mark.usefixtures("database_url")
async def test_what_a_turn_has_used_stays_counted_when_it_is_handed_over(tmp_path: Path) -> None:
    """[LIMIT-2] The session's tokens and money."""

    def used(conn: Connection) -> Claimed:
        accept(conn)
        turn = claim(conn)
        begin(conn, turn)
        usage = ev.usage(input_tokens=900, output_tokens=100, cost_usd=0.5)
        queue.write_events(conn, turn, entries([usage], task_id=turn.task_id, turn_id=turn.id), None)
        assert queue.move(conn, turn, MOVED)
        return claim(conn, "wrk_2")

    async with opened(tmp_path) as log:
        after = await log.database.write(used)
    assert after.spent == {"turns": 1, "input_tokens": 900, "output_tokens": 100, "cost_usd": 0.5}


@pytest.mark.usefixtures("database_url")
async def test_a_turn_on_its_way_to_another_worker_can_be_stopped_and_joined(tmp_path: Path) -> None:
    """[INV-6] As any turn that runs."""

    def joined(conn: Connection) -> tuple[Claimed, str | None]:
        turn = moved(conn)
        steering = Inbound(({"text": "more"},), context_id=turn.session_id, mode="steer")
        return turn, queue.accept(conn, "agt_1", 1, "anonymous", steering, 10).steers

    async with opened(tmp_path) as log:
        turn, steers = await log.database.write(joined)
        assert steers == turn.id
        assert await log.database.write(lambda conn: orders.interrupt(conn, turn.session_id)) == turn.id
        again = await log.database.write(lambda conn: claim(conn, "wrk_2"))
        assert await log.database.read(lambda conn: queue.asked_to_stop(conn, again))
        await log.database.write(lambda conn: leases.hand_back(conn, again))
        await log.write(lambda conn: queue.cancel_waiting(conn, turn.task_id))
        assert await log.database.read(lambda conn: queue.is_over(conn, turn.task_id))
        assert await log.database.read(dones) == 1


@pytest.mark.usefixtures("database_url")
async def test_a_turn_that_is_to_stop_is_not_handed_over(tmp_path: Path) -> None:
    """[INV-6]"""

    def asked(conn: Connection) -> tuple[Claimed, int]:
        accepted = accept(conn)
        turn = claim(conn)
        begin(conn, turn)
        queue.cancel_waiting(conn, accepted.task_id)
        return turn, len(queue.move(conn, turn, MOVED))

    async with opened(tmp_path) as log:
        turn, batches = await log.database.write(asked)
        assert batches == 0
        assert await log.database.read(lambda conn: orders.held(conn, [turn.id])) == {turn.id: "wrk_1"}


async def cost_without_an_engine(folder: Path, waiting: int) -> int:
    async with opened(folder) as log:

        def op(conn: Connection) -> int:
            for number in range(waiting):
                queue.accept(conn, "boxed", 1, f"caller:{number}", Inbound(({"text": "x"},)), 10**6)
            conn.exec_driver_sql("UPDATE turn SET engine = true")
            for number in range(30):
                queue.accept(conn, "plain", 1, f"caller:{number}", Inbound(({"text": "x"},)), 10**6)
            return max(steps(conn, lambda: leases.release(conn, plain(conn))) for _ in range(20))

        return await log.database.write(op)


def plain(conn: Connection) -> Claimed:
    assert queue.some_wait(conn, engines=False)
    (turn,) = queue.claim(conn, "wrk", 1, 60, engines=False)
    return turn


async def test_turns_that_wait_for_an_engine_are_not_in_the_way_of_others(tmp_path: Path) -> None:
    """[FAIR-3]"""
    few, many = [await cost_without_an_engine(tmp_path / str(waiting), waiting) for waiting in (40, 600)]
    assert many <= few * 1.5


async def test_what_a_lost_turn_left_open_is_found_however_long_its_session_is(tmp_path: Path) -> None:
    """[INV-4] Everybody's writes wait for it on SQLite."""

    def opened_tool(conn: Connection, session_id: str | None) -> Claimed:
        accept(conn, **({"context_id": session_id} if session_id else {}))
        turn = claim(conn)
        begin(conn, turn)
        start = ev.tool_start("call_1", "bash", {}, "ls")
        queue.write_events(conn, turn, entries([start], task_id=turn.task_id, turn_id=turn.id), None)
        return turn

    def looked(conn: Connection, turn: Claimed) -> int:
        assert queue.open_calls(conn, turn) == ["call_1"]
        return steps(conn, lambda: queue.open_calls(conn, turn))

    async with opened(tmp_path) as log:
        first = await log.database.write(lambda conn: opened_tool(conn, None))
        short = await log.database.read(lambda conn: looked(conn, first))
        rest = entries([ev.tool_result("call_1", "x")] * 5000, task_id=first.task_id, turn_id=first.id)
        await log.database.write(lambda conn: queue.write_events(conn, first, rest, None))
        await log.database.write(lambda conn: queue.end_abandoned(conn, first, "inc_1", "It was lost."))
        second = await log.database.write(lambda conn: opened_tool(conn, first.session_id))
        long = await log.database.read(lambda conn: looked(conn, second))
    assert long <= 2 * short
