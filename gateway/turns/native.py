"""What is remembered of a session for its runtimes, in the session's row."""

from __future__ import annotations

from typing import Any

PROCESS = "@process"  # beside the runtimes' names: the tag of the process that may be kept for the session's next turn


class Native:
    """What the runtime wants remembered of a session, kept beside what other runtimes wanted."""

    def __init__(self, native: dict[str, Any], runtime: str) -> None:
        self._all, self._runtime, self._dirty = native, runtime, True  # the journal's name is always new
        self.mine: dict[str, Any] = dict(native.get(runtime) or {})

    def remember(self, **what: Any) -> None:
        self._dirty = self._dirty or any(self.mine.get(key) != value for key, value in what.items())
        self.mine.update(what)

    def hold(self, key: str, value: str | None) -> None:
        """What is the session's, whatever it runs on."""
        if self._all.get(key) != value:
            self._all, self._dirty = {**self._all, key: value}, True

    def changed(self) -> dict[str, Any] | None:
        """The whole, if it has to be written again."""
        dirty, self._dirty = self._dirty, False
        return self.all if dirty else None

    @property
    def all(self) -> dict[str, Any]:
        return {**self._all, self._runtime: dict(self.mine)}
