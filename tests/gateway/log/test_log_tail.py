"""Reading: every reader sees exactly the log from its position on, whoever writes meanwhile. [INV-2] [INV-5]"""

from __future__ import annotations

import gc
import tempfile
from pathlib import Path
from typing import NamedTuple

import anyio
import pytest
from anyio.lowlevel import checkpoint
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection

from gateway.errors import Conflict
from gateway.log.hub import ARTIFACT_CHARS, KEEP_CHARS, KEEP_ROWS, MANY, Hub
from gateway.log.rows import Batch, Position, Row
from gateway.log.store import Log, append
from gateway.log.tail import PAGE, tail, watch
from tests.gateway.log.log_tools import entry, everything, make_session, opened, write

pytestmark = pytest.mark.usefixtures("database_url")

LEVELS = st.sampled_from(["user", "progress", "internal"])
SESSIONS = st.sampled_from(["a", "b", "c"])


class Write(NamedTuple):
    session: str
    levels: list[str]


class Read(NamedTuple):
    session: str
    start: float  # from the beginning (0) to the last row there is (1)
    slow: bool


class Turn(NamedTuple):
    """Let the others go on, so many times."""

    rounds: int


steps = st.lists(
    st.builds(Write, SESSIONS, st.lists(LEVELS, min_size=1, max_size=4))
    | st.builds(Read, SESSIONS, st.floats(0, 1), st.booleans())
    | st.builds(Turn, st.integers(1, 5)),
    max_size=40,
)


class Reader:
    """Collects what a tail gives from a position on."""

    def __init__(self, log: Log, session: str, after: Position = Position(0), *, slow: bool = False) -> None:  # noqa: B008
        self.log, self.session, self.after, self.slow = log, session, after, slow
        self.rows: list[Row] = []

    @property
    def position(self) -> Position:
        return self.rows[-1].position if self.rows else self.after

    async def run(self) -> None:
        async for batch in tail(self.log, self.session, self.after):
            assert batch.before == self.position
            self.rows += batch.rows
            await pause(10 if self.slow else 0)

    async def reach(self, position: Position) -> None:
        while self.position < position:
            await pause(1)


async def pause(rounds: int) -> None:
    for _ in range(rounds):
        await checkpoint()


async def play(log: Log, program: list[Write | Read | Turn]) -> None:
    readers: list[Reader] = []
    async with anyio.create_task_group() as reading:
        async with anyio.create_task_group() as writing:
            for step in program:
                match step:
                    case Write(session, levels):
                        writing.start_soon(write, log, session, [entry(level) for level in levels])
                    case Read(session, start, slow):
                        rows = await everything(log, session)
                        begin = int(start * len(rows))
                        after = rows[begin - 1].position if begin else Position(0)
                        readers.append(Reader(log, session, after, slow=slow))
                        reading.start_soon(readers[-1].run)
                    case Turn(rounds):
                        await pause(rounds)
        for reader in readers:
            rows = await everything(log, reader.session)
            await reader.reach(rows[-1].position if rows else Position(0))
            await pause(3)
            assert reader.rows == [row for row in rows if row.position > reader.after]
        reading.cancel_scope.cancel()


@given(steps)
@settings(max_examples=40, deadline=None)
def test_every_tail_sees_exactly_the_log_from_where_it_began(program: list[Write | Read | Turn]) -> None:
    async def run() -> None:
        with tempfile.TemporaryDirectory() as folder:
            async with opened(Path(folder)) as log:
                await play(log, program)

    anyio.run(run)


async def test_a_log_longer_than_a_page_is_read_to_its_end(tmp_path: Path) -> None:
    async with opened(tmp_path) as log:
        await write(log, "s", [entry("internal")] * (2 * PAGE + 1))
        batches = [batch async for batch in tail(log, "s", live=False)]
    assert [len(batch.rows) for batch in batches] == [PAGE, PAGE, 1]


async def test_a_tail_that_is_not_live_ends_at_the_end_of_the_log(tmp_path: Path) -> None:
    async with opened(tmp_path) as log:
        assert [batch async for batch in tail(log, "nothing", live=False)] == []
        await write(log, "s", [entry(), entry()])
        (batch,) = [batch async for batch in tail(log, "s", Position(1), live=False)]
    assert [row.seq for row in batch.rows] == [2]


async def test_readers_who_wait_together_get_the_same_batch(tmp_path: Path) -> None:
    """What one of them makes of it (`shared`) serves the others."""
    got: list[Batch] = []

    async def read(log: Log) -> None:
        async for batch in tail(log, "s"):
            got.append(batch)
            return

    async with opened(tmp_path) as log, anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(read, log)
        await anyio.wait_all_tasks_blocked()
        await write(log, "s", [entry()])
    assert len(got) == 3
    assert all(batch is got[0] for batch in got)


