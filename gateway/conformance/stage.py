"""Where the kit plays its scenes: an installation of its own, with a database, an engine of turns, a runtime API and a model.

async with opened(image, folder) as stage:
    played = await stage.play(scene)
"""

from __future__ import annotations

import json
import logging
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import anyio
import uvicorn
from sqlalchemy import Connection, select
from starlette.applications import Starlette

from adapters.contract import ENDPOINTS
from gateway.clock import new_id, now_us
from gateway.conformance.model import Asked, Model, Step
from gateway.conformance.sandbox import Sandbox
from gateway.conformance.watch import Rule, Seen, Watch, as_it_is
from gateway.core import Core
from gateway.log.models import Turn
from gateway.log.rows import Position
from gateway.runtime_api.sandbox import routes
from gateway.settings import Settings
from gateway.turns.queue import Accepted
from gateway.turns.spec import Inbound
from registry import images, repo
from registry.images import Image
from registry.makeup import Makeup

Json = dict[str, Any]

NAME = "kit"
STOP_SECONDS = 5.0  # an image may take so long to stop by itself
SCENE_SECONDS = 60.0
PLAYED = ("openai", "openai-compatible", "anthropic", "google")  # providers the kit's model can stand in for
_KEY = "key-of-the-kit"
_turn = Turn.__table__.c  # type: ignore[attr-defined]

During = Callable[["Stage", "Playing"], Coroutine[Any, Any, None]]


@dataclass(frozen=True, slots=True)
class Scene:
    """One session. `steps`: what the model says. `during`: what happens meanwhile. `after`: a second message's scene."""

    name: str
    steps: Sequence[Step] = ()
    rule: Rule = as_it_is
    during: During | None = None
    limits: Mapping[str, Any] = field(default_factory=dict)
    then: str = ""  # another scene, of which the session is asked when this one is over
    answers: bool = False  # ... in the same task

    @property
    def prompt(self) -> str:
        return f"This is scene:{self.name}. Do as you are told."


@dataclass
class Playing:
    """A scene under way."""

    scene: Scene
    seen: Seen
    session_id: str
    task_id: str


@dataclass
class Played:
    """What became of a scene. `events`: the session's log, all of it; `turns`: (state, yield_reason) in order."""

    scene: Scene
    seen: Seen
    events: list[Json]
    turns: list[tuple[str, str]]
    asked: list[Asked]  # by the image, of the model
    asked_later: list[Asked]  # in the second turn
    late: bool = False  # it had to be ended by the kit

    def bodies(self, type: str) -> list[Json]:
        return [event["body"] for event in self.events if event["type"] == type]

    @property
    def outcome(self) -> str:
        """How its first turn ended."""
        return self.turns[0][1]

    @property
    def text(self) -> str:
        told = [part for event in self.events for part in _told(event)]
        return "".join(told)

    @property
    def error(self) -> str:
        """What the owner is told of a failure, in short."""
        details = [str(body.get("text", "")) for body in self.bodies("error_detail")]
        errors = [str((body.get("error") or {}).get("category", "")) for body in self.bodies("done")]
        return "; ".join(filter(None, [*errors, *details, *(text.strip()[-300:] for text in self.seen.printed)]))


def _told(event: Json) -> list[str]:
    """Words for the caller."""
    body: Json = event["body"]
    if event["type"] == "chunk":
        return [str(body["text"])]
    if event["type"] == "done":
        return [str(part.get("text", "")) for part in body.get("message") or ()]
    return []


