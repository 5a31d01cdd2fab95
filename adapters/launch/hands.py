"""A container that outlives the commands run in it: where an agent's tools act, beside what thinks for it.

    room = Room(engine, Quarters(name="...", image="switchboard-agent", mounts={...}, ...))
    ran = await room.run(("sh", "-c", "make test"), seconds=60, keep=Ends(128_000, 128_000))
    await room.stop()         # hibernates: the next command starts it again
    await room.remove()

It is made by the first command, under a name the engine has only once, so that whoever comes next, in whatever process,
finds it. What has stopped it, an engine that restarted too, costs the next command a start. It is confined as every
container of ours and holds no secret.

A command's output is one stream, in the order it was written, and ends with a line that only we know: processes that the
command leaves behind hold nothing up, and go on. At its deadline its process group gets TERM, then KILL, and so does whatever
left the group but still has the command's mark in its environment.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from errno import EIO
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple

import anyio
import anyio.to_thread
import requests
from docker.client import DockerClient
from docker.errors import APIError, ImageNotFound, NotFound

from adapters.launch.container import Box, Engine, created, described
from adapters.launch.frames import Attached
from adapters.launch.process import LaunchError
from adapters.launch.reaching import EngineGone
from adapters.launch.reading import Ends, Ran, Reading
from adapters.launch.strays import end_strays
from adapters.launch.streams import Stream, connected

HANDS, SESSION, MADE = "switchboard.hands", "switchboard.session", "switchboard.made"
MARK = "SWITCHBOARD_CALL"  # in the environment of whatever a command starts
TRIES = 10  # of a command whose container somebody stops or removes at that moment
KILL_SECONDS = 10  # for the engine to end a command; then it is left to the container's own end
STOP_SECONDS = 1
PAUSE_SECONDS = 0.1
NOTHING: Mapping[str, str] = MappingProxyType({})

_REST = 'trap "exit 0" TERM INT; while :; do sleep 3600 & wait "$!"; done'
_RUN = 'exec 2>&1; echo "$$"; end=$1; shift; "$@"; code=$?; printf "\\n%s %s\\n" "$end" "$code"'
_KILL = """
if [ -n "$2" ]; then
    kill -TERM -- "-$2" 2>/dev/null
    for n in 1 2 3 4 5 6 7 8 9 10; do kill -0 -- "-$2" 2>/dev/null && sleep 0.1; done
    kill -KILL -- "-$2" 2>/dev/null
fi
for n in 1 2 3 4 5; do
    left=
    for at in /proc/[0-9]*; do
        tr '\\0' '\\n' 2>/dev/null < "$at/environ" | grep -qxF "$1" && kill -KILL "${at#/proc/}" 2>/dev/null && left=1
    done
    [ -n "$left" ] || break
