"""The engine, as callers and owners see it: takes messages in, queues their turns, cancels and interrupts what runs.

The turns are run by workers (`turns.worker`): this process's own, or another's on the same database.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import anyio
import anyio.abc
from sqlalchemy import Connection

from adapters.profile import Profile
from gateway.egress.gate import Gates
from gateway.errors import SwitchboardError
from gateway.files import rows
from gateway.files.store import Store
from gateway.log.store import Log
from gateway.settings import Settings
from gateway.turns import orders, queue
from gateway.turns.spec import AgentLoader, Inbound
from gateway.turns.worker import Worker

WORK, ASKED = "work", "asked"  # hints to the workers of other processes
LOOK_SECONDS = 0.2  # how often a turn that another process holds is looked at by whoever waits for its end
AT_ONCE = 100  # tasks that are canceled in one transaction
REMEMBERED = 10_000  # agent versions whose capabilities are kept


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
        self.log, self.settings, self.profiles, self.load_agent = log, settings, profiles, load_agent
        self.worker = Worker(log, settings, profiles, load_agent, store, gates)
        self._direct: dict[tuple[str, int], bool] = {}  # by agent and version

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
            accepted = queue.accept(conn, agent_id, version, principal, new, self.settings.queue_limit)
            direct = new.direct and self._answers_directly(conn, agent_id, version, new)
            accepted = replace(accepted, direct=direct)  # not in the message: its readers would learn of the runtime
            rows.add(conn, accepted.session_id, accepted.task_id, new.files)
            if within is not None:
                within(conn, accepted)
            self.log.join(conn, [accepted.batch])
            return accepted

        accepted = await self.log.database.write(op, lambda accepted: self.log.told([accepted.batch]))
        if accepted.steers:
            self._ask()
        else:
            self.worker.wake()
            self.log.database.tell(WORK)
        return accepted

    def _ask(self) -> None:
        """Something is asked of a turn that runs, here or elsewhere."""
        self.worker.attend()
        self.log.database.tell(ASKED)

    def _answers_directly(self, conn: Connection, agent_id: str, version: int, new: Inbound) -> bool:
        """Whether the runtime that gets a message may answer it by a message alone."""
        key = (agent_id, (queue.version_of(conn, new.context_id) if new.context_id else None) or version)
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
        self._ask()
        await self.worker.wait(turn_id)
        while not await self.log.database.read(lambda conn: orders.has_ended(conn, turn_id), snapshot=False):  # noqa: ASYNC110  (elsewhere)
            await anyio.sleep(LOOK_SECONDS)

    async def cancel_session(self, session_id: str) -> list[str]:
        """Cancel every task of a session that has not ended; answers their ids.

        The newest first, and what runs only then: else what waits would begin in its place.
        """
        tasks = await self.log.database.read(lambda conn: queue.open_tasks(conn, session_id))
        for end in range(len(tasks), 0, -AT_ONCE):
            some = tasks[max(end - AT_ONCE, 0) : end]
            await self.log.write(lambda conn, some=some: queue.cancel_all_waiting(conn, some))  # type: ignore[misc]
        for task_id in tasks:
            await self.cancel(task_id)
        return tasks

    async def run(self, *, task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Run turns until cancelled or drained, if this process does."""
        if self.settings.worker:
            await self.worker.run(task_status=task_status)
        else:
            task_status.started()

    async def drained(self) -> None:
        """Until nothing runs here any more, after `worker.drain`; for as long as a drain may take where nothing did."""
        with anyio.move_on_after(self.settings.drain_seconds + self.settings.stop_seconds):
            await self.worker.stopped.wait()
