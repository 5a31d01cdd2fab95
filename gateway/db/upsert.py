"""Inserts that give way to a row which is there already, on either database.

A writer that meets another one's uncommitted row waits for that to commit (or to roll back); nobody catches an error.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, Table
from sqlalchemy.dialects import postgresql, sqlite


def insert_new(conn: Connection, table: Table, row: Mapping[str, Any]) -> bool:
    """Insert `row` unless a unique index holds one like it; whether it was inserted."""
    insert = postgresql.insert if conn.dialect.name == "postgresql" else sqlite.insert
    return bool(conn.execute(insert(table).values(row).on_conflict_do_nothing()).rowcount)
