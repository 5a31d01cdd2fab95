"""What the transports say on the wire, beyond what the SDK's client shows: versions, tenants, notifications, frames, errors."""

from __future__ import annotations

import json
from typing import Any

import anyio
import grpc.aio
import httpx2
import pytest
from a2a.compat.v0_3 import a2a_v0_3_pb2 as pb03
from a2a.compat.v0_3.a2a_v0_3_pb2_grpc import A2AServiceStub as Stub03
from a2a.types import a2a_pb2 as pb
from a2a.types.a2a_pb2_grpc import A2AServiceStub as Stub10

from tests.gateway.a2a.clients import grpc_address
from tests.support import GatewayProcess, message

Json = dict[str, Any]
pytestmark = pytest.mark.anyio
THERE = "The directory, GET /agents, tells which there are."
V10, V03 = {"A2A-Version": "1.0"}, {"A2A-Version": "0.3"}
DOMAIN = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "domain": "a2a-protocol.org", "metadata": {}}


def sent(text: str) -> Json:
    return {"message": message(text)}


def sent_03(text: str) -> Json:
    return {"message": {"kind": "message", "messageId": "m1", "role": "user", "parts": [{"kind": "text", "text": text}]}}


def rest_sent_03(text: str) -> Json:
    return {"message": {"messageId": "m1", "role": "ROLE_USER", "content": [{"text": text}]}}


def call(method: str, params: Json, id: object = 1) -> Json:
    return {"jsonrpc": "2.0", "id": id, "method": method, "params": params}


async def ask(gateway: GatewayProcess, verb: str, path: str, **more: Any) -> httpx2.Response:
    with anyio.fail_after(30):
        async with httpx2.AsyncClient(base_url=f"{gateway.url}/agents/", timeout=30, verify=False) as http:
            return await http.request(verb, path, **more)


def frames(answer: httpx2.Response) -> list[tuple[str, Json]]:
    """(id, data) of every SSE frame."""
    found = []
    for frame in answer.text.replace("\r\n", "\n").split("\n\n"):
        fields = dict(line.split(": ", 1) for line in frame.splitlines() if ": " in line and not line.startswith(":"))
        if "data" in fields:
            found.append((fields.get("id", ""), json.loads(fields["data"])))
    return found


# -- versions


@pytest.mark.parametrize("version", ["1.0", "1.0.7", " 1.0 "])
@pytest.mark.parametrize("where", ["headers", "params"])
async def test_version_1_0_is_said_by_header_or_query(gateway: GatewayProcess, version: str, where: str) -> None:
    """[A2A-8]"""
    more = {where: {"A2A-Version": version.strip() if where == "headers" else version}}
    rpc = await ask(gateway, "POST", "echo", json=call("ListTasks", {}), **more)
    rest = await ask(gateway, "GET", "echo/tasks", **more)
    assert "error" not in rpc.json()
    assert rest.status_code == 200
    assert rest.json()["pageSize"] == rpc.json()["result"]["pageSize"] == 50


@pytest.mark.parametrize("version", ["1.1", "2.0", "0.2", "0.4", "1", "v1.0", "1.0-beta", "junk", "1.0,0.3", "١.٠"])
async def test_any_other_version_is_refused_on_every_transport(gateway: GatewayProcess, version: str) -> None:
    """[A2A-8]"""
    said = {"params": {"A2A-Version": version}}
    rpc = await ask(gateway, "POST", "echo", json=call("ListTasks", {}), **said)
    rpc_03 = await ask(gateway, "POST", "echo", json=call("message/send", sent_03("N=1")), **said)
    rest = await ask(gateway, "GET", "echo/tasks", **said)
    rest_03 = await ask(gateway, "GET", "echo/v1/tasks/x", **said)
    assert [answer.json()["error"]["code"] for answer in (rpc, rpc_03)] == [-32009, -32009]
    assert rpc.json()["error"]["data"] == [{**DOMAIN, "reason": "VERSION_NOT_SUPPORTED"}]
    assert (rest.status_code, rest_03.status_code) == (400, 400)
    told = rest.json()["error"]
    assert told["details"] == [{**DOMAIN, "reason": "VERSION_NOT_SUPPORTED"}]
    assert (told["code"], told["status"]) == (400, "FAILED_PRECONDITION")
    assert version in told["message"]
    assert "1.0 and 0.3" in told["message"]


