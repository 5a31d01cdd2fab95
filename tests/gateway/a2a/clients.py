"""The official SDK's client on every transport and in every version: one way to say what is done, six legs to do it on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import grpc.aio
import httpx
from a2a.client import A2ACardResolver, ClientConfig, ClientFactory
from a2a.client.client import Client, ClientCallContext
from a2a.types import a2a_pb2 as pb

from tests.support import GatewayProcess, message

BINDINGS = {"jsonrpc": "JSONRPC", "rest": "HTTP+JSON", "grpc": "GRPC"}


@dataclass(frozen=True, slots=True)
class Leg:
    transport: str
    version: str

    def __str__(self) -> str:
        return f"{self.transport}-{self.version}"


LEGS = [Leg(transport, version) for version in ("1.0", "0.3") for transport in BINDINGS]


@dataclass(frozen=True, slots=True)
class Caller:
    """An SDK client of one agent on one leg."""

    client: Client
    context: ClientCallContext

    async def send(self, text: str, **more: Any) -> pb.Task:
        found = [event async for event in self.client.send_message(request(text, **more), context=self.context)]
        return found[-1].task

    async def stream(self, text: str, **more: Any) -> list[pb.StreamResponse]:
        return [event async for event in self.events(text, **more)]

    def events(self, text: str, **more: Any) -> AsyncIterator[pb.StreamResponse]:
        return self.client.send_message(request(text, **more), context=self.context)

    async def get(self, id: str) -> pb.Task:
        return await self.client.get_task(pb.GetTaskRequest(id=id), context=self.context)

    async def cancel(self, id: str) -> pb.Task:
        return await self.client.cancel_task(pb.CancelTaskRequest(id=id), context=self.context)

    async def list(self, context_id: str) -> pb.ListTasksResponse:
        return await self.client.list_tasks(pb.ListTasksRequest(context_id=context_id), context=self.context)

    def subscribe(self, id: str) -> AsyncIterator[pb.StreamResponse]:
        return self.client.subscribe(pb.SubscribeToTaskRequest(id=id), context=self.context)


def request(
    text: str, *, return_immediately: bool = False, task: pb.Task | None = None, context_id: str = "", message_id: str = ""
) -> pb.SendMessageRequest:
    parts = [pb.Part(text=text)] if text else []
    made = pb.Message(message_id=message_id or message(text)["messageId"], role=pb.ROLE_USER, parts=parts)
    made.context_id, made.task_id = (task.context_id, task.id) if task else (context_id, "")
    configuration = pb.SendMessageConfiguration(return_immediately=return_immediately)
    return pb.SendMessageRequest(message=made, configuration=configuration)


@asynccontextmanager
async def calling(gateway: GatewayProcess, leg: Leg, *, streaming: bool = False, agent: str = "echo") -> AsyncIterator[Caller]:
    """A client made from the agent's own card, held to one transport and version (0.3's gRPC stands on no card)."""
    async with httpx.AsyncClient(timeout=60) as http:
        card = await A2ACardResolver(http, f"{gateway.url}/agents/echo").get_agent_card()
        found = [interface for interface in card.supported_interfaces if _is(interface, leg)]
        if leg == Leg("grpc", "0.3"):
            found = [pb.AgentInterface(url=grpc_address(gateway), protocol_binding="GRPC", protocol_version="0.3")]
        del card.supported_interfaces[:]
        card.supported_interfaces.extend(found)
        for interface in card.supported_interfaces:
            interface.url = interface.url.replace("/agents/echo", f"/agents/{agent}")
            interface.tenant = interface.tenant and agent
        config = ClientConfig(
            streaming=streaming,
            httpx_client=http,
            grpc_channel_factory=grpc.aio.insecure_channel,
            supported_protocol_bindings=[BINDINGS[leg.transport]],
        )
        client = ClientFactory(config).create(card)
        try:
            parameters = {"a2a-tenant": agent} if leg == Leg("grpc", "0.3") else None
            yield Caller(client, ClientCallContext(service_parameters=parameters))
        finally:
            await client.close()


def grpc_address(gateway: GatewayProcess) -> str:
    return f"127.0.0.1:{gateway.env['SWITCHBOARD_GRPC_PORT']}"


def _is(interface: pb.AgentInterface, leg: Leg) -> bool:
    return (interface.protocol_binding, interface.protocol_version) == (BINDINGS[leg.transport], leg.version)


def text_of(task: pb.Task) -> str:
    return "".join(part.text for artifact in task.artifacts for part in artifact.parts)


def streamed_text(events: list[pb.StreamResponse]) -> str:
    texts: dict[str, str] = {}
    for event in events:
        if event.HasField("artifact_update"):
            update = event.artifact_update
            piece = "".join(part.text for part in update.artifact.parts)
            before = texts.get(update.artifact.artifact_id, "") if update.append else ""
            texts[update.artifact.artifact_id] = before + piece
    return "".join(texts.values())
