"""The one place that wires the gateway together. Follow a call from here:

    POST /agents/{name} and below, or gRPC
      -> a2a.admission           who calls (auth.callers), the agent's name, the body's size and form
      -> a2a.jsonrpc, rest, grpc the version; the SDK's dispatchers read the request (1.0 or 0.3)
      -> a2a.handler             checks the message and hands it in
      -> files.intake            its files are checked and stored before anything names them
      -> turns.engine.accept     stored with its queued turn in one transaction, before anything is answered
      -> turns.worker            claims the turn under a new fence, holds it (turns.held) through all its attempts, each by a
      -> turns.runner            which starts the agent's runtime (adapters.registration -> adapters.launch) and feeds each
                                 line it prints to the runtime's dialogue; events go to
      -> runtime_api             where the runtime is an image of its own: it posts its lines here, by HTTP from its container
      -> egress.gate             where the agent has an egress policy: its only way out of its sandbox, proxy and all
      -> log.store.append        numbered and committed, then
      -> log.tail                wakes every reader: whatever anybody sees is read back from here
      -> a2a.stream              as SSE with ids, or folded into a Task by a2a.tasks
      -> files.shown             files stand in the log as references; their bytes, or a URL (files.http), are put in here
      -> deliver.worker          as push notifications: what is owed stands in the outbox (deliver.outbox) since the
                                 transaction of the event, what is sent is made from the log by a2a.push

Scripts and browsers use the same sessions by sessions.routes, at /v1/sessions: create, send, read the log, cancel.
Callers find agents by a2a.discovery: GET /agents, the cards, the keys that sign them, the catalogue.
Owners come in by POST /owner (owner.http), a JSON-RPC API over the registry.
"""

from __future__ import annotations

import asyncio
import os

os.environ.setdefault("OTEL_INSTRUMENTATION_A2A_SDK_ENABLED", "false")  # a third of a unary call, and nobody reads it

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from typing import Any

import anyio
import structlog
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ExceptionHandler

from adapters.profile import Profile
from gateway.a2a.admission import Admission
from gateway.a2a.discovery import routes as discovery_routes
from gateway.a2a.handler import Handler
from gateway.a2a.published import Cards
from gateway.a2a.push import Push
from gateway.a2a.routes import routes as callers_routes
from gateway.a2a.tasks import Tasks
from gateway.agents import face_of
from gateway.astray import astray
from gateway.auth import oidc
from gateway.auth.callers import Callers, Pepper, Rates
from gateway.auth.client_tokens import ClientTokens
from gateway.auth.owners import OwnerKey
from gateway.clock import new_id
from gateway.conformance import folders
from gateway.conformance.examine import Examiner
from gateway.core import Core
from gateway.deliver import outbox
from gateway.deliver.guard import Guard
from gateway.deliver.sender import Sender
from gateway.deliver.worker import Courier
from gateway.errors import SwitchboardError
from gateway.files.fetch import Fetcher
from gateway.files.http import Download
from gateway.files.http import routes as files_routes
from gateway.files.intake import Intake
from gateway.files.links import Links
from gateway.files.shown import Shown
from gateway.files.sweep import sweep_forever
from gateway.health import routes as health_routes
from gateway.log.tail import watch
from gateway.owner.border import load_card_keys
from gateway.owner.context import Check, Owner
from gateway.owner.http import routes as owner_routes
from gateway.owner.transfer import routes as transfer_routes
from gateway.retention.keeper import Keeper
from gateway.sessions.access import Gate
from gateway.sessions.destinations import Hooks
from gateway.sessions.routes import routes as session_routes
from gateway.sessions.work import Sessions
from gateway.settings import Settings
from gateway.turns.engines import at_work

log_ = structlog.get_logger("switchboard")