async def test_what_another_process_wrote_is_found(tmp_path: Path) -> None:
    """Nobody tells of it: two logs on one database. [INV-5]"""
    async with opened(tmp_path) as mine, opened(tmp_path) as other, anyio.create_task_group() as group:
        await make_session(mine, "s", fence=1)
        readers = [Reader(mine, "s") for _ in range(3)]
        for reader in readers:
            group.start_soon(reader.run)
        group.start_soon(watch, mine)
        await write(other, "s", [entry(), entry("internal")])
        for reader in readers:
            await reader.reach(Position(1, 1))
        batch = await write(other, "s", [entry()])
        for reader in readers:
            await reader.reach(Position(2))
        group.cancel_scope.cancel()
    assert all(reader.rows[-1:] == batch.rows and len(reader.rows) == 3 for reader in readers)


async def test_many_readers_each_see_everything_in_fewer_pieces(tmp_path: Path) -> None:
    """They are woken in ticks, and get what was committed meanwhile as one batch, the same object for all."""
    async with opened(tmp_path) as log, anyio.create_task_group() as group:
        readers = [Reader(log, "s") for _ in range(MANY + 1)]
        for reader in readers:
            group.start_soon(reader.run)
        await anyio.wait_all_tasks_blocked()
        for _ in range(50):
            await write(log, "s", [entry()])
        for reader in readers:
            await reader.reach(Position(50))
        group.cancel_scope.cancel()
    rows = readers[0].rows
    assert [row.seq for row in rows] == list(range(1, 51))
    assert all(reader.rows == rows for reader in readers)


def test_what_was_published_in_a_row_is_one_batch_for_all() -> None:
    hub = Hub()
    with hub.subscribe("s") as channel:
        for seq in range(3):
            hub.publish(Batch("s", Position(seq), [row(seq + 1)]))
        run = channel.following(Position(0))
        assert run is not None
        assert run.rows == [row(1), row(2), row(3)]
        assert channel.following(Position(0)) is run
        hub.publish(Batch("s", Position(3), [row(4)]))
        assert [channel.following(Position(seq)) for seq in (3, 4)] == [Batch("s", Position(3), [row(4)]), None]


async def test_nothing_is_seen_before_it_is_committed(tmp_path: Path) -> None:
    """[INV-1]"""

    def broken(conn: Connection) -> list[Batch]:
        append(conn, "s", [entry()])
        raise Conflict("after the append", "nothing to do")

    async with opened(tmp_path) as log:
        reader = Reader(log, "s")
        async with anyio.create_task_group() as group:
            group.start_soon(reader.run)
            await anyio.wait_all_tasks_blocked()
            with pytest.raises(Conflict):
                await log.write(broken)
            batch = await write(log, "s", [entry(body='{"text":"kept"}')])
            await reader.reach(Position(1))
            group.cancel_scope.cancel()
    assert reader.rows == batch.rows


def batches_alive() -> int:
    gc.collect()
    return sum(isinstance(found, Batch) for found in gc.get_objects())


async def test_a_session_nobody_reads_is_not_kept_in_memory(tmp_path: Path) -> None:
    async with opened(tmp_path) as log:
        for _ in range(200):
            await write(log, "s", [entry()] * 10)
        assert batches_alive() <= 1  # the writer's last


def test_what_is_kept_for_a_reader_who_does_not_read_is_bounded() -> None:
    hub = Hub()
    with hub.subscribe("s"):
        for seq in range(KEEP_ROWS):
            hub.publish(Batch("s", Position(seq), [row(seq + 1)] * 3))
        assert batches_alive() <= KEEP_ROWS // 3
    assert batches_alive() == 0


def test_of_artifacts_no_more_is_kept_than_their_files_would_allow() -> None:
    """What readers make of them holds the files' bytes. [INV-4]"""
    hub = Hub()
    with hub.subscribe("s"):
        for seq in range(KEEP_ROWS):
            hub.publish(Batch("s", Position(seq), [row(seq + 1)._replace(type="artifact")]))
        assert 0 < batches_alive() <= KEEP_CHARS // ARTIFACT_CHARS


def test_a_channel_lives_as_long_as_its_last_reader() -> None:
    hub = Hub()
    with hub.subscribe("s") as first:
        with hub.subscribe("s") as second:
            assert second is first
        hub.publish(Batch("s", Position(0), [row(1)]))
        assert first.following(Position(0)) is not None
    with hub.subscribe("s") as later:
        assert later.following(Position(0)) is None


def row(seq: int) -> Row:
    return Row("s", seq, 0, "evt", None, None, "chunk", "user", "agent", "{}", 1)
