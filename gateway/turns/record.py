"""What a turn writes into its session's log, under its fence."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import anyio
from sqlalchemy import Connection

from adapters.events import Event
from gateway.errors import SwitchboardError, Unavailable
from gateway.files import rows
from gateway.log.rows import Batch
from gateway.log.store import Log, entries
from gateway.turns import leases, queue
from gateway.turns.leases import Claimed
from gateway.turns.native import Native
from gateway.turns.outbox import Outbox
from gateway.turns.receipts import Receipt

RETRY_SECONDS = 0.2

Operation = Callable[[Connection], Sequence[Batch]]


class Record:
    """One attempt's. With the events go the files that came with them, and what is to be remembered.

    Each method waits out a database that is away, for `patience` seconds; then it raises Unavailable.
    """

    def __init__(self, log: Log, turn: Claimed, native: Native, outbox: Outbox, patience: float) -> None:
        self._log, self._turn, self._native, self._outbox, self._patience = log, turn, native, outbox, patience
        self.events = 0  # written

    async def begin(self, events: Sequence[Event]) -> None:
        new = entries(events, task_id=self._turn.task_id, turn_id=self._turn.id)
        self.events += len(new)
        await self._write(lambda conn: [leases.begin(conn, self._turn, new)])

    async def append(self, events: Sequence[Event], receipts: Sequence[Receipt] = ()) -> None:
        new = entries(events, task_id=self._turn.task_id, turn_id=self._turn.id)
        native = self._native.changed()
        await self._with_files(lambda conn: queue.write_events(conn, self._turn, new, native), len(new), receipts)

    async def finish(self, last: Sequence[Event], receipts: Sequence[Receipt] = ()) -> None:
        """The turn's last events, and what becomes of its task."""
        native = self._native.changed()
        await self._with_files(lambda conn: queue.finish(conn, self._turn, last, native), len(last), receipts)

    async def release(self) -> None:
        """Others may have the session's next turn."""

        def op(conn: Connection) -> Sequence[Batch]:
            leases.release(conn, self._turn)
            return ()

        await self._write(op)

    async def _with_files(self, write: Callable[[Connection], Batch], count: int, receipts: Sequence[Receipt]) -> None:
        self.events += count
        files = self._outbox.take_files()

        def op(conn: Connection) -> Sequence[Batch]:
            rows.add(conn, self._turn.session_id, self._turn.task_id, files)
            batch = write(conn)
            for receipt in receipts:
                receipt.join(conn)
            return [batch]

        try:
            batches = await self._write(op)
        except SwitchboardError as exc:
            for receipt in receipts:
                receipt.fail(exc)
            raise
        for receipt in receipts:
            receipt.settle(batches[0].after.seq)

    async def _write(self, op: Operation) -> Sequence[Batch]:
        give_up = time.monotonic() + self._patience
        while True:
            try:
                return await self._log.write(op, beside=True)
            except Unavailable:
                if time.monotonic() > give_up:
                    raise
                await anyio.sleep(RETRY_SECONDS)
