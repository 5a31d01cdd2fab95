"""A command in a container of its own, with the same interface as `process.Process`.

    engine = Engine(os.environ)
    container = await engine.spawn(Box(image="switchboard-agent", argv=("codex", "exec"), ...))
    while batch := await container.lines(): ...
    exited = await container.wait()
    await container.aclose()

The order: create, attach, start, speak, half-close, inspect, remove. It is attached before it is started, so that
nothing it prints is missed; the engine never removes it by itself, so that how it ended can be read afterwards. It has
no capability, cannot gain privileges, cannot write outside its mounts and a /tmp in memory (as memory are the volumes its
image declares), and sees nothing of the machine but the session's directories. The engine keeps no log of it.

The command and its variables, keys among them, are the first line of its stdin, which a one-line script of `/bin/sh`
turns into what it then becomes: `docker inspect` shows none of it, no file holds it, and a remote engine needs no more.

A call to the engine takes a thread of a bounded number, for as long as it lasts; a container that runs holds none. The
engine may be anywhere DOCKER_HOST says (`reaching`), as long as it knows the sessions' directories by the same paths: a
remote one needs them on a shared disk.
"""

from __future__ import annotations

import logging
import math
import os
import posixpath
import shlex
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from signal import SIGKILL
from typing import Any, NamedTuple, TypeVar

import anyio
import anyio.to_thread
import requests
from docker.client import DockerClient
from docker.errors import APIError, NotFound
from docker.types import LogConfig, Mount, Ulimit

from adapters.launch.frames import Attached
from adapters.launch.home import Bind
from adapters.launch.lines import Line
from adapters.launch.reaching import CALL_SECONDS, LONG, PROBE_SECONDS, THREADS, EngineGone, connect, explained, knock, url_of
from adapters.launch.strays import end_strays
from adapters.launch.streams import Stream, connected
from adapters.launch.warden import Exited, LaunchError

WAIT_SECONDS = 30
NOFILE = 4096
ULIMITS = (Ulimit(name="nofile", soft=NOFILE, hard=NOFILE), Ulimit(name="core", hard=0))
SECURITY = ("no-new-privileges",)
CPU_PERIOD = 100_000  # microseconds
TMP_SIZE = "1g"  # of /tmp, which counts as the container's memory
OUT_OF_MEMORY = 137  # the exit code of what the kernel killed
INSTALLATION, WORKER, TURN = "switchboard.installation", "switchboard.worker", "switchboard.turn"
_ENTRY = 'N="\n"; IFS= read -r said; eval "$said"; unset N said; exec "$@"'
_TMP = f"rw,nosuid,nodev,exec,size={TMP_SIZE},mode=1777"

logger = logging.getLogger(__name__)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Box:
    """What is to run. `mounts` are directories it may write, under the paths they have outside."""

    image: str
    argv: Sequence[str]
    env: Mapping[str, str]
    cwd: str
    mounts: Sequence[str]
    labels: Mapping[str, str] = field(default_factory=dict)
    user: str = "10001:10001"
    network: str = "none"  # or "bridge", or any the engine knows
    memory_mb: int = 4096
    pids: int = 1024
    cpus: float = 0  # of processors' time; 0: all there is
    file_mb: int = 0  # no file may grow beyond; 0: any
    security_opt: Sequence[str] = ()  # beside those every container has
    binds: Sequence[Bind] = ()
    named_by: str = "SWITCHBOARD_AGENT_IMAGE"  # the setting that names the image
    own_entry: bool = False  # run what the image says, with `env` for all to see, and no stdin; `argv` is empty


class Found(NamedTuple):
    """A container that is there, and what it is for."""

    id: str
    worker: str
    turn: str
    installation: str


