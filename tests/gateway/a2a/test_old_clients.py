"""0.3 as clients of that version really speak it, where the SDK's own server half leaves something out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio

from tests.support import serving

V03 = {"A2A-Version": "0.3"}
HOOK = "http://127.0.0.1:9/"


async def test_push_configs_are_set_in_either_form_and_deleted(tmp_path: Path) -> None:
    async with serving(tmp_path, allow_private_hosts="127.0.0.1") as gateway:
        with anyio.fail_after(20):
            task = await gateway.send("hello", "N=0")
            url = f"{gateway.url}/agents/hello/v1/tasks/{task['id']}/pushNotificationConfigs"

            async def call(method: str, path: str = "", **more: Any) -> Any:
                answer = await gateway.http.request(method, url + path, headers=V03, **more)
                return answer.status_code, answer.json()

            name = f"tasks/{task['id']}/pushNotificationConfigs"
            alone, held = ({"name": f"{name}/{id}", "pushNotificationConfig": {"id": id, "url": HOOK}} for id in ("a", "b"))
            assert await call("POST", json=alone) == (200, alone)
            assert await call("POST", json={"parent": f"tasks/{task['id']}", "configId": "b", "config": held}) == (200, held)
            for nonsense in ([], 5, {"config": []}, {"config": {"pushNotificationConfig": 5}}):
                assert (await call("POST", json=nonsense))[0] == 400
            assert await call("GET") == (200, {"configs": [alone, held]})
            for _ in range(2):
                assert await call("DELETE", "/a") == (200, {})
            assert await call("GET") == (200, {"configs": [held]})
            gone = await call("GET", "/a")
    assert (gone[0], gone[1]["code"], gone[1]["type"]) == (404, -32001, "TaskNotFoundError")


async def test_over_jsonrpc_a_deleted_config_is_answered_with_a_null_result(tmp_path: Path) -> None:
    """JSON-RPC 2.0, section 5: an answer has a result or an error."""
    async with serving(tmp_path) as gateway:
        with anyio.fail_after(20):
            task = await gateway.send("hello", "N=0")
            params = {"id": task["id"], "pushNotificationConfigId": "c"}
            answer = await gateway.rpc("hello", "tasks/pushNotificationConfig/delete", params, V03)
    assert answer == {"jsonrpc": "2.0", "id": 1, "result": None}
