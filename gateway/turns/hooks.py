"""What is done around a runtime: a repository is checked out, the owner's hooks are run. See specs/hooks.md.

    prepare     once in a session, before its runtime is started: the checkout, then `pre_init`. Raises SetupFailed
    beside      while it runs: `post_init` and `sidecar`, until cancelled
    after       when it has ended its turn: `post_run`

They run where the agent is placed, with its variables and its way out, and are ended with all they have started. What they
print is the owner's to read.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any

import anyio
import structlog

from adapters import events as ev
from adapters.events import Event
from adapters.launch.process import LaunchError
from adapters.profile import Launch
from gateway.turns import checkout
from gateway.turns.launching import Place
from gateway.turns.spec import AgentSpec
from gateway.turns.starter import Started

GIT_SECONDS = 600
LINE = 2000  # characters of a printed line that are kept
PRINTED = 64 * 1024  # characters of all that one prints
READY = "ready"  # in the session's directory, where no agent reaches it

_SHELL = 'exec 2>&1 < /dev/null; exec /bin/sh -c "$0" "$@"'

log_ = structlog.get_logger("switchboard.hooks")

Spawn = Callable[[str, Launch], Awaitable[Started]]  # by the name of what it is for
Hide = Callable[[str], str]  # a printed line, without what nobody is to read
NOTHING: Mapping[str, str] = MappingProxyType({})


class SetupFailed(Exception):
    """Why a session's workspace could not be prepared, for its owner."""


class Hooks:
    """Those of one attempt of a turn."""

    def __init__(
        self, spec: AgentSpec, place: Place, tell: Callable[[Sequence[Event]], None], spawn: Spawn, grace: float
    ) -> None:
        self._git, self._hooks, self._place = spec.git, spec.hooks, place
        self._tell, self._spawn, self._grace = tell, spawn, grace
        self.env: Mapping[str, str] = {}  # the variables of the agent

    @property
    def has_setup(self) -> bool:
        return bool(self._git or self._hooks.get("pre_init"))

    async def prepare(self) -> None:
        """Raises SetupFailed, LaunchError, OSError."""
        ready = anyio.Path(self._place.work.parent / READY)
        made = _digest(checkout.told(self._git), self._hooks.get("pre_init"))
        if await ready.exists() and await ready.read_text("utf-8") == made:
            return
        if git := self._git:
            hide = partial(checkout.hidden, git)
            await self._must("git", checkout.words(git), GIT_SECONDS, checkout.credentials(git), hide)
        if hook := self._hooks.get("pre_init"):
            await self._must("pre_init", (hook["command"],), hook["seconds"])
        await ready.write_text(made, "utf-8")

    async def beside(self) -> None:
        async with anyio.create_task_group() as group:
            if hook := self._hooks.get("post_init"):
                group.start_soon(self._may, "post_init", hook["command"], hook["seconds"])
            if hook := self._hooks.get("sidecar"):
                group.start_soon(self._may, "sidecar", hook["command"], None)

    async def after(self) -> None:
        if hook := self._hooks.get("post_run"):
            await self._may("post_run", hook["command"], hook["seconds"])

    async def _must(
        self, name: str, words: Sequence[str], seconds: float, env: Mapping[str, str] = NOTHING, hide: Hide = str
    ) -> None:
        failed = await self._run(name, words, seconds, env, hide)
        if failed:
            raise SetupFailed(
                f"{name} failed: {failed}. What it printed stands before this. It is tried again by the next turn."
            )

    async def _may(self, name: str, command: str, seconds: float | None) -> None:
        """One whose failure is the owner's to read, and no more."""
        try:
            await self._run(name, (command,), seconds)
        except (LaunchError, OSError) as exc:
            self._say(f"{name} was not started: {exc}")

    async def _run(
        self, name: str, words: Sequence[str], seconds: float | None, env: Mapping[str, str] = NOTHING, hide: Hide = str
    ) -> str:
        """Why it failed; "" where it did not."""
        began = time.monotonic()
        process = await self._spawn(name, Launch(("/bin/sh", "-c", _SHELL, *words), env={**self.env, **env}))
        how = f"was not done within {seconds} s"
        try:
            with anyio.move_on_after(seconds):
                await process.close_stdin()
                await self._read(name, process, hide)
                exited = await process.wait()
                code = exited.code if exited.signal is None else 128 + exited.signal
                how = f"exit code {code}" if code else ""
        finally:
            with anyio.CancelScope(shield=True):
                await process.stop(grace=self._grace)
                await process.aclose()
        self._say(f"{name}: {how or 'done'}, after {time.monotonic() - began:.1f} s")
        return how

    async def _read(self, name: str, process: Started, hide: Hide) -> None:
        room = PRINTED
        while lines := await process.lines():
            for line in lines:
                text = hide(line.data.decode("utf-8", "replace"))[: min(LINE, room)]
                room -= len(text)
                if text.strip():
                    self._say(f"{name}: {text}")

    def _say(self, text: str) -> None:
        self._tell([ev.notice("hook", text)])


def _digest(*what: Any) -> str:
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()
