"""A real PostgreSQL as the database of simulated hosts: each has the gateway's own `Postgres`, with its pool and its line.

Real are the transactions that run beside one another, their locks, the advisory locks of the writers and of those who are
alive, NOTIFY, commits whose answer is lost, and connections that break anywhere. What runs on the server's own clock cannot
be had on virtual time and is done by the world: throwing out who stands still in a transaction (idle or in the middle of a
statement), and believing nobody dead right after a start. A server that goes away is one that cuts all connections and
takes none; that it also forgets what is not committed is left to `tests.crash.outages`, which kills a real one. Hosts are
tasks of one process: what only processes have, such as a pool that is shared by mistake, is not found here.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from random import Random
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import anyio
import asyncpg

import gateway.db.line
import gateway.db.postgres
from gateway.db.engine import Database
from gateway.db.jobs import Job, Operation, T
from gateway.db.postgres import Postgres
from gateway.errors import Fenced
from tests.crash.simulated.database import SETTLED_SECONDS, TABLES
from tests.crash.simulated.loop import Host, SimulatedLoop
from tests.crash.simulated.wires import Network, Waiting

LEAVE_SECONDS = 300.0  # of virtual time, for what is left of a host to come to its end

_WAITING = "SELECT DISTINCT pid, pg_blocking_pids(pid) AS blockers FROM pg_locks WHERE NOT granted"
_CONNECTED = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid != pg_backend_pid()"


class Monitor:
    """A connection beside the simulation, on a loop in a thread of its own; calls wait for their answers."""

    def __init__(self, url: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._conn: Any = self._run(asyncpg.connect(url))

    def _run(self, coro: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coro, self._loop).result(60)

    def execute(self, statement: str) -> None:
        self._run(self._conn.execute(statement))

    def rows(self, statement: str) -> list[Any]:
        return [SimpleNamespace(**row) for row in self._run(self._conn.fetch(statement))]

    def waiting(self) -> Waiting:
        return {row.pid: row.blockers for row in self.rows(_WAITING)}

    def connected(self) -> set[int]:
        return {row.pid for row in self.rows(_CONNECTED)}

    def close(self) -> None:
        self._run(self._conn.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class Remote:
    """A migrated database on a real server, for one schedule after another."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.monitor = Monitor(url)
        self.compiled: dict[Any, Any] = {}  # statements, for all hosts there ever are

    @classmethod
    def migrated(cls, url: str) -> Remote:
        async def migrate() -> None:
            database = Database(url)
            await database.start()
            await database.aclose()

        asyncio.run(migrate())
        return cls(url)

    def serve(self, loop: SimulatedLoop, random: Random) -> Server:
        return Server(self, loop, random)

    def close(self) -> None:
        self.monitor.close()


class Server:
    def __init__(self, remote: Remote, loop: SimulatedLoop, random: Random) -> None:
        self.remote, self.loop, self.random = remote, loop, random
        self.network = Network(loop, random, remote.monitor)
        self.backends: list[Backend] = []
        self.up_since = -SETTLED_SECONDS
        loop.create_unix_connection = self.network.connect  # type: ignore[assignment,method-assign]
        while remote.monitor.connected():
            time.sleep(0.001)
        remote.monitor.execute(f"TRUNCATE {', '.join(TABLES)} RESTART IDENTITY CASCADE")

    @property
    def down(self) -> bool:
        return self.network.down

    @property
    def faults(self) -> bool:
        return self.network.faults

    @faults.setter
    def faults(self, faults: bool) -> None:
        self.network.faults = faults

    def stop(self) -> None:
        self.network.down = True
        self.network.cut()

    def start(self) -> None:
        self.network.down, self.up_since = False, self.loop.time()

    def rows(self, statement: str) -> list[Any]:
        return self.remote.monitor.rows(statement)

    def backend(self, host: Host) -> Backend:
        return Backend(self, host)

    async def close(self) -> None:
        """Once every host's code has come to its end."""
        for backend in self.backends:
            with anyio.move_on_after(LEAVE_SECONDS):
                await backend.aclose()

    def end(self) -> None:
        for wire in list(self.network.wires):
            wire.leave()

    @contextmanager
    def patched(self) -> Iterator[None]:
        """Time and chance, as this world has them."""
        hex_ = lambda size: self.random.getrandbits(8 * size).to_bytes(size, "big").hex()  # noqa: E731
        with (
            patch.object(gateway.db.line, "time", SimpleNamespace(monotonic=self.loop.time)),
            patch.object(gateway.db.line, "secrets", SimpleNamespace(token_hex=hex_)),
            patch.object(gateway.db.postgres, "random", self.random),
            patch.object(gateway.db.postgres, "SETTLE_SECONDS", 0.0),
        ):
            yield


class Backend(Postgres):
    """One host's."""

    def __init__(self, server: Server, host: Host) -> None:
        super().__init__(server.remote.url)
        self._engine = self._engine.execution_options(compiled_cache=server.remote.compiled)
        self.server, self.host = server, host
        self.names: set[str] = set()
        self.hidden = False  # seems dead to others, though it is not
        self.buried = False
        self._line_task = server.loop.spawn(host, self._line.run())
        server.backends.append(self)

    def dies(self) -> None:
        self.server.network.away.add(self.host)
        for wire in self.server.network.of(self.host):
            wire.die()

    def stands(self) -> None:
        self.server.network.throw_out(self.host)

    def bury(self) -> None:
        """From here on its code runs to its end, and reaches nothing."""
        self.buried = True
        self.server.network.away.add(self.host)
        for wire in self.server.network.of(self.host):
            wire.cut()

    def submit(self, job: Job, beside: bool) -> None:
        if self.buried:
            job.error = Fenced("This host is no more.")
            self.server.loop.call_soon(job.settle, context=self.host.context())
        else:
            super().submit(job, beside)

    async def read(self, op: Operation[T], snapshot: bool) -> T:
        if self.buried:
            raise Fenced("This host is no more.")
        return await super().read(op, snapshot)

    async def appear(self, name: str) -> None:
        self.names.add(name)
        await super().appear(name)

    async def alive(self, names: Sequence[str]) -> set[str]:
        found = await super().alive(names)
        if self.server.loop.time() < self.server.up_since + SETTLED_SECONDS:
            return set(names)
        hidden = {name for other in self.server.backends if other.hidden for name in other.names}
        return found - hidden
