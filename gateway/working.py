"""`python -m gateway worker`: a process that runs turns and answers nobody. What `switchboard worker` runs."""

from __future__ import annotations

import signal

import anyio
import anyio.abc
import structlog

from gateway.conformance import folders
from gateway.core import Core
from gateway.settings import Settings

log_ = structlog.get_logger("switchboard")


async def work(settings: Settings) -> None:
    """Run turns until asked to stop; asked twice, at once. Raises SwitchboardError if it cannot be set up."""
    core = Core.of(settings.model_copy(update={"worker": True}))
    async with core.opened(), anyio.create_task_group() as group:
        await group.start(_until_asked, core, group.cancel_scope)
        group.start_soon(folders.sweep_forever, core.settings)
        log_.info("working", worker=core.engine.worker.name, database=core.database.name, concurrency=settings.concurrency)
        await core.engine.run()
        group.cancel_scope.cancel()
    log_.info("stopped")


async def _until_asked(
    core: Core, scope: anyio.CancelScope, *, task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED
) -> None:
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        task_status.started()
        asked = False
        async for _ in signals:
            if asked:
                scope.cancel()
            asked = True
            core.engine.worker.drain()
