"""A real PostgreSQL for tests: on a unix socket in a directory of its own, a fresh migrated database for whoever asks.

It sorts text as people do, not by bytes, so that nothing relies on SQLite's order.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from gateway.db.engine import Database

_PR_SET_PDEATHSIG = 1
CONFIG = """
listen_addresses = ''
max_connections = 200
shared_buffers = 64MB
log_min_messages = warning
log_lock_waits = on
deadlock_timeout = 200ms
"""


def binaries() -> Path | None:
    """Where `initdb` is, the newest if there are several."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3].split(".")[0]))
    if found:
        return found[-1].parent
    on_path = shutil.which("initdb")
    return Path(on_path).resolve().parent if on_path else None


@dataclass
class PostgresServer:
    folder: Path
    bin: Path
    durable: bool = False  # for figures; tests survive no power loss
    process: subprocess.Popen[bytes] | None = None
    _made: int = 0
    _as: dict[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if os.geteuid() == 0:  # it refuses to be root
            user = pwd.getpwnam("postgres" if _exists("postgres") else "nobody")
            self._as = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
            os.chown(self.folder, user.pw_uid, user.pw_gid)
        data = str(self.folder / "data")
        icu = ["--locale-provider=icu", "--icu-locale=en", "--encoding=UTF8", "--locale=C"]
        self._run(self.bin / "initdb", "-D", data, "-U", "switchboard", "-A", "trust", "--no-sync", "--no-instructions", *icu)
        with (self.folder / "data" / "postgresql.conf").open("a") as config:
            config.write(CONFIG if self.durable else CONFIG + "fsync = off\n")

    def _run(self, *command: str | Path) -> str:
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=self.folder, **self._as)  # type: ignore[call-overload]
        assert done.returncode == 0, f"{command}: {done.stderr}"
        return str(done.stdout)

    def start(self) -> None:
        """Also after it was killed, as soon as the last of its processes has noticed."""
        deadline = time.monotonic() + 30
        while not self._try_to_start(deadline):
            assert "is still in use" in self.log()[-2000:], self.log()
            assert time.monotonic() < deadline, self.log()

    def _try_to_start(self, deadline: float) -> bool:
        command = [self.bin / "postgres", "-D", self.folder / "data", "-k", self.folder]
        libc = ctypes.CDLL(None)
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(  # type: ignore[call-overload]
                command, stdout=log, stderr=log, preexec_fn=lambda: libc.prctl(_PR_SET_PDEATHSIG, signal.SIGQUIT), **self._as
            )
        while subprocess.run([self.bin / "pg_isready", "-q", "-h", self.folder], check=False).returncode != 0:
            assert self.process is not None
            if self.process.poll() is not None:
                return False
            assert time.monotonic() < deadline, self.log()
            time.sleep(0.02)
        return True

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """SIGINT: roll back and stop; SIGQUIT: at once, as in a crash."""
        if self.process is not None:
            self.process.send_signal(how)
            self.process.wait(30)
            self.process = None

    def log(self) -> str:
        return (self.folder / "server.log").read_text("utf-8", "replace")

    def url(self, name: str) -> str:
        return f"postgresql://switchboard@/{name}?host={self.folder}"

    def sql(self, name: str, statement: str) -> str:
        """Unaligned rows, fields between |."""
        psql = [self.bin / "psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-h", self.folder, "-U", "switchboard"]
        return self._run(*psql, "-d", name, "-c", statement).strip()

    def make_template(self) -> None:
        self.sql("postgres", "CREATE DATABASE migrated")
        database = Database(self.url("migrated"))

        async def migrate() -> None:
            await database.start()
            await database.aclose()

        asyncio.run(migrate())

    def create(self, template: str = "migrated") -> str:
        """The name of a new database."""
        self._made += 1
        name = f"test{self._made}"
        self.sql("postgres", f"CREATE DATABASE {name} TEMPLATE {template}")
        return name

    def drop(self, name: str) -> None:
        self.sql("postgres", f"DROP DATABASE {name} WITH (FORCE)")


def _exists(user: str) -> bool:
    try:
        pwd.getpwnam(user)
    except KeyError:
        return False
    return True


@contextmanager
def postgres_server(*, durable: bool = False) -> Iterator[PostgresServer]:
    """A running server with a migrated template; gone at the end."""
    found = binaries()
    assert found is not None
    folder = Path(tempfile.mkdtemp(prefix="switchboard-pg-"))
    server = PostgresServer(folder, found, durable)
    server.start()
    try:
        server.make_template()
        yield server
    finally:
        server.stop(signal.SIGQUIT)
        shutil.rmtree(folder, ignore_errors=True)
