"""The same message sent again: by its key it makes nothing new, with Last-Event-ID its stream goes on."""

from __future__ import annotations

import json
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
from a2a.utils.errors import A2AError

from gateway.a2a.repeats import METADATA
from tests.gateway.a2a.clients import LEGS, Leg, calling, request
from tests.gateway.turns.calls import cancel
from tests.support import HEADERS, Client, Frame, GatewayProcess, Json, message, serving, text_of

KEY = "8e03978e-40d5-43e8-bc93-6894a57f9324"
WAYS = {
    "jsonrpc-1.0": ("", "1.0"),
    "rest-1.0": ("/message:stream", "1.0"),
    "jsonrpc-0.3": ("", "0.3"),
    "rest-0.3": ("/v1/message:stream", "0.3"),
}
BODIES: dict[str, Json] = {
    "jsonrpc-1.0": {"jsonrpc": "2.0", "id": 1, "method": "SendStreamingMessage", "params": {"message": message("N=20 D=1000")}},
    "rest-1.0": {"message": message("N=20 D=1000")},
    "jsonrpc-0.3": {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "message/stream",
        "params": {
            "message": {"messageId": KEY, "role": "user", "parts": [{"kind": "text", "text": "N=20 D=1000"}], "kind": "message"}
        },
    },
    "rest-0.3": {"message": {"messageId": KEY, "role": "ROLE_USER", "content": [{"text": "N=20 D=1000"}]}},
}
on_every_database = pytest.mark.usefixtures("database_url")
on_every_way = pytest.mark.parametrize("way", WAYS)


def key(value: str) -> dict[str, str]:
    return {"Idempotency-Key": value}


async def sessions(gateway: Client) -> list[Json]:
    found: list[Json] = (await gateway.owner("sessions.list"))["sessions"]
    return found


async def stream(gateway: Client, way: str, headers: dict[str, str]) -> list[str]:
    """The lines of a stream, but for comments."""
    path, version = WAYS[way]
    headers = {"A2A-Version": version, **headers}
    async with gateway.http.stream("POST", f"{gateway.url}/agents/hello{path}", json=BODIES[way], headers=headers) as answer:
        assert answer.status_code == 200, await answer.aread()
        return [line async for line in answer.aiter_lines() if not line.startswith(":")]


async def post(gateway: Client, path: str, body: Json, headers: dict[str, str]) -> httpx2.Response:
    return await gateway.http.post(f"{gateway.url}/agents/hello{path}", json=body, headers={**HEADERS, **headers})


# -- keys


@pytest.mark.anyio
@pytest.mark.parametrize("leg", LEGS, ids=str)
async def test_the_same_message_under_the_same_key_is_one_task(gateway: GatewayProcess, leg: Leg) -> None:
    """[IDEM-1] [A2A-7]"""
    asked, other = request("N=2"), request("N=2 other")
    with anyio.fail_after(30):
        async with calling(gateway, leg) as caller:
            context = caller.context.model_copy(
                update={"service_parameters": {**(caller.context.service_parameters or {}), **key(f"{leg}-{KEY}")}}
            )
            tasks = [[event async for event in caller.client.send_message(asked, context=context)][-1].task for _ in range(2)]
            with pytest.raises(A2AError, match=r"422|This Idempotency-Key was used for another request"):
                assert not [event async for event in caller.client.send_message(other, context=context)]
    assert tasks[0] == tasks[1]


async def test_of_many_at_once_one_is_stored_and_all_are_told_of_it(tmp_path: Path, database_url: str) -> None:
    """[IDEM-1] Through two gateways, where two can share a database."""
    answers: list[Json] = []
    params = {"message": message("N=2")}

    async def send(gateway: Client) -> None:
        answers.append(await gateway.rpc("hello", "SendMessage", params, key(KEY)))

    async with AsyncExitStack() as stack:
        count = 2 if database_url.startswith("postgresql") else 1
        gateways = [await stack.enter_async_context(serving(tmp_path)) for _ in range(count)]
        with anyio.fail_after(30):
            async with anyio.create_task_group() as group:
                for n in range(12):
                    group.start_soon(send, gateways[n % count])
            assert len(await sessions(gateways[0])) == 1
    assert answers == [answers[0]] * 12
    assert text_of(answers[0]["result"]["task"]) == "word0 word1 "


