"""The runtimes there are: one line each, and plug-ins by the entry point group `switchboard.runtimes`.

A plug-in's entry point names a `Profile`; a name already taken by a built-in one is refused with a warning.
"""

from __future__ import annotations

import logging
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points

from adapters.profile import Profile

BUILT_IN = {
    "claude": "adapters.runtimes.claude.profile",
    "codex": "adapters.runtimes.codex.profile",
    "gemini": "adapters.runtimes.gemini.profile",
    "opencode": "adapters.runtimes.opencode.profile",
    "acp": "adapters.runtimes.acp.profile",
    "rehearsal": "adapters.runtimes.rehearsal.profile",
}
FOR_TESTS = {"conformance": "adapters.runtimes.conformance.profile"}
GROUP = "switchboard.runtimes"

logger = logging.getLogger(__name__)


@cache
def profiles(*, conformance: bool = False) -> dict[str, Profile]:
    """Every runtime by name, built-in ones first; the one for conformance tests only where it is asked for."""
    modules = BUILT_IN | (FOR_TESTS if conformance else {})
    found = {name: import_module(module).PROFILE for name, module in modules.items()}
    for point in entry_points(group=GROUP):
        profile = _load(point)
        if profile is not None:
            found.setdefault(profile.name, profile)
    return found


def _load(point: object) -> Profile | None:
    try:
        profile = point.load()  # type: ignore[attr-defined]  # EntryPoint, untyped across versions
    except Exception:
        logger.exception("the runtime plug-in %r could not be loaded", point)
        return None
    if not isinstance(profile, Profile) or profile.name in BUILT_IN | FOR_TESTS:
        logger.warning("the runtime plug-in %r is no Profile of a new name and was left out", point)
        return None
    return profile
