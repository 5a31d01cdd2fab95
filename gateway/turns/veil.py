"""Hides machine paths in what callers read: a session's directories become `/workspace` and `~`.

Text arrives in pieces, so a piece that ends in the beginning of a hidden path is held back until the next one shows
what it is. Nothing is lost: `rest` gives back what is held.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any


class Veil:
    def __init__(self, paths: Mapping[str, str]) -> None:
        """`paths`: hidden path -> what is shown instead; longer paths win."""
        self._shown = dict(paths)
        self._names = sorted(paths, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, self._names)))
        self._held = ""

    def text(self, piece: str) -> str:
        """The next piece of a stream of text, as far as it can be shown."""
        text = self._held + piece
        keep = self._tail(text)
        self._held = text[len(text) - keep :]
        return str(self.clean(text[: len(text) - keep]))

    def rest(self) -> str:
        """What is held back, because nothing follows."""
        held, self._held = self._held, ""
        return str(self.clean(held))

    def clean(self, value: Any) -> Any:
        """A whole value (a string, or JSON of strings) with hidden paths replaced."""
        if isinstance(value, str):
            return self._pattern.sub(lambda match: self._shown[match.group()], value)
        if isinstance(value, dict):
            return {key: self.clean(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self.clean(item) for item in value]
        return value

    def _tail(self, text: str) -> int:
        """How many characters at the end may be the beginning of a hidden path."""
        return max((_overlap(text, name) for name in self._names), default=0)


def _overlap(text: str, name: str) -> int:
    start = text.rfind(name[0], max(0, len(text) - len(name) + 1))
    longest = 0
    while start != -1:
        if name.startswith(text[start:]):
            longest = len(text) - start
        start = text.rfind(name[0], max(0, len(text) - len(name) + 1), start)
    return longest
