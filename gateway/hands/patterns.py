"""Patterns of paths, matched in time that grows with the path and not with what the pattern could try.

A pattern becomes an automaton (https://swtch.com/~rsc/regexp/regexp1.html): all that may still match is followed at once, and
each set of such places, with where a character leads it, is remembered. Backtracking, as `re` does it, would let one
pattern of a model's keep a processor busy for hours.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from gateway.errors import InvalidParams

WORK = 1_000_000  # places looked at while sets are found; far more than any pattern needs that somebody means

_TOKEN = re.compile(r"\*\*/|\*\*|\*|\?|\[!?\]?[^\]]*\]|[{},]|.", re.DOTALL)

Test = Callable[[str], object]  # of one character


class Pattern:
    """`**/` is any folders or none, `*` and `?` stay within a folder, `[...]` and `{a,b}` are choices. Raises InvalidParams."""

    def __init__(self, glob: str) -> None:
        self._glob, self._left = glob, WORK
        self._steps: list[list[tuple[Test, int]]] = [[]]  # of each place: by which character to which one
        self._free: list[list[int]] = [[]]  # and where it leads without any
        try:
            self._end = self._built(_TOKEN.findall(glob.removeprefix("./")))
        except re.error as exc:
            raise InvalidParams(f"The pattern {glob[:200]!r} makes no sense: {exc}.", "Such as `src/**/*.py`.") from exc
        self._sets: dict[frozenset[int], _Set] = {}
        self._first = self._set({0})

    def match(self, path: str) -> bool:
        """Whether all of it is such. Raises InvalidParams for a pattern that takes too much work."""
        at = self._first
        for char in path:
            at = at[char]
            if not at.places:
                return False
        return self._end in at.places

    def moved(self, places: frozenset[int], char: str) -> _Set:
        self._left -= len(places)
        return self._set({to for place in places for test, to in self._steps[place] if test(char)})

    def _set(self, places: set[int]) -> _Set:
        todo = list(places)
        while todo:
            new = [place for place in self._free[todo.pop()] if place not in places]
            places.update(new)
            todo += new
        self._left -= len(places) + 1
        if self._left < 0:
            raise InvalidParams(
                f"The pattern {self._glob[:200]!r} is too much work for all these paths.", "Give a simpler one."
            )
        found = frozenset(places)
        return self._sets.setdefault(found, _Set(self, found))

    # -- the automaton

    def _place(self, before: Iterable[int] = ()) -> int:
        """A new one, to which others lead freely."""
        self._steps.append([])
        self._free.append([])
        new = len(self._steps) - 1
        for place in before:
            self._free[place].append(new)
        return new

    def _built(self, tokens: list[str]) -> int:
        at = 0
        groups: list[tuple[int, list[int]]] = []  # where each began, and where its choices ended
        for token in tokens:
            match token:
                case "{":
                    groups.append((at, []))
                    at = self._place([at])
                case "," if groups:
                    began, ends = groups[-1]
                    ends.append(at)
                    at = self._place([began])
                case "}" if groups:
                    _, ends = groups.pop()
                    at = self._place([*ends, at])
                case _:
                    at = self._token(token, at)
        for _, ends in reversed(groups):  # that nobody closed
            at = self._place([*ends, at])
        return at

    def _token(self, token: str, at: int) -> int:
        match token:
            case "**/":
                within, new = self._place([at]), self._place([at])
                self._steps[within] += [(_any, within), ("/".__eq__, new)]
            case "**" | "*":
                within = self._place([at])
                self._steps[within].append((_any if token == "**" else _in_name, within))
                new = self._place([within])
            case _:
                new = self._place()
                self._steps[at].append((_test(token), new))
        return new


class _Set(dict[str, "_Set"]):
    """Places that a path may be at, and the sets that characters lead to, found when they are asked for."""

    __slots__ = ("_pattern", "places")

    def __init__(self, pattern: Pattern, places: frozenset[int]) -> None:
        super().__init__()
        self._pattern, self.places = pattern, places

    def __missing__(self, char: str) -> _Set:
        found = self[char] = self._pattern.moved(self.places, char)
        return found


def _any(_char: str) -> bool:
    return True


def _in_name(char: str) -> bool:
    return char != "/"


def _test(token: str) -> Test:
    if token == "?":
        return _in_name
    return token.__eq__ if len(token) == 1 else _choice(token[1:-1])


def _choice(inside: str) -> Test:
    negated = inside.startswith("!")
    body = inside[negated:].replace("\\", "\\\\").replace("]", "\\]").replace("^", "\\^").replace("[", "\\[")
    return re.compile(f"(?!/)[{'^' if negated else ''}{body}]", re.DOTALL).match
