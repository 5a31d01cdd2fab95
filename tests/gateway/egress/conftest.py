from __future__ import annotations

import secrets
import socket
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


@pytest.fixture
def services() -> Iterator[dict[str, object]]:
    """What listens on this machine, on its own loopback: TCP, UDP, IPv6 and an abstract socket."""
    kinds = {"tcp": (socket.AF_INET, "127.0.0.1"), "six": (socket.AF_INET6, "::1")}
    opened = {name: socket.create_server((at, 0), family=family) for name, (family, at) in kinds.items()}
    abstract = f"test-{secrets.token_hex(8)}"
    with socket.socket(socket.AF_UNIX) as listening, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        listening.bind("\0" + abstract)
        listening.listen()
        udp.bind(("127.0.0.1", 0))
        udp.settimeout(0)
        yield {name: server.getsockname()[1] for name, server in opened.items()} | {
            "abstract": abstract,
            "udp": udp.getsockname()[1],
        }
        with pytest.raises(BlockingIOError):
            udp.recv(1)
    for server in opened.values():
        server.close()
