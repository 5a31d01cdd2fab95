"""Paths of the workspace as tools name them, and patterns of such paths."""

from __future__ import annotations

import posixpath
import re

from gateway.errors import InvalidParams
from gateway.hands.tools import ROOT

_OUTSIDE = "Tools read and write below {root} only; for another place run a command."


def within(path: str, start: str) -> str:
    """A path, seen from the folder `start` of the workspace, as one relative to the workspace.

    Raises InvalidParams for one that leads out, or that no file can have.
    """
    if re.search(r"[\0\n]", path):
        raise InvalidParams(
            f"The path {path[:200]!r} has a character that no tool takes in a path.", "Rename the file by bash."
        )
    clean = posixpath.normpath(posixpath.join(ROOT, start, path))
    if clean != ROOT and not clean.startswith(f"{ROOT}/"):
        raise InvalidParams(f"The path {path[:200]!r} leads out of the workspace.", _OUTSIDE.format(root=ROOT))
    return posixpath.relpath(clean, ROOT)


def seen(path: str, start: str) -> str:
    """The other way round."""
    return posixpath.relpath(path, start or ".")


def leads_out(path: str) -> str:
    return f"The path {path!r} leads out of the workspace by a symbolic link. {_OUTSIDE.format(root=ROOT)}"


def pattern_of(glob: str) -> re.Pattern[str]:
    """`**/` is any folders or none, `*` and `?` stay within a folder, `[...]` and `{a,b}` are choices. Raises InvalidParams."""
    try:
        return re.compile(f"{_regex(glob.removeprefix('./'))}\\Z", re.DOTALL)
    except re.error as exc:
        raise InvalidParams(f"The pattern {glob[:200]!r} makes no sense: {exc}.", "Such as `src/**/*.py`.") from exc


_TOKEN = re.compile(r"\*\*/|\*\*|\*|\?|\[!?\]?[^\]]*\]|[{},]|.", re.DOTALL)


def _regex(glob: str) -> str:
    out, depth = [], 0
    for token in _TOKEN.findall(glob):
        match token:
            case "**/":
                out.append("(?:.*/)?")
            case "**":
                out.append(".*")
            case "*":
                out.append("[^/]*")
            case "?":
                out.append("[^/]")
            case "{":
                depth += 1
                out.append("(?:")
            case "}" if depth:
                depth -= 1
                out.append(")")
            case "," if depth:
                out.append("|")
            case _ if len(token) > 1:
                out.append(_choice(token[1:-1]))
            case _:
                out.append(re.escape(token))
    return "".join(out) + ")" * depth


def _choice(inside: str) -> str:
    negated = inside.startswith("!")
    body = inside[negated:].replace("\\", "\\\\").replace("]", "\\]").replace("^", "\\^").replace("[", "\\[")
    return f"(?!/)[{'^' if negated else ''}{body}]"
