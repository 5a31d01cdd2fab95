"""The folders in which checks of images play, each locked by its check, and what a check that was killed has left.

A check is an installation of its own, in a folder below `conformance` of its gateway's data directory. So its containers name
that installation, and the check; its lock goes with the last process that has it, whoever is killed. Containers and folders
of checks that are no more are removed by whichever gateway or worker of the data directory comes next, and once a minute.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path

import anyio
import anyio.to_thread
import structlog

from adapters.launch.container import Engine
from adapters.launch.process import LaunchError
from gateway.settings import Settings

SWEEP_SECONDS = 60.0
_LOCK = "alive"

log_ = structlog.get_logger("switchboard.containers")


def parent_of(settings: Settings) -> Path:
    return settings.data_dir / "conformance"


@contextmanager
def made(parent: Path) -> Iterator[tuple[Path, int]]:
    """A new folder, gone at the end, and the descriptor of its lock, for a child that works there to inherit."""
    parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    new = Path(tempfile.mkdtemp(dir=parent, prefix="."))
    lock = os.open(new / _LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        folder = new.rename(parent / new.name.removeprefix("."))  # nobody ever sees it without its lock
        try:
            yield folder, lock
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(lock)


def is_alive(folder: Path) -> bool:
    """Whether a check plays there."""
    try:
        lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False


async def sweep(engine: Engine, parent: Path) -> None:
    """Remove what checks have left that are no more. Raises LaunchError; then what is left of folders stays, too."""
    in_thread = anyio.to_thread.run_sync
    resolved, folders = await in_thread(_listed, parent)
    if not resolved:
        return
    for one in await engine.beneath(resolved):  # each was made after its check's lock, which is looked for only now
        if not await in_thread(is_alive, Path(one.installation).parent):
            await engine.remove(one.id)
            log_.warning("container_removed", container=one.id[:12], turn=one.turn)
    for folder in folders:
        if not await in_thread(is_alive, folder):
            await in_thread(partial(shutil.rmtree, folder, ignore_errors=True))


def _listed(parent: Path) -> tuple[str, list[Path]]:
    """Its path, "" where no image was ever checked, and the folders in it."""
    if not parent.is_dir():
        return "", []
    return str(parent.resolve()), [one for one in parent.iterdir() if not one.name.startswith(".")]


async def sweep_forever(settings: Settings, environ: Mapping[str, str] = os.environ) -> None:
    """Now and once a minute. The engine is not asked where no image was ever checked."""
    parent = parent_of(settings)
    with closing(Engine(environ)) as engine:
        while True:
            try:
                await sweep(engine, parent)
            except (LaunchError, OSError) as exc:
                log_.debug("checks_not_swept", error=str(exc))
            await anyio.sleep(SWEEP_SECONDS)
