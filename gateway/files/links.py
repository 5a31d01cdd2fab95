"""URLs that let whoever holds them have one file for a while: `/files/{id}?expires=…&signature=…`.

`expires` is rounded up to a slot of time, so that a file has the same URL for a while and readers can share it.
"""

from __future__ import annotations

import hmac
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from gateway.keys import key_in

PATH = "/files/"
SLOTS = 4  # in the time a URL holds: it holds at most a quarter longer


@dataclass(frozen=True, slots=True)
class Links:
    origin: str
    key: bytes = field(repr=False)
    seconds: float = 3600
    now: Callable[[], float] = time.time

    @classmethod
    def load(cls, path: Path, origin: str, seconds: float) -> Links:
        """With the key in `path`, made at first use. Raises UsageError when others may read the file."""
        return cls(origin, key_in(path).encode(), seconds)

    @property
    def expires(self) -> int:
        """When a URL made now ceases to hold; the same for all that are made in a slot."""
        slot = max(1, int(self.seconds / SLOTS))
        return (int(self.now() + self.seconds) // slot + 1) * slot

    def url(self, id: str) -> str:
        expires = self.expires
        return f"{self.origin}{PATH}{id}?expires={expires}&signature={self._signature(id, str(expires))}"

    def holds(self, id: str, expires: str, signature: str) -> bool:
        """Whether a URL with these is one of ours and has not expired."""
        fits = hmac.compare_digest(self._signature(id, expires).encode(), signature.encode())
        return fits and expires.isdecimal() and expires.isascii() and self.now() < int(expires)

    def _signature(self, id: str, expires: str) -> str:
        return hmac.new(self.key, f"{id}\n{expires}".encode(), "sha256").hexdigest()
