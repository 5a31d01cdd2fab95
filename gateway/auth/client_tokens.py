"""Client tokens: what a browser is handed instead of a key. Short-lived, for one session, to read, to write, or both.

A token names its session, its principal and its scopes and is signed (HMAC-SHA256); nothing is stored. It holds no longer
than its principal: whoever checks one asks `Callers.by_id`. A token can be exchanged for a fresh one until `until`, so
that a page may stay open, and one that was stolen does not live for ever.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jwt

from gateway.auth.callers import wrong
from gateway.clock import now_us
from gateway.keys import key_in

PREFIX = "sbt_"
_AUDIENCE = "switchboard:session"
_REQUIRED = ["aud", "exp", "sub", "session", "scope", "until"]


@dataclass(frozen=True, slots=True)
class Grant:
    """What a token is good for. Times are seconds since the epoch."""

    session_id: str
    principal: str
    scopes: frozenset[str]
    expires_at: int
    until: int  # no token that was exchanged for this one holds longer


@dataclass(frozen=True, slots=True)
class ClientTokens:
    key: bytes = field(repr=False)
    seconds: float
    renewable_seconds: float
    clock: Callable[[], int] = now_us

    @classmethod
    def load(cls, path: Path, seconds: float, renewable_seconds: float) -> ClientTokens:
        """The key in `path`, made at first use. Raises UsageError when others may read the file."""
        return cls(key_in(path).encode(), seconds, renewable_seconds)

    def grant(
        self, session_id: str, principal: str, scopes: frozenset[str], seconds: int | None = None, old: Grant | None = None
    ) -> Grant:
        """A new grant, or one in exchange for an old one; for `seconds`, but never longer than is allowed."""
        now = self.clock() // 1_000_000
        until = old.until if old else now + int(self.renewable_seconds)
        lasts = int(self.seconds) if seconds is None else min(seconds, int(self.seconds))
        return Grant(session_id, principal, scopes, min(now + lasts, until), until)

    def token(self, grant: Grant) -> str:
        claims: dict[str, Any] = {
            "aud": _AUDIENCE,
            "sub": grant.principal,
            "session": grant.session_id,
            "scope": " ".join(sorted(grant.scopes)),
            "exp": grant.expires_at,
            "until": grant.until,
        }
        return PREFIX + jwt.encode(claims, self.key, "HS256")

    def read(self, token: str) -> Grant:
        """Raises WrongKey."""
        options: Any = {"require": _REQUIRED, "verify_exp": False}
        try:
            claims = jwt.decode(token.removeprefix(PREFIX), self.key, ["HS256"], audience=_AUDIENCE, options=options)
        except (jwt.PyJWTError, ValueError, RecursionError) as exc:
            raise wrong("The client token is wrong.") from exc
        if claims["exp"] <= self.clock() // 1_000_000:
            raise wrong("The client token has expired.")
        scopes = frozenset(claims["scope"].split())
        return Grant(claims["session"], claims["sub"], scopes, claims["exp"], claims["until"])
