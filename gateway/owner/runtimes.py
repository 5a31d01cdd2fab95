"""What the methods of runtimes that are images do: a push is checked first, and then a version that never changes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import closing
from errno import ENOENT
from typing import Any

from sqlalchemy import Connection

from adapters.contract import ENDPOINTS
from adapters.launch.container import Engine
from adapters.launch.images import digest_of
from adapters.launch.process import LaunchError
from gateway.clock import iso, now_us
from gateway.errors import Conflict, InvalidParams, NotFound, RuntimeUnavailable
from gateway.owner.context import Owner
from gateway.owner.params import ImageFacts, RuntimesCheck, RuntimesDeprecate, RuntimesPush, RuntimesRollback
from registry import images
from registry.images import Image, Version
from registry.rules import listed

Json = dict[str, Any]

BESIDE = "This gateway runs no turns; ask one beside a worker, whose engine it is (docker compose exec worker switchboard ...)."
UNCHECKED = "The image was NOT CHECKED against the contract: whatever it does wrong, its agents' callers will see."
_IMAGE = re.compile(r".*[:/@].*", re.DOTALL)  # of a runtime no name has any of these


def is_image(name: str) -> bool:
    return _IMAGE.fullmatch(name) is not None


async def push(owner: Owner, asked: RuntimesPush) -> Json:
    """Raises InvalidParams, Conflict for the name of a built-in runtime, NotFound for an image the engine has not."""
    taken = owner.profiles.get(asked.name)
    if taken is not None and not taken.image:
        raise Conflict(f"{asked.name!r} is a runtime of the gateway's own.", "Push it under another name.")
    image = await _resolved(owner, asked.image, asked)
    images.check(asked.name, image)
    report = None if asked.unchecked else await owner.examine(image)
    if report is not None and not report["ok"]:
        return {"name": asked.name, "pushed": False, **report}
    made = await owner.database.write(lambda conn: images.push(conn, asked.name, image, now_us()))
    warnings = [UNCHECKED] if report is None else []
    return {"name": made.name, "pushed": True, **view(made), **(report or {"checks": []}), "warnings": warnings}


async def check_image(owner: Owner, name: str, asked: ImageFacts) -> Json:
    """Raises as `push`."""
    return {"name": name, **await owner.examine(await _resolved(owner, name, asked))}


async def check_pushed(owner: Owner, asked: RuntimesCheck) -> Json:
    """The runtime's current version, as new sessions get it."""
    found = await owner.database.read(lambda conn: images.get(conn, asked.name))
    return {"name": found.name, "version": found.version, **await owner.examine(found.image)}


def versions(conn: Connection, name: str) -> Json:
    return {"name": name, "versions": [view(one) for one in images.versions(conn, name)]}


def rollback(conn: Connection, asked: RuntimesRollback) -> Json:
    """To a version, or to the last active one before the current. Raises NotFound, Conflict."""
    version = asked.version or _before(images.versions(conn, asked.name), asked.name)
    made = images.make_current(conn, asked.name, version, now_us())
    return {"name": made.name, **view(made)}


def deprecate(conn: Connection, asked: RuntimesDeprecate) -> Json:
    """Raises NotFound, and Conflict for the current version."""
    made = images.deprecate(conn, asked.name, asked.version)
    return {"name": made.name, **view(made)}


def _before(found: Sequence[Version], name: str) -> int:
    current = next(one.version for one in found if one.current)
    earlier = [one.version for one in found if one.version < current and one.state == images.ACTIVE]
    if not earlier:
        hint = f"Choose another: switchboard runtimes versions {name}"
        raise Conflict(f"Runtime {name!r} has no active version before version {current}.", hint)
    return max(earlier)


def view(version: Version) -> Json:
    image = version.image
    return {
        "version": version.version,
        "current": version.current,
        "state": version.state,
        "image": image.image,
        "digest": image.digest,
        "providers": list(image.providers),
        "capabilities": list(image.capabilities),
        "env_names": list(image.env_names),
        "created_at": iso(version.created_at),
    }


async def _resolved(owner: Owner, image: str, facts: ImageFacts) -> Image:
    for provider in facts.providers or ():
        if provider not in ENDPOINTS:
            raise InvalidParams(f"There is no model provider {provider[:100]!r}.", f"Choose from: {listed(sorted(ENDPOINTS))}.")
    given = (facts.providers, facts.capabilities, facts.env_names)
    known = [tuple(dict.fromkeys(names or ())) for names in given]
    with closing(Engine(owner.environ)) as engine:
        try:
            return Image(image, await digest_of(engine, image), *known)
        except LaunchError as exc:
            kind = NotFound if exc.errno == ENOENT else RuntimeUnavailable
            what, mend = _parted(str(exc))
            raise kind(what, mend if owner.settings.worker else f"{BESIDE} {mend}") from exc


def _parted(said: str) -> tuple[str, str]:
    """What happened, and what to do."""
    what, _, mend = said.partition(". ")
    return (f"{what}.", mend) if mend else (said, "Look at the container engine, and at its log.")
