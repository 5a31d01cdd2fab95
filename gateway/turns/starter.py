"""Starts a runtime where its agent is placed: as a process of the gateway's, in bubblewrap, or in a container.

A container names the installation, the worker and the turn it is for. One whose turn that worker no longer holds belongs
to nobody: whatever a dead gateway left is removed when the next one starts, and once a minute.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from errno import EPERM
from functools import partial
from pathlib import Path
from typing import TypeVar

import anyio
import anyio.abc
import anyio.to_thread
import structlog

from adapters.launch import images, sandbox
from adapters.launch.container import INSTALLATION, TURN, WORKER, Box, Container, Engine
from adapters.launch.home import Bind, child_env, write_files
from adapters.launch.process import LaunchError, Process, Warden
from adapters.launch.sidecar import sidecar
from adapters.profile import Launch, Profile
from gateway.db.engine import Database
from gateway.errors import SwitchboardError
from gateway.runtime_api.brain import Brain, Work
from gateway.runtime_api.container import API_PORT, box_of, parted
from gateway.runtime_api.server import RuntimeApi
from gateway.settings import Settings
from gateway.turns import folders, ground, orders
from gateway.turns.engines import Engines
from gateway.turns.launching import Place
from gateway.turns.spec import AgentSpec
from gateway.turns.warm import Warm

SWEEP_SECONDS = 60.0
SWEEP_PATIENCE = 5.0  # at start, with an engine that does not answer
USER = 10001  # of a container whose gateway runs as root; nobody is root inside

log_ = structlog.get_logger("switchboard.containers")

Started = Process | Container | Brain
N = TypeVar("N", int, float)


class Starter:
    """Where the processes of one worker come from."""

    def __init__(self, database: Database, settings: Settings, worker: str, api: RuntimeApi) -> None:
        self._api = api
        self.acts_no_more: Callable[[str], Awaitable[None]] = _acts_nothing  # ends what is done for a turn that is over
        self.warden = Warden()
        self.warm = Warm(settings.warm_seconds, settings.warm_processes, settings.stop_seconds)
        self._containers = Engine(os.environ)
        self._database, self._settings, self._worker = database, settings, worker
        self._installation = str(settings.sessions_dir.resolve())  # its containers mount what is below
        engine = self._containers
        self.engines = Engines(database, worker, engine.silent, self.sweep, engine.identity)

    @property
    def engine(self) -> Engine:
        return self._containers

    async def aclose(self) -> None:
        await self.warden.aclose()
        self._containers.close()

    async def spawn(
        self, launch: Launch, place: Place, spec: AgentSpec, turn: str, egress: Path | None = None, part: str = ""
    ) -> Started:
        """Write the runtime's files and start it; `egress` is its only way out. Raises LaunchError, OSError.

        `part` names what is no runtime, ends apart from it, and works in the workspace itself.
        """
        if part:
            spec = replace(spec, work_dir="")
        if spec.placement == "docker":
            return await self._contained(launch, place, spec, turn, egress)
        env = child_env(str(place.home), launch.env)

        cwd = str(place.work / spec.work_dir)

        def prepare() -> list[str]:
            _furnish(place, launch, spec.work_dir)
            if spec.placement != "sandboxed":
                return list(launch.argv)
            given = ground.binds(spec, self._settings, lambda folder: None)
            return _sandboxed(launch, place, env["PATH"], given, egress, cwd, _kept(self._settings))

        argv = await anyio.to_thread.run_sync(prepare)
        return await self.warden.spawn(argv, env=env, cwd=cwd, tag=f"{turn}.{part}" if part else turn)

    async def think(self, launch: Launch, work: Work, profile: Profile, egress: Path | None) -> Brain:
        """Start an image that speaks to the runtime API. Raises LaunchError, OSError."""
        user = user_inside()
        await anyio.to_thread.run_sync(_prepared, work.place, launch, user)
        public, told = parted(launch.env, work.spec.env, profile)

        async def start(brain: Brain, token: str) -> Container:
            box = box_of(brain, token, launch.image, public, self._labels(work.turn.id), user)
            box = limited(box, work.spec, self._settings)
            ways = {API_PORT: self._api.socket, **({sandbox.RELAY_PORT: egress} if egress else {})}
            return await self._containers.spawn(box, await self._sidecar(ways, box))

        return await self._api.begin(replace(work, variables=told), start)

    async def fetch(self, image: str, awaits: Callable[[str], None]) -> None:
        """Have the engine get an image it lacks, which may take minutes: `awaits` is told before. Raises LaunchError."""
        if not await images.is_there(self._containers, image):
            awaits(image)
            await images.pull(self._containers, image)

    async def _contained(self, launch: Launch, place: Place, spec: AgentSpec, turn: str, egress: Path | None) -> Container:
        user = user_inside()

        def prepare() -> list[Bind]:
            _prepared(place, launch, user, spec.work_dir)
            return ground.binds(spec, self._settings, partial(given_inside, user=user))

        binds = await anyio.to_thread.run_sync(prepare)
        env = child_env(str(place.home), launch.env)
        del env["PATH"]  # the image has its own
        box = Box(
            image=self._settings.agent_image,
            argv=launch.argv,
            env=env,
            cwd=str(place.work / spec.work_dir),
            mounts=(str(place.home), str(place.work)),
            labels=self._labels(turn),
            user=user,
            network=self._settings.container_network,
            binds=binds,
        )
        box = limited(box, spec, self._settings)
        side = None if egress is None else await self._sidecar({sandbox.RELAY_PORT: egress}, box)
        return await self._containers.spawn(box, side)

    async def _sidecar(self, ways: Mapping[int, Path], box: Box) -> Container:
        image = self._settings.sidecar_image
        return await sidecar(self._containers, ways=ways, image=image, user=box.user, labels=box.labels)

    async def clear(self, turn: str) -> None:
        """Remove what earlier attempts of a turn left: an engine that was away could not. Raises LaunchError."""
        for found in await self._containers.labelled(self._installation):
            if found.turn == turn:
                await self._containers.remove(found.id)

    def _labels(self, turn: str) -> dict[str, str]:
        return {INSTALLATION: self._installation, WORKER: self._worker, TURN: turn}

    # -- the sweep

    async def sweep_forever(self, *, task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Now and once a minute. Has started when the first sweep is over, or takes too long."""
        with anyio.move_on_after(SWEEP_PATIENCE):
            await self.sweep()
        task_status.started()
        while True:
            await anyio.sleep(SWEEP_SECONDS)
            await self.sweep()

    async def sweep(self) -> None:
        """Remove what no worker holds. A machine without an engine has nothing to remove."""
        try:
            found = await self._containers.labelled(self._installation)
            held = await self._database.read(lambda conn: orders.held(conn, [one.turn for one in found]))
            for one in found:
                if held.get(one.turn) != one.worker:
                    await self._containers.remove(one.id)
                    log_.warning("container_removed", container=one.id[:12], turn=one.turn)
        except (LaunchError, SwitchboardError) as exc:
            log_.debug("containers_not_swept", error=str(exc))


