"""The worker: claims queued turns, runs them, and takes over what a dead or silent worker left.

It claims a turn when told that one waits (and once a second in case nobody told it), never more than `concurrency` at
a time. Its turns are leases (`turns.leases`) that it renews; a turn it has lost, or may have lost, it stops running and
leaves to whoever took it. What it takes over itself goes back to the queue if it had not begun; if it had, it goes on in
another attempt (`turns.resume`) or is ended.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import anyio
import anyio.abc
import anyio.to_thread
import structlog
from sqlalchemy import Connection

from adapters import events as ev
from adapters.events import ErrorCategory
from adapters.launch.process import kill_leftovers
from adapters.profile import Profile
from gateway.clock import new_id
from gateway.db.jobs import Operation, T
from gateway.egress.gate import Gates
from gateway.errors import Fenced, RuntimeUnavailable, SwitchboardError, Unavailable
from gateway.files.store import Store
from gateway.hands.service import Hands
from gateway.log.store import Log
from gateway.runtime_api.sandbox import routes
from gateway.runtime_api.server import RuntimeApi
from gateway.settings import Settings
from gateway.turns import inbox, leases, orders, queue, resume
from gateway.turns.asked import Asked, asked_of
from gateway.turns.journals import Journals
from gateway.turns.launching import Place
from gateway.turns.leases import Claimed
from gateway.turns.limits import stricter
from gateway.turns.memory import Memory
from gateway.turns.native import PROCESS
from gateway.turns.runner import Runner
from gateway.turns.runtimes import profile_of
from gateway.turns.spec import AgentLoader, AgentSpec
from gateway.turns.starter import SWEEP_PATIENCE, Starter
from gateway.turns.watch import LOOKS, Watch

POLL_SECONDS = 1.0
RETRY_SECONDS = 0.2
LOOK_SECONDS = 0.2  # how often turns are looked for that lost their worker
BEATS = 3  # in the time of a lease
PARTING_SECONDS = 5.0  # for the database to take what a worker that stops has to say
STOPPED, LOST = "The gateway was stopped while this turn ran.", "The worker that ran this turn was lost."

log_ = structlog.get_logger("switchboard.worker")


@dataclass(slots=True)
class _Held:
    """A turn this worker holds, from its claim to its end."""

    turn: Claimed
    runner: Runner | None = None
    lease: anyio.CancelScope = field(default_factory=anyio.CancelScope)  # cancelled when it is lost
    finished: anyio.Event = field(default_factory=anyio.Event)


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
        self.log, self.settings, self.profiles, self.load_agent = log, settings, profiles, load_agent
        self.store, self.gates = store, gates
        self.name = new_id("wrk")
        self.runtime_api = RuntimeApi(log, settings)
        self.starter = Starter(log.database, settings, self.name, self.runtime_api)
        self.watch = Watch(log.database, self.name, settings.lease_seconds)
        self.hands = Hands(self.starter.engine, log.database, settings, gates, self.name)
        self.runtime_api.more = routes(self.hands, settings.max_body_bytes)
        self.starter.acts_no_more = self.hands.end
        journals = Journals.of(settings.sessions_dir.resolve(), settings.journals_dir, settings.journals_url)
        self.memory = Memory(log, journals)
        self._held: dict[str, _Held] = {}  # by turn
        self._beaten_at = time.monotonic()
        self._work = anyio.Event()
        self._asked = anyio.Event()
        self._draining = anyio.Event()
        self.stopped = anyio.Event()

    @property
    def active(self) -> int:
        """Turns that run now."""
        return len(self._held)

    def wake(self) -> None:
        """A turn may wait."""
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
        told = True
        while not self._draining.is_set():
            self._work = anyio.Event()
            for turn in await self._claim(self.settings.concurrency - len(self._held), told):
                self._start(turn, group)
            told = False
            with anyio.move_on_after(POLL_SECONDS):
                await self._work.wait()
                told = True
        await self.starter.engines.leave()
        with anyio.move_on_after(self.settings.drain_seconds):
            for held in list(self._held.values()):
                await held.finished.wait()

    def _start(self, turn: Claimed, group: anyio.abc.TaskGroup) -> None:
        before = self._held.get(turn.id)  # lost and had again, before its process was gone
        held = self._held[turn.id] = _Held(turn)
        group.start_soon(self._run, held, before)

    async def _claim(self, free: int, told: bool) -> list[Claimed]:
        """Take up to `free` turns. Who was not told that any waits looks before, which costs others nothing."""
        if free <= 0:
            return []
        lease, engines = self.settings.lease_seconds, self.starter.engines.may_begin
        try:
            if not told and not await self.log.database.read(lambda conn: queue.some_wait(conn, engines)):
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
        asked = await self.log.database.read(lambda conn: orders.asked(conn, list(runners)))
        for id in asked.stop:
            runners[id].cancel()
        for into, waiting in asked.messages:
            if waiting not in runners[into].given:
                runners[into].steer(waiting, await self._text_of(runners[into], waiting))

    async def _text_of(self, running: Runner, waiting: str) -> str:
        asked = await self.log.database.read(lambda conn: asked_of(conn, running.turn, waiting))
        return (await self._placed(asked, running.spec)).whole_prompt

    async def _placed(self, asked: Asked, spec: AgentSpec) -> Asked:
        """What is asked, its files put where the runtime finds them."""
        place = Place.of(self.settings.sessions_dir, asked.context_id)
        return await inbox.placed(self.store, place, asked, spec.work_dir)

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

    async def _beat(self, held: list[_Held], until: float) -> bool:
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
            await self._hand_back(turn)
        elif await self._goes_on(turn):
            told = resume.interrupted()
            if await self._insist(self.log.write, lambda conn: queue.interrupt_abandoned(conn, turn, LOST, told)):
                self._start(turn, group)
        else:
            await self._abandon(turn, LOST)

    async def _goes_on(self, turn: Claimed) -> bool:
        """Whether a turn whose process is gone is to have another attempt."""

        def look(conn: Connection) -> tuple[AgentSpec, Profile | None] | None:
            over = queue.has_done(conn, turn) or queue.asked_to_stop(conn, turn)
            return None if over else self._made_of(conn, turn)

        try:
            found = await self.log.database.read(look)
        except SwitchboardError:
            return False  # whoever ends it tells why
        spec, profile = found or (None, None)
        if spec is None or profile is None:
            return False
        limits = stricter(spec.limits, turn.limits)
        return resume.may_go_on(turn, profile.mode(spec.mode), limits.get("turn_attempts", self.settings.turn_attempts))

    def _made_of(self, conn: Connection, turn: Claimed) -> tuple[AgentSpec, Profile | None]:
        spec = self.load_agent(conn, turn.agent_id, turn.agent_version)
        return spec, profile_of(conn, self.profiles, spec.runtime, turn.runtime_version)

    # -- one turn

    async def _run(self, held: _Held, before: _Held | None) -> None:
        turn = held.turn
        try:
            with held.lease:
                if before is not None:
                    before.lease.cancel()
                    await before.finished.wait()
                await self._attempts(held)
            if held.lease.cancelled_caught:
                await self._give_up(held)
        except* RuntimeUnavailable as missing:
            await self._abandon(turn, "; ".join(map(str, missing.exceptions)), "runtime_missing")
        except* Fenced:
            await self._give_up(held)
        except* Exception:
            log_.exception("turn_broken", session=turn.session_id, turn=turn.id)
            await self._break_off(held, "The gateway failed while this turn ran; its log has the traceback.")
        except* anyio.get_cancelled_exc_class():
            with anyio.CancelScope(shield=True):
                await self._part(held)
            raise
        finally:
            if self._held[turn.id] is held:
                del self._held[turn.id]
            held.finished.set()
            self._work.set()

    async def _attempts(self, held: _Held) -> None:
        """Run a turn until it has ended, if need be in several attempts."""
        if held.turn.begun and await self._patiently(lambda: self._asked_to_stop(held.turn)):
            await self._abandon(held.turn, "")
            return
        held.runner = await self._patiently(lambda: self._runner(held.turn))
        self._asked.set()
        while await held.runner.run():
            held.turn = held.runner.turn
            if await self._moved(held, held.runner):
                break
            await held.runner.rest(resume.pause(held.turn.attempt, self.settings.turn_backoff_seconds))
            held.turn, held.runner = await self._patiently(lambda: self._again(held.turn)), None
            if await self._patiently(lambda: self._asked_to_stop(held.turn)):
                await self._abandon(held.turn, "")
                break
            held.runner = await self._patiently(lambda: self._runner(held.turn))
            self._asked.set()

    async def _moved(self, held: _Held, runner: Runner) -> bool:
        """Whether a turn whose attempt is over goes to another worker: it needs an engine, which answers there only."""
        while runner.needs_engine and not runner.asked_to_stop:
            where = await self.starter.engines.where()
            if where == "elsewhere":
                return await self._move(held.turn, runner)
            if where == "here":
                break
            await runner.rest(RETRY_SECONDS)
        return False

    async def _move(self, turn: Claimed, runner: Runner) -> bool:
        """Let another worker go on with a turn, unless it is to stop."""
        told = ev.notice("engine_moved", f"Another worker goes on with the turn. {self.starter.engines.why}")
        if not await self._patiently(lambda: self.log.write(lambda conn: queue.move(conn, turn, told))):
            return False
        log_.warning("turn_moved", session=turn.session_id, turn=turn.id)
        await runner.act_no_more()
        return True

    async def _again(self, died: Claimed) -> Claimed:
        lease = self.settings.lease_seconds
        return await self.log.database.write(lambda conn: leases.again(conn, died, self.name, lease))

    async def _asked_to_stop(self, turn: Claimed) -> bool:
        return await self.log.database.read(lambda conn: queue.asked_to_stop(conn, turn))

    async def _patiently(self, do: Callable[[], Awaitable[T]]) -> T:
        """A database that is away for a while costs a turn nothing; when the lease is lost meanwhile this is cancelled."""
        give_up = time.monotonic() + 2 * self.settings.lease_seconds
        while True:
            try:
                return await do()
            except Unavailable as exc:
                if time.monotonic() > give_up:
                    raise
                log_.error("turn_waits", error=exc.message)
                await anyio.sleep(RETRY_SECONDS)

    async def _runner(self, turn: Claimed) -> Runner:
        def load(conn: Connection) -> tuple[AgentSpec, Profile | None, Claimed, Asked]:
            spec, profile = self._made_of(conn, turn)
            asked = asked_of(conn, turn)
            return spec, profile, *(resume.continued(conn, turn, asked, profile, spec.mode) if profile else (turn, asked))

        spec, profile, turn, asked = await self.log.database.read(load)
        spec = replace(spec, limits=stricter(spec.limits, turn.limits))
        if profile is None:
            raise RuntimeUnavailable(f"Runtime {spec.runtime!r} of agent {spec.name!r} is no longer known to this gateway.")
        replays = profile.mode(spec.mode).capabilities.replays
        begun = await self.memory.begin(turn, asked, spec, reads=replays)
        begun = replace(begun, asked=await self._placed(begun.asked, spec))
        log, starter, settings, store, gates = self.log, self.starter, self.settings, self.store, self.gates
        return Runner(begun, spec, profile, log, starter, settings, store, gates, self.memory, self._surely_holds)

    async def _give_up(self, held: _Held) -> None:
        """Somebody else has the turn, or will: stop its process and say nothing."""
        log_.warning("turn_superseded", session=held.turn.session_id, turn=held.turn.id)
        if held.runner is not None:
            await held.runner.stop()
            await held.runner.act_no_more()

    async def _break_off(self, held: _Held, why: str) -> None:
        if held.runner is not None:
            await held.runner.stop()
            await held.runner.act_no_more()
        await self._abandon(held.turn, why)

    async def _part(self, held: _Held) -> None:
        """This worker stops: a turn that has not begun, or may go on, is left to others; any other is ended."""
        with anyio.move_on_after(PARTING_SECONDS + self.settings.stop_seconds):
            runs = held.runner is not None and held.runner.has_begun
            begun = held.turn.begun or runs
            if held.runner is not None:
                await held.runner.stop()
            if not begun:
                await self._hand_back(held.turn)
            elif await self._goes_on(replace(held.turn, attempt=held.turn.attempt + runs)):
                await self._insist(self.log.database.write, lambda conn: leases.let_go(conn, held.turn))
            else:
                await self._abandon(held.turn, STOPPED)

    async def _abandon(self, turn: Claimed, why: str, category: ErrorCategory = "runtime_crash") -> None:
        """End a turn nobody runs any more."""
        incident = new_id("inc")
        log_.warning("turn_abandoned", session=turn.session_id, turn=turn.id, incident=incident)

        await self._insist(self.log.write, lambda conn: queue.end_abandoned(conn, turn, incident, why, category))

    async def _hand_back(self, turn: Claimed) -> None:
        await self._insist(self.log.database.write, lambda conn: leases.hand_back(conn, turn))
        self.wake()

    async def _insist(self, write: Callable[[Operation[Any]], Awaitable[object]], op: Operation[Any]) -> bool:
        """Write for a turn. If the database refuses for the time of a lease, the turn is found again as a lost one.

        False where nobody knows that it is written: then nothing may be begun on it, for it may still be.
        """
        with anyio.move_on_after(self.settings.lease_seconds):
            while True:
                try:
                    await write(op)
                except Fenced:
                    return False
                except SwitchboardError as exc:
                    log_.error("turn_not_settled", error=exc.message)
                    await anyio.sleep(RETRY_SECONDS)
                else:
                    return True
        return False