@pytest.mark.parametrize(
    ("method", "version"), [("SendMessage", ""), ("GetTask", "0.3"), ("message/send", "1.0"), ("tasks/get", "1.0.1")]
)
async def test_a_method_of_the_other_version_is_refused(gateway: GatewayProcess, method: str, version: str) -> None:
    """[A2A-8]"""
    answer = await ask(gateway, "POST", "echo", json=call(method, {}, id="x"), headers={"A2A-Version": version})
    assert (answer.json()["id"], answer.json()["error"]["code"]) == ("x", -32009)


@pytest.mark.parametrize(("path", "version"), [("tasks", ""), ("tasks/x", "0.3"), ("v1/tasks/x", "1.0")])
async def test_a_path_of_the_other_version_is_refused(gateway: GatewayProcess, path: str, version: str) -> None:
    """[A2A-8]"""
    answer = await ask(gateway, "GET", f"echo/{path}", headers={"A2A-Version": version})
    assert (answer.status_code, answer.json()["error"]["status"]) == (400, "FAILED_PRECONDITION")


async def test_without_a_version_the_0_3_methods_answer_in_the_shape_of_0_3(gateway: GatewayProcess) -> None:
    """[A2A-8]"""
    rpc = (await ask(gateway, "POST", "echo", json=call("message/send", sent_03("N=1")))).json()["result"]
    rest = (await ask(gateway, "POST", "echo/v1/message:send", json=rest_sent_03("N=1"))).json()["task"]
    assert (rpc["kind"], rpc["status"]["state"]) == ("task", "completed")
    assert rest["status"]["state"] == "TASK_STATE_COMPLETED"


# -- JSON-RPC


async def test_a_notification_is_done_and_gets_no_body(gateway: GatewayProcess) -> None:
    """[A2A-9]"""
    note: Json = {"jsonrpc": "2.0", "method": "SendMessage"}
    first = (await ask(gateway, "POST", "echo", json=call("SendMessage", sent("N=1")), headers=V10)).json()["result"]["task"]
    note["params"] = {"message": message("N=1", contextId=first["contextId"])}
    answer = await ask(gateway, "POST", "echo", json=note, headers=V10)
    listed = await ask(gateway, "GET", "echo/tasks", params={"contextId": first["contextId"]}, headers=V10)
    assert (answer.status_code, answer.content) == (204, b"")
    assert listed.json()["totalSize"] == 2


@pytest.mark.parametrize("params", [{}, {"message": {"parts": []}}, [], "x", None])
async def test_a_bad_notification_gets_no_body_either(gateway: GatewayProcess, params: object) -> None:
    """[A2A-9]"""
    for method in ("SendMessage", "GetTask", "message/send", "Nonsense"):
        note = {"jsonrpc": "2.0", "method": method, "params": params}
        answer = await ask(gateway, "POST", "echo", json=note, headers=V10)
        assert (answer.status_code, answer.content) == (204, b"")


@pytest.mark.parametrize("body", [[], [call("ListTasks", {})], [1], 5, "x", True])
async def test_a_batch_and_what_is_no_request_are_refused(gateway: GatewayProcess, body: object) -> None:
    """[A2A-9]"""
    answer = await ask(gateway, "POST", "echo", json=body, headers=V10)
    assert (answer.json()["id"], answer.json()["error"]["code"]) == (None, -32600)


# -- streams

STREAMS = [
    pytest.param("echo", call("SendStreamingMessage", sent("N=3 D=1000"), "r1"), V10, id="jsonrpc-1.0"),
    pytest.param("echo", call("message/stream", sent_03("N=3 D=1000"), "r1"), V03, id="jsonrpc-0.3"),
    pytest.param("echo/message:stream", sent("N=3 D=1000"), V10, id="rest-1.0"),
    pytest.param("echo/v1/message:stream", rest_sent_03("N=3 D=1000"), V03, id="rest-0.3"),
]


