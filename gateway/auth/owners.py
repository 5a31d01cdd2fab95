"""The owner key: made at the first start, kept in a file only its owner may read, compared in constant time."""

from __future__ import annotations

import hmac
import secrets
from dataclasses import dataclass, field
from pathlib import Path

from gateway.errors import NotAllowed
from gateway.keys import key_in

PREFIX = "sbo_"


@dataclass(frozen=True, slots=True)
class OwnerKey:
    value: str = field(repr=False)

    @classmethod
    def load(cls, path: Path) -> OwnerKey:
        """The key in `path`, made if there is none. Raises UsageError when others may read the file."""
        return cls(key_in(path, new_key))

    def check(self, authorization: str | None) -> None:
        """Raise NotAllowed unless the Authorization header carries the key."""
        scheme, _, given = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not hmac.compare_digest(given.strip().encode(), self.value.encode()):
            hint = "Send the header 'Authorization: Bearer <owner key>'; the key stands in owner.key in the data directory."
            raise NotAllowed("The owner key is wrong." if given else "The owner key is missing.", hint)


def new_key() -> str:
    """256 random bits behind a prefix that tells what leaked."""
    return PREFIX + secrets.token_urlsafe(32)
