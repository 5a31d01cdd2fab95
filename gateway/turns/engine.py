"""The engine: takes messages in, hands queued turns to runners, cancels, and clears up what a dead gateway left.

One worker per process. It claims a turn when told that one waits (and once a second in case nobody told it), never
more than `concurrency` at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import anyio
import anyio.abc
import structlog
from sqlalchemy import Connection

from adapters.events import ErrorCategory
from adapters.profile import Profile
from gateway.clock import new_id
from gateway.egress.gate import Gates
from gateway.errors import Fenced, RuntimeUnavailable, SwitchboardError
from gateway.files import rows
from gateway.files.store import Store
from gateway.log.store import Log
from gateway.settings import Settings
from gateway.turns import inbox, orders, queue
from gateway.turns.asked import Asked, asked_of
from gateway.turns.journals import Journals
from gateway.turns.launching import Place
from gateway.turns.limits import stricter
from gateway.turns.memory import Memory
from gateway.turns.runner import Runner
from gateway.turns.spec import AgentLoader, AgentSpec, Inbound
from gateway.turns.starter import Starter

POLL_SECONDS = 1.0
RETRY_SECONDS = 1.0
LOOK_SECONDS = 0.2  # how often a turn that another process holds is looked at by whoever waits for its end
REMEMBERED = 10_000  # agent versions whose capabilities are kept

log_ = structlog.get_logger("switchboard.engine")


@dataclass(slots=True)
class _Running:
    """A turn this worker holds, from its claim to its end."""

    turn: queue.Claimed
    runner: Runner | None = None
    finished: anyio.Event = field(default_factory=anyio.Event)


class Engine:
    def __init__(
        self,
        log: Log,
        settings: Settings,
        profiles: Mapping[str, Profile],
        load_agent: AgentLoader,
        store: Store,
        gates: Gates,
    ) -> None:
        self.store, self.gates = store, gates
        self.log, self.settings, self.profiles, self.load_agent = log, settings, profiles, load_agent
        self.owner = new_id("wrk")
        self.starter = Starter(log.database, settings, self.owner)
        self.memory = Memory(log, Journals(settings.sessions_dir.resolve(), settings.journals_dir))
        self._running: dict[str, _Running] = {}  # by turn
        self._direct: dict[tuple[str, int], bool] = {}  # by agent and version
        self._work = anyio.Event()
        self._asked = anyio.Event()

    @property
    def active(self) -> int:
        """Turns that run now."""
        return len(self._running)

    # -- what the callers' side asks for

    async def accept(
        self,
        agent_id: str,
        version: int,
        principal: str,
        new: Inbound,
        check: Callable[[Connection], None] | None = None,
        within: Callable[[Connection, queue.Accepted], object] | None = None,
        known: Callable[[Connection], queue.Accepted | None] | None = None,
    ) -> queue.Accepted:
        """Store a message durably and queue its turn. Raises NotFound, Conflict, Unavailable, and what `check` raises.

        `check` is asked in the same transaction, so that of two messages at once it sees one in the other's wake.
        `within` is called there as well, once the message is stored; if it raises, nothing is. What `known` answers was
        accepted before: then nothing is stored either.
        """

        def op(conn: Connection) -> queue.Accepted:
            earlier = known(conn) if known is not None else None
            if earlier is not None:
                return earlier
            if check is not None:
                check(conn)
            told = replace(new, direct=new.direct and self._answers_directly(conn, agent_id, version, new))
            accepted = queue.accept(conn, agent_id, version, principal, told, self.settings.queue_limit)
            rows.add(conn, accepted.session_id, accepted.task_id, new.files)
            if within is not None:
                within(conn, accepted)
            self.log.join(conn, [accepted.batch])
            return accepted

        accepted = await self.log.database.write(op, lambda accepted: self.log.told([accepted.batch]))
        (self._asked if accepted.steers else self._work).set()
        return accepted

    def _answers_directly(self, conn: Connection, agent_id: str, version: int, new: Inbound) -> bool:
        """Whether the runtime that gets a message may answer it by a message alone."""
        key = (agent_id, queue.version_of(conn, new.context_id) or version)
        if key not in self._direct:
            try:
                spec = self.load_agent(conn, *key)
            except SwitchboardError:
                return False  # the turn will tell why
            if len(self._direct) >= REMEMBERED:
                self._direct.clear()
            profile = self.profiles.get(spec.runtime)
            mode = profile.modes.get(spec.mode or profile.default_mode) if profile else None
            self._direct[key] = mode is not None and mode.capabilities.direct
        return self._direct[key]

    async def cancel(self, task_id: str) -> None:
        """End a task as canceled, with what waits in it. When this returns it has ended, and its process is gone."""
        while True:  # once more after each turn: a message that came meanwhile may have begun the next
            await self.log.write(lambda conn: queue.cancel_waiting(conn, task_id))
            look = lambda conn: (orders.unended(conn, task_id), queue.is_over(conn, task_id))  # noqa: E731
            turn, over = await self.log.database.read(look)
            if turn is None and over:
                return
            if turn is not None and turn.state == "running":
                await self._until_ended(turn.id)

    async def interrupt(self, session_id: str) -> str | None:
        """End the turn that runs in a session as canceled. Answers its id once its process is gone; None if none ran.

        The session lives on. What waits in the turn's task is its next turn; where nothing waits the task is canceled.
        """
        turn_id = await self.log.database.write(lambda conn: orders.interrupt(conn, session_id))
        if turn_id is not None:
            await self._until_ended(turn_id)
        return turn_id

    async def _until_ended(self, turn_id: str) -> None:
        """Wait for a turn that was asked to stop, whoever holds it."""
        self._asked.set()
        held = self._running.get(turn_id)
        if held is not None:
            await held.finished.wait()
        while not await self.log.database.read(lambda conn: orders.has_ended(conn, turn_id)):  # noqa: ASYNC110  (elsewhere)
            await anyio.sleep(LOOK_SECONDS)

    async def cancel_session(self, session_id: str) -> list[str]:
        """Cancel every task of a session that has not ended; answers their ids."""
        tasks = await self.log.database.read(lambda conn: queue.open_tasks(conn, session_id))
        for task_id in tasks:
            await self.cancel(task_id)
        return tasks

    # -- the worker

    async def run(self, *, task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Work until cancelled. What a dead gateway left running is ended before anything new begins."""
        await self.starter.warden.start()
        try:
            await self._recover()
            async with anyio.create_task_group() as group:
                await group.start(self.starter.sweep_forever)
                group.start_soon(self._attend_forever)
                task_status.started()
                await self._claim_forever(group)
        finally:
            with anyio.CancelScope(shield=True):
                await self.starter.aclose()

    async def _recover(self) -> None:
        for turn in await self.log.database.write(lambda conn: queue.abandoned(conn, self.owner)):
            await self._abandon(turn, "The gateway was stopped while this turn ran.")

    async def _claim_forever(self, group: anyio.abc.TaskGroup) -> None:
        while True:
            self._work = anyio.Event()
            free = self.settings.concurrency - len(self._running)
            claimed = await self._claim(free) if free > 0 else []
            for turn in claimed:
                held = self._running[turn.id] = _Running(turn)
                group.start_soon(self._run, held)
            with anyio.move_on_after(POLL_SECONDS):
                await self._work.wait()

    async def _claim(self, limit: int) -> list[queue.Claimed]:
        try:
            return await self.log.database.write(lambda conn: queue.claim(conn, self.owner, limit))
        except SwitchboardError as exc:
            log_.error("claim_failed", error=exc.message)
            await anyio.sleep(RETRY_SECONDS)
            return []

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
        runners = {id: held.runner for id, held in self._running.items() if held.runner is not None}
        if not runners:
            return
        asked = await self.log.database.read(lambda conn: orders.asked(conn, list(runners)))
        for id in asked.stop:
            runners[id].cancel()
        for into, waiting in asked.messages:
            if waiting not in runners[into].given:
                runners[into].steer(waiting, await self._text_of(runners[into].turn, waiting))

    async def _text_of(self, running: queue.Claimed, waiting: str) -> str:
        asked = await self.log.database.read(lambda conn: asked_of(conn, running, waiting))
        return (await self._placed(asked)).whole_prompt

    async def _placed(self, asked: Asked) -> Asked:
        """What is asked, its files put where the runtime finds them."""
        return await inbox.placed(self.store, Place.of(self.settings.sessions_dir, asked.context_id), asked)

    async def _run(self, held: _Running) -> None:
        turn = held.turn
        try:
            held.runner = await self._runner(turn)
            self._asked.set()
            await held.runner.run()
        except* RuntimeUnavailable as missing:
            await self._abandon(turn, "; ".join(map(str, missing.exceptions)), "runtime_missing")
        except* Fenced:
            log_.warning("turn_superseded", session=turn.session_id, turn=turn.id)
            if held.runner is not None:
                await held.runner.stop()
        except* Exception:
            log_.exception("turn_broken", session=turn.session_id, turn=turn.id)
            await self._break_off(held, "The gateway failed while this turn ran; its log has the traceback.")
        except* anyio.get_cancelled_exc_class():
            with anyio.CancelScope(shield=True):
                await self._break_off(held, "The gateway was stopped while this turn ran.")
            raise
        finally:
            del self._running[turn.id]
            held.finished.set()
            self._work.set()

    async def _runner(self, turn: queue.Claimed) -> Runner:
        def load(conn: Connection) -> tuple[AgentSpec, Asked]:
            return self.load_agent(conn, turn.agent_id, turn.agent_version), asked_of(conn, turn)

        spec, asked = await self.log.database.read(load)
        spec = replace(spec, limits=stricter(spec.limits, turn.limits))
        profile = self.profiles.get(spec.runtime)
        if profile is None:
            raise RuntimeUnavailable(f"Runtime {spec.runtime!r} of agent {spec.name!r} is no longer known to this gateway.")
        begun = await self.memory.begin(turn, asked, spec)
        begun = replace(begun, asked=await self._placed(begun.asked))
        return Runner(begun, spec, profile, self.log, self.starter, self.settings, self.store, self.gates, self.memory)

    async def _break_off(self, held: _Running, why: str) -> None:
        if held.runner is not None:
            await held.runner.stop()
        await self._abandon(held.turn, why)

    async def _abandon(self, turn: queue.Claimed, why: str, category: ErrorCategory = "runtime_crash") -> None:
        """End a turn nobody runs any more, however long the database refuses: no task stays working for ever."""
        incident = new_id("inc")
        while True:
            try:
                await self.log.write(lambda conn: queue.end_abandoned(conn, turn, incident, why, category))
                log_.warning("turn_abandoned", session=turn.session_id, turn=turn.id, incident=incident)
                return
            except Fenced:
                return
            except SwitchboardError as exc:
                log_.error("turn_not_ended", turn=turn.id, error=exc.message)
                await anyio.sleep(RETRY_SECONDS)