@pytest.mark.parametrize(("path", "body", "headers"), STREAMS)
async def test_every_stream_has_ids_and_goes_on_after_the_last_one_seen(
    gateway: GatewayProcess, path: str, body: Json, headers: Json
) -> None:
    """[A2A-3]"""
    answer = await ask(gateway, "POST", path, json=body, headers=headers)
    told = frames(answer)
    ids = [id for id, _ in told if id]
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert ids == sorted(set(ids), key=int)
    assert told[-1][0] == ids[-1]
    for at, (id, _) in enumerate(told):
        if id:
            again = await ask(gateway, **resumed(path, body, told[0][1]), headers={**headers, "Last-Event-ID": id})
            assert frames(again) == told[at + 1 :]


def resumed(path: str, body: Json, first: Json) -> Json:
    """The call that subscribes to the task of a stream's first frame, on the same transport."""
    if "jsonrpc" in body:
        old = body["method"] == "message/stream"
        id = first["result"]["id"] if old else first["result"]["task"]["id"]
        again = call("tasks/resubscribe" if old else "SubscribeToTask", {"id": id}, body["id"])
        return {"verb": "POST", "path": path, "json": again}
    return {"verb": "GET", "path": f"{path.removesuffix('message:stream')}tasks/{first['task']['id']}:subscribe"}


async def test_the_last_event_of_a_0_3_stream_is_final_also_when_it_asks(gateway: GatewayProcess) -> None:
    """[A2A-10]"""
    answer = await ask(gateway, "POST", "echo", json=call("message/stream", sent_03("N=1 ASK")))
    told = [data["result"] for _, data in frames(answer) if data["result"]["kind"] == "status-update"]
    assert [event["final"] for event in told] == [False] * (len(told) - 1) + [True]
    assert told[-1]["status"]["state"] == "input-required"


@pytest.mark.parametrize("verb", ["GET", "POST"])
async def test_a_task_that_has_ended_cannot_be_subscribed_to(gateway: GatewayProcess, verb: str) -> None:
    task = (await ask(gateway, "POST", "echo/message:send", json=sent("N=1"), headers=V10)).json()["task"]
    new = await ask(gateway, verb, f"echo/tasks/{task['id']}:subscribe", headers=V10)
    old = await ask(gateway, verb, f"echo/v1/tasks/{task['id']}:subscribe", headers=V03)
    assert (new.status_code, new.json()["error"]["details"][0]["reason"]) == (400, "UNSUPPORTED_OPERATION")
    assert (old.status_code, old.json()["type"]) == (400, "UnsupportedOperationError")


# -- HTTP+JSON


async def test_the_agents_name_is_its_tenant_and_any_other_is_unknown(gateway: GatewayProcess) -> None:
    """[A2A-11]"""
    unknown = {"code": 404, "status": "NOT_FOUND", "message": f"Agent 'hello2' was not found. {THERE}"}
    unknown |= {"details": [{**DOMAIN, "reason": "TASK_NOT_FOUND"}]}
    mine = await ask(gateway, "POST", "echo/echo/message:send", json={**sent("N=1"), "tenant": "echo"}, headers=V10)
    others = [
        await ask(gateway, "GET", "hello2/tasks", headers=V10),
        await ask(gateway, "GET", "echo/hello2/tasks", headers=V10),
        await ask(gateway, "POST", "echo/message:send", json={**sent("N=1"), "tenant": "hello2"}, headers=V10),
    ]
    rpc = [
        await ask(gateway, "POST", "hello2", json=call("ListTasks", {}), headers=V10),
        await ask(gateway, "POST", "echo", json=call("ListTasks", {"tenant": "hello2"}), headers=V10),
    ]
    assert mine.json()["task"]["status"]["state"] == "TASK_STATE_COMPLETED"
    assert [(answer.status_code, answer.json()) for answer in others] == [(404, {"error": unknown})] * 3
    assert rpc[0].json() == rpc[1].json()
    assert [(answer.status_code, answer.json()["error"]["message"]) for answer in rpc] == [(404, unknown["message"])] * 2