class Engine:
    """A container engine. Made without a word to it; the first call connects."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        """The one that DOCKER_HOST and its like name; by default the machine's own."""
        self._environ = dict(environ)
        self._client: DockerClient | None = None
        self._id: str | None = None
        self._threads, self._long = anyio.CapacityLimiter(THREADS), anyio.CapacityLimiter(LONG)

    @property
    def url(self) -> str:
        return url_of(self._environ)

    async def spawn(self, box: Box, beside: Container | None = None) -> Container:
        """Start a container. Raises LaunchError; then nothing is left of it.

        `beside` is one whose network it shares and that goes with it, also where it could not be started.
        """
        if beside is not None:
            box = replace(box, network=f"container:{beside.id}")
        try:
            with anyio.CancelScope(shield=True):  # until there is somebody to remove it
                made = await self.call(lambda client: created(client, described(box)), box)
                container = Container(self, made, beside)
        except BaseException:
            if beside is not None:
                await beside.aclose()
            raise
        try:
            await container.begin(box)
        except BaseException:
            await container.aclose()
            raise
        return container

    async def identity(self) -> str:
        """By which it is known, from wherever it is reached and however often it is started; "" if it has nothing such.

        Raises LaunchError.
        """
        if self._id is None:
            told = {await self.call(lambda client: str(client.info().get("ID") or "")) for _ in range(2)}
            self._id = told.pop() if len(told) == 1 else ""  # Podman makes one up for each answer
        return self._id

    async def labelled(self, installation: str) -> list[Found]:
        """Every container of an installation, running or not."""
        return await self._found(f"{INSTALLATION}={installation}")

    async def beneath(self, folder: str) -> list[Found]:
        """Every container of the installations in a folder."""
        return [one for one in await self._found(INSTALLATION) if one.installation.startswith(f"{folder}{os.sep}")]

    async def _found(self, label: str) -> list[Found]:
        found = await self.call(lambda client: client.api.containers(all=True, filters={"label": label}))
        return [Found(one["Id"], *(one["Labels"].get(name, "") for name in (WORKER, TURN, INSTALLATION))) for one in found]

    async def remove(self, id: str) -> None:
        """Whatever it is doing. Raises LaunchError."""
        await self.call(lambda client: _remove(client, id))

    async def call(self, what: Callable[[DockerClient], T], box: Box | None = None, *, long: bool = False) -> T:
        """One call, in a thread; a `long` one keeps no other waiting. Raises LaunchError."""
        limiter = self._long if long else self._threads
        return await anyio.to_thread.run_sync(self._called, what, box, abandon_on_cancel=True, limiter=limiter)

    def _called(self, what: Callable[[DockerClient], T], box: Box | None) -> T:
        with explained(url_of(self._environ), *_named(box)):
            if self._client is None:
                self._client = connect(self._environ, CALL_SECONDS)
            else:
                knock(self._environ, CALL_SECONDS)
            return what(self._client)

    async def silent(self) -> str:
        """Why it does not answer, "" if it does. Asks each time, and waits for seconds only."""
        return await anyio.to_thread.run_sync(unreachable, self._environ, abandon_on_cancel=True)

    def close(self) -> None:
        if self._client is not None:
            self._client.close()


