"""The profile of a runtime: a built-in one's, or one made of the image that was pushed under its name."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import Connection

from adapters import contract
from adapters.profile import Profile
from registry import images


def profile_of(conn: Connection, known: Mapping[str, Profile], name: str, version: int | None) -> Profile | None:
    """`version` is the one a session keeps; where there is none of it, of an imported session, say, the current one."""
    if name in known:
        return known[name]
    found = images.find(conn, name, version) or images.find(conn, name)
    return None if found is None else of_image(found)


def pushed(conn: Connection) -> dict[str, Profile]:
    """Every runtime that is an image, as new sessions get it."""
    return {found.name: of_image(found) for found in images.listing(conn)}


def of_image(found: images.Version) -> Profile:
    can = found.image.capabilities
    return contract.profile(
        found.name,
        found.image.digest,
        providers=found.image.providers,
        steer="steer" in can,
        mcp="mcp" in can,
        wants=found.image.env_names,
        title=f"{found.name}, version {found.version}",
    )