class Stage:
    def __init__(self, core: Core, watch: Watch, model: Model, url: str) -> None:
        self.core, self.watch, self.model, self._url = core, watch, model, url
        self._agents: dict[str, str] = {}  # provider -> agent id

    async def furnish(self, image: Image) -> None:
        """Register the image, and an agent for each provider."""
        providers = [name for name in image.providers if name in PLAYED] or [""]

        def write(conn: Connection) -> None:
            images.push(conn, NAME, image, now_us())
            for provider in providers:
                id = self._agents[provider] = new_id("agt")
                made = Makeup(NAME, placement="docker").changed(self._given(provider), repo.box(self.core.secrets, id))
                repo.create(conn, id, f"{NAME}-{provider}".strip("-"), made, [], now_us())

        await self.core.database.write(write)

    def _given(self, provider: str) -> Json:
        if not provider:
            return {}
        endpoint = ENDPOINTS[provider]
        base = f"{self._url}{urlsplit(endpoint.url).path}"
        return {"model": f"{provider}/kit-1", "env": {endpoint.url_env: base, endpoint.credentials[0].env: _KEY}}

    @property
    def providers(self) -> list[str]:
        return list(self._agents)

    async def play(self, scene: Scene, provider: str) -> Played:
        """One session, to its end. It is ended after `SCENE_SECONDS`."""
        agent = self._agents[provider]
        session = f"{scene.name}-{new_id('kit')}"
        seen = self.watch.scenes[session] = Seen(rule=scene.rule)
        late = False
        accepted = await self._say(agent, scene, session)
        playing = Playing(scene, seen, session, accepted.task_id)
        async with anyio.create_task_group() as group:
            if scene.during is not None:
                group.start_soon(scene.during, self, playing)
            late = not await self._ended(session)
            group.cancel_scope.cancel()
        if scene.then and not late and await self._goes_on(scene, session):
            task = accepted.task_id if scene.answers else None
            await self._say(agent, Scene(scene.then), session, task_id=task)
            late = not await self._ended(session)
        if late:
            await self.core.engine.cancel_session(session)
        return await self._played(scene, seen, session, late)

    async def _goes_on(self, scene: Scene, session: str) -> bool:
        """A task that did not ask takes no answer."""
        return not scene.answers or (await self._turns(session))[-1][1] == "needs_input"

    async def _say(self, agent: str, scene: Scene, session: str, task_id: str | None = None) -> Accepted:
        new = Inbound(({"text": scene.prompt},), new_id("msg"), session, task_id, limits=scene.limits)
        return await self.core.engine.accept(agent, 1, NAME, new)

    async def steer(self, playing: Playing, text: str) -> None:
        new = Inbound(({"text": text},), new_id("msg"), playing.session_id, playing.task_id, mode="auto")
        await self.core.engine.accept(next(iter(self._agents.values())), 1, NAME, new)

    async def cancel(self, playing: Playing) -> None:
        await self.core.engine.cancel(playing.task_id)

    async def _ended(self, session: str) -> bool:
        """Whether all its turns have ended in time."""
        with anyio.move_on_after(SCENE_SECONDS):
            with self.core.log.hub.subscribe(session) as channel:
                while True:
                    changed = channel.changed
                    turns = await self._turns(session)
                    if all(state == "ended" for state, _ in turns):
                        return True
                    with anyio.move_on_after(0.2):  # a turn ends after its last event
                        await changed.wait()
        return False

    async def _turns(self, session: str) -> list[tuple[str, str]]:
        query = select(_turn.state, _turn.yield_reason).where(_turn.session_id == session).order_by(_turn.ordinal)
        return await self.core.database.read(lambda conn: [(row[0], row[1] or "") for row in conn.execute(query)])

    async def _played(self, scene: Scene, seen: Seen, session: str, late: bool) -> Played:
        rows = await self.core.log.read(session, Position(0, 2**31), 10_000)
        events = [{"type": row.type, "level": row.level, "actor": row.actor, "body": json.loads(row.body)} for row in rows]
        return Played(scene, seen, events, await self._turns(session), *self._asked(scene), late)

    def _asked(self, scene: Scene) -> tuple[list[Asked], list[Asked]]:
        return self.model.requests(scene.name), self.model.requests(scene.then) if scene.then else []


@asynccontextmanager
async def opened(image: Image, folder: Path, scripts: Mapping[str, Sequence[Step]], **more: Any) -> AsyncIterator[Stage]:
    """`folder`: where the engine sees it, too. Raises LaunchError, SwitchboardError."""
    database = f"sqlite:///{folder / 'kit.db'}"
    own = {"data_dir": folder, "database_url": database, "journals_dir": None, "stop_seconds": STOP_SECONDS}
    settings = Settings(**{**own, "egress_private_hosts": "127.0.0.1", "worker": True, **more})
    core, model = Core.of(settings, {}), Model(scripts)
    async with core.opened(), _served(model.app()) as url, anyio.create_task_group() as group:
        api = core.engine.worker.runtime_api
        watch = Watch(api)
        api.more = routes(Sandbox(watch.scenes.__getitem__), settings.max_body_bytes)
        stage = Stage(core, watch, model, url)
        await stage.furnish(image)
        await group.start(core.engine.run)
        try:
            yield stage
        finally:
            group.cancel_scope.cancel()


@asynccontextmanager
async def _served(app: Starlette) -> AsyncIterator[str]:
    """On loopback, at a port the system chooses."""
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)  # connections break here on purpose
    quiet: dict[str, Any] = {"log_config": None, "access_log": False, "lifespan": "off", "timeout_graceful_shutdown": 1}
    server = uvicorn.Server(uvicorn.Config(app, **quiet))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        async with anyio.create_task_group() as group:
            group.start_soon(server._serve, [listening])  # `serve` would take the signals of the process
            try:
                yield f"http://127.0.0.1:{listening.getsockname()[1]}"
            finally:
                server.should_exit = True
