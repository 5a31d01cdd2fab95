"""Both event loops: the product runs on uvloop, and on asyncio's own where there is none."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator

import psutil
import pytest
import uvloop

from adapters.launch.container import Engine
from adapters.launch.process import Warden
from tests import needs

uvloop.new_event_loop().close()  # opens, once a process, the pipe it keeps for signals


@pytest.fixture(params=[{"use_uvloop": False}, {"use_uvloop": True}], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    return "asyncio", request.param


@pytest.fixture
async def warden() -> AsyncIterator[Warden]:
    warden = Warden()
    await warden.start()
    yield warden
    await warden.aclose()


@pytest.fixture(scope="module")
def image() -> str:
    """It has a shell and Python, as the gateway's own."""
    return needs.an_engine()


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    engine = Engine(os.environ)
    yield engine
    engine.close()


@pytest.fixture(autouse=True)
def _nothing_is_left_behind() -> Iterator[None]:
    """After every test: no child process and no descriptor more than before."""
    before = set(os.listdir("/proc/self/fd"))
    others = psutil.Process().children()  # such as a database server, which has children of its own
    yield
    assert [child for child in psutil.Process().children() if child not in others] == []
    assert len(set(os.listdir("/proc/self/fd")) - before) == 0
