"""Whatever bytes come over gRPC get a status, neither INTERNAL nor UNKNOWN, and nothing tells what runs behind. [A2A-5]"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

import anyio
import grpc.aio
import pytest
from a2a.compat.v0_3 import a2a_v0_3_pb2 as pb03
from a2a.types import a2a_pb2 as pb
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.test_http import EXAMPLES, HIDDEN, RUNTIMES, TRACES, fuzzed
from tests.support import free_port, serving

PARTS = [pb.Part(text="hello"), pb.Part(raw=b"x", filename="../a"), pb.Part(url="file:///etc/passwd")]
MESSAGE = pb.Message(message_id="m", role=pb.ROLE_USER, parts=PARTS[:1])
ODD = pb.Message(message_id="\0", role=99, parts=PARTS, context_id="x" * 3000, task_id="tsk_0", reference_task_ids=["\n"])  # type: ignore[arg-type]
NOW = pb.SendMessageConfiguration(return_immediately=True, history_length=-1)
HOOK = pb.TaskPushNotificationConfig(tenant="face", task_id="tsk_0", id="a/b", url="http://127.0.0.1:1/", token="\r\n")
V10 = {
    "SendMessage": pb.SendMessageRequest(tenant="face", message=MESSAGE, configuration=NOW),
    "SendStreamingMessage": pb.SendMessageRequest(tenant="face", message=ODD),
    "GetTask": pb.GetTaskRequest(tenant="face", id="tsk_0", history_length=-5),
    "ListTasks": pb.ListTasksRequest(tenant="face", page_size=2**31 - 1, page_token="é", status=77),  # type: ignore[arg-type]
    "CancelTask": pb.CancelTaskRequest(tenant="face", id="\0"),
    "SubscribeToTask": pb.SubscribeToTaskRequest(tenant="face", id="tsk_0"),
    "CreateTaskPushNotificationConfig": HOOK,
    "GetTaskPushNotificationConfig": pb.GetTaskPushNotificationConfigRequest(tenant="face", task_id="t", id="x"),
    "ListTaskPushNotificationConfigs": pb.ListTaskPushNotificationConfigsRequest(tenant="face", task_id="t"),
    "DeleteTaskPushNotificationConfig": pb.DeleteTaskPushNotificationConfigRequest(tenant="face", task_id="t", id="x"),
    "GetExtendedAgentCard": pb.GetExtendedAgentCardRequest(tenant="face"),
}
CONFIG03 = pb03.TaskPushNotificationConfig(name="n", push_notification_config=pb03.PushNotificationConfig(url="x"))
V03 = {
    "SendMessage": pb03.SendMessageRequest(request=pb03.Message(message_id="m", role=99, content=[pb03.Part(text="hello")])),  # type: ignore[arg-type]
    "GetTask": pb03.GetTaskRequest(name="tasks/", history_length=-1),
    "CancelTask": pb03.CancelTaskRequest(name="tsk"),
    "TaskSubscription": pb03.TaskSubscriptionRequest(name="tasks/\n"),
    "CreateTaskPushNotificationConfig": pb03.CreateTaskPushNotificationConfigRequest(
        parent="x", config_id="y", config=CONFIG03
    ),
    "GetTaskPushNotificationConfig": pb03.GetTaskPushNotificationConfigRequest(name="tasks/t/pushNotificationConfigs/"),
    "GetAgentCard": pb03.GetAgentCardRequest(),
}
CALLS = [
    *((f"/lf.a2a.v1.A2AService/{name}", "1.0", made.SerializeToString()) for name, made in V10.items()),
    *((f"/a2a.v1.A2AService/{name}", "0.3", made.SerializeToString()) for name, made in V03.items()),
]


@dataclass(frozen=True)
class Sent:
    path: str
    version: str
    tenant: str
    data: bytes


def sent(call: tuple[str, str, bytes], at: int, drop: int, piece: bytes, version: str | None, tenant: str) -> Sent:
    path, spoken, data = call
    cut = at % (len(data) + 1)
    return Sent(path, spoken if version is None else version, tenant, data[:cut] + piece + data[cut + drop :])


odd_calls = st.builds(
    sent,
    st.sampled_from(CALLS),
    st.integers(0, 300),
    st.sampled_from([0, 0, 1, 5, 300]),
    st.one_of(st.just(b""), st.binary(max_size=20), st.just(b"\x0a\xff\xff\xff\xff\x0f"), st.just(b"\xed\xa0\x80")),
    st.sampled_from([None, None, None, "", "1.0", "0.3", "2.0", "x"]),
    st.sampled_from(["face", "face", "nobody", ""]),
)


@pytest.fixture(scope="module")
async def channel(tmp_path_factory: pytest.TempPathFactory, anyio_backend: str) -> AsyncIterator[grpc.aio.Channel]:
    port = free_port()
    async with serving(tmp_path_factory.mktemp("fuzz"), RUNTIMES, grpc_port=port) as client:
        await client.owner("agent.create", name="face", runtime="mute")
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield channel


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@settings(fuzzed, max_examples=EXAMPLES // 2)
@given(call=odd_calls)
async def test_an_odd_call_gets_a_status_of_its_own(channel: grpc.aio.Channel, call: Sent) -> None:
    metadata = (("a2a-version", call.version), ("a2a-tenant", call.tenant))
    told, status = "", grpc.StatusCode.OK
    with anyio.fail_after(20):
        try:
            async for data in channel.unary_stream(call.path)(call.data, metadata=metadata):
                told += data.decode("latin-1")
        except grpc.aio.AioRpcError as exc:
            told, status = f"{exc.details()} {exc.trailing_metadata()}", exc.code()
    assert status not in (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN), told
    assert [found for pattern in (TRACES, HIDDEN) if (found := pattern.search(told))] == []
