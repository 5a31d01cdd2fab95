"""Turn tokens: by what the image of a custom runtime is known to the runtime API. Signed, for one attempt, stored nowhere.

Whether the attempt still has its turn is not in the token: who holds the turn knows.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import jwt

from gateway.auth.callers import wrong
from gateway.keys import key_in

PREFIX = "sbr_"
_AUDIENCE = "switchboard:turn"
_REQUIRED = ["aud", "sub", "fence", "attempt"]


class Holder(NamedTuple):
    """One attempt of a turn."""

    turn_id: str
    fence: int
    attempt: int


@dataclass(frozen=True, slots=True)
class TurnTokens:
    key: bytes = field(repr=False)

    @classmethod
    def load(cls, path: Path) -> TurnTokens:
        """The key in `path`, made at first use. Raises UsageError when others may read the file."""
        return cls(key_in(path).encode())

    def token(self, holder: Holder) -> str:
        claims = {"aud": _AUDIENCE, "sub": holder.turn_id, "fence": holder.fence, "attempt": holder.attempt}
        return PREFIX + jwt.encode(claims, self.key, "HS256")

    def read(self, token: str) -> Holder:
        """Raises WrongKey."""
        options: Any = {"require": _REQUIRED}
        try:
            claims = jwt.decode(token.removeprefix(PREFIX), self.key, ["HS256"], audience=_AUDIENCE, options=options)
        except (jwt.PyJWTError, ValueError, RecursionError) as exc:
            raise wrong("The turn token is wrong.") from exc
        return Holder(claims["sub"], claims["fence"], claims["attempt"])
