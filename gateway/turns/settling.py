"""What becomes of a turn that nobody runs: back into the queue, on to another attempt or worker, or ended."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import anyio
import structlog
from sqlalchemy import Connection

from adapters.events import ErrorCategory
from gateway.clock import new_id
from gateway.db.jobs import Operation
from gateway.errors import Fenced, OutcomeUnknown, SwitchboardError
from gateway.files import rows
from gateway.files.store import Store
from gateway.log.rows import Batch
from gateway.log.store import Log
from gateway.settings import Settings
from gateway.turns import leases, queue, resume
from gateway.turns.launching import Place
from gateway.turns.leases import Claimed
from gateway.turns.outbox import Outbox

RETRY_SECONDS = 0.2

log_ = structlog.get_logger("switchboard.worker")


@dataclass(slots=True)
class Settling:
    """For one worker. What the database refuses for the time of a lease is found again as a lost turn's."""

    log: Log
    settings: Settings
    store: Store
    wake: Callable[[], None]  # a turn waits

    async def abandon(self, turn: Claimed, why: str, category: ErrorCategory = "runtime_crash") -> None:
        """End it, with the files it left, if it began here."""
        incident = new_id("inc")
        log_.warning("turn_abandoned", session=turn.session_id, turn=turn.id, incident=incident)
        outbox = Outbox(turn.id, Place.of(self.settings.sessions_dir, turn.session_id), self.store, self.settings)
        left = await outbox.abandoned()
        files = outbox.take_files()

        def end(conn: Connection) -> list[Batch]:
            if files and not queue.has_done(conn, turn):
                rows.add(conn, turn.session_id, turn.task_id, files)
            return queue.end_abandoned(conn, turn, incident, why, category, left)

        await self.insist(self._beside, end)

    async def hand_back(self, turn: Claimed) -> None:
        """Nothing of it runs: it waits again, in its old place, for its first attempt or the next."""
        await self.insist(self.log.database.write, lambda conn: leases.hand_back(conn, turn))
        self.wake()

    async def let_go(self, turn: Claimed) -> None:
        """Whoever looks next takes it over."""
        await self.insist(self.log.database.write, lambda conn: leases.let_go(conn, turn))

    async def interrupt(self, turn: Claimed, why: str) -> bool:
        """Close what its last attempt left open: another may begin, if this is true."""
        told = resume.interrupted()
        return await self.insist(self._beside, lambda conn: queue.interrupt_abandoned(conn, turn, why, told))

    async def _beside(self, op: Operation[list[Batch]]) -> object:
        """A long turn's own matter, for which nobody else waits."""
        return await self.log.write(op, beside=True)

    async def insist(self, write: Callable[[Operation[Any]], Awaitable[object]], op: Operation[Any]) -> bool:
        """Write it. False where nobody knows that it is written: then nothing may be begun on it, for it may still be."""
        with anyio.move_on_after(self.settings.lease_seconds):
            while True:
                try:
                    await write(op)
                except (Fenced, OutcomeUnknown):
                    return False
                except SwitchboardError as exc:
                    log_.error("turn_not_settled", error=exc.message)
                    await anyio.sleep(RETRY_SECONDS)
                else:
                    return True
        return False
