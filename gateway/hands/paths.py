"""Paths of the workspace as tools name them."""

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
