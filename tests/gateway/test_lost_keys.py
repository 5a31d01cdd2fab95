"""A gateway whose key file is gone makes no other one as long as something is sealed by it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import Connection

from gateway.core import Core
from gateway.deliver import destinations
from gateway.errors import UsageError
from gateway.settings import Settings
from gateway.turns import queue
from gateway.turns.spec import Inbound
from registry import repo
from registry.makeup import Makeup

AGENT = "agt_1"
Seal = Callable[[Core, Connection], object]


def agent(core: Core, conn: Connection) -> None:
    made = Makeup("rehearsal").changed({"env": {"TOKEN": "hush"}}, repo.box(core.secrets, AGENT))
    repo.create(conn, AGENT, "mailer", made, ["env"], 1)


def server(core: Core, conn: Connection) -> None:
    given = {"mcp_servers": [{"name": "db", "url": "https://db.example.com", "headers": {"Authorization": "hush"}}]}
    repo.create(conn, AGENT, "mailer", Makeup("rehearsal").changed(given, repo.box(core.secrets, AGENT)), ["mcp_servers"], 1)


def repository(core: Core, conn: Connection) -> None:
    given = {"git": {"url": "https://example.com/x", "password": "hush"}}
    repo.create(conn, AGENT, "mailer", Makeup("rehearsal").changed(given, repo.box(core.secrets, AGENT)), ["git"], 1)


def webhook(core: Core, conn: Connection) -> None:
    task = queue.accept(conn, AGENT, 1, "me", Inbound(({"text": "Hi"},)), 10)
    wanted = destinations.Wanted("https://x.example.com", "https://x.example.com", "user", (), ("whsec_hush",))
    destinations.save(conn, core.secrets, task.session_id, [wanted])


def plain(_core: Core, conn: Connection) -> None:
    repo.create(conn, AGENT, "mailer", Makeup("rehearsal"), [], 1)


def deleted(core: Core, conn: Connection) -> None:
    agent(core, conn)
    repo.delete(conn, "mailer", 2)


async def sealed_by(settings: Settings, seal: Seal) -> bytes:
    """What the key file held that `seal` was done with; it is gone then."""
    core = Core.of(settings, {})
    async with core.opened():
        await core.database.write(lambda conn: seal(core, conn))
    held = settings.secrets_key_file.read_bytes()
    settings.secrets_key_file.unlink()
    return held


@pytest.mark.parametrize("seal", [agent, server, repository, webhook])
async def test_it_does_not_start_and_says_what_to_do(tmp_path: Path, database_url: str, seal: Seal) -> None:
    """[KEY-1] However often it is tried; and it starts as before when the file is back."""
    settings = Settings(data_dir=tmp_path, database_url=database_url)
    held = await sealed_by(settings, seal)
    for _ in range(2):
        with pytest.raises(UsageError) as caught:
            async with Core.of(settings, {}).opened():
                pass
        assert str(settings.secrets_key_file) in caught.value.message
        assert "from a backup" in caught.value.hint
        assert not settings.secrets_key_file.exists()
    settings.secrets_key_file.touch(0o600)
    settings.secrets_key_file.write_bytes(held)
    core = Core.of(settings, {})
    async with core.opened():
        if seal is agent:
            found = await core.database.read(lambda conn: repo.get(conn, "mailer").opened(core.secrets))
            assert found.env == {"TOKEN": "hush"}
    assert settings.secrets_key_file.read_bytes() == held


@pytest.mark.parametrize("seal", [plain, deleted])
async def test_it_makes_another_key_where_nothing_is_sealed(tmp_path: Path, seal: Seal) -> None:
    settings = Settings(data_dir=tmp_path)
    held = await sealed_by(settings, seal)
    core = Core.of(settings, {})
    async with core.opened():
        blob = core.secrets.box("t", "r").seal("p", "v")
    assert settings.secrets_key_file.read_bytes() != held
    assert Core.of(settings, {}).secrets.box("t", "r").open("p", blob) == "v"
