"""A turn that a worker holds, from its claim to its end: its attempts, and what becomes of it when they are broken off."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace

import anyio
import structlog

from adapters import events as ev
from gateway.db.jobs import T
from gateway.errors import Fenced, OutcomeUnknown, RuntimeUnavailable, Unavailable
from gateway.log.store import Log
from gateway.settings import Settings
from gateway.turns import leases, queue, resume
from gateway.turns.leases import Claimed
from gateway.turns.maker import Maker
from gateway.turns.runner import Runner
from gateway.turns.settling import RETRY_SECONDS, Settling

PARTING_SECONDS = 5.0  # for the database to take what a worker that stops has to say
STOPPED = "The gateway was stopped while this turn ran."
BROKEN = "The gateway failed while this turn ran; its log has the traceback."

log_ = structlog.get_logger("switchboard.worker")


@dataclass(frozen=True, slots=True)
class Means:
    """What all turns of a worker are run with."""

    worker: str  # its name
    log: Log
    settings: Settings
    maker: Maker
    settling: Settling
    ready: Callable[[], None]  # a runner is there that can be asked something


@dataclass(slots=True)
class Held:
    turn: Claimed
    means: Means
    runner: Runner | None = None
    lease: anyio.CancelScope = field(default_factory=anyio.CancelScope)  # cancelled when it is lost
    finished: anyio.Event = field(default_factory=anyio.Event)

    async def run(self, before: Held | None) -> None:
        """To the end, or until it is another worker's. `before`: the same turn, had again before its process was gone."""
        settling = self.means.settling
        try:
            with self.lease:
                if before is not None:
                    before.lease.cancel()
                    await before.finished.wait()
                await self._attempts()
            if self.lease.cancelled_caught:
                await self._give_up()
        except* RuntimeUnavailable as missing:
            await settling.abandon(self.turn, "; ".join(map(str, missing.exceptions)), "runtime_missing")
        except* (Fenced, OutcomeUnknown):
            await self._give_up()
        except* Exception:
            log_.exception("turn_broken", session=self.turn.session_id, turn=self.turn.id)
            await self._stop()
            await settling.abandon(self.turn, BROKEN)
        except* anyio.get_cancelled_exc_class():
            with anyio.CancelScope(shield=True):
                await self._part()
            raise

    # -- attempts

    async def _attempts(self) -> None:
        """Run the turn until it has ended, if need be in several attempts."""
        if self.turn.begun and await self._was_asked_to_stop():
            return
        runner = await self._made()
        while await runner.run():
            self.turn = runner.turn
            if await self._moved(runner):
                return
            await runner.rest(resume.pause(self.turn.attempt, self.means.settings.turn_backoff_seconds))
            self.turn, self.runner = await self._patiently(self._again), None
            if await self._was_asked_to_stop():
                return
            runner = await self._made()

    async def _made(self) -> Runner:
        self.runner = runner = await self._patiently(lambda: self.means.maker.runner(self.turn))
        self.means.ready()
        return runner

    async def _again(self) -> Claimed:
        died, lease = self.turn, self.means.settings.lease_seconds
        return await self.means.log.database.write(lambda conn: leases.again(conn, died, self.means.worker, lease))

    async def _was_asked_to_stop(self) -> bool:
        """While no process ran; then it is ended."""
        read = self.means.log.database.read
        asked = await self._patiently(lambda: read(lambda conn: queue.asked_to_stop(conn, self.turn), snapshot=False))
        if asked:
            await self.means.settling.abandon(self.turn, "")
        return asked

    async def _moved(self, runner: Runner) -> bool:
        """Whether the turn, whose attempt is over, goes to another worker: it needs an engine, which answers there only."""
        while runner.spec.needs_engine and not runner.asked_to_stop:
            where = await self.means.maker.starter.engines.where()
            if where == "elsewhere":
                return await self._move(runner)
            if where == "here":
                break
            await runner.rest(RETRY_SECONDS)
        return False

    async def _move(self, runner: Runner) -> bool:
        """Let another worker go on with the turn, unless it is to stop."""
        told = ev.notice("engine_moved", f"Another worker goes on with the turn. {self.means.maker.starter.engines.why}")
        if not await self._patiently(lambda: self.means.log.write(lambda conn: queue.move(conn, self.turn, told))):
            return False
        log_.warning("turn_moved", session=self.turn.session_id, turn=self.turn.id)
        await runner.act_no_more()
        return True

    async def _patiently(self, do: Callable[[], Awaitable[T]]) -> T:
        """A database that is away for a while costs a turn nothing; when the lease is lost meanwhile this is cancelled."""
        give_up = time.monotonic() + 2 * self.means.settings.lease_seconds
        while True:
            try:
                return await do()
            except Unavailable as exc:
                if time.monotonic() > give_up:
                    raise
                log_.error("turn_waits", error=exc.message)
                await anyio.sleep(RETRY_SECONDS)

    # -- broken off

    async def _give_up(self) -> None:
        """Somebody else has the turn, or will: stop its process and say nothing.

        So it is after a write of which nobody knows whether it is stored: whoever finds the turn sees what the log has.
        """
        log_.warning("turn_superseded", session=self.turn.session_id, turn=self.turn.id)
        await self._stop()

    async def _stop(self) -> None:
        if self.runner is not None:
            await self.runner.stop()
            await self.runner.act_no_more()

    async def _part(self) -> None:
        """The worker stops: a turn that has not begun, or may go on, is left to others; any other is ended."""
        settling = self.means.settling
        with anyio.move_on_after(PARTING_SECONDS + self.means.settings.stop_seconds):
            runs = self.runner is not None and self.runner.has_begun
            begun = self.turn.begun or runs
            if self.runner is not None:
                await self.runner.stop()
            if not begun:
                await settling.hand_back(self.turn)
            elif await self.means.maker.goes_on(replace(self.turn, attempt=self.turn.attempt + runs)):
                await settling.let_go(self.turn)
            else:
                await settling.abandon(self.turn, STOPPED)
