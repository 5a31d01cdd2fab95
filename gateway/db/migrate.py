"""Alembic, driven by the program: the schema is brought up to date when the gateway starts.

In one transaction: a gateway killed in the middle leaves nothing half made, and a second one at its side waits.
"""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection


def config() -> Config:
    cfg = Config()
    cfg.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    return cfg


def upgrade(conn: Connection) -> None:
    """Migrate forward to the newest revision, inside the caller's transaction."""
    cfg = config()
    cfg.attributes["connection"] = conn
    command.upgrade(cfg, "head")
