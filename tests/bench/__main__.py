"""`python -m tests.bench [--quick] [--part PART] [sqlite] [postgresql]`: what a gateway does here, as a table and as JSON.

It asserts no times. With `--quick` everything is done a few times only: whether it can be measured, not what it measures.

Its `claude` is a fake. Trust ratios more than figures: the client, the gateway and the runtimes share the machine.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from tests.bench import engine, measures
from tests.bench.fanout import fanout
from tests.bench.stage import Stage, make_agents, stage
from tests.crash.takeovers import LEASE
from tests.postgres import postgres_server
from tests.support import Json


@dataclass(frozen=True)
class Size:
    """How much of everything."""

    sessions: tuple[tuple[int, int], ...] = ((1, 60), (8, 200), (32, 200))  # (at once, how many)
    lengths: tuple[int, ...] = measures.LENGTHS
    appended: tuple[int, ...] = measures.APPENDED
    deltas: int = 5000
    calls: int = 40
    more: int = 200  # sessions, for the memory
    idle: int = 10_000
    acks: int = 500
    takeovers: int = 20  # kills and stops by turns
    pieces: int = 100
    readers: int = 1000
    ways: tuple[str, ...] = ("a2a", "sessions")  # by which the readers of the fan-out read
    seconds: float = 5  # of the fan-out
    hears: tuple[str, ...] = ("hints", "polls")  # by which another gateway learns of events
    turns: int = 10  # of a long session
    repeat: int = 5  # of the throughput
    sample: int = 2000  # of the appended


QUICK = Size(((1, 5), (8, 16)), (1_000,), (2_000, 10_000), 500, 5, 20, 50, 20, 2, 20, 50)
PARTS = ("gateway", "append", "late", "takeovers", "fanout")


async def run(folder: Path, database: Callable[[], str], size: Size, parts: Collection[str] = PARTS) -> Json:
    """`database` makes a new one and tells its URL."""
    found: Json = {"cpus": os.cpu_count(), "load_before": round(os.getloadavg()[0], 2)}
    if "gateway" in parts:
        found |= await of_a_gateway(folder, database(), size)
    if "append" in parts:
        found["append"] = await measures.append_cost(database(), size.appended, sample=size.sample)
    if "late" in parts:
        found["late_ms"] = {by: await engine.lateness(folder, database(), by == "hints", size.pieces) for by in size.hears}
    if "takeovers" in parts:
        found["taken_over_s"] = await asyncio.to_thread(engine.takeovers, folder, database(), size.takeovers)
    if "fanout" in parts:
        found["fanout"] = [
            await asyncio.to_thread(fanout, folder, database(), way, size.readers, seconds=size.seconds) for way in size.ways
        ]
    return found | {"load_after": round(os.getloadavg()[0], 2)}


async def of_a_gateway(folder: Path, database: str, size: Size) -> Json:
    found: Json = {}
    with stage(folder, database) as on:
        await make_agents(on)
        found["throughput"] = await measures.throughput(on, size.deltas, size.repeat)
        found["latency"] = await measures.latency(on, size.calls)
        found["sessions"] = [await asyncio.to_thread(measures.sessions, on, at_once, count) for at_once, count in size.sessions]
        found["acknowledged_ms"] = await engine.acknowledgements(on, size.acks)
        found["memory_mb"] = await memory(on, size.more)
        found["idle"] = await engine.idle(on, size.idle, size.more)
        found["long_sessions"] = [await measures.long_session(on, length, size.turns) for length in size.lengths]
    return found


async def memory(on: Stage, count: int) -> Json:
    """Resident memory before and after some sessions more."""
    before = on.server.memory_info().rss
    await asyncio.to_thread(measures.sessions, on, 8, count)
    after = on.server.memory_info().rss
    return {"before": round(before / 1e6, 1), "after": round(after / 1e6, 1)}


def show(found: Json) -> None:
    """As lines, of what was measured."""
    if "throughput" in found:
        show_gateway(found)
    costs = list(found.get("append", {}).values())
    for length, cost in found.get("append", {}).items():
        ratios = (
            f"ratio {cost['cpu_us'] / costs[0]['cpu_us']:.2f}; in all {cost['us']}, ratio {cost['us'] / costs[0]['us']:.2f}"
        )
        line(f"append at {length} events, us CPU", cost["cpu_us"], ratios)
    for name, late in found.get("late_ms", {}).items():
        line(f"events at another gateway, by {name}, ms late", late["p50"], f"p99 {late['p99']}, max {late['max']}")
    for name, took in found.get("taken_over_s", {}).items():
        line(
            f"taken over after a {name}, s", took["p50"], f"max {took['max']}" + (f", lease {LEASE}" if name == "stop" else "")
        )
    for wide in found.get("fanout", []):
        more = f"{wide['cpu_us_per_delivery']} us CPU each, {wide['events_per_s']} events/s, over {wide['over']}"
        line(f"deliveries/s, {wide['readers']} readers of one session", wide["deliveries_per_s"], more)


def show_gateway(found: Json) -> None:
    text, first, many = found["throughput"], found["latency"], found["sessions"]
    line("durable deltas/s, one session", text["deltas_per_s"], f"{text['cpu_us_per_delta']} us CPU each")
    for name in ("request_to_first_line_ms", "first_line_to_first_delta_ms", "request_to_first_delta_ms"):
        line(name.replace("_", " ").replace(" ms", ", ms"), first[name]["p50"], f"p95 {first[name]['p95']}")
    for row in many:
        more = f"{row['server_cpu_ms']} ms CPU each ({row['with_warden_cpu_ms']} with the warden), p50 {row['total_ms_p50']} ms"
        line(f"sessions/s, {row['at_once']} at once", row["sessions_per_s"], more)
    acks, idle = found["acknowledged_ms"], found["idle"]
    line(f"acknowledged under a load of {acks['load']}, ms", acks["p50"], f"p99 {acks['p99']}, max {acks['max']}")
    line("memory over some sessions, MB", found["memory_mb"]["after"], f"before {found['memory_mb']['before']}")
    more = f"bytes each; {idle['before_mb']} MB before, {idle['after_mb']} after; {idle['processes_held']} processes held"
    line(f"{idle['sessions']} idle sessions", idle["bytes_each"], more)
    for row in found["long_sessions"]:
        of_long = f"of a task that long {row['get_task_that_long_ms']}, again {row['and_again_ms']}"
        more = f"{row['turn_cpu_ms']} ms CPU; GetTask {row['get_task_ms_p50']}, {of_long}"
        line(f"turn in a session of {row['events']} events, ms", row["turn_ms_p50"], more)
    ends = [row["turn_cpu_ms"] for row in found["long_sessions"]]
    line("turn CPU, longest session to shortest", f"{ends[-1] / ends[0]:.2f}" if ends[0] else "-", "")


def line(name: str, value: object, more: str) -> None:
    print(f"{name:<46} {value!s:>9}   {more}".rstrip())


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench")
    parser.add_argument("databases", nargs="*", metavar="DATABASE", help="sqlite, postgresql; default: both")
    parser.add_argument("--quick", action="store_true", help="do everything a few times only")
    parser.add_argument("--part", action="append", choices=PARTS, help="only this; may be given several times")
    asked = parser.parse_args()
    for kind in asked.databases or ["sqlite", "postgresql"]:
        with tempfile.TemporaryDirectory(prefix="switchboard-bench-") as folder, databases(kind, Path(folder)) as database:
            found = asyncio.run(run(Path(folder), database, QUICK if asked.quick else Size(), asked.part or PARTS))
        print(f"\n== {kind}")
        show(found)
        print(json.dumps(found), flush=True)
    return 0


@contextmanager
def databases(kind: str, folder: Path) -> Iterator[Callable[[], str]]:
    """Makes new databases of a kind; PostgreSQL as one uses it, with its promises about power losses."""
    if kind == "sqlite":
        numbers = count(1)
        yield lambda: f"sqlite:///{folder / f'bench{next(numbers)}.db'}"
        return
    with postgres_server(durable=True) as server:
        yield lambda: server.url(server.create())


if __name__ == "__main__":
    sys.exit(main())
