"""`python -m tests.bench [sqlite] [postgresql]`: what a gateway does here, as a table and as JSON. It asserts no times.

Its `claude` is a fake. Trust ratios more than figures: the client, the gateway and the runtimes share the machine.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

from tests.bench import measures
from tests.bench.fanout import fanout
from tests.bench.stage import make_agents, stage
from tests.postgres import postgres_server
from tests.support import Json


async def run(folder: Path, database: Callable[[], str]) -> Json:
    """`database` makes a new one and tells its URL."""
    found: Json = {"cpus": os.cpu_count(), "load_before": round(os.getloadavg()[0], 2)}
    with stage(folder, database()) as on:
        await make_agents(on)
        found["throughput"] = await measures.throughput(on)
        found["latency"] = await measures.latency(on)
        found["sessions"] = [
            await asyncio.to_thread(measures.sessions, on, at_once, count) for at_once, count in ((1, 60), (8, 200), (32, 200))
        ]
        found["memory_mb"] = await memory(on)
        found["long_sessions"] = [await measures.long_session(on, length) for length in measures.LENGTHS]
    found["append_cpu_us"] = await measures.append_cost(database())
    found["fanout"] = [await asyncio.to_thread(fanout, folder, database(), over) for over in ("a2a", "sessions")]
    return found | {"load_after": round(os.getloadavg()[0], 2)}


async def memory(on: measures.Stage) -> Json:
    """Resident memory before and after 200 sessions more."""
    before = on.server.memory_info().rss
    await asyncio.to_thread(measures.sessions, on, 8, 200)
    after = on.server.memory_info().rss
    return {"before": round(before / 1e6, 1), "after": round(after / 1e6, 1)}


def show(found: Json) -> None:
    text, first, many = found["throughput"], found["latency"], found["sessions"]
    line("durable deltas/s, one session", text["deltas_per_s"], f"{text['cpu_us_per_delta']} us CPU each")
    for name in ("request_to_first_line_ms", "first_line_to_first_delta_ms", "request_to_first_delta_ms"):
        line(name.replace("_", " ").replace(" ms", ", ms"), first[name]["p50"], f"p95 {first[name]['p95']}")
    for row in many:
        more = f"{row['server_cpu_ms']} ms CPU each ({row['with_warden_cpu_ms']} with the warden), p50 {row['total_ms_p50']} ms"
        line(f"sessions/s, {row['at_once']} at once", row["sessions_per_s"], more)
    line("memory over 200 sessions, MB", found["memory_mb"]["after"], f"before {found['memory_mb']['before']}")
    for row in found["long_sessions"]:
        of_long = f"of a task that long {row['get_task_that_long_ms']}, again {row['and_again_ms']}"
        more = f"{row['turn_cpu_ms']} ms CPU; GetTask {row['get_task_ms_p50']}, {of_long}"
        line(f"turn in a session of {row['events']} events, ms", row["turn_ms_p50"], more)
    costs = list(found["append_cpu_us"].values())
    for length, cost in found["append_cpu_us"].items():
        line(f"append at {length} events, us CPU", cost, f"ratio {cost / costs[0]:.2f}")
    for wide in found["fanout"]:
        more = f"{wide['cpu_us_per_delivery']} us CPU each, {wide['events_per_s']} events/s, over {wide['over']}"
        line(f"deliveries/s, {wide['readers']} readers of one session", wide["deliveries_per_s"], more)
    ends = [row["turn_cpu_ms"] for row in found["long_sessions"]]
    line("turn CPU, longest session to shortest", f"{ends[-1] / ends[0]:.2f}", "")


def line(name: str, value: object, more: str) -> None:
    print(f"{name:<46} {value!s:>9}   {more}".rstrip())


def main() -> int:
    for kind in sys.argv[1:] or ["sqlite", "postgresql"]:
        with tempfile.TemporaryDirectory(prefix="switchboard-bench-") as folder, databases(kind, Path(folder)) as database:
            found = asyncio.run(run(Path(folder), database))
        print(f"\n== {kind}")
        show(found)
        print(json.dumps(found))
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
