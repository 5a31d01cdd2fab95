"""Runs one turn: starts the runtime, reads it through its dialogue, appends its events under the turn's fence.

Reading and committing overlap: whatever was read while the last commit was on its way is the next commit. The turn's
last events go into the log together with its `done` and the new state of its task. After a cancel the `done` is held
back until the process is gone: when a caller is told "canceled", it is true.
"""

from __future__ import annotations

import errno
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace

import anyio
import structlog
from anyio.lowlevel import checkpoint_if_cancelled

from adapters import events as ev
from adapters.dialogue import Cause, Dialogue, Exit, Failure, Unsupported
from adapters.events import Event
from adapters.launch.process import Exited, LaunchError, Process
from adapters.profile import Profile
from gateway.clock import new_id
from gateway.egress.gate import Gate, Gates, Way
from gateway.egress.policy import EVERYTHING
from gateway.files.store import Store
from gateway.log.store import Log
from gateway.settings import Settings
from gateway.turns import disk, resume
from gateway.turns.beginning import Beginning
from gateway.turns.hooks import Hooks, SetupFailed
from gateway.turns.launching import Place, launch_of, model_of, turn_of, variables
from gateway.turns.limits import Meter, Over
from gateway.turns.memory import Begun, Memory
from gateway.turns.native import PROCESS, Native
from gateway.turns.outbox import Outbox
from gateway.turns.pending import Pending
from gateway.turns.receipts import Receipt
from gateway.turns.record import Record
from gateway.turns.spec import AgentSpec
from gateway.turns.stamp import Stamp
from gateway.turns.starter import Started, Starter
from gateway.turns.warm import Resting, let_go
from gateway.turns.watchdog import Watchdog

log_ = structlog.get_logger("switchboard.turn")


