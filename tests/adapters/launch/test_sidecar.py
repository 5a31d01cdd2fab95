"""Containers that share the loopback of one beside them: what they reach there, and what they do not."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from errno import ECONNREFUSED, ENOENT
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import anyio.abc
import pytest

from adapters.launch.container import INSTALLATION, TURN, Box, Container, Engine
from adapters.launch.process import LaunchError
from adapters.launch.sidecar import sidecar
from tests.adapters.launch.test_container import SECONDS, printed_by

USER = "10001:10001"


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": True}


@pytest.fixture
def labels(tmp_path: Path) -> dict[str, str]:
    return {INSTALLATION: str(tmp_path), TURN: "trn_1"}


@asynccontextmanager
async def answering(folder: Path, *names: str) -> AsyncIterator[list[Path]]:
    """Sockets that answer with their name and what they were sent."""
    async with AsyncExitStack() as stack:
        listeners = [await stack.enter_async_context(await anyio.create_unix_listener(folder / name)) for name in names]
        async with anyio.create_task_group() as group:
            for name, listener in zip(names, listeners, strict=True):
                group.start_soon(listener.serve, partial(_answer, name))
            yield [folder / name for name in names]
            group.cancel_scope.cancel()


async def _answer(name: str, stream: anyio.abc.SocketStream) -> None:
    async with stream:
        await stream.send(f"{name} {(await stream.receive()).decode()}".encode())


async def spawn(engine: Engine, image: str, script: str, labels: dict[str, str], **more: Any) -> Container:
    return await engine.spawn(Box(image, ("bash", "-c", f"exec 2>&1; {script}"), {}, "/", (), labels), **more)


SAY = 'say() { exec 3<> "/dev/tcp/127.0.0.1/$1" && echo "$2" >&3 && head -n 1 <&3; }; '


async def test_two_sockets_are_reached_and_nothing_else(
    engine: Engine, image: str, labels: dict[str, str], tmp_path: Path
) -> None:
    """[BOX-6]"""
    tried = (
        "say 3128 a; say 3129 b; (say 3130 c) 2>/dev/null || echo refused; tail -n +3 /proc/net/dev | cut -d: -f1 | tr -d ' '; "
        "wc -l < /proc/net/route; for at in 10.0.0.1 169.254.169.254 ::1 localhost.example; do "
        '(exec 3<> "/dev/tcp/$at/80") 2>/dev/null && echo "reached $at"; done; ls /proc | grep -c "^[[:digit:]]"'
    )
    with anyio.fail_after(SECONDS):
        async with answering(tmp_path, "egress", "api") as (egress, api):
            ways = {3128: egress, 3129: api}
            side = await sidecar(engine, ways=ways, image=image, user=USER, labels=labels)
            agent = await spawn(engine, image, SAY + tried, labels, beside=side)
            assert len(await engine.labelled(str(tmp_path))) == 2
            printed = (await printed_by(agent)).splitlines()
            await agent.aclose()
    assert printed[:-1] == ["egress a", "api b", "refused", "lo", "1"]
    assert int(printed[-1]) <= 8  # its own processes
    assert await engine.labelled(str(tmp_path)) == []


async def test_it_goes_with_a_container_that_could_not_be_started(
    engine: Engine, image: str, labels: dict[str, str], tmp_path: Path
) -> None:
    with anyio.fail_after(SECONDS):
        async with answering(tmp_path, "egress") as (egress,):
            side = await sidecar(engine, ways={3128: egress}, image=image, user=USER, labels=labels)
            with pytest.raises(LaunchError) as caught:
                await spawn(engine, "switchboard-none:1", "true", labels, beside=side)
    assert caught.value.errno == ENOENT
    assert await engine.labelled(str(tmp_path)) == []


async def test_it_ends_when_nobody_holds_it(engine: Engine, image: str, labels: dict[str, str], tmp_path: Path) -> None:
    with anyio.fail_after(SECONDS):
        async with answering(tmp_path, "egress") as (egress,):
            side = await sidecar(engine, ways={3128: egress}, image=image, user=USER, labels=labels)
            await side.close_stdin()
            assert (await side.wait()).code == 0
            await side.aclose()


@pytest.mark.parametrize(
    ("missing", "port", "errno", "told"),
    [
        ("switchboard-none:1", 3128, ENOENT, "'switchboard-none:1' is not on .* SWITCHBOARD_SIDECAR_IMAGE"),
        ("", 99999, ECONNREFUSED, "did not start: .*0-65535.* SWITCHBOARD_SIDECAR_IMAGE"),
    ],
)
async def test_one_that_does_not_start_is_told_of(
    engine: Engine, image: str, labels: dict[str, str], tmp_path: Path, missing: str, port: int, errno: int, told: str
) -> None:
    with anyio.fail_after(SECONDS):
        async with answering(tmp_path, "egress") as (egress,):
            with pytest.raises(LaunchError, match=f"(?s){told}") as caught:
                await sidecar(engine, ways={port: egress}, image=missing or image, user=USER, labels=labels)
    assert caught.value.errno == errno
    assert await engine.labelled(str(tmp_path)) == []
