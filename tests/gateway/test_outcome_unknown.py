"""A commit of which nobody knows whether it is stored: it is told so, and nothing is done twice. [DB-2]"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import grpc.aio
import pytest
from a2a.types import a2a_pb2 as pb
from a2a.types.a2a_pb2_grpc import A2AServiceStub

from gateway.cli.session_api import SessionApi
from gateway.db.engine import Database
from gateway.errors import OutcomeUnknown
from gateway.log.store import Log
from tests.crash.witness import check_log, check_turn, full_text
from tests.gateway.sessions.api import Api, problem
from tests.support import HEADERS, Json, free_port, message, serving

UNKNOWN = OutcomeUnknown("The database did not come back to tell whether a commit was stored.", "Look.")


def lose(monkeypatch: pytest.MonkeyPatch, of: Any, name: str, stored: bool, count: int = 1) -> Callable[[], int]:
    """The answers to the first writes of one place, stored or not, get lost; how many were."""
    real, seen = of.write, 0

    async def write(self: Any, op: Any, *more: Any, **options: Any) -> Any:
        nonlocal seen
        mine = op.__qualname__ == name and seen < count
        seen += mine
        if stored or not mine:
            found = await real(self, op, *more, **options)
        if mine:
            raise OutcomeUnknown(UNKNOWN.message, UNKNOWN.hint)
        return found

    monkeypatch.setattr(of, "write", write)
    return lambda: seen


@pytest.mark.parametrize("stored", [True, False], ids=["stored", "not stored"])
async def test_a_message_is_told_as_not_known_in_every_protocol_and_done_once_under_its_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stored: bool
) -> None:
    """[DB-2] [IDEM-1]"""
    accepting = "Engine.accept.<locals>.op"
    async with serving(tmp_path) as gateway:
        api, at = Api(gateway), f"{gateway.url}/agents/hello"
        made = [("N=1", {"Idempotency-Key": f"key-{number}-of-more-than-22"}) for number in range(3)]

        async def ask(number: int) -> Any:
            text, headers = made[number]
            if number == 0:
                return await api.ask("POST", "", {"agent": "hello", "input": text}, headers=headers)
            params = {"message": {**message(text), "messageId": "m"}}
            body = params if number == 1 else {"jsonrpc": "2.0", "id": 1, "method": "SendMessage", "params": params}
            path = "/message:send" if number == 1 else ""
            return await gateway.http.post(f"{at}{path}", json=body, headers={**HEADERS, **headers})

        lost = lose(monkeypatch, Database, accepting, stored, 3)
        told = [await ask(number) for number in range(3)]
        assert lost() == 3
        again = [await ask(number) for number in range(3)]
        sessions = (await gateway.owner("sessions.list"))["sessions"]
    assert [(answer.status_code, "retry-after" in answer.headers) for answer in told] == [(503, False)] * 3
    assert problem(told[0]) == (503, "outcome_unknown")
    assert told[1].json()["error"]["details"][0]["reason"] == "OUTCOME_UNKNOWN"
    assert told[2].json()["error"]["code"] == -32017
    for answer in told:
        assert "not known whether this was done (incident inc_" in answer.text
        assert "Idempotency-Key" in answer.text
    assert [answer.status_code for answer in again] == [201, 200, 200]
    assert len(sessions) == 3


async def test_grpc_says_unknown_and_not_unavailable_which_clients_try_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    said = pb.Message(message_id="m", role=pb.ROLE_USER, parts=[pb.Part(text="N=1")])
    asked = pb.SendMessageRequest(tenant="hello", message=said)
    async with serving(tmp_path, grpc_port=port), grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        lose(monkeypatch, Database, "Engine.accept.<locals>.op", stored=True)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await A2AServiceStub(channel).SendMessage(asked, metadata=(("a2a-version", "1.0"),), timeout=30)
    assert caught.value.code() == grpc.StatusCode.UNKNOWN
    assert "not known whether this was done" in (caught.value.details() or "")


@pytest.mark.parametrize("stored", [True, False], ids=["stored", "not stored"])
async def test_a_streaming_message_without_a_key_is_looked_for_by_its_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stored: bool
) -> None:
    """[DB-2] [IDEM-4] As the error says; the messageId is among its words."""
    async with serving(tmp_path) as gateway:
        lose(monkeypatch, Database, "Engine.accept.<locals>.op", stored)
        params = {"message": message("N=2")}
        body = {"jsonrpc": "2.0", "id": 1, "method": "SendStreamingMessage", "params": params}
        told = await gateway.http.post(f"{gateway.url}/agents/hello", json=body, headers=HEADERS)
        asked = {"Last-Event-ID": "0"}
        answer = await gateway.http.post(f"{gateway.url}/agents/hello", json=body, headers=HEADERS | asked)
        sessions = (await gateway.owner("sessions.list"))["sessions"]
    assert "its messageId and Last-Event-ID: 0" in told.json()["error"]["message"]
    assert len(sessions) == stored
    assert ("word1" in answer.text) == stored


async def test_an_owner_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(tmp_path) as gateway:
        lost = lose(monkeypatch, Database, "agent_delete.<locals>.<lambda>", stored=True)
        body = {"jsonrpc": "2.0", "id": 1, "method": "agent.delete", "params": {"name": "hello"}}
        headers = {"Authorization": f"Bearer {gateway.owner_key}"}
        answer = await gateway.http.post(f"{gateway.url}/owner", json=body, headers=headers)
    assert lost() == 1
    assert (answer.status_code, "retry-after" in answer.headers) == (503, False)
    assert answer.json()["error"]["data"]["code"] == "outcome_unknown"


async def test_the_command_sends_a_message_again_under_its_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(tmp_path) as gateway:
        session = await Api(gateway).finished("N=1")
        key = session["client_token"]["token"]
        lose(monkeypatch, Database, "Engine.accept.<locals>.op", stored=True)
        command = SessionApi(gateway.url, key)
        await anyio.to_thread.run_sync(command.send, session["id"], "N=2", "auto")
        await Api(gateway).rest(session["id"])
        events = await gateway.events(session["id"])
    assert [event["type"] for event in events].count("message") == 2


@pytest.mark.parametrize("stored", [True, False], ids=["stored", "not stored"])
async def test_a_turn_whose_write_is_not_known_goes_on_by_what_the_log_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stored: bool
) -> None:
    """[DB-2] [INV-2] [INV-6] Its own worker finds it, as any that is lost."""
    prompt = "N=40 D=2000"
    async with serving(tmp_path, lease_seconds=0.5, stop_seconds=0.1) as gateway:
        lost = lose(monkeypatch, Log, "Record._with_files.<locals>.op", stored)
        with anyio.fail_after(20):
            task = await gateway.send("hello", prompt)
        events = await gateway.events(task["contextId"])
    assert lost() == 1
    assert task["status"]["state"] == "TASK_STATE_COMPLETED"
    check_log(events)
    check_turn([event for event in events if event["turn_id"]], prompt)
    assert full_text(prompt) in "".join(texts(events))


def texts(events: list[Json]) -> list[str]:
    return [event["body"]["text"] for event in events if event["type"] == "chunk"]
