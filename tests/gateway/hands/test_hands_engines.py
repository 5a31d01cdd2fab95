"""Sandboxes of a session on the engines of two machines. [HAND-12]

The second engine is the first under another name: what another installation has there cannot be seen from this one.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, insert, update

from gateway.hands import calls
from gateway.hands.service import INTERRUPTED
from gateway.hands.tools import Result
from gateway.log.models import Turn
from gateway.turns.models import WorkerRow
from tests import needs
from tests.gateway.hands.stage import Brain, Stage, staged
from tests.gateway.hands.test_hands_calls import GROWS, killed, running
from tests.gateway.hands.test_hands_rooms import host, states


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    async with staged(tmp_path, needs.an_engine()) as stage:
        yield stage


async def engines(stage: Stage) -> list[tuple[str, str | None, bool]]:
    """Of the calls there are."""
    return [(row.call_id, row.engine, row.result is not None) for row in await stage.rows()]


async def test_what_a_killed_worker_left_on_its_engine_is_ended_there_though_it_was_answered_elsewhere(
    stage: Stage, tmp_path: Path
) -> None:
    brain, here = await stage.begin(), await stage.engine.identity()
    command = f"{GROWS}; setsid sleep 981 & sleep 982"
    await killed(stage, brain, command)
    async with staged(tmp_path / "there", stage.settings.agent_image, stage.settings.database) as there:
        there.engine._id = "another"
        newer = await stage.supersede(brain)
        lost = await there.call(newer, "bash", "one", command=command)
        assert lost == Result(INTERRUPTED, is_error=True, interrupted=True)
        await there.hands.sweep()
        assert await engines(stage) == [("one", here, True)]
        assert await stage.hands.look()
        assert await engines(stage) == [("one", None, True)]
        assert [await running(stage, newer, f"sleep {n}") for n in (981, 982)] == ["0", "0"]
        assert await there.call(newer, "bash", "one", command=command) == lost


async def test_a_call_that_may_run_on_another_engine_is_not_forgotten_with_its_turn(stage: Stage, tmp_path: Path) -> None:
    """Until its sandbox must be gone, too."""
    brain = await stage.begin()

    def lost(conn: Connection) -> None:
        for id in ("ended", "left"):
            calls.intends(brain.turn, id, "bash", "", "another")(conn)
            calls.has_done(brain.turn, id, Result(INTERRUPTED), ended=id == "ended")(conn)
        calls.intends(brain.turn, "unknown", "bash", "", None)(conn)  # as an earlier release writes it

    await stage.database.write(lost)
    await stage.end(brain)
    await stage.hands.sweep()
    assert await engines(stage) == [("left", "another", True)]
    await stage.database.write(lambda conn: calls.forget_ended(conn, -1))
    assert await stage.rows() == []


async def held_by(stage: Stage, brain: Brain, engine_id: str | None) -> None:
    """The turn is held by a worker of that engine."""
    name = f"wrk_{engine_id}"
    row = {"name": name, "engine": True, "engine_id": engine_id, "beat": 0}
    mine: Any = Turn.id == brain.turn.id

    def op(conn: Connection) -> None:
        conn.execute(insert(WorkerRow), [row])
        conn.execute(update(Turn).where(mine).values(owner=name))

    await stage.database.write(op)


async def test_a_sandbox_is_stopped_while_its_sessions_turn_is_held_at_another_engine(stage: Stage) -> None:
    """With what it left in the background, which would work beside the turn."""
    brain = await stage.begin()
    await stage.call(brain, "bash", command="sleep 983 > /dev/null &")
    before = await host(stage, brain)
    for engine_id in (await stage.engine.identity(), None):
        await held_by(stage, brain, engine_id)
        assert await states(stage) == [True]
    await held_by(stage, brain, "another")
    assert await states(stage) == [False]
    await stage.end(brain)
    again = await stage.begin(brain.turn.session_id)
    assert (await host(stage, again), await running(stage, again, "sleep 983")) == (before, "0")
