"""Many readers of one session: how many frames a second one gateway hands out."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.support import free_port

HERE = Path(__file__).parent


def fanout(
    folder: Path, database: str, over: str = "a2a", readers: int = 1000, rate: int = 1000, seconds: float = 5
) -> dict[str, Any]:
    """`rate` events a second read by so many subscribers over an API; the readers are a C program on the same machine."""
    drain, request, port = folder / "drain", folder / "request", free_port()
    subprocess.run(["cc", "-O2", "-w", "-o", drain, HERE / "drain.c"], check=True)
    env = os.environ | {"SWITCHBOARD_DATA_DIR": str(folder / f"fanout-{over}"), "SWITCHBOARD_PORT": str(port)}
    env["SWITCHBOARD_DATABASE_URL"] = database
    argv = [sys.executable, "-m", "tests.bench.publisher", str(readers), str(rate), str(seconds)]
    with subprocess.Popen(argv, env=env, stdout=subprocess.PIPE, text=True) as publisher:
        assert publisher.stdout is not None
        ids = json.loads(publisher.stdout.readline())
        request.write_bytes(_subscribe(port, ids["task"]) if over == "a2a" else _events(port, ids["session"]))
        found = subprocess.run([drain, str(port), str(readers), request], check=True, stdout=subprocess.PIPE)
        published = json.loads(publisher.stdout.readline())
    read = json.loads(found.stdout)
    assert read["least"] == read["most"], f"a reader missed something: {read}"
    return {
        "over": over,
        "readers": readers,
        "events_per_s": rate,
        "deliveries_per_s": round(read["frames"] / read["seconds"]),
        "deliveries": read["frames"],
        "seconds": read["seconds"],
        "published_in": published["published_in"],
        "cpu_us_per_delivery": round(published["cpu_s"] / read["frames"] * 1e6, 2),
    }


def _subscribe(port: int, task: str) -> bytes:
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "SubscribeToTask", "params": {"id": task}}).encode()
    head = f"POST /agents/hello HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\nA2A-Version: 1.0\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def _events(port: int, session: str) -> bytes:
    head = f"GET /v1/sessions/{session}/events HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAccept: text/event-stream\r\n\r\n"
    return head.encode()
