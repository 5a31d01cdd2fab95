"""Push notifications as callers ask for them and receivers get them.

[PUSH-1] [PUSH-3]
"""

from __future__ import annotations

import base64
import json
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks import Webhook

from tests.gateway.deliver.gateways import deliveries, gateway, push
from tests.gateway.deliver.receivers import Receiver
from tests.support import Client, Json, message

ANSWER = "word0 word1 "


async def hanging(client: Client, **configuration: Any) -> Json:
    """A task at work that ends only when it is canceled."""
    task = await client.send("hello", "N=2 HANG", configuration={"returnImmediately": True, **configuration})
    async with aclosing(client.frames("hello", "SubscribeToTask", {"id": task["id"]})) as frames:
        async for frame in frames:
            if "word1" in json.dumps(frame.result):
                return task
    raise AssertionError("the stream ended")


async def error(client: Client, method: str, params: Json, agent: str = "hello") -> int:
    answer = await client.rpc(agent, method, params)
    return int(answer["error"]["code"])


async def result(client: Client, method: str, params: Json) -> Any:
    answer = await client.rpc("hello", method, params)
    assert "error" not in answer, answer
    return answer["result"]


# -- what is told


async def test_a_message_with_a_config_has_its_task_told_to_its_end(tmp_path: Path, receiver: Receiver) -> None:
    config = push(f"{receiver.url}/ok", token="t0ken", authentication={"scheme": "Bearer", "credentials": "s3cret"})
    async with gateway(tmp_path) as client:
        task = await client.send("hello", "N=2", configuration=config)
        await receiver.until_said("working", ANSWER, "completed")
    ids = {"taskId": task["id"], "contextId": task["contextId"]}
    working, artifact, completed = (got.json for got in receiver.got)
    assert working["statusUpdate"].pop("status").keys() == {"state", "timestamp"}
    assert working == {"statusUpdate": ids}
    whole = task["artifacts"][0]
    assert artifact == {"artifactUpdate": {**ids, "artifact": whole, "append": False, "lastChunk": True}}
    assert completed == {"statusUpdate": {**ids, "status": task["status"]}}
    for got in receiver.got:
        assert got.headers["content-type"] == "application/json"
        assert got.headers["x-a2a-notification-token"] == "t0ken"
        assert got.headers["authorization"] == "Bearer s3cret"
        assert got.headers["host"] == receiver.url.removeprefix("http://")
        assert "webhook-signature" not in got.headers
    assert len({got.id for got in receiver.got}) == 3


async def test_a_stream_with_a_config_is_told_as_well(tmp_path: Path, receiver: Receiver) -> None:
    params = {"message": message("N=2"), "configuration": push(f"{receiver.url}/ok")}
    async with gateway(tmp_path) as client:
        assert [frame async for frame in client.frames("hello", "SendStreamingMessage", params)]
        await receiver.until_said("working", ANSWER, "completed")


async def test_a_token_that_is_a_webhook_secret_signs(tmp_path: Path, receiver: Receiver) -> None:
    secret = "whsec_" + base64.b64encode(b"a secret of twenty-four+").decode()
    async with gateway(tmp_path) as client:
        await client.send("hello", "Grüße N=2", configuration=push(f"{receiver.url}/ok", token=secret))
        await receiver.until_said("working", ANSWER, "completed")
    for got in receiver.got:
        assert Webhook(secret).verify(got.body, got.headers) == got.json


async def test_a_question_is_told_and_its_answer_goes_on(tmp_path: Path, receiver: Receiver) -> None:
    async with gateway(tmp_path) as client:
        task = await client.send("hello", "N=2 ASK", configuration=push(f"{receiver.url}/ok"))
        await receiver.until_said("working", ANSWER, "input_required")
        await client.send("hello", "N=1", taskId=task["id"])
        again = "Turn 2. Before this you said: N=2 ASK\nword0 "
        await receiver.until_said("working", ANSWER, "input_required", "working", again, "completed")
    question = receiver.once()[2].json["statusUpdate"]["status"]
    assert question == task["status"]


async def test_a_failure_is_told_without_a_word_of_the_runtime(tmp_path: Path, receiver: Receiver) -> None:
    async with gateway(tmp_path, turn_attempts=1) as client:
        await client.send("hello", "CRASH", configuration=push(f"{receiver.url}/ok"))
        await receiver.until(lambda: bool(receiver.got) and receiver.got[-1].said == "failed")
    told = b"".join(got.body for got in receiver.got)
    assert b"rehearsal" not in told
    assert str(tmp_path).encode() not in told