def create_app(settings: Settings, runtimes: Mapping[str, Profile] | None = None) -> Starlette:
    """The gateway as an ASGI application; API and worker in one. Raises SwitchboardError if it cannot be set up."""
    core = Core.of(settings, runtimes)
    database, secrets, agents, log, store, engine = (
        core.database, core.secrets, core.agents, core.log, core.store, core.engine
    )  # fmt: skip
    issuer = oidc.load(settings.oidc_issuer, settings.oidc_audience, settings.oidc_jwks_url)
    rates = Rates(settings.anonymous_rate, settings.oidc_requests_per_minute or None)
    callers = Callers(database, Pepper.load(settings.callers_key_file), issuer, rates)
    cards = Cards(settings, load_card_keys(settings))
    links = Links.load(settings.files_key_file, settings.url, settings.file_url_seconds)
    guard = Guard.allowing(settings.allow_private_hosts)
    tasks = Tasks(database, Shown(store, links, settings.inline_file_bytes))
    push = Push(log, tasks, secrets, guard)
    intake = Intake(store, Fetcher(guard, settings.fetch_seconds), settings)
    handler = Handler(log, engine, settings, cards, tasks, push, intake)
    download = Download(database, store, links, callers, agents.may_call, settings.send_timeout)
    courier = Courier(database, settings, secrets, Sender(guard, settings.webhook_seconds), tasks.files, push.render)
    log.after.append(courier.wake)
    admission = Admission(agents, callers, settings)
    grpc = _grpc(handler, admission, settings)
    tokens = ClientTokens.load(settings.tokens_key_file, settings.client_token_seconds, settings.client_token_renewable_seconds)
    hooks = Hooks(database, secrets, guard)
    sessions = Sessions(log, engine, settings, callers, agents, Gate(callers, tokens, admission.proxies), hooks, intake, links)

    async def engine_check() -> Check:
        if not settings.worker:
            there = await at_work(database)
            fix = "Start one on this database, with this data directory: switchboard worker"
            return Check("worker", there > 0, f"none in this process, {there} elsewhere", fix)
        alive = engine.worker.starter.warden.pid is not None
        fix = "Restart the gateway; its log says why processes cannot be started."
        return Check("worker", alive, f"{engine.worker.active} turns run, at most {settings.concurrency}", fix)

    async def webhooks_check() -> Check:
        found = await database.read(outbox.counts)
        dead, waiting = found.get("dead", 0), sum(found.get(state, 0) for state in outbox.OPEN)
        fix = "See: switchboard webhooks deliveries --state dead"
        return Check("webhooks", not dead, f"{waiting} deliveries wait, {dead} were given up", fix, required=False)

    keeper = Keeper(database, settings, tasks.freeze)
    owner = Owner(
        database=database,
        settings=settings,
        secrets=secrets,
        profiles=core.runtimes,
        card=lambda record: cards.json(face_of(record)),
        card_keys=cards.keys,
        cancel=engine.cancel_session,
        ping=courier.ping,
        examine=Examiner(settings),
        more_checks=(engine_check, webhooks_check),
    )

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        loop = asyncio.get_running_loop()
        app.state.drain = lambda: loop.call_soon_threadsafe(engine.worker.drain)
        async with _told(app), core.opened():
            hello = await agents.welcome(core.runtimes)
            log_.info("started", url=settings.url, database=database.name, hello=hello)
            async with anyio.create_task_group() as group:
                await group.start(engine.run)
                await group.start(courier.run)
                group.start_soon(sweep_forever, database, store)
                group.start_soon(folders.sweep_forever, settings)
                group.start_soon(keeper.run)
                group.start_soon(watch, log)
                async with grpc:
                    yield
                group.cancel_scope.cancel()
        log_.info("stopped")

    owner_key = OwnerKey.load(settings.owner_key_file)
    routes = [
        *health_routes(database),
        *discovery_routes(cards, agents, callers),
        *files_routes(download),
        *callers_routes(handler, admission, settings),
        *session_routes(sessions),
        *owner_routes(owner, owner_key),
        *transfer_routes(owner, owner_key, store),
    ]
    app = Starlette(routes=routes, lifespan=lifespan, exception_handlers=REFUSALS)
    app.state.drained, app.state.why = engine.drained, None
    app.state.engine, app.state.log = engine, log
    return app


@asynccontextmanager
async def _told(app: Starlette) -> AsyncIterator[None]:
    """What it does not start for is left for whoever started it, in `why`."""
    try:
        yield
    except SwitchboardError as exc:
        app.state.why = exc
        raise


def _grpc(handler: Handler, admission: Admission, settings: Settings) -> AbstractAsyncContextManager[None]:
    """gRPC, where it is switched on."""
    if not settings.grpc_port:
        return nullcontext()
    try:
        from gateway.a2a.grpc import grpc_served
    except ImportError as exc:
        hint = "Install a2a-switchboard[grpc], or set SWITCHBOARD_GRPC_PORT to 0."
        raise SwitchboardError("SWITCHBOARD_GRPC_PORT is set, but grpcio is not installed.", hint) from exc
    return grpc_served(handler, admission, settings)


async def refuse(_request: Request, exc: Exception) -> JSONResponse:
    """What nobody on the way has answered: an incident, without a word of what failed."""
    incident = new_id("inc")
    status = exc.codes.http if isinstance(exc, SwitchboardError) else 500
    code = exc.code if isinstance(exc, SwitchboardError) else SwitchboardError.code
    log_.error("request_failed", incident=incident, exc_info=exc)
    headers = {"Retry-After": "1"} if status == 503 else None
    message = "The gateway is not available now." if status == 503 else "The gateway could not answer."
    return JSONResponse(
        {"code": code, "message": f"{message} (incident {incident})", "hint": "Try again later."}, status, headers
    )


REFUSALS: Mapping[Any, ExceptionHandler] = {HTTPException: astray, SwitchboardError: refuse, Exception: refuse}
