"""Hides machine paths in what callers read: a session's directories become `/workspace` and `~`.

Text arrives in pieces, so a piece that ends in the beginning of a hidden path is held back until the next one shows
what it is. Nothing is lost: `rest` gives back what is held. Most text has no slash in it,
and what no hidden path could begin in is not looked at further.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any


class Veil:
    def __init__(self, paths: Mapping[str, str]) -> None:
        """`paths`: hidden path -> what is shown instead; longer paths win."""
        self._shown = dict(paths)
        self._names = sorted(paths, key=len, reverse=True)
        self._begins = {name[0] for name in paths}
        self._held = ""

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        return re.compile("|".join(map(re.escape, self._names)))

    def text(self, piece: str) -> str:
        """The next piece of a stream of text, as far as it can be shown."""
        text = self._held + piece
        if not self._suspect(text):
            return text
        end = self._settled(text)
        self._held = text[end:]
        return str(self.clean(text[:end]))

    def rest(self) -> str:
        """What is held back, because nothing follows."""
        held, self._held = self._held, ""
        return str(self.clean(held))

    def clean(self, value: Any) -> Any:
        """A whole value (a string, or JSON of strings) with hidden paths replaced."""
        if isinstance(value, str):
            return self._pattern.sub(lambda match: self._shown[match.group()], value) if self._suspect(value) else value
        if isinstance(value, dict):
            return {self.clean(key): self.clean(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self.clean(item) for item in value]
        return value

    def _suspect(self, text: str) -> bool:
        return any(begin in text for begin in self._begins)

    def _settled(self, text: str) -> int:
        """How much of the text's beginning stays as it is, whatever follows.

        A path may end as it begins (`/home/me/.../home`): what lies inside a whole one does not begin another.
        """
        inside = [range(match.start() + 1, match.end()) for match in self._pattern.finditer(text)]
        begun = [start for name in self._names for start in _begun(text, name)]
        return min((start for start in begun if not any(start in path for path in inside)), default=len(text))


def _begun(text: str, name: str) -> Iterator[int]:
    """Where the end of the text may be the beginning of `name`, but not yet the whole."""
    start = text.find(name[0], max(0, len(text) - len(name) + 1))
    while start != -1:
        if name.startswith(text[start:]):
            yield start
        start = text.find(name[0], start + 1)