async def test_a_config_of_a_running_task_gets_what_comes_afterwards(tmp_path: Path, receiver: Receiver) -> None:
    async with gateway(tmp_path) as client:
        task = await hanging(client)
        await result(client, "CreateTaskPushNotificationConfig", {"taskId": task["id"], "url": f"{receiver.url}/ok"})
        await result(client, "CancelTask", {"id": task["id"]})
        await receiver.until_said(ANSWER, "canceled")


async def test_receivers_of_version_0_3_get_the_task_as_that_version_has_it(tmp_path: Path, receiver: Receiver) -> None:
    old = {"A2A-Version": "0.3"}
    sent = {"kind": "message", "messageId": "m1", "role": "user", "parts": [{"kind": "text", "text": "N=2"}]}
    config = {"url": f"{receiver.url}/ok", "token": "t0ken"}
    async with gateway(tmp_path) as client:
        params = {"message": sent, "configuration": {"pushNotificationConfig": config}}
        task = (await client.rpc("hello", "message/send", params, old))["result"]
        await receiver.until(lambda: len(receiver.acknowledged) == 2)
        await deliveries(client, "delivered", "delivered")
        shown = {"taskId": task["id"], "pushNotificationConfig": {"id": task["id"], "url": f"{receiver.url}/ok"}}
        for method in ("get", "list"):
            answer = await client.rpc("hello", f"tasks/pushNotificationConfig/{method}", {"id": task["id"]}, old)
            assert answer["result"] == (shown if method == "get" else [shown])
        given = {"taskId": task["id"], "pushNotificationConfig": {"id": "second", **config}}
        assert (await client.rpc("hello", "tasks/pushNotificationConfig/set", given, old))["result"] == given
    working, completed = receiver.got
    assert (working.json["kind"], working.json["id"], working.said) == ("task", task["id"], "working")
    assert completed.json == task
    assert completed.headers["x-a2a-notification-token"] == "t0ken"


# -- configs


async def test_configs_are_made_read_listed_and_deleted(tmp_path: Path, receiver: Receiver) -> None:
    async with gateway(tmp_path) as client:
        card = (await client.http.get(f"{client.url}/agents/hello/.well-known/agent-card.json")).json()
        assert card["capabilities"]["pushNotifications"] is True
        task = (await client.send("hello", "N=1"))["id"]
        given = {"taskId": task, "id": "mine", "url": f"{receiver.url}/ok", "token": "t0ken"}
        given |= {"authentication": {"scheme": "Bearer", "credentials": "s3cret"}}
        assert await result(client, "CreateTaskPushNotificationConfig", given) == given
        unnamed = {"taskId": task, "url": f"{receiver.url}/ok"}
        assert await result(client, "CreateTaskPushNotificationConfig", unnamed) == {**unnamed, "id": task}
        shown = {"taskId": task, "id": "mine", "url": f"{receiver.url}/ok", "authentication": {"scheme": "Bearer"}}
        assert await result(client, "GetTaskPushNotificationConfig", {"taskId": task, "id": "mine"}) == shown
        listed = (await result(client, "ListTaskPushNotificationConfigs", {"taskId": task}))["configs"]
        assert listed == [shown, {**unnamed, "id": task}]
        for _ in range(2):  # deleting is idempotent
            await result(client, "DeleteTaskPushNotificationConfig", {"taskId": task, "id": "mine"})
        assert await error(client, "GetTaskPushNotificationConfig", {"taskId": task, "id": "mine"}) == -32001
        listed = (await result(client, "ListTaskPushNotificationConfigs", {"taskId": task}))["configs"]
        assert listed == [{**unnamed, "id": task}]
        assert (await client.owner("webhooks.deliveries"))["deliveries"] == []  # the task had ended before


async def test_a_config_made_again_is_changed(tmp_path: Path, receiver: Receiver) -> None:
    async with gateway(tmp_path) as client:
        task = await hanging(client, **push(f"{receiver.url}/status", id="a", token="old"))
        await receiver.until(lambda: "working" in [got.said for got in receiver.got])
        await result(client, "CreateTaskPushNotificationConfig", {"taskId": task["id"], "id": "a", "url": f"{receiver.url}/ok"})
        await result(client, "CancelTask", {"id": task["id"]})
        await receiver.until_said("working", ANSWER, "canceled")
    assert [(got.path, got.headers.get("x-a2a-notification-token")) for got in receiver.got] == [
        ("/status", "old"),
        ("/ok", None),
        ("/ok", None),
    ]