async def test_how_the_answer_is_wanted_does_not_make_another_request(tmp_path: Path) -> None:
    sent = {"message": message("N=1 HANG")}
    async with serving(tmp_path, stop_seconds=0) as gateway:
        with anyio.fail_after(30):
            at_once = {"configuration": {"returnImmediately": True, "historyLength": 0}}
            first = (await gateway.rpc("hello", "SendMessage", {**sent, **at_once}, key(KEY)))["result"]["task"]
            blocked: list[Json] = []

            async def again() -> None:
                blocked.append((await gateway.rpc("hello", "SendMessage", sent, key(KEY)))["result"]["task"])

            async with anyio.create_task_group() as group:
                group.start_soon(again)
                await cancel(gateway, first["id"])
            assert blocked == [await gateway.get("hello", first["id"])]
    assert blocked[0]["status"]["state"] == "TASK_STATE_CANCELED"


@on_every_way
async def test_a_repeated_stream_is_told_from_its_beginning_after_a_restart_too(tmp_path: Path, way: str) -> None:
    """[IDEM-2]"""
    with anyio.fail_after(30):
        async with serving(tmp_path) as gateway:
            first = await stream(gateway, way, key(KEY))
            assert await stream(gateway, way, key(KEY)) == first
        async with serving(tmp_path) as gateway:
            assert await stream(gateway, way, key(KEY)) == first
            assert len(await sessions(gateway)) == 1


@on_every_database
async def test_another_body_is_refused_with_422_and_leaves_nothing(tmp_path: Path) -> None:
    """[IDEM-1]"""
    async with serving(tmp_path) as gateway:
        with anyio.fail_after(30):
            await gateway.rpc("hello", "SendMessage", {"message": message("N=1")}, key(KEY))
            body = {"message": message("N=1")}
            call = {"jsonrpc": "2.0", "id": 4, "method": "SendStreamingMessage", "params": body}
            rest = await post(gateway, "/message:send", body, key(KEY))
            jsonrpc = await post(gateway, "", call, key(KEY))
            assert len(await sessions(gateway)) == 1
    said = "This Idempotency-Key was used for another request. Take a new key for a new request."
    reason = {
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "domain": "a2a-protocol.org",
        "reason": "IDEMPOTENCY_KEY_REUSED",
        "metadata": {},
    }
    assert (rest.status_code, jsonrpc.status_code) == (422, 422)
    assert rest.json()["error"] == {"code": 422, "message": said, "status": "INVALID_ARGUMENT", "details": [reason]}
    assert jsonrpc.json() == {"jsonrpc": "2.0", "id": 4, "error": {"code": -32016, "message": said, "data": [reason]}}


async def test_the_key_may_stand_in_the_messages_metadata(tmp_path: Path) -> None:
    params = {"message": message("N=1", metadata={METADATA: KEY})}
    async with serving(tmp_path) as gateway:
        with anyio.fail_after(30):
            answers = [await gateway.rpc("hello", "SendMessage", params, headers) for headers in ({}, {}, key(KEY))]
            odd = [
                await gateway.rpc("hello", "SendMessage", {"message": message("N=1", metadata={METADATA: value})}, key("other"))
                for value in (KEY, 7, "", ["other"])
            ]
    assert answers == [answers[0]] * 3
    assert [answer["error"]["code"] for answer in odd] == [-32602] * 4


async def test_quotes_around_a_key_do_not_belong_to_it(tmp_path: Path) -> None:
    params = {"message": message("N=1")}
    async with serving(tmp_path) as gateway:
        with anyio.fail_after(30):
            answers = [await gateway.rpc("hello", "SendMessage", params, key(value)) for value in (KEY, f'"{KEY}"')]
    assert answers[0] == answers[1]


@pytest.mark.parametrize("value", ["", "two words", "a,b", "x" * 256, '"'])
async def test_a_key_that_cannot_be_used_is_told_and_nothing_is_made(tmp_path: Path, value: str) -> None:
    """[A2A-5]"""
    async with serving(tmp_path) as gateway:
        with anyio.fail_after(30):
            answer = await post(gateway, "/message:send", {"message": message("N=1")}, key(value))
            assert await sessions(gateway) == []
    assert answer.status_code == 400
    assert "Idempotency-Key" in answer.json()["error"]["message"]


