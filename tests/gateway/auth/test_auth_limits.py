"""Limits of a caller: requests in a minute, tasks at work."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import httpx2
from fake_issuer import issuing

from gateway.auth.buckets import Buckets
from tests.support import HEADERS, Client, message, serving


async def post(gateway: Client, key: str, method: str, params: dict[str, Any]) -> httpx2.Response:
    body = {"jsonrpc": "2.0", "id": 7, "method": method, "params": params}
    return await gateway.http.post(f"{gateway.url}/agents/hello", json=body, headers={**HEADERS, "X-API-Key": key})


async def test_more_requests_than_allowed_are_told_when_to_come_back(tmp_path: Path) -> None:
    """[AUTH-5]"""
    async with serving(tmp_path) as gateway:
        key = (await gateway.owner("callers.add", name="shop", requests_per_minute=2))["key"]
        other = (await gateway.owner("callers.add", name="other", requests_per_minute=2))["key"]
        answers = [await post(gateway, key, "ListTasks", {}) for _ in range(3)]
        assert (await post(gateway, other, "ListTasks", {})).status_code == 200
        assert (await gateway.rpc("hello", "ListTasks", {}))["result"]["tasks"] == []
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    wait = answers[-1].headers["retry-after"]
    assert 1 <= int(wait) <= 30
    info = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "domain": "a2a-protocol.org", "reason": "RATE_LIMITED"}
    said = f"More than 2 requests in a minute. Try again in {wait} seconds."
    error = {"code": -32015, "message": said, "data": [{**info, "metadata": {"retryAfter": wait}}]}
    assert answers[-1].json() == {"jsonrpc": "2.0", "id": None, "error": error}


async def test_more_tasks_at_work_than_allowed_are_refused_until_one_ends(tmp_path: Path) -> None:
    """[AUTH-5]"""
    async with serving(tmp_path) as gateway:
        key = (await gateway.owner("callers.add", name="shop", running_tasks=1))["key"]
        later = {"message": message("N=100000 D=100000"), "configuration": {"returnImmediately": True}}
        with anyio.fail_after(30):
            task = (await post(gateway, key, "SendMessage", later)).json()["result"]["task"]
            refused = [
                await post(gateway, key, method, {"message": message("N=1")})
                for method in ("SendMessage", "SendStreamingMessage")
            ]
            more = {**later, "message": message("N=1", taskId=task["id"])}
            assert "result" in (await post(gateway, key, "SendMessage", more)).json()  # the task that is at work already
            await post(gateway, key, "CancelTask", {"id": task["id"]})
            assert "result" in (await post(gateway, key, "SendMessage", {"message": message("N=1")})).json()
            assert len((await gateway.owner("sessions.list"))["sessions"]) == 2  # what was refused left nothing
    for answer in refused:
        assert (answer.status_code, answer.headers["retry-after"]) == (429, "5")
        assert (answer.json()["id"], answer.json()["error"]["code"]) == (7, -32015)


async def test_of_messages_at_once_no_more_begin_than_allowed(tmp_path: Path) -> None:
    """[AUTH-5]"""
    async with serving(tmp_path) as gateway:
        key = (await gateway.owner("callers.add", name="shop", running_tasks=3))["key"]
        codes: list[int] = []

        async def send() -> None:
            params = {"message": message("N=100000 D=100000"), "configuration": {"returnImmediately": True}}
            codes.append((await post(gateway, key, "SendMessage", params)).status_code)

        with anyio.fail_after(30):
            async with anyio.create_task_group() as group:
                for _ in range(12):
                    group.start_soon(send)
            for session in (await gateway.owner("sessions.list"))["sessions"]:
                await gateway.owner("sessions.cancel", id=session["id"])
    assert sorted(codes) == [200] * 3 + [429] * 9


async def test_callers_with_a_token_are_counted_each_for_himself(tmp_path: Path) -> None:
    """[AUTH-5]"""
    async with issuing() as issuer:
        oidc = {"oidc_issuer": issuer.url, "oidc_audience": "agents", "oidc_requests_per_minute": 2}
        async with serving(tmp_path, **oidc) as gateway:
            tokens = [issuer.token()] * 3 + [issuer.token(sub="bob")]
            url = f"{gateway.url}/agents/hello/tasks"
            answers = [await gateway.http.get(url, headers={**HEADERS, "Authorization": f"Bearer {token}"}) for token in tokens]
    assert [answer.status_code for answer in answers] == [200, 200, 429, 200]


def test_a_bucket_holds_a_minutes_worth_and_fills_again() -> None:
    now = 0.0
    buckets = Buckets(lambda: now)
    assert [buckets.take("a", 3) for _ in range(4)] == [0, 0, 0, 20]
    assert buckets.take("b", 3) == 0
    now = 19.9
    assert buckets.take("a", 3) == 1
    now = 20.1
    assert [buckets.take("a", 3) for _ in range(2)] == [0, 20]
    now = 10_000.0
    assert [buckets.take("a", 3) for _ in range(4)] == [0, 0, 0, 20]
    assert buckets.take("a", 600) == 0  # another rate, another bucket
