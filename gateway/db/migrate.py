"""Alembic, driven by the program: the schema is brought up to date when the gateway starts.

In one transaction: a gateway killed in the middle leaves nothing half made, and a second one at its side waits.

Expand, then contract: a migration only adds what the release before it can ignore, so that gateways of both work side by
side while an installation is upgraded one by one (specs/upgrades.md). One that takes something away says `needs` in its
`upgrade`; then code that does not know the revision it names refuses to start.
"""

from __future__ import annotations

from pathlib import Path
from threading import Lock

from alembic import command, op
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect, select, update

from gateway.db.models import SchemaSupport
from gateway.errors import UsageError

_support = SchemaSupport.__table__  # type: ignore[attr-defined]
_UPGRADING = Lock()  # of this process: Alembic's context is one for all threads


def config() -> Config:
    cfg = Config()
    cfg.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    return cfg


def upgrade(conn: Connection) -> None:
    """Migrate forward to the newest revision, inside the caller's transaction; what is newer already stays as it is.

    Raises UsageError where the schema is so new that this code cannot use it.
    """
    cfg = config()
    known = {script.revision for script in ScriptDirectory.from_config(cfg).walk_revisions()}
    found = MigrationContext.configure(conn).get_current_revision()
    if found is None or found in known:
        cfg.attributes["connection"] = conn
        with _UPGRADING:
            command.upgrade(cfg, "head")
    elif oldest(conn) not in known:
        raise UsageError(
            f"The database has the schema {found!r} of a newer release, which this one cannot use.",
            "Start the newer release, or go back to a backup from before its first start.",
        )


def oldest(conn: Connection) -> str | None:
    """The revision that code must know to work with the schema as it is; None where the schema does not say."""
    if not inspect(conn).has_table(_support.name):
        return None
    found: str | None = conn.execute(select(_support.c.oldest)).scalar()
    return found


def needs(revision: str) -> None:
    """In a migration that takes something away: only code that knows this revision can work with the schema from now on."""
    op.get_bind().execute(update(_support).values(oldest=revision))
