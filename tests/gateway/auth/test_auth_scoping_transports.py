"""What belongs to one principal does not exist for another, whatever the transport and version; JSON-RPC 1.0 is next door.

Each call is made with somebody else's ids and with ids of nothing, and the answers are compared whole. [INV-7]
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import grpc.aio
from a2a.compat.v0_3 import a2a_v0_3_pb2 as pb03
from a2a.compat.v0_3.a2a_v0_3_pb2_grpc import A2AServiceStub as Stub03
from a2a.types import a2a_pb2 as pb
from a2a.types.a2a_pb2_grpc import A2AServiceStub as Stub10

from tests.support import Client, Json, free_port, serving

V10, V03 = {"A2A-Version": "1.0"}, {"A2A-Version": "0.3"}
HOOK = "http://127.0.0.1:9/"
WRONG_TASK, WRONG_CONTEXT = "tsk_" + "0" * 24, "ses_" + "0" * 24
TEXT, TEXT03 = {"parts": [{"text": "N=1"}]}, {"content": [{"text": "N=1"}]}
OLD_TEXT = {"kind": "message", "messageId": "m", "role": "user", "parts": [{"kind": "text", "text": "N=1"}]}
USER = {"messageId": "m", "role": "ROLE_USER"}
CONFIG03 = {"pushNotificationConfig": {"id": "c", "url": HOOK}}
IDS: list[Json] = [{"taskId": "TASK"}, {"contextId": "CONTEXT"}, {"taskId": "TASK", "contextId": "CONTEXT"}]

JSONRPC03: list[tuple[str, Json]] = [
    *(("message/send", {"message": OLD_TEXT | ids}) for ids in IDS),
    *(("message/stream", {"message": OLD_TEXT | ids}) for ids in IDS),
    ("tasks/get", {"id": "TASK"}),
    ("tasks/cancel", {"id": "TASK"}),
    ("tasks/resubscribe", {"id": "TASK"}),
    ("tasks/pushNotificationConfig/set", {"taskId": "TASK", **CONFIG03}),
    ("tasks/pushNotificationConfig/get", {"id": "TASK", "pushNotificationConfigId": "c"}),
    ("tasks/pushNotificationConfig/list", {"id": "TASK"}),
    ("tasks/pushNotificationConfig/delete", {"id": "TASK", "pushNotificationConfigId": "c"}),
]
CONFIGS = "/tasks/TASK/pushNotificationConfigs"
REST10: list[tuple[str, str, Json | None]] = [
    *(("POST", f"/message:{way}", {"message": USER | TEXT | ids}) for way in ("send", "stream") for ids in IDS),
    ("GET", "/tasks/TASK", None),
    ("GET", "/tasks?contextId=CONTEXT", None),
    ("POST", "/tasks/TASK:cancel", {}),
    ("GET", "/tasks/TASK:subscribe", None),
    ("POST", "/tasks/TASK:subscribe", {}),
    ("POST", CONFIGS, {"taskId": "TASK", "id": "c", "url": HOOK}),
    ("GET", CONFIGS, None),
    ("GET", f"{CONFIGS}/c", None),
    ("DELETE", f"{CONFIGS}/c", None),
]
REST03: list[tuple[str, str, Json | None]] = [
    *(("POST", f"/v1/message:{way}", {"message": USER | TEXT03 | ids}) for way in ("send", "stream") for ids in IDS),
    ("GET", "/v1/tasks/TASK", None),
    ("POST", "/v1/tasks/TASK:cancel", {}),
    ("GET", "/v1/tasks/TASK:subscribe", None),
    ("POST", f"/v1{CONFIGS}", CONFIG03),
    ("GET", f"/v1{CONFIGS}", None),
    ("GET", f"/v1{CONFIGS}/c", None),
    ("DELETE", f"/v1{CONFIGS}/c", None),
]


def grpc10(task: str, context: str) -> list[tuple[str, Any]]:
    hello: Any = {"tenant": "hello"}

    def sending(**ids: str) -> pb.SendMessageRequest:
        made = pb.Message(message_id="m", role=pb.ROLE_USER, parts=[pb.Part(text="N=1")], **ids)
        return pb.SendMessageRequest(message=made, **hello)

    sent = [sending(task_id=task), sending(context_id=context), sending(task_id=task, context_id=context)]
    return [
        *(("SendMessage", request) for request in sent),
        *(("SendStreamingMessage", request) for request in sent),
        ("GetTask", pb.GetTaskRequest(id=task, **hello)),
        ("ListTasks", pb.ListTasksRequest(context_id=context, **hello)),
        ("CancelTask", pb.CancelTaskRequest(id=task, **hello)),
        ("SubscribeToTask", pb.SubscribeToTaskRequest(id=task, **hello)),
        ("CreateTaskPushNotificationConfig", pb.TaskPushNotificationConfig(task_id=task, id="c", url=HOOK, **hello)),
        ("GetTaskPushNotificationConfig", pb.GetTaskPushNotificationConfigRequest(task_id=task, id="c", **hello)),
        ("ListTaskPushNotificationConfigs", pb.ListTaskPushNotificationConfigsRequest(task_id=task, **hello)),
        ("DeleteTaskPushNotificationConfig", pb.DeleteTaskPushNotificationConfigRequest(task_id=task, id="c", **hello)),
    ]


def grpc03(task: str, context: str) -> list[tuple[str, Any]]:
    def sending(**ids: str) -> pb03.SendMessageRequest:
        content = [pb03.Part(text="N=1")]
        return pb03.SendMessageRequest(request=pb03.Message(message_id="m", role=pb03.ROLE_USER, content=content, **ids))

    sent = [sending(task_id=task), sending(context_id=context), sending(task_id=task, context_id=context)]
    config = pb03.TaskPushNotificationConfig(push_notification_config=pb03.PushNotificationConfig(id="c", url=HOOK))
    name = f"tasks/{task}/pushNotificationConfigs/c"
    return [
        *(("SendMessage", request) for request in sent),
        *(("SendStreamingMessage", request) for request in sent),
        ("GetTask", pb03.GetTaskRequest(name=f"tasks/{task}")),
        ("CancelTask", pb03.CancelTaskRequest(name=f"tasks/{task}")),
        ("TaskSubscription", pb03.TaskSubscriptionRequest(name=f"tasks/{task}")),
        (
            "CreateTaskPushNotificationConfig",
            pb03.CreateTaskPushNotificationConfigRequest(parent=f"tasks/{task}", config_id="c", config=config),
        ),
        ("GetTaskPushNotificationConfig", pb03.GetTaskPushNotificationConfigRequest(name=name)),
        ("ListTaskPushNotificationConfig", pb03.ListTaskPushNotificationConfigRequest(parent=f"tasks/{task}")),
        ("DeleteTaskPushNotificationConfig", pb03.DeleteTaskPushNotificationConfigRequest(name=name)),
    ]


Ids = tuple[str, str]
WRONG: Ids = (WRONG_TASK, WRONG_CONTEXT)


def alike(told: str, ids: Ids) -> str:
    return told.replace(ids[0], "TASK").replace(ids[1], "CONTEXT")


def filled(value: Any, ids: Ids) -> Any:
    if isinstance(value, dict):
        return {key: filled(item, ids) for key, item in value.items()}
    return {"TASK": ids[0], "CONTEXT": ids[1]}.get(value, value) if isinstance(value, str) else value


async def over_http(gateway: Client, key: str, ids: Ids) -> list[tuple[str, Any, str]]:
    """Every call over HTTP: (what, status of a refusal, answer)."""
    calls: list[tuple[str, str, Json | None, dict[str, str]]] = [
        *(("POST", "", {"jsonrpc": "2.0", "id": 1, "method": name, "params": params}, V03) for name, params in JSONRPC03),
        *((verb, path, body, V10) for verb, path, body in REST10),
        *((verb, f"/hello{path}", body, V10) for verb, path, body in REST10),
        *((verb, path, body, V03) for verb, path, body in REST03),
    ]
    found: list[tuple[str, Any, str]] = []
    for verb, path, body, version in calls:
        url = f"{gateway.url}/agents/hello{path.replace('TASK', ids[0]).replace('CONTEXT', ids[1])}"
        content = {} if body is None else {"json": filled(body, ids)}
        answer = await gateway.http.request(verb, url, headers={**version, "X-API-Key": key}, **content)
        refused = answer.status_code if "error" in answer.json() else None
        found.append((f"{verb} {path}", refused, alike(answer.text, ids)))
    return found


async def over_grpc(channel: grpc.aio.Channel, key: str, ids: Ids) -> list[tuple[str, Any, str]]:
    """Every call over gRPC: (what, status of a refusal, answer)."""
    stubs: list[tuple[str, Any, list[tuple[str, Any]]]] = [
        ("1.0", Stub10(channel), grpc10(*ids)),
        ("0.3", Stub03(channel), grpc03(*ids)),
    ]
    found: list[tuple[str, Any, str]] = []
    for version, stub, calls in stubs:
        metadata = (("a2a-version", version), ("a2a-tenant", "hello"), ("x-api-key", key))
        for name, request in calls:
            try:
                call = getattr(stub, name)(request, metadata=metadata)
                told = [str(item) async for item in call] if hasattr(call, "__aiter__") else str(await call)
                found.append((f"{version} {name}", None, alike(str(told), ids)))
            except grpc.aio.AioRpcError as exc:
                found.append((f"{version} {name}", exc.code(), alike(exc.details() or "", ids)))
    return found


async def test_foreign_ids_answer_as_wrong_ones_on_every_transport(tmp_path: Path) -> None:
    port = free_port()
    async with serving(tmp_path, grpc_port=port, allow_private_hosts="127.0.0.1") as gateway:
        with anyio.fail_after(60):
            mine = await gateway.sign_in()
            stranger = (await gateway.owner("callers.add", name="stranger"))["key"]
            task = await gateway.send("hello", "N=1 ASK")
            config = {"taskId": task["id"], "id": "c", "url": HOOK}
            await gateway.rpc("hello", "CreateTaskPushNotificationConfig", config)
            ids = (task["id"], task["contextId"])
            foreign, absent = await over_http(gateway, stranger, ids), await over_http(gateway, stranger, WRONG)
            async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
                foreign += await over_grpc(channel, stranger, ids)
                absent += await over_grpc(channel, stranger, WRONG)
            gateway.http.headers["X-API-Key"] = mine
            kept = await gateway.get("hello", task["id"])
            configs = await gateway.rpc("hello", "ListTaskPushNotificationConfigs", {"taskId": task["id"]})
            sessions = (await gateway.owner("sessions.list"))["sessions"]
    assert foreign == absent
    taken = [what for what, refused, _ in foreign if refused is None]  # listings, of nothing
    assert taken == ["GET /tasks?contextId=CONTEXT", "GET /hello/tasks?contextId=CONTEXT", "1.0 ListTasks"]
    assert (kept, configs["result"]["configs"]) == (task, [config])
    assert [session["id"] for session in sessions] == [task["contextId"]]
