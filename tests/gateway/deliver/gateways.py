"""A gateway that delivers to this machine, and what became of its deliveries."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio

from tests.support import Client, Json, serving


@asynccontextmanager
async def gateway(data_dir: Path, **settings: Any) -> AsyncIterator[Client]:
    given = {"allow_private_hosts": "127.0.0.1", "webhook_backoff_seconds": 0.01, **settings}
    with anyio.fail_after(60):
        async with serving(data_dir, **given) as client:
            yield client


def push(url: str, **more: Any) -> Json:
    return {"taskPushNotificationConfig": {"url": url, **more}}


async def deliveries(client: Client, *states: str) -> list[Json]:
    """All deliveries, oldest first, once they are in these states."""
    while True:
        found: list[Json] = (await client.owner("webhooks.deliveries"))["deliveries"][::-1]
        if [delivery["state"] for delivery in found] == list(states):
            return found
        await anyio.sleep(0.02)  # there is no event for a row
