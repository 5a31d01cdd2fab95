"""A sandbox or a container without a network and its gate, for scripts that try things from inside.

Names lead to loopback alone.
"""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio

from adapters.events import Event
from adapters.launch import container as launch
from adapters.launch import sandbox
from adapters.launch.container import INSTALLATION, TURN, Container, Engine
from adapters.launch.home import child_env
from adapters.launch.process import Process, Warden
from adapters.launch.sandbox import RELAY_PORT
from adapters.launch.sidecar import sidecar
from adapters.profile import Profile
from adapters.runtimes.rehearsal.profile import PROFILE as REHEARSAL
from gateway.deliver.guard import Guard
from gateway.egress.gate import Gate, Gates, Way
from gateway.egress.policy import Policy
from registry import hosts

PYTHON = os.path.realpath(sys.executable)
# Nothing is tried where there is any interface but loopback: a sandbox that leaks must not send a packet anywhere.
PRELUDE = r"""
import errno, os, re, socket, sys
assert [line.split(":")[0].strip() for line in open("/proc/net/dev").readlines()[2:]] == ["lo"]
def ask(text, port=3128):
    with socket.create_connection(("127.0.0.1", port), 20) as connection:
        connection.sendall(text.encode())
        answer = b""
        while data := connection.recv(65536):
            answer += data
    return answer.decode()
def status(text):
    print(ask(text.replace("\n", "\r\n") + "\r\n\r\n").split("\r\n")[0])
def tried(what):
    try:
        print("reached", what())
    except OSError as exc:
        print(errno.errorcode.get(exc.errno, type(exc).__name__))
def connect(family, address, kind=socket.SOCK_STREAM):
    with socket.socket(family, kind) as connection:
        connection.settimeout(20)
        connection.connect(address)
        connection.send(b"x")
"""


async def resolve(host: str, port: int) -> Sequence[str]:
    """Every name is found on this machine, but for some."""
    known = {
        "metadata.example": ["169.254.169.254"],
        "both.example": ["127.0.0.1", "10.0.0.1"],
        "six.example": ["::1"],
    }
    if host == "nowhere.example":
        raise OSError("no such host")
    return known.get(host, ["127.0.0.1"])


@dataclass
class Box:
    gate: Gate
    warden: Warden
    folder: Path
    told: list[Event] = field(default_factory=list)

    @property
    def notices(self) -> list[str]:
        return [event.body["text"].split(". ")[0] for event in self.told]

    async def started(self, script: str, *args: object) -> Process | Container:
        """A Python script inside."""
        dirs = {"home": str(self.folder / "home"), "work": str(self.folder / "work")}
        env = child_env(dirs["home"], self.gate.env)
        argv = [PYTHON, "-I", "-c", PRELUDE + script, *map(str, args)]
        words = sandbox.wrapped(argv, **dirs, path=env["PATH"], egress=str(self.gate.socket))
        return await self.warden.spawn(words, env=env, cwd=dirs["work"], tag=self.folder.name)

    async def run(self, script: str, *args: object) -> list[str]:
        """What the script printed, line by line."""
        process = await self.started(script, *args)
        printed: list[str] = []
        with anyio.fail_after(30):
            while lines := await process.lines():
                printed += [line.data.decode() for line in lines]
            exited = await process.wait()
        await process.aclose()
        assert (exited.code, process.stderr_tail()) == (0, "")
        return printed


@dataclass
class ContainerBox(Box):
    image: str = ""
    engine: Engine = field(default_factory=lambda: Engine(os.environ))

    async def started(self, script: str, *args: object) -> Container:
        home, work = (str(self.folder / name) for name in ("home", "work"))
        labels, user = {INSTALLATION: str(self.folder), TURN: "trn_1"}, "10001:10001"
        ways = {RELAY_PORT: self.gate.socket}
        side = await sidecar(self.engine, ways=ways, image=self.image, user=user, labels=labels)
        env = child_env(home, self.gate.env)
        del env["PATH"]
        argv = ["python3", "-I", "-c", PRELUDE + script, *map(str, args)]
        box = launch.Box(self.image, argv, env, work, (home, work), labels, user)
        return await self.engine.spawn(box, side)


@asynccontextmanager
async def boxed(
    folder: Path,
    *allowed: str,
    image: str = "",
    strict: bool = True,
    private: str = "127.0.0.0/8",
    profile: Profile = REHEARSAL,
    provider: str | None = None,
    env: Mapping[str, str] = {},
    **more: Any,
) -> AsyncIterator[Box]:
    """A sandbox, or a container of `image`, that may reach `allowed`.

    Addresses in `private` count as the operator's own exceptions.
    """
    for name in ("home", "work"):
        (folder / name).mkdir(parents=True)
        (folder / name).chmod(0o777)
    gates = Gates(Guard.allowing(private, resolve, "SWITCHBOARD_EGRESS_PRIVATE_HOSTS"), **more)
    way = Way(Policy(tuple(map(hosts.parse, allowed)), strict=strict), profile, provider, env, folder)
    told: list[Event] = []
    warden = Warden()
    try:
        async with gates.opened(way, told.extend, agent="mailer", session="ses_1", turn="trn_1") as gate:
            box = ContainerBox(gate, warden, folder, told, image) if image else Box(gate, warden, folder, told)
            yield box
            if isinstance(box, ContainerBox):
                assert await box.engine.labelled(str(folder)) == []
                box.engine.close()
    finally:
        await warden.aclose()