done
"""


class Quarters(NamedTuple):
    """A container as it is to be: its name, and all but what runs in it."""

    name: str
    box: Box

    def described(self) -> dict[str, Any]:
        """As the SDK wants it, with a label by which another make-up is known."""
        box = self.box
        rests = {"entrypoint": ["/bin/sh", "-c", _REST], "environment": dict(box.env), "stdin_open": False}
        made = {**described(box), **rests}
        digest = hashlib.sha256(json.dumps(made, sort_keys=True, default=str).encode()).hexdigest()[:16]
        return {**made, "name": self.name, "labels": {**box.labels, MADE: digest}}


class Awake(NamedTuple):
    """A container that runs, and since when: stopped and started again it has another loopback."""

    id: str
    since: str


class Found(NamedTuple):
    """One that is there."""

    id: str
    session: str
    running: bool


class Leave(NamedTuple):
    """To begin a command. `asked` returns when it may, or raises; `still` is asked in the last moment, in a thread.

    Where `still` says no, all is asked again.
    """

    asked: Callable[[], Awaitable[None]]
    still: Callable[[], bool]


class _TooLate(Exception):
    """A command may not begin any more."""


class Room:
    """One such container. Any number of commands may run in it at the same time."""

    def __init__(self, engine: Engine, quarters: Quarters) -> None:
        self._engine, self._quarters = engine, quarters
        self._making = anyio.Lock()
        self._id = ""
        self._left: set[str] = set()  # marks of commands that no engine was there to end

    async def run(
        self,
        argv: Sequence[str],
        *,
        seconds: float,
        keep: Ends,
        mark: str = "",
        content: bytes | None = None,
        env: Mapping[str, str] = NOTHING,
        leave: Leave | None = None,
    ) -> Ran:
        """Run a command to its end; `content` is its stdin, `env` is its own.

        Raises LaunchError, and what `leave` raises; then it has not begun.

        Cancelled, it ends what it has begun. What cannot be ended, since the engine is gone, is ended before the next one.
        """
        await self.end_left()
        end = secrets.token_hex(16)
        request = {"env": {**env, **({MARK: mark} if mark else {})}, "argv": ("/bin/sh", "-c", _RUN, "switchboard", end, *argv)}
        connection = await self._begun(request, content is not None, leave)
        if connection is None:
            await self._kill(mark, "")
            return Ran(b"", cause="gone")
        reading = Reading(end.encode(), keep)
        ended = False
        try:
            with anyio.move_on_after(seconds) as deadline:
                async with anyio.create_task_group() as group:
                    group.start_soon(_write, connection, content)
                    ended = await reading.all(connection)
                    group.cancel_scope.cancel()
            if deadline.cancelled_caught:
                reading.cause = "timeout"
        finally:
            if not ended and not await self._kill(mark, reading.group) and reading.cause == "lost":
                reading.cause = "gone"
            connection.close()
        return reading.ran

    async def awake(self) -> Awake:
        """The container, which runs now. Raises LaunchError."""
        await self._ready()
        found = await self._engine.call(lambda client: _seen(client, self._id), self._quarters.box)
        if found is None:
            self._id = ""
            await self._ready()
            found = await self._engine.call(lambda client: _seen(client, self._id), self._quarters.box)
        if found is None:
            raise LaunchError(EIO, f"The container {self._quarters.name} does not stay up.")
        return found

    async def kill(self, mark: str) -> None:
        """End whatever a command left that was given this mark. Does nothing where no container runs."""
        await self._kill(mark, "")

    def may_run(self, mark: str) -> bool:
        """Whether something with this mark could not be ended, since the engine was gone, and has not been since."""
        return mark in self._left

    async def stop(self) -> None:
        """Hibernate. Raises LaunchError."""
        await self._engine.call(lambda client: _stopped(client, self._quarters.name))

    async def remove(self) -> None:
        await self._engine.call(lambda client: _removed(client, self._quarters.name))

    async def end_left(self) -> None:
        """End what could not be ended while the engine was gone. Raises LaunchError."""
        for mark in list(self._left):
            await end(self._engine, self._quarters.name, mark)
            self._left.discard(mark)

    async def _begun(self, request: Mapping[str, Any], stdin: bool, leave: Leave | None) -> Attached | None:
        """Its streams; None where the engine went away so that nobody knows whether it has begun."""
        for _ in range(TRIES):
            if not self._id:
                await self._ready()
            made = await self._engine.call(lambda client: _made(client, self._id, request, stdin), self._quarters.box)
            if made is None:
                self._id = ""
                continue
            if leave is not None:
                await leave.asked()
            begin = partial(_begun, made=made, still=leave and leave.still)
            try:
                with anyio.CancelScope(shield=True):  # until there is somebody to end it
                    connection = await self._engine.call(begin, self._quarters.box)
            except EngineGone:
                return None
            if connection is not None:
                return Attached(*connection)
            self._id = ""
        raise LaunchError(EIO, f"The container {self._quarters.name} does not stay up long enough to run a command.")

    async def _ready(self) -> None:
        async with self._making:
            if not self._id:
                self._id = await self._engine.call(lambda client: _woken(client, self._quarters), self._quarters.box)

    async def _kill(self, mark: str, group: str) -> bool:
        """Whether the engine has done it. If not, it is done where this machine runs it, and once more by and by."""
        with anyio.CancelScope(shield=True):
            with anyio.move_on_after(KILL_SECONDS), suppress(EngineGone):
                while not await self._killed(mark, group):  # noqa: ASYNC110  (an engine sets no event)
                    await anyio.sleep(PAUSE_SECONDS)
                return True
            if mark:
                self._left.add(mark)
                await anyio.to_thread.run_sync(end_strays, self._id, f"{MARK}={mark}")
        return False

    async def _killed(self, mark: str, group: str) -> bool:
        """Whether the engine has done it: it may refuse while the container is on its way down. Raises EngineGone."""
        try:
            await end(self._engine, self._quarters.name, mark, group)
        except EngineGone:
            raise
        except LaunchError:
            return False
        return True


async def rooms(engine: Engine, installation: str) -> list[Found]:
    """Every one of an installation. Raises LaunchError."""
    wanted = {"label": f"{HANDS}={installation}"}
    found = await engine.call(lambda client: client.api.containers(all=True, filters=wanted))
    return [Found(one["Id"], one["Labels"].get(SESSION, ""), one["State"] == "running") for one in found]


async def end(engine: Engine, container: str, mark: str, group: str = "") -> None:
    """End what has a mark, or is of a process group, where that container runs. Raises LaunchError."""
    request = {"env": {}, "argv": ("/bin/sh", "-c", _KILL, "switchboard", f"{MARK}={mark or '-'}", group)}
    made = await engine.call(lambda client: _made(client, container, request, stdin=False))
    found = None if made is None else await engine.call(partial(_begun, made=made))
    if found is not None:
        killing = Attached(*found)
        try:
            while await killing.chunk():
                pass
        finally:
            killing.close()


async def stop(engine: Engine, id: str) -> None:
    await engine.call(lambda client: _stopped(client, id))


async def _write(connection: Attached, content: bytes | None) -> None:
    if content is not None:
        await connection.write(content)
        await connection.half_close()


def _made(client: DockerClient, container: str, request: Mapping[str, Any], stdin: bool) -> str | None:
    """The id of a command that may begin; None where its container does not run."""
    argv, env = list(request["argv"]), dict(request["env"])
    made = _unless_asleep(lambda: client.api.exec_create(container, argv, stdin=stdin, environment=env))
    return None if made is None else str(made["Id"])


def _begun(client: DockerClient, made: str, still: Callable[[], bool] | None = None) -> Stream | None:
    """The streams of a command that has begun; None where its container does not run any more, or it `still` may not."""
    request = {"Detach": False, "Tty": False}

    def last() -> None:
        if still is not None and not still():
            raise _TooLate

    with suppress(_TooLate):
        found: Stream | None = _unless_asleep(lambda: connected(client, f"/exec/{made}/start", body=request, last=last))
        return found
    return None


def _unless_asleep(do: Callable[[], Any]) -> Any:
    try:
        return do()
    except (APIError, requests.HTTPError) as exc:
        if exc.response is not None and exc.response.status_code in (404, 409):
            return None
        raise


def _woken(client: DockerClient, quarters: Quarters) -> str:
    """The id of the container, which runs now. One that rests and is not as it is to be is made anew."""
    wanted = quarters.described()
    for _ in range(TRIES):
        try:
            return _started(client, quarters.name, wanted["labels"][MADE])
        except ImageNotFound:
            raise
        except NotFound:
            with _unless_taken():
                created(client, wanted)
        except APIError as exc:
            if exc.status_code != 409:  # being removed
                raise
            time.sleep(PAUSE_SECONDS)
    raise LaunchError(EIO, f"The container {quarters.name} could not be made: something removes it again and again.")


def _seen(client: DockerClient, id: str) -> Awake | None:
    """None where it does not run."""
    try:
        state = client.api.inspect_container(id)["State"]
    except NotFound:
        return None
    return Awake(id, state["StartedAt"]) if state["Running"] else None


def _started(client: DockerClient, name: str, made: str) -> str:
    found = client.api.inspect_container(name)
    if not found["State"]["Running"] and found["Config"]["Labels"].get(MADE) != made:
        client.api.remove_container(found["Id"], force=True, v=True)
        raise NotFound(f"{name} has been removed")
    client.api.start(found["Id"])
    return str(found["Id"])


@contextmanager
def _unless_taken() -> Iterator[None]:
    try:
        yield
    except APIError as exc:
        if exc.status_code != 409:  # somebody else has just made it
            raise


def _stopped(client: DockerClient, container: str) -> None:
    with suppress(NotFound):
        client.api.stop(container, timeout=STOP_SECONDS)


def _removed(client: DockerClient, container: str) -> None:
    try:
        client.api.remove_container(container, force=True, v=True)
    except APIError as exc:
        if exc.status_code not in (404, 409):
            raise
