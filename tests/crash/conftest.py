"""Fixtures of the crash tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.crash.nursery import Nursery, nursery


@pytest.fixture(scope="session")
def born() -> Iterator[Nursery]:
    """Gateways that start in a moment."""
    with nursery() as ready:
        yield ready
