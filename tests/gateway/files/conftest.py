"""A gateway with one file, for all who only read it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx2
import pytest

from tests.gateway.files.desk import desk, raw, say


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[httpx2.AsyncClient, str]]:
    """A client, and the URL of a file of 200 bytes."""
    async with desk(tmp_path_factory.mktemp("files"), inline_file_bytes=0) as gateway:
        task = await say(gateway, "true", raw(bytes(range(200)), "a.txt"))
        yield gateway.http, task["history"][0]["parts"][1]["url"]
