"""Rolling upgrades: releases side by side on one database whose schema is the newer one's."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from gateway.db import migrate
from gateway.db.engine import Database
from gateway.errors import UsageError
from tests.gateway.db import newer
from tests.gateway.turns.calls import Call, speaks, state_of, uses_tool
from tests.support import Client, GatewayProcess, database_url, gateway_process, run_sql, serving, text_of

pytestmark = pytest.mark.usefixtures("database_url")


async def migrated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: str) -> None:
    """A database that a newer release has been on."""
    newer.write(tmp_path / "migrations", changes)
    with monkeypatch.context() as patch:
        patch.setattr(migrate, "config", lambda: newer.config_with(tmp_path / "migrations"))
        await run_sql(tmp_path)


async def test_a_gateway_works_on_a_schema_that_a_newer_release_has_expanded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """[UPGRADE-1]"""
    await migrated(tmp_path, monkeypatch, newer.EXPANDS)
    async with serving(tmp_path) as gateway:
        with anyio.fail_after(20):
            task = await gateway.send("hello", "two words")
    assert state_of(task) == "COMPLETED"


async def test_a_gateway_refuses_a_schema_that_it_cannot_use_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """[UPGRADE-2] Also one that a release has made which did not know yet how to say it."""
    await migrated(tmp_path, monkeypatch, newer.CONTRACTS)
    for change in ("UPDATE schema_support SET id = 1", "DROP TABLE schema_support"):
        with monkeypatch.context() as patch:
            patch.setattr(migrate, "config", lambda: newer.config_with(tmp_path / "migrations"))
            await run_sql(tmp_path, change)
        database = Database(database_url(tmp_path))
        with pytest.raises(UsageError) as caught:
            await database.start()
        await database.aclose()
        assert "'9000_newer'" in caught.value.message


async def test_a_gateway_process_says_why_it_refuses_a_schema(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """[UPGRADE-2]"""
    await migrated(tmp_path, monkeypatch, newer.CONTRACTS)
    gateway = GatewayProcess(tmp_path)
    with pytest.raises(AssertionError, match="did not start"):
        await anyio.to_thread.run_sync(gateway.start)
    assert "of a newer release, which this one cannot use" in gateway.log()
    assert gateway.log().rstrip().endswith("Start the newer release, or go back to a backup from before its first start.")


async def test_an_installation_is_upgraded_gateway_by_gateway_while_it_works(tmp_path: Path) -> None:
    """[UPGRADE-1] The old one serves on while the new one migrates; each tells the other's tasks."""
    folder = tmp_path / "migrations"
    newer.write(folder, newer.EXPANDS)
    program = [str(Path(newer.__file__)), str(folder)]
    with gateway_process(tmp_path) as old, anyio.fail_after(60):
        async with anyio.create_task_group() as group:
            before = old.client()
            await before.sign_in()
            call = Call()
            group.start_soon(call.run, before.stream("hello", "N=3 SLEEPTOOL=3"))
            await call.until(uses_tool)
            with gateway_process(tmp_path, program=program) as new:
                after = new.client()
                after.http.headers.update(before.http.headers)
                told = await both(before, after)
                await call.until(lambda call: "rehearsal" in call.text)
                await call.ended.wait()
                later = Call()
                group.start_soon(later.run, after.stream("hello", "N=3 SLEEPTOOL=3"))
                await later.until(speaks)
                old.stop()
                await later.ended.wait()
                last = await after.send("hello", "two words")
                await after.http.aclose()
            await before.http.aclose()
    assert call.states[-1] == later.states[-1] == "COMPLETED"
    assert told == ["You said: at the old\n", "You said: at the new\n"]
    assert state_of(last) == "COMPLETED"


async def both(old: Client, new: Client) -> list[str]:
    """What each did, as the other tells it."""
    first, second = await old.send("hello", "at the old"), await new.send("hello", "at the new")
    return [text_of(await new.get("hello", first["id"]))[:21], text_of(await old.get("hello", second["id"]))[:21]]
