"""The database's own clock: what processes on several machines agree on."""

from __future__ import annotations

from sqlalchemy import Connection

from gateway.clock import now_us


def clock(conn: Connection) -> int:
    """Microseconds since the epoch. SQLite's clock is the machine's."""
    if conn.dialect.name == "sqlite":
        return now_us()
    now: int = conn.exec_driver_sql("SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint").scalar_one()
    return now