class Container:
    """One started container. Made by `Engine.spawn`; whoever has it must `aclose` it."""

    def __init__(self, engine: Engine, container: Any, beside: Container | None = None) -> None:
        self.id = str(container.id)
        self._beside = beside
        self._engine = engine
        self._container = container
        self._attached: Attached | None = None
        self._lost = ""  # why the engine no longer tells of it

    async def begin(self, box: Box) -> None:
        self._attached = Attached(*await self._engine.call(lambda client: _attached(client, self.id, box), box))
        await self._call(self._container.start, box)
        if not box.own_entry:
            await self.write(_said(box.argv, box.env))

    # -- what the engine of turns uses

    async def write(self, data: bytes) -> None:
        """All of `data` to stdin. Returns early if it no longer reads: its exit tells the rest."""
        await self._open.write(data)

    async def close_stdin(self) -> None:
        """Half-close, after what is being written."""
        await self._open.half_close()

    async def lines(self) -> list[Line]:
        """The next lines of stdout, [] at the end."""
        return await self._open.batch()

    def stderr_tail(self) -> str:
        return "\n".join(filter(None, (self._open.stderr_tail(), self._lost)))

    @property
    def has_ended(self) -> bool:
        """Whether it was seen to end; where nobody reads, nobody sees it."""
        return self._open.at_end

    async def wait(self) -> Exited:
        """Raises LaunchError if the engine was lost."""
        while not await self._call(lambda: _waited(self._container)):
            pass
        return await self._exited()

    async def stop(self, *, grace: float = 2.0) -> Exited:
        """Close stdin, TERM, KILL after the grace (whole seconds): whatever runs inside ends with it."""
        exited = Exited(None, SIGKILL)
        with anyio.CancelScope(shield=True):
            if self._attached is not None:
                self._attached.cut()
            try:
                await self._call(lambda: self._container.stop(timeout=math.ceil(grace)))
                exited = await self._exited()
            except LaunchError as exc:
                self._lost = str(exc)
                await self._end_strays(exc)
        return exited

    async def kill(self) -> None:
        """Without a word before. One that has ended already stays as it is. Raises LaunchError."""
        await self._engine.call(lambda client: _killed(client, self.id))

    async def aclose(self) -> None:
        """Remove it, running or not. What the engine does not answer to is left to the sweep."""
        with anyio.CancelScope(shield=True):
            if self._attached is not None:
                self._attached.close()
            async with anyio.create_task_group() as group:
                group.start_soon(self._remove)
                if self._beside is not None:
                    group.start_soon(self._beside.aclose)

    async def _remove(self) -> None:
        try:
            await self._engine.remove(self.id)
        except LaunchError as exc:
            logger.error("container %s was not removed: %s", self.id[:12], exc)
            await self._end_strays(exc)

    async def _end_strays(self, exc: LaunchError) -> None:
        if isinstance(exc, EngineGone):
            await anyio.to_thread.run_sync(end_strays, self.id)

    @property
    def _open(self) -> Attached:
        assert self._attached is not None
        return self._attached

    async def _exited(self) -> Exited:
        await self._call(self._container.reload)
        state = self._container.attrs["State"]
        code = int(state["ExitCode"])
        # The flag alone is also set when only a descendant was killed.
        return Exited(code, None, out_of_memory=bool(state["OOMKilled"]) and code == OUT_OF_MEMORY)

    async def _call(self, what: Callable[[], T], box: Box | None = None) -> T:
        return await self._engine.call(lambda client: what(), box)


def unreachable(environ: Mapping[str, str]) -> str:
    """Why there is no container engine; "" where one answers. Asks each time."""
    return _failing(environ, lambda client: client.ping())


def unready(environ: Mapping[str, str], images: Mapping[str, str]) -> str:
    """Why no agent can run in these images (by their settings); "" where all are there. Asks each time."""
    wanted = [Box(image, (), {}, "", (), named_by=setting) for setting, image in images.items()]
    return next(filter(None, (_failing(environ, partial(_looked_up, box), box) for box in wanted)), "")


def _looked_up(box: Box, client: DockerClient) -> object:
    return client.images.get(box.image)


def _named(box: Box | None) -> tuple[str, str]:
    """The image that is to run, and the setting that names it."""
    return (box.image, box.named_by) if box else ("", "")


def _failing(environ: Mapping[str, str], what: Callable[[DockerClient], object], box: Box | None = None) -> str:
    try:
        with explained(url_of(environ), *_named(box)), closing(connect(environ, PROBE_SECONDS)) as client:
            what(client)
    except LaunchError as exc:
        return str(exc)
    return ""


