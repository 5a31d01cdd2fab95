"""Limits and odd requests: each is told clearly, in the shape of its transport. [A2A-5]"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import anyio
import grpc.aio
import httpx2
import pytest
from a2a.types import a2a_pb2 as pb
from a2a.types.a2a_pb2_grpc import A2AServiceStub
from structlog.testing import capture_logs

from gateway.a2a.translate import MAX_HISTORY, Fold
from gateway.auth.addresses import Proxies
from gateway.auth.buckets import Buckets
from gateway.errors import UsageError
from gateway.log.rows import Row
from gateway.server import MAX_HEADERS
from tests.gateway.a2a.clients import request
from tests.support import HEADERS, Client, Json, free_port, message, serving, text_of

V03 = {"A2A-Version": "0.3"}


# -- paths and methods


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "hello", "POST"),
        ("PUT", "hello/", "POST"),
        ("GET", "hello/message:send", "POST"),
        ("DELETE", "hello/tasks/x", "GET, HEAD"),
        ("DELETE", "hello/tasks/x:subscribe", "GET, HEAD, POST"),
        ("PATCH", "hello/tasks/x/pushNotificationConfigs", "GET, HEAD, POST"),
        ("PUT", "hello/tasks/x/pushNotificationConfigs/y", "DELETE, GET, HEAD"),
        ("GET", "hello/v1/message:stream", "POST"),
        ("POST", "hello/.well-known/agent-card.json", "GET, HEAD"),
    ],
)
async def test_a_wrong_method_is_told_which_ones_there_are(tmp_path: Path, method: str, path: str, allowed: str) -> None:
    async with serving(tmp_path) as gateway:
        answer = await gateway.http.request(method, f"{gateway.url}/agents/{path}")
    assert (answer.status_code, answer.headers["allow"]) == (405, allowed)
    said = {"code": "wrong_method", "message": f"{method} is not a method of this path.", "hint": f"Use {allowed}."}
    assert answer.json() == said


@pytest.mark.parametrize("path", ["hello/nope", "hello/v1/nope", "nobody/nope", "hello/a/b/c/d/e", "../nope"])
async def test_a_path_there_is_not_is_told_as_json(tmp_path: Path, path: str) -> None:
    async with serving(tmp_path) as gateway:
        answer = await gateway.http.get(f"{gateway.url}/agents/{path}")
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


# -- parameters


@pytest.mark.parametrize(
    "params",
    [
        {"status": "NOPE"},
        {"status": "working"},
        {"status": ""},
        {"status": 99},
        {"status": -1},
        {"pageSize": 0},
        {"pageSize": -1},
        {"pageSize": 101},
        {"pageSize": 1.5},
        {"pageSize": "many"},
        {"pageSize": 2**40},
        {"historyLength": -1},
        {"historyLength": "all"},
        {"historyLength": 2**31},
        {"pageToken": "nope"},
    ],
    ids=str,
)
async def test_a_listing_with_odd_parameters_is_refused_on_every_transport(tmp_path: Path, params: Json) -> None:
    async with serving(tmp_path) as gateway:
        rpc = await gateway.rpc("hello", "ListTasks", params)
        rest = await gateway.http.get(f"{gateway.url}/agents/hello/tasks", params=params, headers=HEADERS)
    assert rpc["error"]["code"] == -32602
    assert (rest.status_code, rest.json()["error"]["status"]) == (400, "INVALID_ARGUMENT")


@pytest.mark.parametrize("status", [True, ["TASK_STATE_WORKING"], {}], ids=str)
async def test_a_status_that_is_no_word_is_refused(tmp_path: Path, status: Any) -> None:
    async with serving(tmp_path) as gateway:
        assert (await gateway.rpc("hello", "ListTasks", {"status": status}))["error"]["code"] == -32602


async def test_a_state_may_be_given_by_name_or_number_or_not_at_all(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        await gateway.send("hello", "N=1")
        totals = [
            (await gateway.rpc("hello", "ListTasks", params))["result"]["totalSize"]
            for params in (
                {"status": "TASK_STATE_COMPLETED"},
                {"status": 3},
                {"status": "TASK_STATE_WORKING"},
                {"status": None},
            )
        ]
    assert totals == [1, 1, 0, 1]


def test_a_tasks_history_is_told_to_a_bound_and_the_latest_stay() -> None:
    fold = Fold("tsk_1", "ses_1")

    def row(n: int) -> Row:
        body = json.dumps({"message_id": str(n), "parts": [{"text": "x"}], "metadata": {}})
        return Row("ses_1", n, 0, f"evt_{n}", "tsk_1", f"trn_{n}", "message", "user", "human", body, n)

    fold.add(row(n) for n in range(1, MAX_HISTORY + 3))
    assert [said["messageId"] for said in fold.task["history"]] == [str(n) for n in range(3, MAX_HISTORY + 3)]


# -- headers


async def raw(gateway: Client, data: bytes) -> bytes:
    """What the gateway answers to bytes, until it closes the connection."""
    host, _, port = gateway.url.removeprefix("http://").partition(":")
    async with await anyio.connect_tcp(host, int(port)) as stream:
        await stream.send(data)
        answer = b""
        while True:
            try:
                answer += await stream.receive()
            except anyio.EndOfStream:
                return answer


@pytest.mark.parametrize(
    "head",
    [
        b"".join(b"X-%d: y\r\n" % n for n in range(MAX_HEADERS + 1)),
        b"X: " + b"y" * 8192 + b"\r\n",
        b"".join(b"X-%d: %s\r\n" % (n, b"y" * 200) for n in range(50)),
        b"X: " + b"y" * 200_000,  # and on, and on
    ],
    ids=["many", "long", "much", "endless"],
)
async def test_too_many_or_too_long_headers_are_told(tmp_path: Path, head: bytes) -> None:
    """[HEAD-1]"""
    async with serving(tmp_path, max_header_bytes=8192) as gateway:
        with anyio.fail_after(10):
            answer = await raw(gateway, b"GET /health HTTP/1.1\r\nHost: x\r\n" + head + b"\r\n")
            assert (await gateway.http.get(f"{gateway.url}/health")).status_code == 200
    assert answer.startswith(b"HTTP/1.1 431 ")
    assert json.loads(answer.partition(b"\r\n\r\n")[2]) == {
        "code": "too_large",
        "message": "The request has more than 100 headers, or more than 8192 bytes of them.",
        "hint": "Send fewer or shorter ones.",
    }


async def test_a_path_counts_as_well_and_what_is_below_the_limit_passes(tmp_path: Path) -> None:
    """[HEAD-1]"""
    async with serving(tmp_path, max_header_bytes=8192) as gateway:
        with anyio.fail_after(10):
            long = await gateway.http.get(f"{gateway.url}/health?{'x' * 8192}")
            body = {"message": message("N=1 " + "x" * 20_000)}
            fits = await gateway.http.post(
                f"{gateway.url}/agents/hello/message:send", json=body, headers={**HEADERS, "X-Long": "y" * 7000}
            )
    assert (long.status_code, fits.status_code) == (431, 200)


async def test_what_is_no_http_is_told(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        with anyio.fail_after(10):
            answer = await raw(gateway, b"\x16\x03\x01 hello\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 400 ")
    said = json.loads(answer.partition(b"\r\n\r\n")[2])
    assert (said["message"], said["hint"]) == ("The request is no HTTP.", "Send HTTP/1.1.")


# -- rates


async def listed(gateway: Client, **headers: str) -> httpx2.Response:
    return await gateway.http.get(f"{gateway.url}/agents/hello/tasks", headers={**HEADERS, **headers})


async def test_callers_who_do_not_sign_in_are_counted_by_address(tmp_path: Path) -> None:
    """[AUTH-5]"""
    async with serving(tmp_path, anonymous_requests_per_minute=2) as gateway:
        answers = [await listed(gateway, **{"X-Forwarded-For": f"198.51.100.{n}"}) for n in range(3)]
        await gateway.sign_in()
        assert (await listed(gateway)).status_code == 200
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert 1 <= int(answers[-1].headers["retry-after"]) <= 30


async def test_a_trusted_proxy_tells_who_calls(tmp_path: Path) -> None:
    """[AUTH-5]"""
    async with serving(tmp_path, anonymous_requests_per_minute=1, trusted_proxies="127.0.0.0/8") as gateway:
        invented = [await listed(gateway, **{"X-Forwarded-For": f"192.0.2.{n}, 198.51.100.7"}) for n in range(2)]
        other = await listed(gateway, **{"X-Forwarded-For": "198.51.100.8"})
    assert [answer.status_code for answer in (*invented, other)] == [200, 429, 200]


async def test_grpc_counts_by_address_too(tmp_path: Path) -> None:
    """[AUTH-5]"""
    port = free_port()
    async with serving(tmp_path, grpc_port=port, anonymous_requests_per_minute=1, trusted_proxies="127.0.0.1") as gateway:
        assert gateway.url
        codes = []
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            stub = A2AServiceStub(channel)  # type: ignore[no-untyped-call]
            for caller in ("198.51.100.7", "198.51.100.7", "198.51.100.8"):
                metadata = [("a2a-version", "1.0"), ("x-forwarded-for", caller)]
                call = stub.ListTasks(pb.ListTasksRequest(tenant="hello"), metadata=metadata)
                codes.append(await call.code())
    assert codes == [grpc.StatusCode.OK, grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.OK]


@pytest.mark.parametrize(
    ("peer", "forwarded", "address"),
    [
        ("192.0.2.1", [], "192.0.2.1"),
        ("192.0.2.1", ["198.51.100.7"], "192.0.2.1"),
        ("10.0.0.1", ["198.51.100.7"], "198.51.100.7"),
        ("10.0.0.1:8080", ["203.0.113.5, 198.51.100.7, 10.0.0.2"], "198.51.100.7"),
        ("10.0.0.1", ["203.0.113.5", "198.51.100.7:4711"], "198.51.100.7"),
        ("10.0.0.1", ["nonsense"], "10.0.0.1"),
        ("10.0.0.1", ["10.0.0.2"], "10.0.0.2"),
        ("::ffff:10.0.0.1", ["[2001:db8:1:2::3]:80"], "2001:db8:1:2::/64"),
        ("[2001:db8:1:2:3::4]:80", [], "2001:db8:1:2::/64"),
        ("", [], "unknown"),
    ],
)
def test_an_address_is_believed_as_far_as_proxies_are_trusted(peer: str, forwarded: list[str], address: str) -> None:
    assert Proxies.trusting("10.0.0.0/24").caller(peer, forwarded) == address


def test_a_proxy_that_is_no_address_is_told() -> None:
    with pytest.raises(UsageError, match="SWITCHBOARD_TRUSTED_PROXIES"):
        Proxies.trusting("10.0.0.1, proxy.internal")


def test_buckets_that_rest_are_forgotten() -> None:
    now = 0.0
    buckets = Buckets(lambda: now)
    for n in range(1000):
        buckets.take(str(n), 1)
    assert buckets.take("0", 1) == 60
    now = 60.0
    assert buckets.take("0", 1) == 0
    assert buckets.take("0", 1) == 60
    now = 121.0
    buckets.take("new", 1)
    assert len(buckets) == 2


# -- who does not read


async def read_all(call: Any) -> list[pb.StreamResponse]:
    found = []
    while (event := await call.read()) is not grpc.aio.EOF:
        found.append(event)
    return found


async def test_a_grpc_client_that_stops_reading_is_cut_and_may_come_again(tmp_path: Path) -> None:
    """[INV-5]"""
    port = free_port()
    metadata = [("a2a-version", "1.0")]
    fixed: Mapping[str, int] = {"grpc.http2.bdp_probe": 0}  # so that what the client's side takes unread stays small
    async with serving(tmp_path, grpc_port=port, send_timeout=0.2, stop_seconds=0) as gateway:
        with anyio.fail_after(30), capture_logs() as logs:
            async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=list(fixed.items())) as channel:
                stub = A2AServiceStub(channel)  # type: ignore[no-untyped-call]
                sent = pb.SendMessageRequest(tenant="hello", message=request("BIG=1000000 HANG").message)
                call = stub.SendStreamingMessage(sent, metadata=metadata)
                task = (await call.read()).task
                while not any(entry["event"] == "stream_cut" for entry in logs):  # noqa: ASYNC110
                    await anyio.sleep(0.02)  # nothing else tells it
                with pytest.raises(grpc.aio.AioRpcError) as cut:
                    await read_all(call)
                again = stub.SubscribeToTask(pb.SubscribeToTaskRequest(tenant="hello", id=task.id), metadata=metadata)
                first = await again.read()
                await gateway.rpc("hello", "CancelTask", {"id": task.id})
                last = (await read_all(again))[-1]
            found = await gateway.get("hello", task.id)
    assert cut.value.code() == grpc.StatusCode.UNAVAILABLE
    assert "Subscribe to the task again" in str(cut.value.details())
    assert len(text_of(found)) == 1_000_000
    assert "".join(part.text for artifact in first.task.artifacts for part in artifact.parts) == text_of(found)
    assert last.status_update.status.state == pb.TASK_STATE_CANCELED