@pytest.mark.parametrize("path", ["echo", "echo/message:send", "echo/message:stream", "echo/v1/message:send"])
async def test_wrong_types_huge_bodies_and_broken_json_are_refused_before_anything_is_parsed(
    gateway: GatewayProcess, path: str
) -> None:
    """[A2A-5]"""
    kind = {"Content-Type": "application/json", **(V03 if "v1" in path else V10)}
    plain = await ask(gateway, "POST", path, content=b"{}", headers={**kind, "Content-Type": "text/plain"})
    huge = await ask(gateway, "POST", path, content=b"x" * (17 * 2**20), headers=kind)
    broken = [b"[" * 200 + b"]" * 200, b"{", b'{"a":NaN}', b'"\\ud800"', b"9" * 5000, b"\xff{}"]
    bad = [await ask(gateway, "POST", path, content=body, headers=kind) for body in broken]
    assert (plain.status_code, huge.status_code) == (415, 413)
    assert {answer.status_code for answer in bad} == ({200} if path == "echo" else {400})
    if path == "echo":
        assert plain.json()["error"]["code"] == -32005
        assert {answer.json()["error"]["code"] for answer in bad} == {-32700}
    else:
        assert plain.json()["error"]["details"][0]["reason"] == "CONTENT_TYPE_NOT_SUPPORTED"
        assert {answer.json()["error"]["status"] for answer in bad} == {"INVALID_ARGUMENT"}


HOSTILE: list[Json] = [
    {},
    {"message": None},
    {"message": 5},
    {"message": {"parts": "x"}},
    {"message": {"messageId": "m", "role": "boss", "parts": [{}]}},
    {"message": {"messageId": "m", "role": "ROLE_USER", "parts": [{"raw": "%%%"}]}},
    {"message": {"messageId": "m", "role": "ROLE_USER", "parts": [{"text": "x", "data": {}}]}},
    {"message": {"messageId": "m", "role": "user", "parts": [{"kind": "file", "file": {"bytes": "%%%"}}]}},
    {"message": {"messageId": "m", "role": "user", "parts": [{"kind": "data", "data": 5}]}},
    {"message": {"messageId": "m", "role": "ROLE_USER", "content": [{"file": {"fileWithBytes": "%%%"}}]}},
    {"message": {"messageId": "m", "role": "ROLE_USER", "content": [{}]}},
    {"message": {"messageId": "", "role": "ROLE_AGENT", "parts": [{"text": "x"}]}},
    {"id": 5},
    {"id": ["x"], "historyLength": "many"},
    {"pageSize": -1},
    {"pageToken": "nonsense"},
]


@pytest.mark.parametrize("params", HOSTILE, ids=json.dumps)
async def test_bad_parameters_are_the_callers_mistake_on_every_transport(gateway: GatewayProcess, params: Json) -> None:
    """[A2A-5]"""
    for method in ("SendMessage", "SendStreamingMessage", "GetTask", "SubscribeToTask", "CancelTask"):
        answer = await ask(gateway, "POST", "echo", json=call(method, params), headers=V10)
        assert -32603 < answer.json()["error"]["code"] <= -32001, (method, answer.text)
    for method in ("message/send", "message/stream", "tasks/get", "tasks/resubscribe", "tasks/cancel"):
        answer = await ask(gateway, "POST", "echo", json=call(method, params), headers=V03)
        assert answer.json()["error"]["code"] != -32603, (method, answer.text)
        assert "pydantic" not in answer.text
    for path, headers in (("echo/", V10), ("echo/v1/", V03)):
        for method in ("message:send", "message:stream"):
            answer = await ask(gateway, "POST", path + method, json=params, headers=headers)
            assert answer.status_code in (400, 404), (path, method, answer.text)


@pytest.mark.parametrize("query", ["historyLength=x", "historyLength=-1", "pageSize=x", "pageSize=0", "pageToken=x"])
async def test_bad_query_parameters_are_the_callers_mistake(gateway: GatewayProcess, query: str) -> None:
    """[A2A-5]"""
    task = (await ask(gateway, "POST", "echo/message:send", json=sent("N=1"), headers=V10)).json()["task"]
    paths = [f"echo/tasks?contextId={task['contextId']}&{query}"]
    if query.startswith("history"):
        paths += [f"echo/tasks/{task['id']}?{query}"]
    for path in paths:
        answer = await ask(gateway, "GET", path, headers=V10)
        assert (answer.status_code, answer.json()["error"]["status"]) == (400, "INVALID_ARGUMENT"), answer.text
    if query == "historyLength=x":
        assert (await ask(gateway, "GET", f"echo/v1/tasks/{task['id']}?{query}", headers=V03)).status_code == 400


# -- cards


