"""Runtimes that are images: versions that never change, one of them current. [RUN-7]"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.db.engine import Database
from registry import images
from registry.images import Image
from registry.rules import Invalid, Missing, RegistryError, Stale

ONE = Image("brain:1", "sha256:1", ("openai",), ("steer",), ("GITHUB_TOKEN",))
TWO = Image("brain:2", "sha256:2")


async def test_versions_are_added_and_one_is_current(database_url: str) -> None:
    database = Database(database_url)
    await database.start()
    do = database.write
    first = await do(lambda conn: images.push(conn, "brain", ONE, 1))
    assert (first.version, first.current, first.image) == (1, True, ONE)
    again = await do(lambda conn: images.push(conn, "brain", ONE, 2))
    assert again.version == 1
    assert (await do(lambda conn: images.push(conn, "brain", TWO, 3))).version == 2
    assert [(one.version, one.current) for one in await do(lambda conn: images.versions(conn, "brain"))] == [
        (2, True),
        (1, False),
    ]
    await do(lambda conn: images.make_current(conn, "brain", 1, 4))
    assert (await do(lambda conn: images.get(conn, "brain"))).image == ONE
    await do(lambda conn: images.deprecate(conn, "brain", 2))
    assert (await do(lambda conn: images.get(conn, "brain", 2))).state == "deprecated"
    third = await do(lambda conn: images.push(conn, "brain", TWO, 5))
    assert (third.version, [one.version for one in await do(images.listing)]) == (3, [3])
    await database.aclose()


REFUSED: list[tuple[Callable[[Any], object], type[RegistryError]]] = [
    (lambda conn: images.push(conn, "No", ONE, 1), Invalid),
    (lambda conn: images.push(conn, "no", Image("a", "b", capabilities=("fly",)), 1), Invalid),
    (lambda conn: images.push(conn, "no", Image("a", "b", env_names=("A-B",)), 1), Invalid),
    (lambda conn: images.get(conn, "brian"), Missing),
    (lambda conn: images.get(conn, "brain", 9), Missing),
    (lambda conn: images.versions(conn, "none"), Missing),
    (lambda conn: images.deprecate(conn, "brain", 2), Stale),
    (lambda conn: images.make_current(conn, "brain", 1, 2), Stale),
]


async def test_what_cannot_be_is_refused(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'a.db'}")
    await database.start()
    await database.write(lambda conn: images.push(conn, "brain", ONE, 1))
    await database.write(lambda conn: images.push(conn, "brain", TWO, 1))
    await database.write(lambda conn: images.deprecate(conn, "brain", 1))
    for op, error in REFUSED:
        with pytest.raises(error):
            await database.write(op)
    await database.aclose()
