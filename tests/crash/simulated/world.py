"""One schedule: workers, callers and faults over one database, until everything has come to rest.

World(seed, Memory(), folder).run()     the violations that were found, in words; none is what we want
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import patch

import anyio
import anyio.abc

import gateway.clock
import gateway.turns.beginning
import gateway.turns.engines
import gateway.turns.fair
import gateway.turns.held
import gateway.turns.launching
import gateway.turns.record
import gateway.turns.runner
import gateway.turns.stamp
import gateway.turns.watch
import gateway.turns.watchdog
import gateway.turns.worker
from adapters.profile import Profile
from adapters.runtimes.rehearsal.profile import PROFILE
from gateway.db.engine import Database
from gateway.files.store import Disk
from gateway.hints import Hints
from gateway.log.store import Log
from gateway.settings import Settings
from gateway.turns.engine import Engine
from gateway.turns.engines import Engines
from gateway.turns.fair import place_of
from gateway.turns.spec import AgentSpec
from tests.crash.simulated.callers import Callers
from tests.crash.simulated.checks import violations
from tests.crash.simulated.database import Memory
from tests.crash.simulated.loop import HOST, Host, SimulatedLoop, Stuck, ordered_scopes
from tests.crash.simulated.remote import Remote
from tests.crash.simulated.runtime import Machine, Starting
from tests.crash.simulated.sites import Journals, NoHands, Site

HOUR = 3_600_000_000  # microseconds
EPOCH = 1_800_000_000_000_000_000  # nanoseconds
FAULTS_SECONDS = 15.0
REST_SECONDS = 300.0  # until which everything has to have come to rest, once nothing fails any more
STOP_SECONDS = 30.0  # in which a worker that is asked to stop has to


@cache
def _settings(folder: Path) -> Settings:
    times = {"lease_seconds": 3, "stop_seconds": 0.5, "stall_seconds": 8, "turn_seconds": 30, "drain_seconds": 2}
    return Settings(data_dir=folder, database_url=f"sqlite:///{folder}/none.db", **times)


class World:
    def __init__(self, seed: int, store: Memory | Remote, folder: Path, trace: list[str] | None = None) -> None:
        self.seed, self.random, self.trace = seed, Random(seed), trace
        self.loop = SimulatedLoop(self.random)
        self.server = store.serve(self.loop, self.random)
        self.machine = Machine(self.loop, self.random)
        self.sites: list[Site] = []
        self.broken: list[str] = []
        self.over = False
        self.loop.set_exception_handler(
            lambda _loop, context: self.broken.append(f"{context['message']}: {context.get('exception')!r}")
        )
        self.settings = _settings(folder).model_copy(update={"concurrency": self.random.choice((1, 2, 4))})
        mode = PROFILE.modes["jsonl"]
        draw = self.random.random
        can = replace(mode.capabilities, steer=draw() < 0.8, interrupt=draw() < 0.8, resume=draw() < 0.8)
        self.profiles: Mapping[str, Profile] = {
            "simulated": replace(PROFILE, name="simulated", executable="", modes={"jsonl": replace(mode, capabilities=can)})
        }
        placement = "docker" if draw() < 0.4 else "local"
        self.spec = AgentSpec("agt_1", "simulated", 1, "simulated", placement=placement)

    def run(self) -> list[str]:
        with self._patched():
            try:
                return self.loop.run_until_complete(self._main())
            except Stuck as exc:
                return [str(exc)]
            finally:
                self.server.end()
                self.loop.close()

    def say(self, what: str) -> None:
        if self.trace is not None:
            self.trace.append(f"{self.loop.time():9.4f} {what}")

    # -- the schedule

    async def _main(self) -> list[str]:
        front = self._site("front")
        callers = Callers(front.engine, self.machine, self.random, self.say)
        for _ in range(self.random.choice((1, 2, 2, 3))):
            self._worker()
        calls = [self.loop.spawn(front.host, callers.call()) for _ in range(self.random.choice((1, 2, 3)))]
        await self._fail(lambda: self._rests(calls))
        self._heal()
        found: list[str] = []
        with anyio.move_on_after(REST_SECONDS) as patience:
            while not self._rests(calls):  # noqa: ASYNC110  (the world has no events)
                await anyio.sleep(0.5)
        if patience.cancelled_caught:
            found.append("it did not come to rest")
        found += violations(self, callers)
        found += [f"a caller broke: {call.exception()!r}" for call in calls if call.done() and call.exception()]
        found += await self._end(calls)
        return found

    def _rests(self, calls: list[asyncio.Task[Any]]) -> bool:
        if not all(call.done() for call in calls):
            return False
        return not self.server.rows("SELECT id FROM turn WHERE state != 'ended' LIMIT 1")

    async def _fail(self, over: Callable[[], bool]) -> None:
        """Everything that goes wrong, while there is anything to hit."""
        blows = (self._kill, self._freeze, self._jump, self._database_away, self._hide)
        faults = (*blows, self._drain, self._stop, self._worker, self._engine_away)
        engines = 6 if self.spec.needs_engine else 0
        weights = (3, 3, 1, 2, 1, 1, 1, 1, engines)
        kinds = self.random.choices(faults, weights, k=self.random.choice((0, 1, 2, 4, 7, 12)))
        for fault in kinds:
            self._later(self.random.random() * FAULTS_SECONDS, fault)
        while self.loop.time() < FAULTS_SECONDS and not over():  # noqa: ASYNC110  (the world has no events)
            await anyio.sleep(0.5)
        self.over = True

    def _later(self, seconds: float, what: Callable[[], None]) -> None:
        """Unless nothing is to go wrong any more by then."""
        self.loop.call_later(seconds, lambda: None if self.over else what(), context=self.loop.world.context())

    def _heal(self) -> None:
        self.say("-- nothing fails any more")
        self.server.faults = False
        if self.server.down:
            self.server.start()
        for site in self.sites:
            site.host.fuse, site.backend.hidden = None, False
            if site.starting is not None and self.random.random() < 0.5:  # else it comes back by and by
                site.starting.away = False
            if not site.host.dead:
                site.host.frozen = False
        if not any(self._able()):
            self._worker()

    def _able(self) -> Iterator[Site]:
        """Workers that are, and were not asked to stop."""
        return (site for site in self.sites if site.root and not site.root.done() and not site.host.dead and not site.leaving)

    async def _end(self, calls: list[asyncio.Task[Any]]) -> list[str]:
        """Have every worker stop, and bury the dead: their code runs to its end, on a database that refuses all."""
        found = []
        for call in calls:
            call.cancel()
        for site in self.sites:
            if site.host.dead:
                site.backend.bury()
                site.host.dead = site.host.frozen = False
                if site.root is not None:
                    self.loop.call_soon(site.stop, context=site.host.context())
            elif site.root is not None:
                self._ask_to_stop(site)
        for site in self.sites:
            if site.root is not None:
                done, _ = await asyncio.wait([site.root], timeout=STOP_SECONDS)
                if not done and not site.backend.buried:
                    found.append(f"{site.host.name} does not stop")
                elif done and not site.backend.buried and not site.root.cancelled() and site.root.exception():
                    found.append(f"{site.host.name} broke: {site.root.exception()!r}")
        for process in self.machine.processes:
            await process.bury()
        await self.server.close()
        return found + self.broken

    # -- faults

    def _any(self) -> Site | None:
        able = [site for site in self.sites if site.root is not None and not site.host.dead]
        return self.random.choice(able) if able else None

    def _soon(self, site: Site, blow: Any) -> None:
        """Now, or before any later step of it."""
        site.host.fuse = (self.random.choice((0, 3, 10, 30, 100, 300)), blow)
        site.host.fuse = (self.random.randint(0, site.host.fuse[0]), blow)

    def _kill(self) -> None:
        if site := self._any():
            self._soon(site, lambda: self.dies(site))

    def dies(self, site: Site) -> None:
        self.say(f"-- {site.host.name} is killed")
        site.host.dead = site.host.frozen = True
        site.backend.dies()
        assert site.starting is not None
        self.loop.call_later(self.random.random() * 0.01, site.starting.kill, context=self.loop.world.context())
        if self.random.random() < 0.8:
            self._later(self.random.random() * 5, self._worker)

    def _freeze(self) -> None:
        if site := self._any():
            self._soon(site, lambda: self.stands(site))

    def stands(self, site: Site) -> None:
        seconds = self.random.choice((0.1, 1, 3, 12)) * self.random.random()
        self.say(f"-- {site.host.name} stands still for {seconds:.2f} s")
        site.host.frozen = True
        site.backend.stands()
        self.loop.call_later(seconds, self._goes_on, site, context=self.loop.world.context())

    def _goes_on(self, site: Site) -> None:
        if not site.host.dead:
            self.say(f"-- {site.host.name} goes on")
            site.host.frozen = False

    def _jump(self) -> None:
        """The wall clocks of some, or of all."""
        hour = self.random.choice((-HOUR, HOUR))
        for site in self.random.sample(self.sites, self.random.randint(1, len(self.sites))):
            self.say(f"-- the clock of {site.host.name} jumps by {hour // 1_000_000} s")
            site.host.wall += hour

    def _database_away(self) -> None:
        if not self.server.down:
            seconds = self.random.choice((0.1, 1, 5)) * self.random.random()
            self.say(f"-- the database is away for {seconds:.2f} s")
            self.server.stop()
            self.loop.call_later(seconds, self.server.start, context=self.loop.world.context())

    def _engine_away(self) -> None:
        if site := self._any():
            self._loses_engine(site)

    def _loses_engine(self, site: Site) -> None:
        starting = site.starting
        if starting is None or starting.away or not self.spec.needs_engine:
            return
        seconds = self.random.choice((0.5, 4, 15, 60)) * self.random.random()
        self.say(f"-- the engine of {site.host.name} dies, for {seconds:.2f} s")
        starting.engine_dies()
        self.loop.call_later(seconds, setattr, starting, "away", False, context=self.loop.world.context())

    def _hide(self) -> None:
        if site := self._any():
            self.say(f"-- {site.host.name} seems dead")
            assert site.starting is not None
            site.backend.hidden = site.starting.doubted = True
            after = self.random.choice((0.1, 2)) * self.random.random()
            self.loop.call_later(after, setattr, site.backend, "hidden", False, context=self.loop.world.context())

    def _drain(self) -> None:
        if site := self._any():
            self.say(f"-- {site.host.name} is to drain")
            site.leaving = True
            self.loop.call_soon(site.engine.worker.drain, context=site.host.context())
            self._worker()

    def _stop(self) -> None:
        if site := self._any():
            self._ask_to_stop(site)
            self._worker()

    def _ask_to_stop(self, site: Site) -> None:
        self.say(f"-- {site.host.name} is to stop")
        site.leaving = True
        assert site.root is not None
        self.loop.call_soon(site.stop, context=site.host.context())

    # -- processes

    def _worker(self) -> None:
        site = self._site(f"worker {len(self.sites)}")
        worker = site.engine.worker
        site.starting = Starting(self.machine, lambda turn_id: worker._held[turn_id].turn)
        worker.starter = worker.maker.starter = cast(Any, site.starting)
        site.starting.engines = Engines(worker.log.database, worker.name, site.starting.silent, site.starting.sweep)
        worker.hands = cast(Any, NoHands())
        cast(Any, worker.maker.memory)._journals = Journals(self.random)
        site.root = self.loop.spawn(site.host, site.run())
        if self.random.random() < 0.4:
            self._later(self.random.random() * 3, partial(self._loses_engine, site))
        self.say(f"-- {site.host.name} starts, as {worker.name}")

    def _site(self, name: str) -> Site:
        host = Host(name)
        database = Database(self.settings.database)
        backend = database._backend = self.server.backend(host)
        log = Log(database)
        engine = Engine(
            log,
            self.settings,
            self.profiles,
            lambda *_asked: self.spec,
            Disk(self.settings.files_dir),
            cast(Any, None),
        )
        Hints(log, engine)
        self.sites.append(Site(host, backend, engine))
        return self.sites[-1]

    @contextmanager
    def _patched(self) -> Iterator[None]:
        """Time, ids and threads as this world has them."""
        loop, random = self.loop, self.random

        def time_ns() -> int:
            return EPOCH + round(loop.time() * 1e9) + HOST.get(loop.world).wall * 1000

        def token_hex(size: int) -> str:
            return random.getrandbits(8 * size).to_bytes(size, "big").hex()

        monotonic = SimpleNamespace(monotonic=loop.time)
        with ExitStack() as stack:
            stack.callback(ordered_scopes())
            stack.enter_context(self.server.patched())
            for target, name, value in (
                (gateway.turns.worker, "time", monotonic),
                (gateway.turns.watch, "time", monotonic),
                (gateway.turns.held, "time", monotonic),
                (gateway.turns.watchdog, "time", monotonic),
                (gateway.turns.beginning, "time", monotonic),
                (gateway.turns.engines, "time", monotonic),
                (gateway.turns.fair, "place_of", self._placed),
                (gateway.turns.runner, "time", monotonic),
                (gateway.turns.record, "time", monotonic),
                (gateway.turns.stamp, "time", monotonic),
                (gateway.clock, "time", SimpleNamespace(time_ns=time_ns)),
                (gateway.clock, "secrets", SimpleNamespace(token_hex=token_hex)),
                (gateway.turns.launching, "uuid", SimpleNamespace(uuid4=lambda: token_hex(16))),
                (gateway.turns.worker, "kill_leftovers", self.machine.kill_leftovers),
                (gateway.turns.worker, "LOOK_SECONDS", 1.0),
                (anyio.to_thread, "run_sync", self._in_thread),
            ):
                stack.enter_context(patch.object(target, name, value))
            yield

    def _placed(self, *asked: Any) -> dict[str, Any]:
        """As if the agent were registered."""
        return {**place_of(*asked), "engine": self.spec.needs_engine}

    async def _in_thread(self, call: Any, *args: Any, abandon_on_cancel: bool = False, **_more: Any) -> Any:
        with anyio.CancelScope(shield=not abandon_on_cancel):
            await anyio.sleep(self.random.random() * 0.002)
            try:
                return call(*args)
            finally:
                await anyio.sleep(self.random.random() * 0.002)
