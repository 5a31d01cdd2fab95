"""A container without a network whose loopback others share, and on it the way to sockets of the gateway's.

    side = await sidecar(engine, ways={3128: gate.socket}, image="switchboard-gateway", user="10001:10001", labels=labels)
    container = await engine.spawn(box, beside=side)    # `side` goes with it

What runs beside it has a loopback and nothing else: no route, no name server, no IPv6 but `::1`, no peer. The relay is
brought along, so that the image needs no more than `/bin/sh` and `python3`; it ends when the gateway does.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from errno import ECONNREFUSED
from pathlib import Path

import anyio

from adapters.launch import relay
from adapters.launch.container import Box, Container, Engine
from adapters.launch.home import Bind
from adapters.launch.process import LaunchError

MEMORY_MB, PIDS = 128, 1024
START_SECONDS = 30.0
SETTING = "SWITCHBOARD_SIDECAR_IMAGE"
_LISTENS = b"listens"


async def sidecar(
    engine: Engine,
    *,
    ways: Mapping[int, str | Path],
    image: str,
    user: str,
    labels: Mapping[str, str],
    joins: str = "",
) -> Container:
    """Started, and listening on the ports of `ways`; each leads to a Unix socket that is there already.

    With `joins` it is on the loopback of that container, which runs, instead of one of its own. Where we are root the sockets
    are given to `user` ("UID:GID"), so that it may connect. Whoever has the container must `aclose` it, or hand it to
    `Engine.spawn`. Raises LaunchError.
    """
    _give(ways, user)
    told = ",".join(f"{port}=/run/{port}.sock" for port in ways)
    box = Box(
        image=image,
        argv=("python3", "-I", "-S", "-c", _script(), told),
        env={},
        cwd="/",
        mounts=(),
        binds=[Bind(str(socket), f"/run/{port}.sock") for port, socket in ways.items()],
        labels=labels,
        user=user,
        network=f"container:{joins}" if joins else "none",
        memory_mb=MEMORY_MB,
        pids=PIDS,
        named_by=SETTING,
    )
    side = await engine.spawn(box)
    try:
        await _listening(side)
    except BaseException:
        await side.aclose()
        raise
    return side


def _give(ways: Mapping[int, str | Path], user: str) -> None:
    if os.geteuid() == 0:
        uid, gid = map(int, user.split(":"))
        for socket in ways.values():
            os.chown(socket, uid, gid, follow_symlinks=False)


def _script() -> str:
    return Path(relay.__file__).read_text("utf-8")


async def _listening(side: Container) -> None:
    """Until it says so. Raises LaunchError."""
    with anyio.move_on_after(START_SECONDS):
        lines = await side.lines()
        if [line.data for line in lines] == [_LISTENS]:
            return
    why = side.stderr_tail().strip() or f"it said nothing within {START_SECONDS:.0f} s"
    mend = f"It needs /bin/sh and python3: build the gateway's image (make images), or set {SETTING}."
    raise LaunchError(
        ECONNREFUSED, f"The container beside the agent's, which leads to the gateway, did not start: {why}. {mend}"
    )
