"""`python -m tests.crash [PART ...]`: the crash tests in full length, on both databases. `make crash` runs all of it.

Prints its seed, how far it is, and a line DONE for what each part did. Exits with 1 if anything was violated; what the part
had on its disk is kept then. A seed plays the same calls, kills and cuts again; when exactly they hit depends on the machine.
"""

from __future__ import annotations

import argparse
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import anyio

from tests.crash import simulation
from tests.crash.cuts import cut_streams
from tests.crash.found import Found
from tests.crash.hooks import kill_by_turns
from tests.crash.keeping import kill_keepers
from tests.crash.kills import births, kill
from tests.crash.nursery import Nursery, nursery
from tests.crash.outages import outages
from tests.crash.takeovers import check_times, take_over
from tests.postgres import PostgresServer, postgres_server

DATABASES = ("sqlite", "postgresql")
SLICES = {"alone": 3, "together": 3}  # which play beside each other
FULL = 1000  # kills on each database; the rounds of the other parts are for as many
ROUNDS = {
    "alone": 660,  # of which some kill twice
    "together": 225,
    "births": 30,
    "takeovers": 30,
    "cuts": 200,
    "webhooks": 30,
    "retention": 30,
    "outages": 20,
}
TIMED = "takeovers"  # held to bounds of time, so it plays with nothing beside it
SIMULATION = "simulation"
SCHEDULES = {"sqlite": 10_000, "postgresql": 2_000}


@dataclass
class Stage:
    """Where the parts of one database play."""

    database: str
    born: Nursery
    server: PostgresServer | None

    def env(self) -> Mapping[str, str]:
        """With a new database, unless it is the one in the data directory."""
        return {"SWITCHBOARD_DATABASE_URL": self.server.url(self.server.create())} if self.server else {}

    def empty(self, folder: Path) -> str:
        """A database without any tables."""
        return self.server.url(self.server.create("template1")) if self.server else f"sqlite:///{folder / 'switchboard.db'}"

    def play(self, part: str, found: Found, folder: Path, rng: random.Random) -> None:
        match part:
            case "alone" | "together":
                run = partial(kill, folder, found, rng, 1 if part == "alone" else 3, self.env(), self.born)
            case "births":
                run = partial(births, folder, found, rng, self.empty, self.born)
            case "takeovers":
                anyio.run(partial(take_over, folder, found, rng, self.env(), self.born))
                with found.looking_at("how soon turns go on"):
                    check_times(found)
                return
            case "outages":
                with postgres_server() as server:
                    anyio.run(partial(outages, folder, found, rng, server, self.born))
                return
            case _:
                run = partial(_PLAIN[part], folder, found, rng, self.env(), self.born)
        anyio.run(run)


_PLAIN: Mapping[str, Callable[..., object]] = {
    "cuts": cut_streams,
    "webhooks": kill_by_turns,
    "retention": kill_keepers,
}


def main(argv: Sequence[str] | None = None) -> int:
    asked = _asked(argv)
    if asked.slice:
        return _play(asked, *asked.slice.split())
    databases = DATABASES if asked.database == "both" else (asked.database,)
    began = time.monotonic()
    print(f"seed {asked.seed}: {' '.join(asked.parts)}, {asked.rounds} kills", flush=True)
    parts = [part for part in asked.parts if part != SIMULATION]
    slices = [
        f"{part} {database} {number}" for part in parts for number in range(SLICES.get(part, 1)) for database in databases
    ]
    slices = [one for one in slices if one != "outages sqlite 0"]
    failed = _all(asked, [one for one in slices if one.startswith(TIMED)], 1)
    failed += _all(asked, [one for one in slices if not one.startswith(TIMED)], asked.at_once)
    for database in databases if SIMULATION in asked.parts else ():
        schedules = max(1, SCHEDULES[database] * asked.rounds // FULL)
        failed += simulation.main(schedules, asked.seed, asked.at_once, database) > 0
    print(f"seed {asked.seed}, {time.monotonic() - began:.0f} s: {f'{failed} with violations' if failed else 'no violation'}")
    return int(failed > 0)


def _all(asked: argparse.Namespace, waiting: list[str], at_once: int) -> int:
    """Play these slices, so many at the same time; how many failed."""
    running: list[subprocess.Popen[bytes]] = []
    failed = 0
    while waiting or running:
        while waiting and len(running) < at_once:
            running.append(_start(asked, waiting.pop(0)))
        over = [process for process in running if process.poll() is not None]
        failed += sum(process.returncode != 0 for process in over)
        running = [process for process in running if process not in over]
        time.sleep(0.1)
    return failed


def _start(asked: argparse.Namespace, slice: str) -> subprocess.Popen[bytes]:
    options = ["--rounds", str(asked.rounds), "--seed", str(asked.seed), "--slice", slice]
    return subprocess.Popen([sys.executable, "-W", "ignore", "-m", "tests.crash", *options])


def _play(asked: argparse.Namespace, part: str, database: str, number: str) -> int:
    """One slice of a part, in this process."""
    name = f"{part} {database} {number}"
    rounds = ROUNDS[part] * asked.rounds / FULL / SLICES.get(part, 1)
    found = Found(name, max(1, round(rounds)), keeps_going=True)
    folder = Path(tempfile.mkdtemp(prefix=f"switchboard-crash-{part}-"))
    server: AbstractContextManager[PostgresServer | None] = nullcontext() if database == "sqlite" else postgres_server()
    with nursery() as born, server as running, found.looking_at(f"the part {part}"):
        Stage(database, born, running).play(part, found, folder, random.Random(f"{asked.seed} {name}"))
    if found.violations:
        print(f"[{name}] kept: {folder}", flush=True)
    else:
        shutil.rmtree(folder, ignore_errors=True)
    print(f"DONE {found}", flush=True)
    return int(bool(found.violations))


def _asked(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.crash", description="The crash tests in full length.")
    parts = [*ROUNDS, SIMULATION]
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(parts)}; default: all")
    help = f"kills on each database ({FULL}); the other parts do less, or more, in proportion"
    parser.add_argument("--rounds", type=int, default=FULL, metavar="N", help=help)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6), metavar="N", help="a printed seed, played again")
    parser.add_argument("--database", choices=(*DATABASES, "both"), default="both")
    parser.add_argument("--at-once", type=int, default=4, metavar="N", help="processes that play at the same time")
    parser.add_argument("--slice", help=argparse.SUPPRESS)
    asked = parser.parse_args(argv)
    if unknown := set(asked.parts) - set(parts):
        parser.error(f"there is no part {', '.join(sorted(unknown))}")
    asked.parts = asked.parts or parts
    return asked


if __name__ == "__main__":
    sys.exit(main())