def described(box: Box) -> dict[str, Any]:
    """The container as the SDK wants it. Nothing here is secret, but for the variables of an image's own entry point."""
    entry = {"entrypoint": ["/bin/sh", "-c", _ENTRY, "switchboard"], "command": [], "working_dir": box.cwd, "stdin_open": True}
    return {
        **({"environment": dict(box.env)} if box.own_entry else entry),
        "image": box.image,
        "user": box.user,
        "labels": dict(box.labels),
        "mounts": [_mount(bind) for bind in (*(Bind(path, path, True) for path in box.mounts), *box.binds)],
        "network_mode": box.network,
        **confined(box.memory_mb, box.pids),
        **_narrowed(box),
    }


def created(client: DockerClient, wanted: Mapping[str, Any]) -> Any:
    """A container, made and not started. What its image declares as a volume is empty, and in memory as its /tmp.

    Else the engine would make a directory on its disk of each, which may be written and which nobody counts.
    """
    declared = (client.images.get(wanted["image"]).attrs.get("Config") or {}).get("Volumes") or {}
    covered = {*wanted["tmpfs"], *(mount["Target"] for mount in wanted["mounts"])}
    left = sorted({posixpath.normpath(path) for path in declared} - covered)
    mounts = [Mount(path, "", type="tmpfs", tmpfs_size=TMP_SIZE, tmpfs_mode=0o1777) for path in left]
    return client.containers.create(**{**wanted, "mounts": [*wanted["mounts"], *mounts]})


def confined(memory_mb: int, pids: int) -> dict[str, Any]:
    """What every container of ours may not do, as the SDK wants it."""
    return {
        "init": True,
        "read_only": True,
        "tmpfs": {"/tmp": _TMP},
        "cap_drop": ["ALL"],
        "security_opt": list(SECURITY),
        "mem_limit": f"{memory_mb}m",
        "memswap_limit": f"{memory_mb}m",
        "pids_limit": pids,
        "ulimits": list(ULIMITS),
        "log_config": LogConfig(type="none"),
    }


def _narrowed(box: Box) -> dict[str, Any]:
    """What one container has beside."""
    more: dict[str, Any] = {"security_opt": [*SECURITY, *box.security_opt]}
    if box.file_mb:
        size = box.file_mb * 2**20
        more["ulimits"] = [*ULIMITS, Ulimit(name="fsize", soft=size, hard=size)]
    if box.cpus:
        more |= {"cpu_period": CPU_PERIOD, "cpu_quota": round(box.cpus * CPU_PERIOD)}
    return more


def _mount(bind: Bind) -> Mount:
    return Mount(bind.target, bind.source, type="bind", read_only=not bind.writable)


def _said(argv: Sequence[str], env: Mapping[str, str]) -> bytes:
    """The line the entry script makes its variables and its command of."""
    exports = [f"{name}={_quoted(value)}" for name, value in env.items()]
    words = [*(["export", *exports, ";"] if exports else []), "set", "--", *map(_quoted, argv)]
    return os.fsencode(" ".join(words)) + b"\n"


def _quoted(text: str) -> str:
    """As one word of the shell, on one line: `N` is the newline."""
    return shlex.quote(text).replace("\n", "'\"$N\"'")


def _attached(client: DockerClient, id: str, box: Box) -> Stream:
    """The connection to a container's three streams."""
    wanted = {"stdin": int(not box.own_entry), "stdout": 1, "stderr": 1, "stream": 1}
    return connected(client, f"/containers/{id}/attach", wanted)


def _waited(container: Any) -> bool:
    """Whether it has ended; asked anew now and then, since an engine out of reach does not say that it is."""
    try:
        container.wait(timeout=WAIT_SECONDS)
    except (requests.Timeout, requests.ConnectionError):
        container.reload()
        return container.status in ("exited", "dead")
    return True


def _killed(client: DockerClient, id: str) -> None:
    try:
        client.api.kill(id)
    except APIError as exc:
        if exc.status_code not in (404, 409):  # gone, or not running
            raise


def _remove(client: DockerClient, id: str) -> None:
    with suppress(NotFound):
        try:
            client.api.remove_container(id, force=True, v=True)
        except APIError as exc:
            if exc.status_code != 409:  # being removed already
                raise
