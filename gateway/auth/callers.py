"""Who calls, and what they may: credentials in, a `Principal` out. Knows no transport but headers.

    principal = await callers.authenticate(headers)    # raises WrongKey, Unavailable; without credentials: ANONYMOUS
    face = callers.admit(principal, face, name)        # raises NotAllowed, NotFound, RateLimited

A key is `sbk_<id>_<secret>`; the secret has 256 random bits, so a keyed hash is enough and a slow one would only cost.
Anything else that comes as a bearer token is for the OIDC issuer, if one is set. Deliberate:
- Wrong credentials are refused for public agents too: whoever shows some wants to be somebody.
- A key limited to some agents is limited among the restricted ones; public agents are everybody's.
- An Authorization header of another scheme is somebody else's (a proxy's) and is not looked at.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol, TypeVar

from sqlalchemy import Connection, bindparam, func, literal_column, select

from gateway.auth.buckets import Buckets
from gateway.auth.oidc import Oidc
from gateway.db.engine import Database
from gateway.errors import NotAllowed, NotFound, RateLimited, WrongKey
from gateway.keys import key_in
from gateway.log.models import Task
from registry import callers as repo

PREFIX = "sbk_"
TASK_RETRY_SECONDS = 5
SIGN_IN = "Send 'Authorization: Bearer <key or token>', or a key as 'X-API-Key'."
_task = Task.__table__  # type: ignore[attr-defined]
_AT_WORK = (  # the states are literals, for the partial index
    select(func.count())
    .select_from(_task)
    .where(_task.c.principal == bindparam("principal"), _task.c.id != bindparam("continued"))
    .where(_task.c.state.in_([literal_column("'submitted'"), literal_column("'working'")]))
)


@dataclass(frozen=True, slots=True)
class Principal:
    """Somebody to whom tasks and sessions belong: `anonymous`, `caller:<id>` or `oidc:<sub>`."""

    id: str
    agents: frozenset[str] | None = None  # ids of the restricted agents it may call; None: all
    requests_per_minute: int | None = None
    running_tasks: int | None = None
    counted_as: str = ""  # under which name its requests are counted, if not by its id

    @property
    def anonymous(self) -> bool:
        return self.id == "anonymous"


ANONYMOUS = Principal("anonymous")


@dataclass(frozen=True, slots=True)
class Rates:
    """Requests a minute of those whom no owner gave limits: None is any number."""

    anonymous: int | None = None  # of one address
    oidc: int | None = None


NO_RATES = Rates()


class Agent(Protocol):
    """What admission looks at."""

    @property
    def agent_id(self) -> str: ...
    @property
    def public(self) -> bool: ...


A = TypeVar("A", bound=Agent)


@dataclass(frozen=True, slots=True)
class NewKey:
    id: str
    hash: str
    key: str = field(repr=False)  # shown once, kept nowhere


@dataclass(frozen=True, slots=True)
class Pepper:
    """The secret under which keys are hashed: a copy of the database alone does not let anybody try keys."""

    value: bytes = field(repr=False)

    @classmethod
    def load(cls, path: Path) -> Pepper:
        """The pepper in `path`, made at first use. Raises UsageError when others may read the file."""
        return cls(key_in(path).encode())

    def new_key(self) -> NewKey:
        id = secrets.token_hex(6)
        key = f"{PREFIX}{id}_{secrets.token_urlsafe(32)}"
        return NewKey(id, self.hash(key), key)

    def hash(self, key: str) -> str:
        return hmac.new(self.value, key.encode(), "sha256").hexdigest()


class Callers:
    def __init__(self, database: Database, pepper: Pepper, oidc: Oidc | None, rates: Rates = NO_RATES) -> None:
        self._database, self._pepper, self._oidc, self._rates = database, pepper, oidc, rates
        self._buckets = Buckets()

    async def authenticate(self, headers: Mapping[str, str], address: str = "") -> Principal:
        """Who sent these headers (or this gRPC metadata; names in lower case, or a mapping that does not mind).

        `address` is where they came from; by it the requests of those who do not sign in are counted.
        Raises WrongKey for credentials that do not hold, Unavailable when the issuer of a token cannot be asked.
        """
        given = credentials(headers)
        if given is None:
            return self._anonymous(address)
        if given.startswith(PREFIX):
            return await self._of_key(given)
        if self._oidc is None:
            raise wrong("The key is wrong.")
        return self._of_oidc(f"oidc:{await self._oidc.subject(given)}")

    def admit(self, principal: Principal, agent: A | None, name: str) -> A:
        """The agent, for a call to it. One that the principal may not call answers as one that does not exist."""
        if agent is not None and not agent.public and principal.anonymous:
            raise NotAllowed(f"Agent {name[:80]!r} answers only callers who sign in.", SIGN_IN)
        if agent is None or not may_call(principal, agent):
            raise no_agent(name)
        self.pace(principal)
        return agent

    def pace(self, principal: Principal) -> None:
        """Count a request. Raises RateLimited."""
        if principal.requests_per_minute is not None:
            wait = self._buckets.take(principal.counted_as or principal.id, principal.requests_per_minute)
            if wait:
                said = f"More than {principal.requests_per_minute} requests in a minute."
                raise RateLimited(said, f"Try again in {wait} seconds.", wait)

    async def by_id(self, id: str, address: str = "") -> Principal:
        """The principal of that id, as it is now. Raises WrongKey for a caller who was revoked."""
        kind, _, caller_id = id.partition(":")
        if kind != "caller":
            return self._of_oidc(id) if kind == "oidc" else self._anonymous(address)
        found = await self._database.read(lambda conn: repo.by_id(conn, caller_id))
        if found is None:
            raise wrong("The key was revoked.")
        return _principal(found)

    def _anonymous(self, address: str) -> Principal:
        return replace(ANONYMOUS, requests_per_minute=self._rates.anonymous, counted_as=f"address:{address}")

    def _of_oidc(self, id: str) -> Principal:
        return Principal(id, requests_per_minute=self._rates.oidc)

    async def _of_key(self, key: str) -> Principal:
        key_id = key.removeprefix(PREFIX).partition("_")[0][:64]
        found = await self._database.read(lambda conn: repo.by_key(conn, key_id))
        # An id nobody has costs the same comparison as one somebody has.
        if not hmac.compare_digest(self._pepper.hash(key), found.key_hash if found else "0" * 64) or found is None:
            raise wrong("The key is wrong.")
        return _principal(found)


def _principal(found: repo.CallerRecord) -> Principal:
    agents = None if found.agents is None else frozenset(found.agents)
    return Principal(f"caller:{found.id}", agents, found.requests_per_minute, found.running_tasks)


def credentials(headers: Mapping[str, str]) -> str | None:
    """The key or token that was sent, None if there is none. Raises WrongKey for two that differ, and for an empty one."""
    scheme, _, token = headers.get("authorization", "").strip().partition(" ")
    bearer = token.strip() if scheme.lower() == "bearer" else None
    api_key = headers.get("x-api-key")
    found = [value for value in (bearer, None if api_key is None else api_key.strip()) if value is not None]
    if len(set(found)) > 1:
        raise wrong("Authorization and X-API-Key hold two different keys.")
    if found == [""] or found == ["", ""]:
        raise wrong("The key is empty.")
    return found[0] if found else None


def may_call(principal: Principal, agent: Agent) -> bool:
    """Also: whether the directory tells the principal of the agent."""
    return agent.public or (not principal.anonymous and (principal.agents is None or agent.agent_id in principal.agents))


def room_for_task(principal: Principal, task_id: str | None) -> Callable[[Connection], None] | None:
    """Raises RateLimited, inside the transaction that would begin one more task, when the principal has enough at work.

    `task_id`: the task a message continues, which is not one more.
    """
    limit = principal.running_tasks
    if limit is None:
        return None

    def check(conn: Connection) -> None:
        mine = {"principal": principal.id, "continued": task_id or ""}
        if conn.execute(_AT_WORK, mine).scalar_one() >= limit:
            said = f"{limit} tasks are at work; more at the same time are not allowed."
            raise RateLimited(said, "Wait for one to end, or cancel one.", TASK_RETRY_SECONDS)

    return check


def wrong(said: str) -> WrongKey:
    return WrongKey(said, SIGN_IN)


def no_agent(name: str) -> NotFound:
    return NotFound(f"Agent {name[:80]!r} was not found.", "The directory, GET /agents, tells which there are.")
