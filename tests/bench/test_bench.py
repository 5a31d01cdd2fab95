"""`make bench` can be run: everything it measures is measured, on one database or the other, as small as it can be.

No figure is judged.
"""

from __future__ import annotations

import asyncio
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from tests.bench.__main__ import Size, run, show
from tests.postgres import PostgresServer

SPREAD = {"p50": 0, "p99": 0, "max": 0}
BEGINNING = {"p50": 0, "p95": 0}
FANOUT = {"over": "", "readers": 0, "events_per_s": 0, "deliveries_per_s": 0, "deliveries": 0} | {
    "seconds": 0,
    "published_in": 0,
    "cpu_us_per_delivery": 0,
}
ALWAYS = {"cpus": 0, "load_before": 0, "load_after": 0, "append": {20: {"cpu_us": 0, "us": 0}, 40: {"cpu_us": 0, "us": 0}}}
GATEWAY: dict[str, Any] = {
    "throughput": {"deltas": 0, "deltas_per_s": 0, "cpu_us_per_delta": 0},
    "latency": dict.fromkeys(
        ("request_to_first_line_ms", "first_line_to_first_delta_ms", "request_to_first_delta_ms"), BEGINNING
    ),
    "sessions": [
        {"at_once": 0, "sessions_per_s": 0, "rss_mb": [0, 0, 0]}
        | dict.fromkeys(("first_ms_p50", "total_ms_p50", "total_ms_p95", "server_cpu_ms", "with_warden_cpu_ms"), 0)
    ],
    "acknowledged_ms": {"load": 0, "count": 0} | SPREAD,
    "memory_mb": {"before": 0, "after": 0},
    "idle": {"sessions": 0, "before_mb": 0, "after_mb": 0, "bytes_each": 0, "processes_held": 0},
    "long_sessions": [
        {"events": 0, "turn_ms_p50": 0, "turn_cpu_ms": 0}
        | dict.fromkeys(("get_task_ms_p50", "get_task_that_long_ms", "and_again_ms"), 0)
    ],
}
LITTLE: dict[str, Any] = {"sessions": ((2, 2),), "lengths": (500,), "appended": (20, 40), "sample": 10, "deltas": 20}
LITTLE |= {"calls": 2, "more": 1, "idle": 2, "acks": 2, "takeovers": 1, "pieces": 2, "readers": 2, "seconds": 0.1}
LITTLE |= {"turns": 1, "repeat": 1}


def shape(found: Any) -> Any:
    """Figures without what they say."""
    if isinstance(found, dict):
        return {name: shape(value) for name, value in found.items()}
    if isinstance(found, list):
        return [shape(value) for value in found]
    return type(found)() if isinstance(found, str) else 0


def test_the_log_is_measured_on_sqlite(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    numbers = count(1)
    size = Size(**LITTLE, ways=("a2a",), hears=("hints",))
    parts = ("append", "late", "fanout")
    found = asyncio.run(run(tmp_path, lambda: f"sqlite:///{tmp_path / f'bench{next(numbers)}.db'}", size, parts))
    show(found)
    assert shape(found) == ALWAYS | {"late_ms": {"hints": SPREAD}, "fanout": [FANOUT]}
    assert found["fanout"][0]["deliveries"] > 0
    assert "deliveries/s, 2 readers of one session" in capsys.readouterr().out


def test_a_gateway_is_measured_on_postgresql(
    tmp_path: Path, postgres: PostgresServer, capsys: pytest.CaptureFixture[str]
) -> None:
    parts = ("gateway", "append", "takeovers")
    found = asyncio.run(run(tmp_path, lambda: postgres.url(postgres.create()), Size(**LITTLE), parts))
    show(found)
    assert shape(found) == ALWAYS | GATEWAY | {"taken_over_s": {"kill": {"p50": 0, "max": 0}}}
    assert found["idle"]["processes_held"] == 0
    told = capsys.readouterr().out
    assert "durable deltas/s, one session" in told
    assert "2 idle sessions" in told
    assert "taken over after a kill, s" in told