async def test_nothing_is_sent_to_a_deleted_config(tmp_path: Path, receiver: Receiver) -> None:
    receiver.status = 500
    async with gateway(tmp_path) as client:
        task = await hanging(client, **push(f"{receiver.url}/status", id="a"))
        await receiver.until(lambda: bool(receiver.got))
        await result(client, "DeleteTaskPushNotificationConfig", {"taskId": task["id"], "id": "a"})
        await result(client, "CancelTask", {"id": task["id"]})
        assert await client.owner("webhooks.deliveries") == {"deliveries": [], "next": None}
        assert await client.owner("webhooks.list") == {"webhooks": [], "next": None}
    assert {got.said for got in receiver.got} == {"working"}


async def test_a_task_has_a_bounded_number_of_configs(tmp_path: Path, receiver: Receiver) -> None:
    async with gateway(tmp_path) as client:
        task = (await client.send("hello", "N=1"))["id"]
        made = [{"taskId": task, "id": f"c{number}", "url": f"{receiver.url}/ok"} for number in range(11)]
        for config in made[:10]:
            await result(client, "CreateTaskPushNotificationConfig", config)
        assert await error(client, "CreateTaskPushNotificationConfig", made[10]) == -32004
        await result(client, "CreateTaskPushNotificationConfig", made[3])


async def test_another_agents_task_has_no_configs_one_could_read_or_make(tmp_path: Path, receiver: Receiver) -> None:
    """[INV-7]"""
    async with gateway(tmp_path) as client:
        await client.owner("agent.create", name="other", runtime="rehearsal")
        task = (await client.send("hello", "N=1"))["id"]
        await result(client, "CreateTaskPushNotificationConfig", {"taskId": task, "id": "a", "url": f"{receiver.url}/ok"})
        for method, params in {
            "CreateTaskPushNotificationConfig": {"id": "a", "url": f"{receiver.url}/ok"},
            "GetTaskPushNotificationConfig": {"id": "a"},
            "ListTaskPushNotificationConfigs": {},
            "DeleteTaskPushNotificationConfig": {"id": "a"},
        }.items():
            mine = await client.rpc("other", method, {"taskId": task, **params})
            none = await client.rpc("other", method, {"taskId": "tsk_0", **params})
            assert mine["error"]["code"] == -32001
            assert json.dumps(mine).replace(task, "tsk_0") == json.dumps(none)
        assert await result(client, "GetTaskPushNotificationConfig", {"taskId": task, "id": "a"})


@pytest.mark.parametrize(
    "config",
    [
        {"url": ""},
        {"url": "http://10.0.0.1:1/"},
        {"url": "https://10.0.0.1/"},
        {"url": "https://user:pw@127.0.0.1/"},
        {"url": "http://127.0.0.1:1/", "token": "a\r\nb: c"},
        {"url": "http://127.0.0.1:1/", "token": "Grüße"},
        {"url": "http://127.0.0.1:1/", "token": "x" * 4097},
        {"url": "http://127.0.0.1:1/", "id": "a/b"},
        {"url": "http://127.0.0.1:1/", "taskId": "tsk_0"},
        {"url": "http://127.0.0.1:1/", "authentication": {"scheme": "Bea rer", "credentials": "x"}},
        {"url": "http://127.0.0.1:1/", "authentication": {"scheme": "Bearer", "credentials": "x\ny"}},
    ],
)
async def test_a_message_with_a_config_that_cannot_be_is_not_accepted(tmp_path: Path, config: Json) -> None:
    """[PUSH-4]"""
    async with gateway(tmp_path) as client:
        for method in ("SendMessage", "SendStreamingMessage"):
            params = {"message": message("N=1"), "configuration": {"taskPushNotificationConfig": config}}
            answer = await client.rpc("hello", method, params)
            assert answer["error"]["code"] == -32602, answer
        assert (await result(client, "ListTasks", {}))["totalSize"] == 0


async def test_what_a_config_holds_is_nowhere_in_the_database_in_the_clear(tmp_path: Path, receiver: Receiver) -> None:
    """[OWN-3]"""
    secrets = {"token": "t0ken-in-the-clear", "authentication": {"scheme": "Bearer", "credentials": "s3cret-in-the-clear"}}
    async with gateway(tmp_path) as client:
        await client.send("hello", "N=2", configuration=push(f"{receiver.url}/ok", **secrets))
        await receiver.until_said("working", ANSWER, "completed")
        told = json.dumps([await client.owner("webhooks.list"), await client.owner("webhooks.deliveries")])
        stored = b"".join((tmp_path / f"switchboard.db{part}").read_bytes() for part in ("", "-wal"))
    for secret in ("t0ken-in-the-clear", "s3cret-in-the-clear"):
        assert secret not in told
        assert secret.encode() not in stored
