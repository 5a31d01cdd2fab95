"""The columns of the public face: rows of the release before are read, and its code may still write."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from sqlalchemy import Connection, create_engine, text

from gateway.db.migrate import config
from registry import repo
from registry.makeup import Makeup

AGENT = "INSERT INTO agent (id, name, version, created_at, updated_at) VALUES ('agt_1', 'mailer', :version, 1, 1)"
VERSION = """
    INSERT INTO agent_version (agent_id, version, runtime, prompt, description, skills, limits, env, command, mcp_servers,
                               public, edition, edition_at, changed, created_at)
    VALUES ('agt_1', :version, 'rehearsal', 'p', 'd', '[]', '{}', '{}', '[]', '[]', 1, 1, 1, '[]', 1)
"""


@pytest.fixture
def conn(tmp_path: Path) -> Iterator[Connection]:
    engine = create_engine(f"sqlite:///{tmp_path / 'a.db'}")
    with engine.connect() as connection:
        yield connection
    engine.dispose()


def migrate(conn: Connection, revision: str) -> None:
    cfg = config()
    cfg.attributes["connection"] = conn
    command.upgrade(cfg, revision)


@pytest.mark.parametrize("written_after", [False, True])
def test_a_version_written_by_the_release_before_has_a_plain_face(conn: Connection, written_after: bool) -> None:
    steps: list[Any] = [lambda: conn.execute(text(VERSION), {"version": 1}), lambda: migrate(conn, "0002_face")]
    migrate(conn, "0001")
    conn.execute(text(AGENT), {"version": 1})
    for step in reversed(steps) if written_after else steps:
        step()
    row = conn.execute(text("SELECT provider, icon_url, documentation_url, input_modes, output_modes, tags FROM agent_version"))
    assert tuple(row.one()) == (None, None, None, "[]", "[]", "[]")
    migrate(conn, "heads")
    assert repo.get(conn, "mailer").makeup == Makeup("rehearsal", prompt="p", description="d")
