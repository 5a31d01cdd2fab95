"""Alembic, driven by the program: the schema is brought up to date when the gateway starts."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Engine

from gateway.errors import Unavailable


def config() -> Config:
    cfg = Config()
    cfg.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    return cfg


def upgrade(engine: Engine) -> None:
    """Migrate forward to the newest revision. Raises Unavailable if the database cannot be opened."""
    cfg = config()
    try:
        with engine.connect() as conn:
            cfg.attributes["connection"] = conn
            command.upgrade(cfg, "head")
    except OSError as exc:
        raise Unavailable(f"The database cannot be opened: {exc}") from exc
