"""One gateway for all tests of transports: they share nothing but its process."""

from __future__ import annotations

from collections.abc import Iterator

import anyio
import pytest

from tests.support import GatewayProcess, free_port, gateway_process


@pytest.fixture(scope="session")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """A gateway with the agents `echo` on the rehearsal runtime and `tck` on the one for conformance, and gRPC."""
    port = str(free_port())
    env = {"SWITCHBOARD_GRPC_PORT": port, "SWITCHBOARD_GRPC_PUBLIC_ADDRESS": f"127.0.0.1:{port}"}
    env |= {"SWITCHBOARD_CONFORMANCE": "1"}
    with gateway_process(tmp_path_factory.mktemp("transports"), env) as gateway:
        anyio.run(_create, gateway)
        yield gateway


async def _create(gateway: GatewayProcess) -> None:
    client = gateway.client()
    async with client.http:
        await client.owner("agent.create", name="echo", runtime="rehearsal")
        await client.owner("agent.create", name="tck", runtime="conformance", quick=True)
