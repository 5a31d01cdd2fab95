"""Seeded schedules of the engine on a fake clock: `python -m tests.crash.simulation --rounds 10000 --seed 1`.

Each seed is one schedule of its own: `--rounds 1 --seed N` plays N again, exactly, and `--trace` tells what happens in it.
With `--database postgresql` schedules are played on a real server (`simulated.remote`), and are others than on SQLite.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import structlog

from gateway.errors import SwitchboardError
from tests.crash.simulated.database import Memory
from tests.crash.simulated.remote import Remote
from tests.crash.simulated.world import World
from tests.postgres import PostgresServer, postgres_server

BATCH = 100  # schedules of one process


def main(rounds: int, seed: int, processes: int = 1, database: str = "sqlite", server: PostgresServer | None = None) -> int:
    """Play the schedules `seed` to `seed + rounds - 1`. Answers how many found something; prints what."""
    if database == "postgresql" and server is None:
        with postgres_server() as started:
            return main(rounds, seed, processes, database, started)
    began = time.monotonic()
    batches = [(first, min(BATCH, seed + rounds - first)) for first in range(seed, seed + rounds, BATCH)]
    running: list[subprocess.Popen[bytes]] = []
    failed = 0
    while batches or running:
        while batches and len(running) < processes:
            first, count = batches.pop(0)
            command = [sys.executable, "-m", "tests.crash.simulation", "--play", str(count), "--seed", str(first)]
            command += ["--url", server.url(server.create())] if server else []
            running.append(subprocess.Popen(command, env={**os.environ, "PYTHONHASHSEED": "0"}))
        over = [process for process in running if process.poll() is not None]
        failed += sum(process.returncode for process in over)
        running = [process for process in running if process not in over]
        time.sleep(0.02)
    seconds = time.monotonic() - began
    said = f"{rounds} schedules on {database} from seed {seed} on in {seconds:.0f} s, {rounds / seconds:.1f}/s"
    print(f"{said}: {failed} with violations")
    return failed


def play(count: int, seed: int, trace: bool, url: str = "") -> int:
    """In this process."""
    said: list[str] = []
    broken: list[str] = []

    def tell(_logger: object, _name: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        if trace:
            said.append(f"          {event}")
        if event["event"] == "turn_broken":
            broken.extend(map(repr, _unforeseen(sys.exc_info()[1])))
        raise structlog.DropEvent

    structlog.configure(processors=[tell], cache_logger_on_first_use=False)
    store = Remote.migrated(url) if url else Memory()
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        for one in range(seed, seed + count):
            world = World(one, store, Path(folder), said if trace else None)
            broken.clear()
            if found := [*world.run(), *broken]:
                failed += 1
                print(f"seed {one}: " + "\n    ".join(found), flush=True)
            if trace:
                print("\n".join(said), f"\n{world.loop.steps} steps, {world.loop.time():.6f} s")
    return min(failed, 100)


def _unforeseen(exc: BaseException | None) -> list[BaseException]:
    """What a turn broke by that is no fault of this world."""
    if isinstance(exc, BaseExceptionGroup):
        return [one for part in exc.exceptions for one in _unforeseen(part)]
    return [] if exc is None or isinstance(exc, (OSError, SwitchboardError)) else [exc]


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--database", choices=("sqlite", "postgresql"), default="sqlite")
    parser.add_argument("--url", default="", help="a database on a server that runs, to play on")
    parser.add_argument("--play", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--trace", action="store_true")
    asked = parser.parse_args()
    if asked.trace and asked.database == "postgresql" and not asked.url:
        with postgres_server() as server:
            sys.exit(play(asked.rounds, asked.seed, True, server.url(server.create())))
    if asked.play or asked.trace:
        sys.exit(play(asked.play or asked.rounds, asked.seed, asked.trace, asked.url))
    sys.exit(bool(main(asked.rounds, asked.seed, asked.processes, asked.database)))
