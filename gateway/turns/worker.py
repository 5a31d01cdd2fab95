"""The worker: claims queued turns, runs them, and takes over what a dead or silent worker left.

It claims a turn when told that one waits (and once a second in case nobody told it), never more than `concurrency` at
a time. Its turns are leases (`turns.leases`) that it renews; a turn it has lost, or may have lost, it stops running and
leaves to whoever took it. What it takes over itself goes back to the queue if it had not begun, or if there is no room for
it here; else it goes on in another attempt (`turns.resume`) or is ended.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

import anyio
import anyio.abc
import anyio.to_thread
import structlog

from adapters.launch.process import kill_leftovers
from adapters.profile import Profile
from gateway.clock import new_id
from gateway.egress.gate import Gates
from gateway.errors import SwitchboardError, Unavailable
from gateway.files.store import Store
from gateway.hands.service import Hands
from gateway.log.store import Log
from gateway.runtime_api.sandbox import routes
from gateway.runtime_api.server import RuntimeApi
from gateway.settings import Settings
from gateway.turns import leases, orders, queue
from gateway.turns.held import Held, Means
from gateway.turns.journals import Journals
from gateway.turns.leases import Claimed
from gateway.turns.maker import Maker
from gateway.turns.memory import Memory
from gateway.turns.native import PROCESS
from gateway.turns.runner import Runner
from gateway.turns.settling import RETRY_SECONDS, Settling
from gateway.turns.spec import AgentLoader
from gateway.turns.starter import SWEEP_PATIENCE, Starter
from gateway.turns.watch import LOOKS, Watch

POLL_SECONDS = 1.0
LOOK_SECONDS = 0.2  # how often turns are looked for that lost their worker
BEATS = 3  # in the time of a lease
LOST = "The worker that ran this turn was lost."

log_ = structlog.get_logger("switchboard.worker")


class Worker:
    def __init__(
        self,
        log: Log,
        settings: Settings,
        profiles: Mapping[str, Profile],
        load_agent: AgentLoader,
        store: Store,
        gates: Gates,
    ) -> None:
        self.log, self.settings = log, settings
        self.name = new_id("wrk")
        self.runtime_api = RuntimeApi(log, settings)
        self.starter = Starter(log.database, settings, self.name, self.runtime_api)
        self.watch = Watch(log.database, self.name, settings.lease_seconds)
        self.hands = Hands(self.starter.engine, log.database, settings, gates, self.name, self._surely_holds)
        self.runtime_api.more = routes(self.hands, settings.max_body_bytes)
        self.starter.acts_no_more = self.hands.end
        journals = Journals.of(settings.sessions_dir.resolve(), settings.journals_dir, settings.journals_url)
        memory = Memory(log, journals)
        self.maker = Maker(log, settings, profiles, load_agent, store, gates, self.starter, memory, self._surely_holds)
        self.settling = Settling(log, settings, store, self.wake)
        self._means = Means(self.name, log, settings, self.maker, self.settling, self.attend)
        self._held: dict[str, Held] = {}  # by turn
        self._beaten_at = time.monotonic()
        self._work, self._told = anyio.Event(), True
        self._asked = anyio.Event()
        self._draining = anyio.Event()
        self.stopped = anyio.Event()

    @property
    def active(self) -> int:
        """Turns that run now."""
        return len(self._held)

    def wake(self) -> None:
        """A turn waits."""
        self._told = True
        self._work.set()

    def attend(self) -> None:
        """Something may be asked of a turn that runs."""
        self._asked.set()

    def drain(self) -> None:
        """Claim nothing any more; `run` ends when the running turns have, or after `drain_seconds`."""
        self._draining.set()
        self._work.set()

    async def wait(self, turn_id: str) -> None:
        """Until a turn held here has ended; at once for any other."""
        held = self._held.get(turn_id)
        if held is not None:
            await held.finished.wait()

    async def run(self, *, task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Work until cancelled or drained. What a dead worker left is taken over before anything new begins."""
        await self.starter.warden.start()
        try:
            await self.log.database.appear(self.name)
            async with self.runtime_api.opened(), anyio.create_task_group() as group:
                await group.start(self.starter.warm.run)
                await group.start(self.starter.sweep_forever)
                await group.start(self.starter.engines.run)
                await group.start(self.hands.run)
                group.start_soon(self._attend_forever)
                group.start_soon(self._beat_forever)
                for _ in range(LOOKS):
                    await self._take_over(group)
                group.start_soon(self._take_over_forever, group)
                task_status.started()
                await self._claim_until_drained(group)
                group.cancel_scope.cancel()
        finally:
            with anyio.CancelScope(shield=True):
                await self.starter.aclose()
            self.stopped.set()

    # -- claiming

    async def _claim_until_drained(self, group: anyio.abc.TaskGroup) -> None:
        while not self._draining.is_set():
            self._work, told, self._told = anyio.Event(), self._told, False
            for turn in await self._claim(self.settings.concurrency - len(self._held), told):
                self._start(turn, group)
            with anyio.move_on_after(POLL_SECONDS):
                await self._work.wait()
        await self.starter.engines.leave()
        with anyio.move_on_after(self.settings.drain_seconds):
            for held in list(self._held.values()):
                await held.finished.wait()

    def _start(self, turn: Claimed, group: anyio.abc.TaskGroup) -> None:
        before = self._held.get(turn.id)  # lost and had again, before its process was gone
        held = self._held[turn.id] = Held(turn, self._means)
        group.start_soon(self._run, held, before)

    async def _run(self, held: Held, before: Held | None) -> None:
        try:
            await held.run(before)
        finally:
            if self._held[held.turn.id] is held:
                del self._held[held.turn.id]
            held.finished.set()
            self._work.set()

    async def _claim(self, free: int, told: bool) -> list[Claimed]:
        """Take up to `free` turns. Who was not told that any waits looks before, which costs others nothing."""
        if free <= 0:
            return []
        lease, engines = self.settings.lease_seconds, self.starter.engines.may_begin
        try:
            if not told and not await self.log.database.read(lambda conn: queue.some_wait(conn, engines), snapshot=False):
                return []
            return await self.log.database.write(lambda conn: queue.claim(conn, self.name, free, lease, engines))
        except SwitchboardError as exc:
            log_.error("claim_failed", error=exc.message)
            await anyio.sleep(RETRY_SECONDS)
            return []

    # -- orders

    async def _attend_forever(self) -> None:
        """Do what is asked of the turns held here."""
        while True:
            self._asked = anyio.Event()
            try:
                await self._attend()
            except SwitchboardError as exc:
                log_.error("orders_not_read", error=exc.message)
            with anyio.move_on_after(POLL_SECONDS):
                await self._asked.wait()

    async def _attend(self) -> None:
        runners = {id: held.runner for id, held in self._held.items() if held.runner is not None}
        if not runners:
            return
        asked = await self.log.database.read(lambda conn: orders.asked(conn, list(runners)), snapshot=False)
        for id in asked.stop:
            runners[id].cancel()
        late: set[str] = set()
        for into, waiting in asked.messages:
            if waiting not in runners[into].given and into not in late and not await self._give(runners[into], waiting):
                late.add(into)  # with all that come after it; those of other turns need not wait

    async def _give(self, runner: Runner, waiting: str) -> bool:
        """Give a running turn the message of one that waits to join it; False where its files find no room now."""
        try:
            runner.steer(waiting, await self.maker.text_of(runner.turn, runner.spec, waiting))
        except Unavailable as exc:
            log_.error("message_not_given", turn=runner.turn.id, waiting=waiting, error=exc.message)
            return False
        return True

    # -- leases

    async def _beat_forever(self) -> None:
        lease = self.settings.lease_seconds
        while True:
            began, held = time.monotonic(), list(self._held.values())
            if not held or await self._beat(held, began + lease / BEATS):
                self._beaten_at = began
            elif time.monotonic() > self._beaten_at + lease:
                log_.error("leases_lost", turns=len(self._held))
                for one in self._held.values():
                    one.lease.cancel()
            await anyio.sleep(max(0.0, began + lease / BEATS - time.monotonic()))

    def _surely_holds(self) -> bool:
        """Whether nobody can have taken a turn that is held here. Who stood still for long does not know it."""
        return time.monotonic() <= self._beaten_at + self.settings.lease_seconds

    async def _beat(self, held: list[Held], until: float) -> bool:
        """Renew the leases; those that others have taken are given up. False if the database does not take it in time."""
        try:
            with anyio.fail_after(max(until - time.monotonic(), 0.1)):
                ids, lease = [one.turn.id for one in held], self.settings.lease_seconds
                op = lambda conn: leases.beat(conn, self.name, ids, lease)  # noqa: E731
                mine = await self.log.database.write(op, beside=True)
        except (SwitchboardError, TimeoutError) as exc:
            log_.error("beat_failed", error=str(exc))
            return False
        for one in held:
            if one.turn.id not in mine:
                one.lease.cancel()  # it has just ended, or somebody has taken it
        return True

    async def _take_over_forever(self, group: anyio.abc.TaskGroup) -> None:
        while not self._draining.is_set():
            await anyio.sleep(LOOK_SECONDS)
            await self._take_over(group)

    async def _take_over(self, group: anyio.abc.TaskGroup) -> None:
        try:
            engines = self.starter.engines.may_begin
            lost = [turn for turn in await self.watch.lost(set(self._held)) if engines or not turn.engine]
            lease = self.settings.lease_seconds
            taken = await self.log.database.write(lambda conn: leases.take_over(conn, self.name, lost, lease)) if lost else []
        except SwitchboardError as exc:
            log_.error("not_taken_over", error=exc.message)
            return
        for turn in taken:
            log_.warning("turn_taken_over", session=turn.session_id, turn=turn.id, attempt=turn.attempt)
        await self._end_leftovers([turn for turn in taken if turn.begun])
        async with anyio.create_task_group() as settling:
            for turn in taken:
                settling.start_soon(self._settle, turn, group)

    async def _end_leftovers(self, turns: Sequence[Claimed]) -> None:
        """End what the lost workers have left running of turns on this machine, and kept for them."""
        for turn in turns:
            for tag in {turn.id, turn.native.get(PROCESS) or turn.id}:
                await anyio.to_thread.run_sync(kill_leftovers, tag)
        if turns:
            with anyio.move_on_after(SWEEP_PATIENCE):
                await self.starter.sweep()

    async def _settle(self, turn: Claimed, group: anyio.abc.TaskGroup) -> None:
        """Give a turn that was taken over, and of which nothing runs any more, what is due to it."""
        if not turn.begun:
            await self.settling.hand_back(turn)
        elif await self.maker.goes_on(turn):
            if not await self.settling.interrupt(turn, LOST):
                return
            if len(self._held) < self.settings.concurrency:
                self._start(turn, group)
            else:
                await self.settling.hand_back(turn)
        else:
            await self.settling.abandon(turn, LOST)
