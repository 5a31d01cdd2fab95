"""Watches over other workers' turns: whose worker is dead, or was not heard of for the length of its lease.

No wall clock is asked, for it may jump. A lease that nobody has renewed for its length is over, counted by the watcher's
own monotonic clock from when it first saw it so. Dead is who gave no sign of life at two looks: a connection may break and
be made again between them.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from gateway.db.engine import Database
from gateway.turns import leases
from gateway.turns.leases import Seen

LOOKS = 2  # at which a worker must not be seen to be taken for dead


@dataclass(slots=True)
class Watch:
    """Of one worker, known by its name."""

    database: Database
    name: str
    lease_seconds: float  # of a holder that does not say
    _since: dict[Seen, float] = field(default_factory=dict)  # when a lease was first seen as it is
    _dead: set[str] = field(default_factory=set)  # who seemed to be at the last look

    async def lost(self, held: Collection[str]) -> list[Seen]:
        """Turns that are not held here and have lost their worker. Raises Unavailable."""
        began = time.monotonic()
        seen = await self.database.read(lambda conn: leases.others(conn, held), snapshot=False)
        self._since = {turn: self._since.get(turn, time.monotonic()) for turn in seen}
        gone = await self._gone(seen)
        return [turn for turn in seen if turn.owner in gone or self._silent(turn, began)]

    async def _gone(self, seen: Sequence[Seen]) -> set[str]:
        owners = {turn.owner for turn in seen} - {self.name}
        dead = owners - await self.database.alive(sorted(owners)) if owners else set()
        before, self._dead = self._dead, dead
        return dead & before

    def _silent(self, turn: Seen, now: float) -> bool:
        return now > self._since[turn] + (turn.lease_seconds or self.lease_seconds)
