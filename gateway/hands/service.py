"""Runs the calls of sandbox tools, each of them once.

    call: its row `intent` and its `tool_start` are one transaction, under the turn's fence
          -> it runs in the session's container, unless the turn is another's by then
          -> its result and its `tool_result` are one transaction, under the fence
          -> only then is it answered

The same id again gets the recorded result, or waits for the call that runs. A call whose intent is there, whose result is
not and which does not run here was lost with its worker: nobody knows how far it came, so it is not run again. What is left
of it is ended, by a worker of its engine as soon as there is one, and the answer is a failed result, marked `interrupted`;
the runtime decides, under a new id. So that this is true of a worker that stood still, too, each command asks once more
before it begins: for the session's fence, and in the very last moment whether nobody can have taken the turn since.

A call goes on when whoever asked for it is gone, since it may ask again: `end` ends those of a turn that is over.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

import anyio
import anyio.abc
import structlog
from sqlalchemy import Connection

from adapters.launch.container import Engine
from adapters.launch.hands import Leave
from adapters.launch.process import LaunchError
from adapters.launch.reading import Ran
from gateway.db.engine import Database
from gateway.egress.gate import Gates
from gateway.errors import CallReused, Conflict, Fenced, InvalidParams, SwitchboardError, Unavailable
from gateway.hands import acts, calls
from gateway.hands.rooms import Rooms, Used
from gateway.hands.tools import TOOLS, Bash, Input, Result, Tool, input_of, told, wrong
from gateway.hands.ways import Teller, Ways
from gateway.log.store import locked
from gateway.settings import Settings
from gateway.turns.launching import Place
from gateway.turns.leases import Claimed
from gateway.turns.spec import AgentSpec

AT_ONCE = 8  # calls of one turn; more wait
LOOK_SECONDS = 5.0  # how often calls are looked for that are to be ended on this worker's engine
LOOKS = 12  # from one sweep to the next
RETRY_SECONDS = 0.1
MAX_TOLD = 64 * 1024  # characters of an output in the log
INTERRUPTED = "It is not known whether this call ran, or how far it came: the gateway was interrupted. Look, then decide."
CANCELLED = "Ended before it was done: it was cancelled, or the turn is over."
NO_ENGINE = "The sandbox cannot be used now."

log_ = structlog.get_logger("switchboard.hands")

Write = Callable[[Connection], None]


class Brain(Teller, Protocol):
    """Whoever calls: a running turn, and the way its events go into the log."""

    room: anyio.Semaphore  # for bodies of its requests

    async def say(self, line: Mapping[str, Any], write: Write | None = None) -> None:
        """Tell a line of specs/jsonl-protocol.md; its events are durable, in one transaction with `write`.

        Raises Conflict or Fenced where the attempt is over.
        """
        ...


@dataclass(slots=True)
class _Call:
    """One that runs here."""

    turn: Claimed
    place: Place
    spec: AgentSpec
    id: str
    tool: Tool
    input: Input
    digest: str
    ended: bool = True  # nothing of it can still run
    done: anyio.Event = field(default_factory=anyio.Event)
    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    result: Result | None = None
    error: Exception | None = None
    unkept: Result | None = None  # what came out while no attempt held the turn: the next one's asking records it


@dataclass(slots=True)
class _OfTurn:
    """The calls of one turn that run here, and what they share."""

    brain: Brain  # of its latest attempt
    calls: dict[str, _Call] = field(default_factory=dict)
    room: anyio.Semaphore = field(default_factory=lambda: anyio.Semaphore(AT_ONCE))
    writing: anyio.Lock = field(default_factory=anyio.Lock)
    over: bool = False


class Hands:
    """The sandbox tools of one worker. `run` must run while it is called.

    `holds`: whether the turns held here are surely its own. Where they may not be, their calls are ended, or it is true again.
    """

    def __init__(
        self, engine: Engine, database: Database, settings: Settings, gates: Gates, worker: str, holds: Callable[[], bool]
    ) -> None:
        self._engine, self._database, self._settings = engine, database, settings
        self._worker, self._holds = worker, holds
        self._ways = Ways(engine, gates, settings, worker)
        self._rooms = Rooms(engine, database, settings)
        self._turns: dict[str, _OfTurn] = {}
        self._group: anyio.abc.TaskGroup | None = None

    async def run(self, *, task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Until cancelled; then what runs is ended."""
        async with anyio.create_task_group() as group:
            self._group = self._ways.group = group
            task_status.started()
            while True:
                await self.sweep()
                for _ in range(LOOKS):
                    await anyio.sleep(LOOK_SECONDS)
                    await self.look()

    async def sweep(self) -> None:
        """Containers no session wants, and calls of turns that are over, with what a killed worker left of them."""
        await self._rooms.sweep()
        if await self.look():
            try:
                await self._database.write(lambda conn: calls.forget_ended(conn, self._settings.hands_keep_seconds))
            except SwitchboardError as exc:
                log_.debug("calls_not_forgotten", error=str(exc))

    async def look(self) -> bool:
        """End what may still run on this worker's engine of calls that nobody waits for; False where it cannot be done."""
        try:
            left = await self._database.read(calls.left)
            here = await self._engine.identity() if left else None
            mine = [call for call in left if call.engine in (None, here)]
            for call in mine:
                await self._rooms.end(call.session_id, mark_of(call.turn_id, call.call_id))
            if mine:
                await self._database.write(lambda conn: calls.ended(conn, mine))
        except (SwitchboardError, LaunchError) as exc:
            log_.debug("calls_not_ended", error=str(exc))
            return False
        return True

    async def call(self, brain: Brain, call_id: str, tool: str, given: Any) -> Result:
        """What a call answered, now or before. Raises CallReused, Fenced, Unavailable."""
        try:
            input = input_of(tool, given)
        except InvalidParams as exc:
            return wrong(f"{exc.message} {exc.hint}")
        new = _Call(brain.turn, brain.place, brain.spec, call_id, TOOLS[tool], input, calls.digest_of(tool, input.model_dump()))
        mine = self._turns.setdefault(brain.turn.id, _OfTurn(brain))
        mine.brain = brain
        call = mine.calls.setdefault(call_id, new)
        if call.digest != new.digest:
            raise _reused(call_id)
        if call is new or (call.unkept is not None and call.done.is_set()):
            call.done, call.error = anyio.Event(), None
            self._begin(mine, call)
        await call.done.wait()
        if call.result is None:
            raise call.error or Unavailable("The call was not done.", "Try again, under the same id.")
        return call.result

    def cancel(self, turn_id: str, call_id: str) -> None:
        """End one call, if it runs; its answer says so."""
        mine = self._turns.get(turn_id)
        if mine is not None and call_id in mine.calls:
            mine.calls[call_id].scope.cancel()

    async def end(self, turn_id: str) -> None:
        """The turn is over: end what it runs. Its token is no longer good, so nothing more comes."""
        mine = self._turns.get(turn_id)
        if mine is not None:
            mine.over = True
            running = list(mine.calls.values())
            for call in running:
                call.scope.cancel()
            for call in running:
                await call.done.wait()
            self._turns.pop(turn_id, None)
        await self._ways.close(turn_id)

    # -- one call

    def _begin(self, mine: _OfTurn, call: _Call) -> None:
        if self._group is None or mine.over:
            del mine.calls[call.id]
            raise Unavailable("The sandbox is not at work.", "Try again, under the same id.")
        self._group.start_soon(self._run, mine, call)

    async def _run(self, mine: _OfTurn, call: _Call) -> None:
        try:
            async with mine.room:
                call.result = await (self._once if call.unkept is None else self._kept)(mine, call)
        except Exception as exc:
            call.error = exc
            if not isinstance(exc, SwitchboardError):
                log_.exception("call_failed", turn=call.turn.id, tool=call.tool.name)
        finally:
            if call.unkept is None:
                del mine.calls[call.id]
            if not mine.calls:
                self._turns.pop(call.turn.id, None)
            call.done.set()

    async def _once(self, mine: _OfTurn, call: _Call) -> Result:
        turn = call.turn
        found = await self._database.read(lambda conn: calls.recorded(conn, turn.id, call.id))
        if found is not None:
            if found.digest != call.digest:
                raise _reused(call.id)
            return found.result or await self._lost(mine, call, found.engine)
        intent = calls.intends(turn, call.id, call.tool.name, call.digest, await self._here())
        await mine.brain.say(_start(call), intent)
        call.unkept = Result(CANCELLED, is_error=True)
        try:
            with call.scope:
                call.unkept = await self._act(mine, call)
        except Fenced:
            call.unkept = None  # what it has come to is not for this worker to say
            raise
        if call.unkept.interrupted:
            log_.warning("call_cut_off", session=turn.session_id, turn=turn.id, tool=call.tool.name)
        return await self._kept(mine, call)

    async def _kept(self, mine: _OfTurn, call: _Call) -> Result:
        assert call.unkept is not None
        await self._keep(mine, call, _end(call, call.unkept), call.unkept)
        result, call.unkept = call.unkept, None
        return result

    async def _act(self, mine: _OfTurn, call: _Call) -> Result:
        try:
            used = await self._used(call)
            used.calls += 1
            try:
                outwards = isinstance(call.input, Bash)  # what reads and writes files needs no way out
                env = await self._ways.of(mine.brain, used.room) if outwards else {}
                return await acts.act(self._runs(used, mine, call, env), call.input, mine.writing, call.spec.work_dir)
            finally:
                used.calls -= 1
                call.ended = not used.room.may_run(_mark(call))
        except (LaunchError, OSError) as exc:
            log_.error("sandbox_failed", session=call.turn.session_id, turn=call.turn.id, error=str(exc))
            with suppress(Conflict):
                await mine.brain.say({"type": "notice", "kind": "sandbox", "text": str(exc)})
            return wrong(NO_ENGINE)

    def _runs(self, used: Used, mine: _OfTurn, call: _Call, env: Mapping[str, str]) -> acts.Run:
        leave = Leave(lambda: self._may_begin(mine, call), self._holds)

        async def run(command: acts.Command) -> Ran:
            argv, seconds, keep, content = command
            mark = _mark(call)
            return await used.room.run(argv, seconds=seconds, keep=keep, mark=mark, content=content, env=env, leave=leave)

        return run

    async def _may_begin(self, mine: _OfTurn, call: _Call) -> None:
        """Returns while the turn is this worker's, however long it takes to know. Raises Fenced."""
        turn = mine.brain.turn
        while True:
            with suppress(Unavailable):
                op = lambda conn: calls.may_begin(conn, turn, call.id, self._worker)  # noqa: E731
                if not await self._database.read(op, snapshot=False):
                    raise Fenced(f"Turn {call.turn.id} is another worker's by now.")
                if self._holds():
                    return
            await anyio.sleep(RETRY_SECONDS)

    async def _keep(self, mine: _OfTurn, call: _Call, line: Mapping[str, Any], result: Result) -> None:
        """Record a result and tell it; where the attempt that called is over, the next one will ask for it."""
        done = calls.has_done(call.turn, call.id, result, ended=call.ended)
        try:
            await mine.brain.say(line, done)
        except Conflict:

            def op(conn: Connection) -> None:
                locked(conn, call.turn.session_id, mine.brain.turn.fence)
                done(conn)

            await self._database.write(op, beside=True)

    async def _lost(self, mine: _OfTurn, call: _Call, engine: str | None) -> Result:
        """The answer to a call that was lost with its worker. What runs on another engine is ended by a worker there."""
        room = (await self._used(call)).room
        await room.kill(_mark(call))
        call.ended = engine in (None, await self._here()) and not room.may_run(_mark(call))
        result = Result(INTERRUPTED, is_error=True, interrupted=True)
        said = f"The call {call.id!r} of the sandbox was interrupted and is not run again."
        await self._keep(mine, call, {"type": "notice", "kind": "sandbox", "text": said}, result)
        return result

    async def _here(self) -> str | None:
        """The id of this worker's engine; None where it does not answer, or has none."""
        try:
            return await self._engine.identity() or None
        except LaunchError:
            return None

    async def _used(self, call: _Call) -> Used:
        return await self._rooms.of(call.turn, call.place, call.spec)


def mark_of(turn_id: str, call_id: str) -> str:
    """By which a call's processes are known, in whatever worker."""
    return f"{turn_id}.{hashlib.sha256(call_id.encode()).hexdigest()[:16]}"


def _mark(call: _Call) -> str:
    return mark_of(call.turn.id, call.id)


def _start(call: _Call) -> dict[str, Any]:
    return {"type": "tool_start", "call_id": _told_id(call), "tool": call.tool.canonical, "input": told(call.input)}


def _end(call: _Call, result: Result) -> dict[str, Any]:
    output = "(binary)" if result.encoding == "base64" else result.output
    if len(output) > MAX_TOLD:
        output = f"{output[:MAX_TOLD]}\n[... {len(output) - MAX_TOLD} characters more]"
    line = {"type": "tool_result", "call_id": _told_id(call), "output": output}
    return line | {"is_error": result.is_error, "exit_code": result.exit_code}


def _told_id(call: _Call) -> str:
    """Apart from the ids of calls the runtime itself tells of."""
    return f"sandbox:{call.id}"


def _reused(call_id: str) -> CallReused:
    return CallReused(f"The call id {call_id[:128]!r} stands for another call.", "Give each call an id of its own.")
