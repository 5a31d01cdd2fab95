"""The official SDK's client over a real socket, on the rehearsal runtime."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import httpx
from a2a.client import A2ACardResolver, ClientConfig, ClientFactory
from a2a.client.client import Client
from a2a.types import a2a_pb2 as pb

from tests.support import serving

SECONDS = 30


@asynccontextmanager
async def connected(tmp_path: Path, *, streaming: bool = True) -> AsyncIterator[Client]:
    """A client made from the card that the agent `hello` publishes."""
    async with serving(tmp_path) as gateway, httpx.AsyncClient(timeout=SECONDS) as http:
        with anyio.fail_after(SECONDS):
            card = await A2ACardResolver(http, f"{gateway.url}/agents/hello").get_agent_card()
            assert (card.name, card.capabilities.streaming) == ("hello", True)
            client = ClientFactory(ClientConfig(httpx_client=http, streaming=streaming)).create(card)
            yield client


def asking(text: str) -> pb.SendMessageRequest:
    message = pb.Message(message_id=uuid.uuid4().hex, role=pb.ROLE_USER, parts=[pb.Part(text=text)])
    return pb.SendMessageRequest(message=message)


def text_of(artifacts: list[pb.Artifact]) -> str:
    return "".join(part.text for artifact in artifacts for part in artifact.parts)


async def test_it_streams_a_task_to_its_end(tmp_path: Path) -> None:
    async with connected(tmp_path) as client:
        events = [event async for event in client.send_message(asking("N=3"))]
    assert [event.WhichOneof("payload") for event in events][:2] == ["task", "status_update"]
    pieces = [event.artifact_update for event in events if event.HasField("artifact_update")]
    assert text_of([piece.artifact for piece in pieces if not piece.last_chunk]) == "word0 word1 word2 "
    assert text_of([pieces[-1].artifact]) == "word0 word1 word2 "
    assert events[-1].status_update.status.state == pb.TASK_STATE_COMPLETED


async def test_it_sends_without_streaming_and_finds_the_task_again(tmp_path: Path) -> None:
    async with connected(tmp_path, streaming=False) as client:
        [answer] = [event async for event in client.send_message(asking("N=3"))]
        found = await client.get_task(pb.GetTaskRequest(id=answer.task.id))
        listed = await client.list_tasks(pb.ListTasksRequest(context_id=answer.task.context_id))
    assert answer.task.status.state == pb.TASK_STATE_COMPLETED
    assert text_of(list(answer.task.artifacts)) == "word0 word1 word2 "
    assert found == answer.task
    assert [task.id for task in listed.tasks] == [answer.task.id]


async def test_it_cancels_a_task_and_the_stream_ends(tmp_path: Path) -> None:
    canceled = pb.Task()
    async with connected(tmp_path) as client:
        async for event in client.send_message(asking("N=3 HANG")):
            if event.HasField("artifact_update") and not canceled.id:
                task_id = event.artifact_update.task_id
                canceled = await client.cancel_task(pb.CancelTaskRequest(id=task_id))
    assert canceled.status.state == pb.TASK_STATE_CANCELED
    assert event.status_update.status.state == pb.TASK_STATE_CANCELED


async def test_it_follows_a_task_that_is_under_way(tmp_path: Path) -> None:
    async with connected(tmp_path) as client:
        request = asking("N=200 D=5000")
        request.configuration.return_immediately = True
        task_id = ""
        async for event in client.send_message(request):
            task_id = event.task.id or event.status_update.task_id
            if event.HasField("status_update"):
                break
        events = [event async for event in client.subscribe(pb.SubscribeToTaskRequest(id=task_id))]
    assert events[0].task.id == task_id
    assert events[-1].status_update.status.state == pb.TASK_STATE_COMPLETED
