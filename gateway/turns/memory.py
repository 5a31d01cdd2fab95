"""What a runtime remembers of its session when a turn begins: its own journal if that can be had, else what the log tells."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import anyio
import anyio.to_thread
import structlog

from adapters import events as ev
from adapters.events import Event
from gateway.log.store import Log
from gateway.turns.asked import Asked
from gateway.turns.journals import JOURNAL, LOST, Journals
from gateway.turns.leases import Claimed
from gateway.turns.primed import conversation, primed
from gateway.turns.spec import AgentSpec

Json = dict[str, Any]

_TOLD = {
    "restored": "The journal was restored from its shared copy.",
    "lost": "The journal is not on this machine, and there is no copy of it.",
}
_OLDER = "The journal was restored from a copy older than the last turn's end."

log_ = structlog.get_logger("switchboard.memory")


@dataclass(frozen=True, slots=True)
class Begun:
    """A turn as its runner shall begin it, and what its owner is told of that."""

    turn: Claimed
    asked: Asked
    notices: tuple[Event, ...] = ()
    journal: str | None = None  # the name of the attempt that left it


class Memory:
    def __init__(self, log: Log, journals: Journals) -> None:
        self._log, self._journals = log, journals

    @property
    def copies(self) -> bool:
        """Whether journals are copied, which they are while nothing writes to them."""
        return self._journals.shared is not None

    async def begin(self, turn: Claimed, asked: Asked, spec: AgentSpec, *, reads: bool = False) -> Begun:
        """`reads`: the runtime can read the log by itself. Raises OSError where a journal cannot be read or written."""
        known, name = turn.native.get(JOURNAL), str(turn.fence)
        taken = await anyio.to_thread.run_sync(self._journals.take, turn.session_id, known, name)
        natives: dict[str, Json] = {"here": turn.native, "restored": taken.native or {}, "lost": {LOST: True}}
        native = natives[taken.how]
        turn = replace(turn, native={**native, JOURNAL: name})
        told = _OLDER if taken.older else _TOLD.get(taken.how)
        notices = [ev.notice("journal", told)] if told else []
        knows_nothing = native.get(LOST) and not (native.get(spec.runtime) or {}).get("native_session")
        if not reads and (knows_nothing or taken.older or (asked.goes_on and taken.how != "here")):
            said = await self._log.database.read(lambda conn: conversation(conn, turn, whole=asked.goes_on))
            if said:
                asked = primed(asked, said)
                notices.append(ev.notice("primed", f"The runtime was told what was said: {len(said)} characters of the log."))
        return Begun(turn, asked, tuple(notices), known if taken.how == "here" else None)

    async def end(self, turn: Claimed, native: Json) -> None:
        """The turn's processes are gone: keep its journal where others can reach it."""
        try:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(self._journals.keep, turn.session_id, str(turn.fence), native)
        except OSError as exc:
            log_.error("journal_not_kept", session=turn.session_id, turn=turn.id, error=str(exc))