async def test_callers_know_nothing_of_one_anothers_keys(tmp_path: Path) -> None:
    """[IDEM-3] [INV-7]"""
    params = {"message": message("N=1")}
    async with serving(tmp_path) as gateway:
        with anyio.fail_after(30):
            tasks = [(await gateway.rpc("hello", "SendMessage", params, key(KEY)))["result"]["task"]]
            for name in ("one", "two"):
                await gateway.sign_in((await gateway.owner("callers.add", name=name))["key"])
                tasks.append((await gateway.rpc("hello", "SendMessage", params, key(KEY)))["result"]["task"])
    assert len({task["id"] for task in tasks}) == 3


async def test_who_does_not_sign_in_among_strangers_needs_a_key_nobody_guesses(tmp_path: Path) -> None:
    """[IDEM-3]"""
    params = {"message": message("N=1")}
    async with serving(tmp_path, anonymous_listing=False) as gateway:
        with anyio.fail_after(30):
            refused = await gateway.rpc("hello", "SendMessage", params, key("order-7"))
            taken = [await gateway.rpc("hello", "SendMessage", params, key(KEY)) for _ in range(2)]
            await gateway.sign_in()
            assert "result" in await gateway.rpc("hello", "SendMessage", params, key("order-7"))
    assert refused["error"]["code"] == -32602
    assert "too short" in refused["error"]["message"]
    assert taken[0] == taken[1]


@on_every_database
async def test_a_key_is_free_again_when_its_time_is_over(tmp_path: Path) -> None:
    """[IDEM-1]"""
    params = {"message": message("N=1")}
    async with serving(tmp_path, idempotency_hours=1e-9) as gateway:
        with anyio.fail_after(30):
            answers = [await gateway.rpc("hello", "SendMessage", params, key(KEY)) for _ in range(2)]
    assert answers[0]["result"]["task"]["id"] != answers[1]["result"]["task"]["id"]


@on_every_database
async def test_what_was_refused_leaves_its_key_free(tmp_path: Path) -> None:
    params, hold = {"message": message("N=1")}, {"returnImmediately": True}
    async with serving(tmp_path, stop_seconds=0) as gateway:
        await gateway.sign_in((await gateway.owner("callers.add", name="shop", running_tasks=1))["key"])
        with anyio.fail_after(30):
            task = await gateway.send("hello", "N=1 HANG", configuration=hold)
            refused = await gateway.rpc("hello", "SendMessage", params, key(KEY))
            await cancel(gateway, task["id"])
            taken = await gateway.rpc("hello", "SendMessage", params, key(KEY))
            await gateway.send("hello", "N=1 HANG", configuration=hold)
            assert await gateway.rpc("hello", "SendMessage", params, key(KEY)) == taken  # no one more task: no limit
            for session in await sessions(gateway):
                await gateway.owner("sessions.cancel", id=session["id"])
    assert refused["error"]["code"] == -32015
    assert text_of(taken["result"]["task"]) == "word0 "


# -- Last-Event-ID


def after(lines: list[str], last: str) -> list[str]:
    """What follows an event in a stream's lines."""
    return lines[lines.index("", lines.index(f"id: {last}")) + 1 :]


@on_every_way
@pytest.mark.parametrize("headers", [{}, key(KEY)], ids=["by its words", "by its key"])
async def test_a_stream_that_was_cut_goes_on_where_its_post_is_repeated(
    tmp_path: Path, way: str, headers: dict[str, str]
) -> None:
    """[IDEM-4]"""

    async def check(gateway: Client) -> None:
        for last in [line.removeprefix("id: ") for line in first if line.startswith("id: ")]:
            assert await stream(gateway, way, {**headers, "Last-Event-ID": last}) == after(first, last)
        assert len(await sessions(gateway)) == 1

    with anyio.fail_after(60):
        async with serving(tmp_path) as gateway:
            first = await stream(gateway, way, headers)
            await check(gateway)
        async with serving(tmp_path) as gateway:
            await check(gateway)


