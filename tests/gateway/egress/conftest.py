from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests import needs
from tests.gateway.deliver.receivers import Receiver, receiving


@pytest.fixture(autouse=True, scope="package")
def _sandbox() -> None:
    needs.a_sandbox()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """An HTTP server on loopback: what names lead to."""
    with receiving() as receiver:
        yield receiver


@pytest.fixture
def port(receiver: Receiver) -> int:
    return int(receiver.url.rpartition(":")[2])
