"""The courier: takes what is due out of the outbox and posts it, at least once, in order, and nobody waits for another.

One delivery of a destination at a time, a quarter of all at most to one receiver, `webhook_concurrency` in all. A try that
fails is made again after a while that doubles, up to `webhook_attempts`; then the delivery is dead and an owner's
business. Every try has the same `webhook-id`. Any number of gateways may share an outbox.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import anyio.abc
import structlog

from gateway.db.engine import Database
from gateway.deliver import outbox
from gateway.deliver.envelope import envelope, headers, ping
from gateway.deliver.outbox import OWED, Due
from gateway.deliver.sender import Failed, Sender
from gateway.errors import SwitchboardError
from gateway.files.shown import Shown
from gateway.log.rows import Batch
from gateway.settings import Settings
from registry.rules import RegistryError
from registry.secrets import Secrets

Render = Callable[[Due], Awaitable[bytes | None]]

POLL_SECONDS = 1.0
LEASE_SPARE = 5.0  # seconds beyond a try's own limit, to make the notification and to note what came of it
MAX_BACKOFF = 3600.0
KEEP_SECONDS = 7 * 86400.0  # what was delivered is kept so long
TIDY_SECONDS, TIDY_ROWS = 600.0, 5000

log_ = structlog.get_logger("switchboard.deliver")


class Courier:
    """`render` makes a push notification's body from the log; None where there is nothing to tell."""

    def __init__(
        self, database: Database, settings: Settings, secrets: Secrets, sender: Sender, files: Shown, render: Render
    ) -> None:
        self._database, self._settings, self._secrets = database, settings, secrets
        self._sender, self._files, self._render = sender, files, render
        self._lease_us = round((settings.webhook_seconds + LEASE_SPARE) * 1e6)
        self._running: Counter[str] = Counter()  # by receiver
        self._work = anyio.Event()
        self._tidied = 0.0

    def wake(self, batch: Batch) -> None:
        """Something was committed."""
        if OWED in batch.shared:
            self._work.set()

    async def run(self, *, task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Deliver until cancelled."""
        task_status.started()
        async with anyio.create_task_group() as group:
            while True:
                self._work = anyio.Event()
                try:
                    taken = await self._take(group)
                    pause = POLL_SECONDS if taken else await self._idle()
                except SwitchboardError as exc:
                    log_.error("outbox_failed", error=exc.message)
                    taken, pause = 0, POLL_SECONDS
                if not taken:
                    with anyio.move_on_after(pause):
                        await self._work.wait()

    async def ping(self, config_id: str) -> dict[str, Any]:
        """Try a destination, now and once; what came of it. Raises NotFound."""
        due = await self._database.read(lambda conn: outbox.probe(conn, config_id))
        body, began, reason = ping(due), time.monotonic(), None
        try:
            await self._sender.post(due.url, headers(self._secrets, due, body), body)
        except Failed as exc:
            reason = exc.reason
        ms = round((time.monotonic() - began) * 1000)
        return {"id": config_id, "url": due.url, "delivery": due.id, "ok": reason is None, "reason": reason, "ms": ms}

    async def _take(self, group: anyio.abc.TaskGroup) -> int:
        """Begin deliveries that are due; how many."""
        free = self._settings.webhook_concurrency - self._running.total()
        if free <= 0:
            return 0
        share, running = max(1, self._settings.webhook_concurrency // 4), dict(self._running)
        taken = await self._database.write(lambda conn: outbox.claim(conn, free, self._lease_us, running, share), beside=True)
        for due in taken:
            self._running[due.origin] += 1
            group.start_soon(self._deliver, due)
        return len(taken)

    async def _idle(self) -> float:
        """Tidy up now and then; how long there is nothing to do."""
        if time.monotonic() > self._tidied + TIDY_SECONDS:
            self._tidied = time.monotonic()
            age = round(KEEP_SECONDS * 1e6)
            await self._database.write(lambda conn: outbox.forget(conn, age, TIDY_ROWS))
        due = await self._database.read(outbox.next_due)
        return POLL_SECONDS if due is None else min(max(due / 1e6, 0.001), POLL_SECONDS)

    async def _deliver(self, due: Due) -> None:
        try:
            await self._settle(due, await self._try(due))
        except anyio.get_cancelled_exc_class():
            with anyio.CancelScope(shield=True):
                await self._note(lambda conn: outbox.put_back(conn, due), due)
            raise
        finally:
            self._running[due.origin] -= 1
            if not self._running[due.origin]:
                del self._running[due.origin]
            self._work.set()

    async def _try(self, due: Due) -> Failed | bool:
        """True: delivered; False: there was nothing to tell."""
        try:
            body = await self._body(due)
            if body is None:
                return False
            await self._sender.post(due.url, headers(self._secrets, due, body), body)
        except Failed as exc:
            return exc
        except RegistryError as exc:
            return Failed(exc.message, final=True)
        except Exception:
            log_.exception("delivery_broken", delivery=due.id)
            return Failed("The gateway failed while it delivered; its log has the traceback.")
        return True

    async def _body(self, due: Due) -> bytes | None:
        return await self._render(due) if due.task_id else await envelope(self._database, self._files, due)

    async def _settle(self, due: Due, came: Failed | bool) -> None:
        if came is True:
            await self._note(lambda conn: outbox.delivered(conn, due), due)
        elif came is False:
            await self._note(lambda conn: outbox.drop(conn, due), due)
        else:
            again = (
                None
                if came.final or due.attempts >= self._settings.webhook_attempts
                else self._backoff(due.attempts, came.retry_after)
            )
            await self._note(lambda conn: outbox.failed(conn, due, came.reason, again), due)
            event = "delivery_failed" if again is not None else "delivery_dead"
            log_.warning(event, delivery=due.id, task=due.task_id, attempt=due.attempts, error=came.reason)

    def _backoff(self, attempts: int, retry_after: float) -> int:
        """Microseconds until the next try: not before the receiver wants it, but no more than an hour away for that."""
        seconds: float = min(self._settings.webhook_backoff_seconds * 2.0 ** min(attempts - 1, 30), MAX_BACKOFF)
        return round(max(seconds * random.uniform(0.75, 1.25), min(retry_after, MAX_BACKOFF)) * 1e6)

    async def _note(self, op: Callable[..., None], due: Due) -> None:
        """If the database refuses, the lease runs out and the delivery is made once more, with the same id."""
        try:
            await self._database.write(op, beside=True)
        except SwitchboardError as exc:
            log_.error("delivery_not_noted", delivery=due.id, error=exc.message)
