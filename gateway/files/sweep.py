"""Removes bytes that no file has: what failed transactions left, and what forgotten sessions had."""

from __future__ import annotations

import anyio
import anyio.from_thread
import anyio.to_thread
import structlog

from gateway.db.engine import Database
from gateway.errors import SwitchboardError
from gateway.files import rows
from gateway.files.store import Store

GRACE_SECONDS = 3600.0  # in which a transaction may still name bytes that were written
PAUSE_SECONDS = 3600.0

log_ = structlog.get_logger("switchboard.files")


async def sweep(database: Database, store: Store, grace: float = GRACE_SECONDS) -> int:
    """Answers how many contents were removed."""

    def known(hashes: list[str]) -> set[str]:
        return anyio.from_thread.run(database.read, lambda conn: rows.named(conn, hashes))

    return await anyio.to_thread.run_sync(store.sweep, known, grace)


async def sweep_forever(database: Database, store: Store) -> None:
    while True:
        try:
            count = await sweep(database, store)
            if count:
                log_.info("files_swept", count=count)
        except (SwitchboardError, OSError) as exc:
            log_.error("sweep_failed", error=str(exc))
        await anyio.sleep(PAUSE_SECONDS)
