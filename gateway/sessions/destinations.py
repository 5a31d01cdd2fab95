"""Webhooks of a session, as its caller gives, lists, signs and removes them; what they are told is gateway.deliver's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from gateway.db.engine import Database
from gateway.deliver import destinations
from gateway.deliver.destinations import Given, Wanted
from gateway.deliver.guard import Guard
from gateway.sessions.shapes import Destination, Destinations
from registry.secrets import Secrets

Save = Callable[[Connection, str], list[dict[str, Any]]]


@dataclass(frozen=True, slots=True)
class Hooks:
    database: Database
    secrets: Secrets
    guard: Guard

    async def wanted(self, given: Sequence[Given]) -> Save:
        """What keeps webhooks of a session, once they were found good. Raises InvalidParams."""
        found: list[Wanted] = await destinations.validate(self.guard, [one.model_dump() for one in given])
        return lambda conn, session_id: destinations.save(conn, self.secrets, session_id, found)

    async def add(self, session_id: str, given: Given) -> Destination:
        save = await self.wanted([given])
        return Destination(**(await self.database.write(lambda conn: save(conn, session_id)))[0])

    async def list(self, session_id: str) -> Destinations:
        found = await self.database.read(lambda conn: destinations.listing(conn, session_id))
        return Destinations(destinations=[Destination(**one) for one in found])

    async def sign(self, session_id: str, id: str, secrets: Sequence[str]) -> Destination:
        destinations.check_secrets(secrets)
        found = await self.database.write(lambda conn: destinations.sign(conn, self.secrets, session_id, id, secrets))
        return Destination(**found)

    async def remove(self, session_id: str, id: str) -> None:
        await self.database.write(lambda conn: destinations.remove(conn, session_id, id))