def limited(box: Box, spec: AgentSpec, settings: Settings) -> Box:
    """As much of the machine as the agent's limits and the operator's settings leave it."""
    return replace(
        box,
        memory_mb=_least(spec, "memory_mb", settings.container_memory_mb),
        pids=_least(spec, "pids", settings.container_pids),
        cpus=_least(spec, "cpus", settings.container_cpus),
        file_mb=spec.limits.get("disk_mb", 0),
        security_opt=spec.security_opt,
    )


async def _acts_nothing(turn_id: str) -> None:
    """Nobody acts for it."""


def _furnish(place: Place, launch: Launch, start: str = "") -> None:
    place.make()
    folders.start(place.work, start)
    write_files(str(place.home), launch.files)


def _least(spec: AgentSpec, limit: str, most: N) -> N:
    """The agent's own limit, as far as the operator's goes; 0: none."""
    return min((value for value in (spec.limits.get(limit), most) if value), default=most)


def user_inside() -> str:
    """Of containers: nobody is root inside."""
    return f"{USER}:{USER}" if os.geteuid() == 0 else f"{os.geteuid()}:{os.getegid()}"


def _prepared(place: Place, launch: Launch, user: str, start: str = "") -> None:
    """The session's directories, for a container's user."""
    _furnish(place, launch, start)
    if os.geteuid() == 0:
        uid, gid = map(int, user.split(":"))
        for folder in (place.home, place.work):
            given_to(folder, uid, gid)


def given_inside(volume: Path, user: str) -> None:
    """A volume to a container's user, if it is another's."""
    uid, gid = map(int, user.split(":"))
    if volume.stat().st_uid != uid:
        given_to(volume, uid, gid)


def _kept(settings: Settings) -> list[str]:
    """Where keys, and what others said, are kept."""
    places = [settings.data_dir, settings.archive_files, *([settings.journals_dir] if settings.journals_dir else [])]
    scheme, _, file = settings.database.partition(":///")
    return [*map(str, places), *([file] if scheme == "sqlite" else [])]


def _sandboxed(
    launch: Launch, place: Place, path: str, binds: Sequence[Bind], egress: Path | None, cwd: str, hides: Sequence[str]
) -> list[str]:
    if reason := sandbox.probe(network=egress is None):
        raise LaunchError(EPERM, f"The agent is to run in a sandbox, and there is none here: {reason}.")
    dirs = {"home": str(place.home), "work": str(place.work)}
    out = str(egress) if egress else None
    return sandbox.wrapped(launch.argv, **dirs, path=path, sees=launch.sees, hides=hides, binds=binds, egress=out, cwd=cwd)


def given_to(folder: Path, uid: int, gid: int) -> None:
    """All of a directory to a user, links as links. What runs there meanwhile may change it, and leads nowhere else."""
    for _, below, files, handle in os.fwalk(folder):
        for name in [".", *below, *files]:
            with suppress(FileNotFoundError):
                if os.stat(name, dir_fd=handle, follow_symlinks=False).st_uid != uid:
                    os.chown(name, uid, gid, dir_fd=handle, follow_symlinks=False)
