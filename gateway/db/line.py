"""A direct connection to PostgreSQL beside the pool: hints to and from the other processes, and the sign of being alive.

A hint is told after its commit, never inside: inside it would make all commits wait for one another. What is told
within `GATHER_SECONDS` goes out as one. The sign of life is an advisory lock, which the server gives back the moment
the connection ends, as it does when the process dies.

Whoever has a line also throws out those who stand still in the middle of a statement. Between preparing a statement and
executing it the server takes a client for active: no timeout of its own holds then, and locks would be held for ever.
"""

from __future__ import annotations

import asyncio
import secrets
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any

import asyncpg

CHANNEL = "switchboard"
ALIVE = 7303  # class of the advisory locks that are signs of life
GATHER_SECONDS = 0.01
RETRY_SECONDS = 0.2
LOOK_SECONDS = 1.0
STILL_SECONDS = 4.0  # as those have who are idle in a transaction
MAX_PAYLOAD = 7000  # bytes; the server takes 8000
_TROUBLE = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError)

_THROW_OUT = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE datname = current_database() AND usename = current_user AND application_name = 'switchboard'
AND state = 'active' AND wait_event = 'ClientRead' AND xact_start IS NOT NULL
AND state_change < clock_timestamp() - make_interval(secs => $1)
"""

Heard = Callable[[Sequence[str]], None]


class Line:
    """`heard` gets the hints of others; none at all means that some may have been missed."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._me = secrets.token_hex(4)
        self._told: dict[str, str] = {}
        self._wake = asyncio.Event()
        self._name: str | None = None
        self._alive = asyncio.Event()
        self._looked_at = 0.0
        self.heard: Heard = lambda words: None

    def tell(self, topic: str, detail: str) -> None:
        self._told[topic] = detail
        self._wake.set()

    async def appear(self, name: str) -> None:
        """Be alive under a name as long as the connection is; it is made again when it breaks."""
        self._name = name
        self._wake.set()
        await self._alive.wait()

    async def run(self) -> None:
        while True:
            with suppress(*_TROUBLE):
                await self._connected()
            await asyncio.sleep(RETRY_SECONDS)

    async def _connected(self) -> None:
        server = {"application_name": "switchboard line"}
        conn = await asyncpg.connect(self._url, timeout=10, command_timeout=10, server_settings=server)
        try:
            conn.add_termination_listener(lambda _: self._wake.set())
            await conn.add_listener(CHANNEL, self._on_notification)
            self.heard([])
            while not conn.is_closed():
                self._wake.clear()
                if self._name is not None and not self._alive.is_set():
                    await self._show_life(conn, self._name)
                await self._send(conn)
                await self._throw_out(conn)
                with suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_SECONDS):
                        await self._wake.wait()
                await asyncio.sleep(GATHER_SECONDS)
        finally:
            self._alive.clear()
            conn.terminate()

    async def _show_life(self, conn: Any, name: str) -> None:
        while not await conn.fetchval("SELECT pg_try_advisory_lock($1, $2)", ALIVE, _signed(key_of(name))):  # noqa: ASYNC110
            await asyncio.sleep(RETRY_SECONDS)  # the server has not noticed yet that our last connection is gone
        self._alive.set()

    async def _throw_out(self, conn: Any) -> None:
        if time.monotonic() > self._looked_at + LOOK_SECONDS:
            self._looked_at = time.monotonic()
            await conn.execute(_THROW_OUT, STILL_SECONDS)

    async def _send(self, conn: Any) -> None:
        words, self._told = [f"{topic}@{detail}" for topic, detail in self._told.items()], {}
        for payload in _payloads(words):
            await conn.execute("SELECT pg_notify($1, $2)", CHANNEL, f"{self._me} {payload}")

    def _on_notification(self, _conn: Any, _pid: int, _channel: str, payload: str) -> None:
        sender, *words = payload.split(" ")
        if sender != self._me:
            self.heard(words)


def key_of(name: str) -> int:
    return zlib.crc32(name.encode())


def _signed(key: int) -> int:
    return key - 2**32 if key >= 2**31 else key


def _payloads(words: Sequence[str]) -> Iterator[str]:
    payload = ""
    for word in words:
        if len(payload) + len(word) + 1 > MAX_PAYLOAD:
            yield payload
            payload = ""
        payload = f"{payload} {word}" if payload else word
    if payload:
        yield payload
