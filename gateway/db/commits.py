"""What became of a commit that was not answered: every transaction first numbers itself in the row of its connection.

Whoever wants to know writes to that row as well, and so waits until the transaction that was cut off is over. PostgreSQL's
own numbers of transactions will not do: a server that died gives those again that it had not written down, so that another's
commit would be taken for ours.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any, NamedTuple

from sqlalchemy import Connection

KEPT_DAYS = 7  # of rows whose connection is gone

_NOW = "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint"
_MARK = f"""
INSERT INTO connection AS c (id, commits, at) VALUES ($1, $2, {_NOW})
ON CONFLICT (id) DO UPDATE SET commits = excluded.commits, at = excluded.at RETURNING {{}}
"""
_LOOK = f"""
INSERT INTO connection AS c (id, commits, at) VALUES ($1, 0, {_NOW})
ON CONFLICT (id) DO UPDATE SET at = c.at RETURNING c.commits
"""
_FORGET = f"DELETE FROM connection WHERE at < {_NOW} - {KEPT_DAYS * 24 * 3600} * 1000000::bigint"

Say = Callable[..., Any]  # runs a statement and answers the first column of its first row


class Mark(NamedTuple):
    """One transaction: the id of its connection, and its number there."""

    id: str
    number: int


def mark(conn: Connection, say: Say, also: str = "1") -> Mark:
    """The transaction's first statement; it asks for `also`."""
    info = conn.info  # of the connection to the server, as long as that lasts
    made = Mark(info.setdefault("id", secrets.token_hex(8)), info.get("commits", 0) + 1)
    info["commits"] = made.number
    say(_MARK.format(also), *made)
    return made


def is_stored(say: Say, made: Mark) -> bool:
    """Whether a transaction was committed, once it is over; it may still take as long as the server's timeouts let it."""
    return bool(say(_LOOK, made.id) == made.number)


def forget(say: Say) -> None:
    """Rows of connections that are long gone."""
    say(_FORGET)
