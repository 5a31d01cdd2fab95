"""Appending: numbers without gaps for callers, and a fence nobody passes. [INV-2] [INV-3]"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import event

from gateway.errors import Fenced
from gateway.log.rows import Batch, Position, Row
from gateway.log.store import append, encode
from tests.gateway.log.log_tools import entry, everything, make_session, opened, write

both = pytest.mark.usefixtures("database_url")


def numbers(rows: list[Row]) -> list[tuple[int, int]]:
    return [(row.seq, row.sub) for row in rows]


@both
async def test_what_callers_read_is_numbered_without_gaps_and_internal_rows_hang_below(tmp_path: Path) -> None:
    async with opened(tmp_path) as log:
        await write(log, "s", [entry("internal"), entry(), entry("progress"), entry("internal"), entry("internal")])
        await write(log, "s", [entry("internal"), entry(), entry("internal")])
        await write(log, "s", [entry()])
        found = numbers(await everything(log, "s"))
    assert found == [(0, 1), (1, 0), (2, 0), (2, 1), (2, 2), (2, 3), (3, 0), (3, 1), (4, 0)]


@both
async def test_every_session_counts_for_itself(tmp_path: Path) -> None:
    async with opened(tmp_path) as log:
        for session in ("a", "b", "a"):
            await write(log, session, [entry(), entry()])
        found = {session: numbers(await everything(log, session)) for session in "ab"}
    assert found == {"a": [(1, 0), (2, 0), (3, 0), (4, 0)], "b": [(1, 0), (2, 0)]}


@both
async def test_appends_at_the_same_time_share_numbers_with_nobody(tmp_path: Path) -> None:
    async with opened(tmp_path) as log:
        async with anyio.create_task_group() as group:
            for _ in range(300):
                group.start_soon(write, log, "s", [entry()])
        assert numbers(await everything(log, "s")) == [(seq, 0) for seq in range(1, 301)]


@both
async def test_a_batch_tells_the_position_it_follows(tmp_path: Path) -> None:
    async with opened(tmp_path) as log:
        first = await write(log, "s", [entry(), entry("internal")])
        second = await write(log, "s", [entry()])
        nothing = await write(log, "s", [])
    assert (first.before, first.after) == (Position(0), Position(1, 1))
    assert (second.before, second.after) == (Position(1, 1), Position(2))
    assert nothing == Batch("s", Position(2), [])


@both
async def test_an_old_fence_is_refused_and_nothing_of_its_transaction_is_written(tmp_path: Path) -> None:
    async with opened(tmp_path) as log:
        await make_session(log, "s", fence=2)
        await write(log, "s", [entry()], fence=2)
        for fence in (1, 3):
            new = partial(append, session_id="s", new=[entry()], fence=fence)
            with pytest.raises(Fenced):
                await log.write(lambda conn, new=new: [append(conn, "other", [entry()]), new(conn)])
        assert numbers(await everything(log, "s")) == [(1, 0)]
        assert await everything(log, "other") == []


@both
async def test_a_session_that_does_not_exist_has_no_fence_to_name(tmp_path: Path) -> None:
    async with opened(tmp_path) as log:
        with pytest.raises(Fenced):
            await write(log, "nobody", [entry()], fence=0)


async def test_an_append_asks_for_as_much_in_a_long_log_as_in_a_short_one(tmp_path: Path) -> None:
    """[INV-4]"""
    plans: list[str] = []
    statements: list[int] = []
    async with opened(tmp_path) as log:
        await make_session(log, "s", fence=1)

        def counted(conn):  # type: ignore[no-untyped-def]
            seen: list[str] = []
            listener = lambda conn, cursor, statement, *_: seen.append(statement)  # noqa: E731
            event.listen(conn, "before_cursor_execute", listener)
            batch = append(conn, "s", [entry()] * 10, 1)
            event.remove(conn, "before_cursor_execute", listener)
            statements.append(len(seen))
            for statement in seen[:2]:
                literal = statement.replace("?", "1", 1).replace("LIMIT ? OFFSET ?", "LIMIT 1")
                plans.append(str(conn.exec_driver_sql(f"EXPLAIN QUERY PLAN {literal}").fetchall()))
            return [batch]

        await log.write(counted)
        for _ in range(20):
            await write(log, "s", [entry()] * 500)
        await log.write(counted)
    assert statements == [3, 3]
    assert plans[:2] == plans[2:]
    assert all("SEARCH" in plan and "SCAN" not in plan and "TEMP B-TREE" not in plan for plan in plans)


texts = st.text(st.characters(exclude_categories=()))  # lone surrogates too


@given(st.recursive(st.none() | st.booleans() | st.integers() | texts, lambda x: st.lists(x) | st.dictionaries(texts, x)))
def test_what_is_encoded_is_utf8_json_of_the_same_value(value: object) -> None:
    text = encode(value)
    json.loads(text.encode("utf-8"))
    if json.dumps(value, ensure_ascii=False).isprintable():
        assert json.loads(text) == value


@both
@pytest.mark.parametrize("text", ["a\u2028b", "\u0085", "\0", "\U0001f600", "é", '"\\', "\n\r"])
async def test_odd_characters_come_back_as_they_went_in(tmp_path: Path, text: str) -> None:
    async with opened(tmp_path) as log:
        await write(log, "s", [entry(body=encode({"text": text}))])
        (row,) = await everything(log, "s")
    assert json.loads(row.body) == {"text": text}


@both
async def test_a_lone_surrogate_becomes_a_replacement_character(tmp_path: Path) -> None:
    async with opened(tmp_path) as log:
        await write(log, "s", [entry(body=encode({"text": "a\ud800b"}))])
        (row,) = await everything(log, "s")
    assert json.loads(row.body) == {"text": "a\N{REPLACEMENT CHARACTER}b"}


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_what_json_cannot_hold_becomes_null(number: float) -> None:
    assert json.loads(encode({"a": [number, 1]}), parse_constant=pytest.fail) == {"a": [None, 1]}


@pytest.mark.parametrize(("text", "position"), [("7", Position(7)), ("7.2", Position(7, 2)), ("0", Position(0))])
def test_a_position_is_read(text: str, position: Position) -> None:
    assert Position.parse(text) == position


@pytest.mark.parametrize("text", ["", ".", "a", "-1", "1.-1", "1.2.3", "9" * 30, "9" * 5000, "1e3"])
def test_what_is_no_position_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        Position.parse(text)