async def test_a_card_lists_every_way_and_0_3_clients_can_read_it(gateway: GatewayProcess) -> None:
    """[A2A-10]"""
    card = (await ask(gateway, "GET", "echo/.well-known/agent-card.json")).json()
    url = f"{gateway.url}/agents/echo"
    assert card["supportedInterfaces"] == [
        {"url": url, "protocolBinding": "JSONRPC", "protocolVersion": "1.0"},
        {"url": url, "protocolBinding": "HTTP+JSON", "protocolVersion": "1.0"},
        {"url": grpc_address(gateway), "protocolBinding": "GRPC", "protocolVersion": "1.0", "tenant": "echo"},
        {"url": url, "protocolBinding": "JSONRPC", "protocolVersion": "0.3"},
        {"url": url, "protocolBinding": "HTTP+JSON", "protocolVersion": "0.3"},
    ]
    assert (card["url"], card["preferredTransport"], card["protocolVersion"]) == (url, "JSONRPC", "0.3")
    assert card["additionalInterfaces"] == [{"url": url, "transport": "HTTP+JSON"}]


# -- gRPC


async def refused(call: Any) -> tuple[str, str]:
    with anyio.fail_after(30), pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value.code().name, caught.value.details() or ""


async def test_grpc_takes_the_agent_from_the_tenant_and_the_version_from_metadata(gateway: GatewayProcess) -> None:
    """[A2A-8] [A2A-11]"""
    new, old = (("a2a-version", "1.0"),), (("a2a-version", "0.3"),)
    async with grpc.aio.insecure_channel(grpc_address(gateway)) as channel:
        v10, v03 = Stub10(channel), Stub03(channel)
        mine = await v10.ListTasks(pb.ListTasksRequest(tenant="echo"), metadata=new)
        unknown = [await refused(v10.ListTasks(pb.ListTasksRequest(tenant=name), metadata=new)) for name in ("", "nobody")]
        versions = [
            await refused(v10.ListTasks(pb.ListTasksRequest(tenant="echo"), metadata=metadata))
            for metadata in ((), old, (("a2a-version", "2.0"),))
        ]
        old_call = pb03.GetTaskRequest(name="tasks/x")
        versions.append(await refused(v03.GetTask(old_call, metadata=(*new, ("a2a-tenant", "echo")))))
        unknown.append(await refused(v03.GetTask(old_call, metadata=(*old, ("a2a-tenant", "nobody")))))
    assert mine.page_size == 50
    nobody = f"Agent 'nobody' was not found. {THERE}"
    assert unknown[:2] == [("NOT_FOUND", f"Agent '' was not found. {THERE}"), ("NOT_FOUND", nobody)]
    assert unknown[2] == ("NOT_FOUND", f"TaskNotFoundError: {nobody}")
    assert {code for code, _ in versions} == {"FAILED_PRECONDITION"}


# -- who calls


async def test_a_restricted_agent_asks_for_a_key_on_every_transport(gateway: GatewayProcess) -> None:
    """[A2A-7]"""
    owner = gateway.client()
    async with owner.http:
        await owner.owner("agent.create", name="vault", runtime="rehearsal", public=False)
        key = (await owner.owner("callers.add", name="friend"))["key"]
    told = {}
    for said in ({}, {"Authorization": "Bearer sbk_x_y"}, {"Authorization": f"Bearer {key}"}, {"X-API-Key": key}):
        rpc = await ask(gateway, "POST", "vault", json=call("ListTasks", {}), headers={**V10, **said})
        rest = await ask(gateway, "GET", "vault/tasks", headers={**V10, **said})
        old = await ask(gateway, "GET", "vault/v1/tasks/x", headers={**V03, **said})
        metadata = [("a2a-version", "1.0"), *((name.lower(), value) for name, value in said.items())]
        async with grpc.aio.insecure_channel(grpc_address(gateway)) as channel:
            listing = Stub10(channel).ListTasks(pb.ListTasksRequest(tenant="vault"), metadata=metadata)
            status = (await listing.code()).name
        told[str(said)] = (rpc.status_code, rest.status_code, old.status_code, status)
        for answer in (rpc, rest, old):
            assert ("www-authenticate" in answer.headers) == (answer.status_code == 401)
    assert list(told.values()) == [(401, 401, 401, "UNAUTHENTICATED")] * 2 + [(200, 200, 404, "OK")] * 2
