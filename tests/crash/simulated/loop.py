"""An event loop whose time is virtual and whose choices come from a seed.

Everything that runs belongs to a `Host`, by its context. What is ready on one host runs in order, as on any loop; which
host runs next is drawn. Time stands still while something is ready (but for some microseconds) and then jumps to the next
timer. A frozen host does nothing, though its timers pass; a dead one is frozen for good: none of its code runs again, not
even a `finally`.
"""

from __future__ import annotations

import asyncio
import heapq
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar, copy_context
from random import Random
from typing import Any

from anyio._backends._asyncio import CancelScope

STEP_SECONDS = 20e-6  # at most, that one callback takes
HOST: ContextVar[Host] = ContextVar("host")


class Host:
    """One process that is simulated, or the world around them."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.frozen = self.dead = False
        self.wall = 0  # microseconds its wall clock is ahead
        self.ready: deque[asyncio.Handle] = deque()
        self.fuse: tuple[int, Callable[[], None]] | None = None  # what happens to it after so many steps

    def context(self) -> Context:
        context = copy_context()
        context.run(HOST.set, self)
        return context


class Stuck(AssertionError):
    """Nothing is ready, and nothing ever will be."""


class SimulatedLoop(asyncio.BaseEventLoop):
    def __init__(self, random: Random) -> None:
        super().__init__()
        self._now, self._random = 0.0, random
        self._order: list[Host] = []
        self.world = Host("world")
        self.steps = 0
        self.set_task_factory(_task)

    def time(self) -> float:
        return self._now

    def spawn(self, host: Host, coro: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Begin something on a host."""
        return _Task(coro, loop=self, context=host.context())

    def _run_once(self) -> None:
        self._sort()
        while not (able := [host for host in self._order if host.ready and not host.frozen]):
            self._pass_time()
            self._sort()
        host = able[0] if len(able) == 1 else self._random.choice(able)
        if host.fuse is not None:
            left, blow = host.fuse
            host.fuse = (left - 1, blow) if left else None
            if not left:
                blow()
                return
        handle = host.ready.popleft()
        if not handle.cancelled():
            self.steps += 1
            self._now += self._random.random() * STEP_SECONDS
            handle._run()  # type: ignore[attr-defined]

    def _sort(self) -> None:
        while self._scheduled and self._scheduled[0].when() <= self._now:  # type: ignore[has-type]
            self._give(heapq.heappop(self._scheduled))
        while self._ready:
            self._give(self._ready.popleft())

    def _give(self, handle: asyncio.Handle) -> None:
        if handle.cancelled():
            return
        host = handle._context.get(HOST, self.world)  # type: ignore[attr-defined]
        if host not in self._order:
            self._order.append(host)
        host.ready.append(handle)

    def _pass_time(self) -> None:
        while self._scheduled and self._scheduled[0].cancelled():
            heapq.heappop(self._scheduled)
        if not self._scheduled:
            raise Stuck("nothing will ever happen")
        self._now = max(self._now, self._scheduled[0].when())

    # -- what a loop has to have

    def call_at(self, when: float, callback: Any, *args: Any, context: Context | None = None) -> asyncio.TimerHandle:
        """Timers of one moment go off in the order they were set."""
        handle = _Timer(when, callback, args, self, context)
        heapq.heappush(self._scheduled, handle)
        handle._scheduled = True
        return handle

    def call_later(self, delay: float, callback: Any, *args: Any, context: Context | None = None) -> asyncio.TimerHandle:
        return self.call_at(self._now + delay, callback, *args, context=context)

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """It is passed over when its time has come."""

    def _process_events(self, event_list: Any) -> None:
        raise NotImplementedError

    def _write_to_self(self) -> None:
        """There are no other threads."""


class _Timer(asyncio.TimerHandle):
    _count = 0

    def __init__(self, when: float, callback: Any, args: Any, loop: Any, context: Context | None) -> None:
        super().__init__(when, callback, args, loop, context)
        _Timer._count += 1
        self._number = _Timer._count

    def __lt__(self, other: Any) -> bool:
        mine: tuple[float, int] = (self.when(), self._number)
        return mine < (other.when(), other._number)


class _Task(asyncio.Task[Any]):
    """Sets of tasks have the same order in every run."""

    _count = 0

    def __init__(self, *args: Any, **more: Any) -> None:
        _Task._count += 1
        self._number = _Task._count
        super().__init__(*args, **more)

    def __hash__(self) -> int:
        return self._number


def _task(loop: asyncio.AbstractEventLoop, coro: Any, **more: Any) -> asyncio.Task[Any]:
    return _Task(coro, loop=loop, **more)


class _Ordered(dict[Any, None]):
    def add(self, item: Any) -> None:
        self[item] = None

    def discard(self, item: Any) -> None:
        self.pop(item, None)

    def remove(self, item: Any) -> None:
        del self[item]


def ordered_scopes() -> Callable[[], None]:
    """Have anyio cancel nested scopes in the same order in every run. Answers what undoes it."""
    before = CancelScope.__init__

    def init(self: CancelScope, *args: Any, **more: Any) -> None:
        before(self, *args, **more)
        self._child_scopes = _Ordered()  # type: ignore[assignment]

    CancelScope.__init__ = init  # type: ignore[method-assign]

    def undo() -> None:
        CancelScope.__init__ = before  # type: ignore[method-assign]

    return undo