async def test_a_stream_that_is_cut_while_it_runs_goes_on_without_a_second_task(tmp_path: Path) -> None:
    """[IDEM-4]"""
    params = {"message": message("N=150 D=3000")}
    got: list[Frame] = []
    async with serving(tmp_path) as gateway:
        with anyio.fail_after(30):
            while not got or got[-1].result.get("statusUpdate", {}).get("status", {}).get("state") in (
                None,
                "TASK_STATE_WORKING",
            ):
                last = next((frame.id for frame in reversed(got) if frame.id), "")
                got = got[: 1 + max((n for n, frame in enumerate(got) if frame.id), default=-1)]
                taken = 0
                headers = {"Last-Event-ID": last} if last else {}
                async for frame in gateway.frames("hello", "SendStreamingMessage", params, headers):
                    got.append(frame)
                    taken += 1
                    if taken == 9:
                        break
            assert len(await sessions(gateway)) == 1
            whole = [frame async for frame in gateway.frames("hello", "SendStreamingMessage", params, {"Last-Event-ID": "1"})]
    assert got[1:] == whole


@on_every_database
async def test_the_stream_of_a_message_that_ended_with_a_question_stays_ended(tmp_path: Path) -> None:
    """[IDEM-4]"""
    async with serving(tmp_path) as gateway:
        with anyio.fail_after(30):
            params: Json = {"message": message("N=2 ASK")}
            asked = [frame async for frame in gateway.frames("hello", "SendStreamingMessage", params)]
            task = asked[0].result["task"]
            answer = {"message": message("N=2", taskId=task["id"])}
            answered = [frame async for frame in gateway.frames("hello", "SendStreamingMessage", answer)]
            for first, sent in ((asked, params), (answered, answer)):
                for number, frame in enumerate(first):
                    if frame.id:
                        headers = {"Last-Event-ID": frame.id}
                        again = [frame async for frame in gateway.frames("hello", "SendStreamingMessage", sent, headers)]
                        assert again == first[number + 1 :]


@on_every_way
async def test_what_was_never_sent_cannot_be_continued_and_nothing_is_made(tmp_path: Path, way: str) -> None:
    """[IDEM-4] [INV-7]"""
    path, version = WAYS[way]
    said = "Last-Event-ID continues a message that was sent before, and this one was not. Leave it out to send the message."
    async with serving(tmp_path) as gateway:
        with anyio.fail_after(30):
            headers = {"A2A-Version": version, "Last-Event-ID": "3"}
            never = [await post(gateway, path, BODIES[way], headers | more) for more in ({}, key(KEY))]
            assert await sessions(gateway) == []
            await stream(gateway, way, {})
            await gateway.sign_in()
            foreign = await post(gateway, path, BODIES[way], headers)
            assert len(await sessions(gateway)) == 1
    for answer in (*never, foreign):
        assert answer.json()["error"]["message"] == said
        assert answer.status_code == (400 if "rest" in way else 200)


async def test_other_words_under_the_same_message_id_are_another_message(tmp_path: Path) -> None:
    """[IDEM-4]"""
    sent = message("N=2")
    async with serving(tmp_path) as gateway:
        with anyio.fail_after(30):
            assert [frame async for frame in gateway.frames("hello", "SendStreamingMessage", {"message": sent})]
            other = {"message": {**sent, "parts": [{"text": "N=3"}]}}
            refused = await gateway.rpc("hello", "SendStreamingMessage", other, {"Last-Event-ID": "2"})
            odd = await gateway.rpc("hello", "SendStreamingMessage", {"message": sent}, {"Last-Event-ID": "99999"})
    assert (refused["error"]["code"], odd["error"]["code"]) == (-32600, -32600)


async def test_a_stranger_who_guesses_a_message_id_learns_nothing(tmp_path: Path) -> None:
    """[IDEM-3]"""
    async with serving(tmp_path, anonymous_listing=False) as gateway:
        with anyio.fail_after(30):
            answers: list[Any] = []
            for id in ("1", KEY):
                params = {"message": {**message("N=2"), "messageId": id}}
                first = [frame async for frame in gateway.frames("hello", "SendStreamingMessage", params)]
                headers = {"Last-Event-ID": "1"}
                call = {"jsonrpc": "2.0", "id": 1, "method": "SendStreamingMessage", "params": params}
                answers.append(((await post(gateway, "", call, headers)).text, first))
    guessed, safe = answers
    assert json.loads(guessed[0])["error"]["code"] == -32600
    assert "at least 22 characters" in guessed[0]
    assert safe[0].count("data: ") == len(safe[1]) - 1
