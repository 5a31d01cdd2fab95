"""What the sandbox calls of each turn hold in memory, from the body that asked to the last byte of the answer.

    held = calls.take(turn_id, len(body))      # raises Crowded
    try: ...; return held.answered(content)    # a response; once it has been read, nothing is held any more
    except: held.close()

An image may ask for more at once than runs at once, and need not read what it is answered.
"""

from __future__ import annotations

import json
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from gateway.errors import Crowded

CALLS = 64  # of one turn that are not answered yet; more are refused
ASKED = 48 * 2**20  # bytes of their bodies; a call alone may have more
ANSWERS = 256 * 2**20  # and of what they were answered, which goes out as it is read
CHUNK = 256 * 1024


class Calls:
    """Those of all turns."""

    def __init__(self) -> None:
        self.turns: dict[str, list[Held]] = {}

    def take(self, turn_id: str, size: int) -> Held:
        """A call of so many bytes, which is held until it is closed. Raises Crowded."""
        mine = self.turns.get(turn_id, [])
        if mine and (len(mine) >= CALLS or size + sum(held.size for held in mine) > ASKED):
            raise Crowded(
                f"Too many calls of this turn wait: {len(mine)}.", "Send it again, under the same id, when others are answered."
            )
        held = Held(self, turn_id, size)
        self.turns.setdefault(turn_id, []).append(held)
        return held


class Held:
    """One call."""

    def __init__(self, calls: Calls, turn_id: str, size: int) -> None:
        self._calls, self._turn_id, self.size = calls, turn_id, size

    def answered(self, content: Any, status: int = 200) -> Response:
        """What is closed when it has gone out. Raises Crowded where too much is not read."""
        body = json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
        mine = self._calls.turns[self._turn_id]
        if len(mine) > 1 and len(body) + sum(held.size for held in mine) > ANSWERS:
            raise Crowded("Too many answers of this turn are not read.", "Read them, then send this again, under the same id.")
        self.size = len(body)
        return _Answer(body, status, self)

    def close(self) -> None:
        """May be called again."""
        mine = self._calls.turns.get(self._turn_id, [])
        if self in mine:
            mine.remove(self)
        if not mine:
            self._calls.turns.pop(self._turn_id, None)


class _Answer(Response):
    """JSON that goes out piece by piece, so that the connection says when it has taken one."""

    media_type = "application/json"

    def __init__(self, body: bytes, status: int, held: Held) -> None:
        super().__init__(body, status)
        self._held = held

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            for at in range(0, len(self.body), CHUNK):
                await send({"type": "http.response.body", "body": self.body[at : at + CHUNK], "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        finally:
            self._held.close()