class Runner:
    """One claimed turn. `run` once; `cancel` and `steer` from anywhere."""

    def __init__(
        self,
        begun: Begun,
        spec: AgentSpec,
        profile: Profile,
        log: Log,
        starter: Starter,
        settings: Settings,
        store: Store,
        gates: Gates,
        memory: Memory,
        may_start: Callable[[], bool],
    ) -> None:
        turn, asked = begun.turn, begun.asked
        self.turn, self.asked, self.spec, self.profile, self.notices = turn, asked, spec, profile, begun.notices
        self.journal = begun.journal
        self.starter, self.settings, self.gates, self.memory = starter, settings, gates, memory
        self.mode = profile.mode(spec.mode)
        self.dialogue: Dialogue = self.mode.dialogue(lambda: new_id("call"))
        self.place = Place.of(settings.sessions_dir, turn.session_id)
        self.native = Native(turn.native, spec.runtime)
        self.told = turn_of(spec, profile, self.place, asked, self.native.mine)
        self.has_begun = False
        self.process: Started | None = None
        self._two_way = False
        self._stays: Process | None = None  # that process, once it is clear that it is kept
        self.cause: Cause = "exited"
        self._died = False  # without a result
        self.why = ""  # what the owner should know of the cause
        self._meter = Meter(spec.limits, turn.spent, turn.used)
        self._pending = Pending[Event | Receipt]()
        self._receipts: list[Receipt] = []  # of lines that were read and are not on their way into the log
        self._stdin = Pending[bytes]()
        self.given: set[str] = set()  # ids of the messages `steer` was called with
        self._messages: deque[tuple[str, str]] = deque()  # (id, text) of those the runtime could not be given yet
        self._conversation = anyio.CancelScope()
        self._asked_to_stop = anyio.Event()
        self._watchdog = Watchdog(spec.limits, settings, turn.used.seconds)
        self._stamp = Stamp(self.place, self.native)
        self._outbox = Outbox(turn.id, self.place, store, settings)
        self._record = Record(log, turn, self.native, self._outbox, settings.lease_seconds)
        tell, stop = self._pending.add, self._asked_to_stop
        self._beginning = Beginning(
            turn, spec, profile, self.place, starter, settings, tell, may_start, self._has_another, stop
        )
        self._hooks = Hooks(spec, self.place, tell, self._beginning.spawn, settings.stop_seconds)
        self._preparing = anyio.CancelScope()

    async def run(self) -> bool:
        """Run the turn to its end: when this returns its `done` is in the log and its process is gone.

        True if there is no `done`, because the runtime died without a result and the turn may go on in another attempt.
        """
        began = time.monotonic()
        async with self._gated():
            last = await self._attempt()
            goes_on = self._may_go_on(last)
            await (self._interrupt(last) if goes_on else self._finish(last))
            await self._part()
        if not goes_on:
            await self.act_no_more()
        await self.memory.end(self.turn, self.native.all)
        if not goes_on:
            await self._record.release()
        self._report("interrupted" if goes_on else last[-1].body["yield_reason"], last[-1], began)
        return goes_on

    def _may_go_on(self, last: list[Event]) -> bool:
        error = last[-1].body["error"]
        crashed = self._died and error is not None and error["category"] == "runtime_crash"
        return (crashed or (self._beginning.moves and self.cause == "exited")) and self._has_another()

    def _has_another(self) -> bool:
        """Whether another attempt of the turn is allowed."""
        following = replace(self.turn, attempt=self.turn.attempt + 1)
        most = int(self.spec.limits.get("turn_attempts") or self.settings.turn_attempts)
        return resume.may_go_on(following, self.mode, most)

    @property
    def gate(self) -> Gate | None:
        """Where the agent's way out is watched."""
        return self._beginning.gate

    @property
    def asked_to_stop(self) -> bool:
        return self._asked_to_stop.is_set()

    async def rest(self, seconds: float) -> None:
        """The pause after an attempt, which ends at once when the turn is asked to stop."""
        with anyio.move_on_after(seconds):
            await self._asked_to_stop.wait()

    def cancel(self) -> None:
        """Ask the runtime to stop; it is made to stop if it does not within `stop_seconds`."""
        self._asked_to_stop.set()
        if self.cause != "exited":
            return
        self.cause = "canceled"
        patience = 0.0
        with suppress(Unsupported):
            if self.process is not None and self.dialogue.running:
                self._stdin.add(self.dialogue.interrupt())
                self.dialogue.interrupted = True
                patience = self.settings.stop_seconds
        self._preparing.cancel()
        self._conversation.deadline = anyio.current_time() + patience

    def steer(self, id: str, text: str) -> None:
        """Give the runtime a message that came meanwhile. One it does not take stays queued and is the next turn."""
        self.given.add(id)
        if self.mode.capabilities.steer:
            self._messages.append((id, text))
            self._give()

    def _give(self) -> None:
        with suppress(Unsupported):  # not now: once more after its next lines
            while self._messages and self.dialogue.running and self.cause == "exited":
                id, text = self._messages[0]
                self._stdin.add(self.dialogue.steer(text, id))
                self._messages.popleft()
                self._pending.add([ev.notice("given", f"the message of turn {id} was given to the runtime")])

    async def stop(self) -> Exited | None:
        """End the process and all its descendants, if there is one."""
        if self.process is None:
            return None
        with anyio.CancelScope(shield=True):
            exited = await self.process.stop(grace=self.settings.stop_seconds)
            await self.process.aclose()
        return exited

    async def act_no_more(self) -> None:
        """End what is done for the turn elsewhere, now that it is over; a next attempt would ask for it again."""
        with anyio.CancelScope(shield=True):
            await self.starter.acts_no_more(self.turn.id)

    async def _part(self) -> None:
        """Keep the process for the session's next turn, or let it go and be sure that it is gone."""
        self._stdin.close()
        if self._stays is not None:
            await self.starter.warm.keep(self.turn.session_id, Resting(self._stays, self.dialogue, str(self.turn.fence)))
        elif self.process is not None:
            await let_go(self.process, self.settings.stop_seconds)

    def _may_stay(self, done: Event) -> Process | None:
        """Its process, if it is one to keep: two-way, it ended its turn by itself, and nothing of the turn is in its way."""
        process = self.process
        if not isinstance(process, Process) or process.has_ended or not self._two_way or not self.starter.warm.on:
            return None
        at_rest = done.body["yield_reason"] in ("completed", "needs_input") and not self.dialogue.interrupted
        free = self.cause == "exited" and self.gate is None and not self.memory.copies
        return process if at_rest and free else None

    @asynccontextmanager
    async def _gated(self) -> AsyncIterator[None]:
        """With the agent's way out watched over, where it has an egress policy."""
        policy = self.spec.egress or (EVERYTHING if self.profile.image else None)
        if policy is None:
            yield
            return
        env, provider = variables(self.spec, self.profile), model_of(self.spec, self.profile)[0]
        named = {"agent": self.spec.name, "session": self.turn.session_id, "turn": self.turn.id}
        way = Way(policy, self.profile, provider, env, self.place.home.parent)
        async with self.gates.opened(way, self._pending.add, **named) as self._beginning.gate:
            yield

    # -- the attempt

    async def _attempt(self) -> list[Event]:
        """Play the turn. Answers its last events, which end in `done`; all before them are committed."""
        await self._begin()
        async with anyio.create_task_group() as group:
            group.start_soon(self._commit)
            try:
                last = await self._play()
                if self.process is not None and not self._may_go_on(last):
                    await self._hooks.after()
            finally:
                self._pending.close()
        await checkpoint_if_cancelled()  # then not all may be committed that comes before these
        return last

    async def _begin(self) -> None:
        """Nothing runs before the log says so: a turn whose worker is lost before can simply be queued again."""
        started = resume.started(self.turn, self.asked)
        runtime = ev.notice("runtime", f"{self.spec.runtime}, mode {self.mode.name}, agent version {self.spec.version}")
        await self._record.begin([started, runtime, *self.notices])
        self.has_begun = True

    async def _play(self) -> list[Event]:
        await self._outbox.begin(again=self.turn.begun)
        over = self._meter.before()
        if over is not None:
            self.dialogue.start(self.told)
            return self.dialogue.end(over.cause, Failure("budget_exceeded", over.why))
        try:
            env = self.gate.env if self.gate else variables(self.spec, self.profile)
            launch = launch_of(self.spec, self.profile, self.mode, self.place, self.told, env)
            self._hooks.env = env
            with self._preparing:
                await self._beginning.prepare(launch, self._hooks.prepare if self._hooks.has_setup else None)
            self._two_way = launch.keep_stdin
            kept = await self.starter.warm.take(self.turn.session_id, self.journal, self.turn.native.get(PROCESS))
            if kept is not None:
                self.process, self.dialogue = kept.process, kept.dialogue
                self._pending.add([ev.notice("warm", "The process of the turn before was kept and goes on.")])
            elif self.cause == "exited":
                self.process = await self._beginning.start(launch, self._watchdog.seconds)
        except (LaunchError, OSError, SetupFailed) as exc:
            return self._not_started(exc) if self.cause == "exited" else await self._stopped([])
        last: list[Event] = []
        if self.process is not None:
            async with anyio.create_task_group() as group:
                group.start_soon(self._watch)
                group.start_soon(self._watch_disk)
                group.start_soon(self._write, self.process)
                group.start_soon(self._hooks.beside)
                with self._conversation:
                    last = await self._converse(self.process, launch.keep_stdin)
                group.cancel_scope.cancel()
        if last and self.cause == "exited":
            return last
        return await self._stopped(last)

    async def _stopped(self, last: list[Event]) -> list[Event]:
        """The turn's last events once its process is gone, for a turn that did not end by itself."""
        exited = await self.stop()
        if self.cause != "exited":
            await self.act_no_more()
        if self.dialogue.turn is not self.told:
            self.dialogue.start(self.told)
        if exited and exited.out_of_memory and self.cause == "exited":
            self.cause, self.why = (
                "out_of_memory",
                "its container had no memory left: limit memory_mb, SWITCHBOARD_CONTAINER_MEMORY_MB",
            )
        code, signal = (exited.code, exited.signal) if exited else (None, None)
        stderr = self.process.stderr_tail() if self.process else ""
        if last:
            return last
        self._died = self.cause == "exited"
        last = self._stamp.all(self.dialogue.finish(Exit(code, signal, stderr, self.cause, self.why)))
        return [*self._meter.unsaid(last, self.dialogue.spent), *last]

    async def _converse(self, process: Started, keep_stdin: bool) -> list[Event]:
        """Speak until the turn has ended (its last events) or the output has (nothing)."""
        step = self.dialogue.start(self.told)
        self._pending.add(await self._outbox.declared(self._stamp.all(step.events)))
        self._stdin.add(step.outgoing)
        if not keep_stdin:
            self._stdin.close()
        self._give()
        while lines := await process.lines():
            self._watchdog.heard()
            events: list[Event] = []
            for line in lines:
                step = self.dialogue.feed(line.data)
                told, over = self._meter.read(step.events, self.dialogue)
                events += told
                self._stdin.add(step.outgoing)
                if over is not None and self.cause == "exited":
                    return await self._over(over, events)
                if line.receipt is not None:
                    self._receipts.append(line.receipt)
                if not self.dialogue.running:
                    return self._stamp.all(events)
            self._give()
            shown = self._stamp.all(events) + (self._stamp.rest() if self._receipts else [])
            self._pending.add([*await self._outbox.declared(shown), *self._take_receipts()])
            await self._pending.room()
        return []

    def _take_receipts(self) -> list[Receipt]:
        receipts, self._receipts = self._receipts, []
        return receipts

    async def _over(self, over: Over, events: list[Event]) -> list[Event]:
        """A limit was reached: the turn's last events if it has ended with them; else it is stopped now."""
        self.cause, self.why = over.cause, over.why
        self._receipts.clear()
        if not self.dialogue.running:
            return self._stamp.all(over.ending(events))
        self._pending.add(await self._outbox.declared(self._stamp.all(events)))
        return []

    async def _write(self, process: Started) -> None:
        """Write beside the reading, so that neither side can wait for the other."""
        while lines := await self._stdin.take():
            for line in lines:
                await process.write(line)
        await process.close_stdin()

    def _not_started(self, exc: LaunchError | OSError | SetupFailed) -> list[Event]:
        self.dialogue.start(self.told)
        category: ev.ErrorCategory = "setup_failed"
        if not isinstance(exc, SetupFailed):
            category = "runtime_missing" if exc.errno == errno.ENOENT else "startup_crash"
        return self.dialogue.end("failed", Failure(category, str(exc)))

    # -- limits

    async def _watch(self) -> None:
        """Stop a turn that takes too long, or is silent for too long."""
        self._cut(*await self._watchdog.watch(self.dialogue))

    async def _watch_disk(self) -> None:
        """Stop a turn whose session takes too much disk."""
        if most := self.spec.limits.get("disk_mb"):
            self._cut("budget_exceeded", await disk.outgrown(self.place, most))

    def _cut(self, cause: Cause, why: str) -> None:
        if self.cause == "exited":
            self.cause, self.why = cause, why
        self._conversation.cancel()

    # -- the log

    async def _commit(self) -> None:
        while waiting := await self._pending.take():
            events = [one for one in waiting if isinstance(one, Event)]
            await self._record.append(events, [one for one in waiting if isinstance(one, Receipt)])

    async def _interrupt(self, last: list[Event]) -> None:
        """All of a crash's last events but the `done`; the caller is told that the work goes on."""
        events = await self._outbox.declared([*last[:-1], resume.interrupted()])
        self.native.remember(memory=self.dialogue.memory)
        await self._record.append(events)

    async def _finish(self, last: list[Event]) -> None:
        last = self.gate.judge.judged(last) if self.gate else last
        if not self.mode.capabilities.direct:
            last[-1].body.pop("direct", None)  # whoever waits has been shown a task
        error = last[-1].body["error"]
        if error is not None:
            error["incident"] = new_id("inc")
        self.native.remember(memory=self.dialogue.memory)
        last = await self._outbox.finish(last)
        self._stays = self._may_stay(last[-1])
        self.native.hold(PROCESS, self._stays.tag if self._stays else None)
        await self._record.finish(last, self._take_receipts())

    def _report(self, status: str, done: Event, began: float) -> None:
        error = done.body["error"] or {}
        log_.info(
            "turn",
            agent=self.spec.name,
            session=self.turn.session_id,
            turn=self.turn.id,
            attempt=self.turn.attempt,
            runtime=self.spec.runtime,
            status=status,
            error=error.get("category"),
            incident=error.get("incident"),
            events=self._record.events,
            unknown_lines=self.dialogue.unknown,
            ms=round((time.monotonic() - began) * 1000),
        )
