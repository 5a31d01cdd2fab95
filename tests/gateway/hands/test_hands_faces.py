"""The sandbox over HTTP: one call as JSON, and as an MCP server of both eras."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

import anyio
import httpx2
import pytest
from jsonschema import Draft202012Validator
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from gateway.errors import SwitchboardError
from gateway.hands.tools import MAX_FILE, TOOLS
from gateway.runtime_api.mcp import MODERN
from gateway.runtime_api.sandbox import CALL, MCP, routes
from gateway.runtime_api.shapes import Answer
from tests import needs
from tests.gateway.hands.stage import SECONDS, Brain, Stage, staged
from tests.gateway.hands.test_hands_calls import until

Json = dict[str, Any]
META = {"io.modelcontextprotocol/protocolVersion": MODERN, "io.modelcontextprotocol/clientCapabilities": {}}


@dataclass
class Image:
    """What speaks for a turn, as an image does."""

    stage: Stage
    brain: Brain
    http: httpx2.AsyncClient

    async def post(self, path: str, body: Any, headers: Mapping[str, str] = {}) -> httpx2.Response:
        with anyio.fail_after(SECONDS):
            return await self.http.post(path, json=body, headers=headers)

    async def call(self, tool: str, call_id: str = "1", **input: Any) -> httpx2.Response:
        return await self.post(CALL, {"call_id": call_id, "tool": tool, "input": input})

    async def rpc(self, method: str, headers: Mapping[str, str] = {}, **params: Any) -> httpx2.Response:
        return await self.post(MCP, {"jsonrpc": "2.0", "id": 7, "method": method, "params": params}, headers)

    async def modern(self, method: str, name: str = "", **params: Any) -> httpx2.Response:
        headers = {"MCP-Protocol-Version": MODERN, "Mcp-Method": method} | ({"Mcp-Name": name} if name else {})
        named = {"name": name} if name else {}
        return await self.rpc(method, headers, **named, **{"_meta": META, **params})


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    async with staged(tmp_path_factory.mktemp("data"), needs.an_engine()) as stage:
        yield stage


@pytest.fixture
async def image(stage: Stage) -> AsyncIterator[Image]:
    brain = await stage.begin()

    async def refused(_request: Request, exc: Exception) -> Response:
        assert isinstance(exc, SwitchboardError)
        return JSONResponse(exc.to_json(), exc.codes.http)

    handlers: Any = {SwitchboardError: refused}
    app = Starlette(routes=routes(stage.hands, stage.settings.max_body_bytes), exception_handlers=handlers)

    async def signed(scope: Scope, receive: Receive, send: Send) -> None:
        scope["state"] = {"turn": brain}
        await app(scope, receive, send)

    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(signed), base_url="http://gateway") as http:
        yield Image(stage, brain, http)


# -- plain


async def test_a_call_is_answered_as_the_contract_says(image: Image) -> None:
    answer = await image.call("bash", command="echo hi; exit 2")
    assert answer.status_code == 200
    assert answer.json() == Answer.model_validate(answer.json()).model_dump() == {
        "call_id": "1", "output": "hi\n", "is_error": True, "exit_code": 2,
        "truncated": False, "encoding": "utf-8", "timed_out": False, "interrupted": False,
    }  # fmt: skip


async def test_an_id_is_done_once_and_another_call_under_it_refused(image: Image) -> None:
    """[HAND-4]"""
    for _ in range(2):
        assert (await image.call("bash", command="echo x >> n; wc -l < n")).json()["output"] == "1\n"
    refused = await image.call("bash", command="echo y >> n")
    assert (refused.status_code, refused.json()["code"]) == (422, "call_reused")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ([], "valid dictionary"),
        ({"tool": "ls", "input": {}}, "call_id: Field required"),
        ({"call_id": "a b", "tool": "ls", "input": {}}, "call_id: String should match"),
        ({"call_id": "1", "tool": "ls", "input": 3}, "input: Input should be a valid dictionary"),
        ({"call_id": "1", "tool": "ls", "input": {}, "more": 1}, "more: Extra inputs"),
    ],
)
async def test_a_call_that_is_none_is_refused(image: Image, body: Any, words: str) -> None:
    answer = await image.post(CALL, body)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_params")
    assert words in answer.json()["message"]


async def test_what_is_no_json_or_too_large_is_refused(image: Image) -> None:
    assert (await image.http.post(CALL, content=b"{")).status_code == 400
    too_large = await image.http.post(CALL, content=b" " * (image.stage.settings.max_body_bytes + 1))
    assert (too_large.status_code, too_large.json()["code"]) == (413, "too_large")


async def test_ten_megabytes_fit(image: Image) -> None:
    text = "\N{SNOWMAN}" * (MAX_FILE // 3)
    assert not (await image.call("write", path="x", content=text)).json()["is_error"]
    assert (await image.call("read", "2", path="x")).json()["output"] == text


# -- MCP


async def test_a_client_that_begins_with_initialize_is_spoken_to_as_it_wants(image: Image) -> None:
    """[HAND-7]"""
    about = {"capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}
    for wanted, spoken in (("2025-06-18", "2025-06-18"), ("2025-11-25", "2025-11-25"), ("1999-01-01", "2025-11-25")):
        result = (await image.rpc("initialize", protocolVersion=wanted, **about)).json()["result"]
        assert (result["protocolVersion"], result["serverInfo"]["name"]) == (spoken, "sandbox")
    started = await image.post(MCP, {"jsonrpc": "2.0", "method": "notifications/initialized"})
    assert (started.status_code, started.content) == (202, b"")
    said = {"MCP-Protocol-Version": "2025-06-18"}
    assert (await image.rpc("ping", said)).json() == {"jsonrpc": "2.0", "id": 7, "result": {}}
    listed = (await image.rpc("tools/list", said)).json()["result"]["tools"]
    assert [tool["name"] for tool in listed] == list(TOOLS)
    for tool in listed:
        Draft202012Validator.check_schema(tool["inputSchema"])
    called = (await image.rpc("tools/call", said, name="bash", arguments={"command": "echo hi; exit 3"})).json()["result"]
    assert called["content"] == [{"type": "text", "text": "hi\n\n[exit code 3]"}]
    assert (called["isError"], called["_meta"]["switchboard/exit_code"]) == (True, 3)


async def test_a_client_of_today_needs_no_handshake(image: Image) -> None:
    """[HAND-7]"""
    found = (await image.modern("server/discover")).json()["result"]
    assert (found["resultType"], found["supportedVersions"][0]) == ("complete", MODERN)
    assert [tool["name"] for tool in (await image.modern("tools/list")).json()["result"]["tools"]] == list(TOOLS)
    called = (await image.modern("tools/call", "write", arguments={"path": "m", "content": "x"})).json()["result"]
    assert (called["resultType"], called["isError"]) == ("complete", False)
    assert called["_meta"]["io.modelcontextprotocol/serverInfo"]["name"] == "sandbox"
    missing = await image.modern("prompts/list")
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, -32601)


async def test_a_call_that_names_itself_is_done_once(image: Image) -> None:
    """[HAND-4]"""
    named = {"_meta": {"switchboard/call_id": "mine"}}
    arguments = {"command": "echo x >> n; wc -l < n"}
    for _ in range(2):
        answer = (await image.rpc("tools/call", name="bash", arguments=arguments, **named)).json()["result"]
        assert (answer["content"][0]["text"], answer["_meta"]["switchboard/call_id"]) == ("1\n", "mine")
    other = (await image.rpc("tools/call", name="bash", arguments={"command": "true"}, **named)).json()
    assert other["error"]["code"] == -32602
    unnamed = (await image.rpc("tools/call", name="bash", arguments=arguments)).json()["result"]
    assert unnamed["content"][0]["text"] == "2\n"


@pytest.mark.parametrize("id", ["a b", "", "ä", "x" * 129, "1\n", 1, None])
async def test_an_id_is_taken_by_one_rule_however_a_call_comes(image: Image, id: Any) -> None:
    """Refused alike, and nothing is run."""
    arguments = {"command": "touch ran"}
    plain = await image.post(CALL, {"call_id": id, "tool": "bash", "input": arguments})
    assert (plain.status_code, plain.json()["code"]) == (400, "invalid_params")
    named = {"_meta": {"switchboard/call_id": id}}
    by_mcp = (await image.rpc("tools/call", name="bash", arguments=arguments, **named)).json()
    assert by_mcp["error"]["code"] == -32602
    assert not (image.brain.place.work / "ran").exists()


async def test_the_longest_id_is_taken_however_a_call_comes(image: Image) -> None:
    id = "Az09._:-" * 16
    assert (await image.post(CALL, {"call_id": id, "tool": "ls", "input": {}})).status_code == 200
    named = {"_meta": {"switchboard/call_id": id}}
    again = (await image.rpc("tools/call", name="ls", arguments={}, **named)).json()
    assert again["result"]["_meta"]["switchboard/call_id"] == id


async def test_a_call_that_its_client_cancels_is_ended(image: Image) -> None:
    answers: list[Json] = []

    async def one() -> None:
        answers.append((await image.rpc("tools/call", name="bash", arguments={"command": "touch up; sleep 300"})).json())

    async with anyio.create_task_group() as group:
        group.start_soon(one)
        await until(image.brain.place.work / "up")
        await image.post(MCP, {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 7}})
    assert answers[0]["result"]["isError"]


async def test_a_wrong_argument_is_told_to_the_model_and_a_wrong_tool_to_the_client(image: Image) -> None:
    wrong = (await image.rpc("tools/call", name="read", arguments={})).json()["result"]
    assert wrong["isError"]
    assert "path: Field required" in wrong["content"][0]["text"]
    for name in ("sh", None, ["bash"]):
        assert (await image.rpc("tools/call", name=name, arguments={})).json()["error"]["code"] == -32602


@pytest.mark.parametrize(
    ("changed", "headers", "code"),
    [
        ({}, {"Mcp-Method": "tools/call"}, -32020),
        ({}, {"MCP-Protocol-Version": "2025-11-25"}, -32020),
        ({"_meta": {}}, {}, -32602),
        ({"_meta": {**META, "io.modelcontextprotocol/clientCapabilities": 1}}, {}, -32602),
        ({"_meta": {**META, "io.modelcontextprotocol/protocolVersion": "1900-01-01"}}, {}, -32022),
        ({"_meta": {}}, {"MCP-Protocol-Version": "1900-01-01"}, -32022),
        ({}, {"Origin": "http://evil.example"}, -32600),
    ],
)
async def test_what_does_not_fit_together_is_refused(image: Image, changed: Json, headers: Json, code: int) -> None:
    fits = {"MCP-Protocol-Version": MODERN, "Mcp-Method": "tools/list"}
    answer = await image.rpc("tools/list", fits | headers, **{"_meta": META, **changed})
    assert (answer.status_code, answer.json()["error"]["code"]) == (403 if "Origin" in headers else 400, code)


async def test_what_is_no_message_is_refused(image: Image) -> None:
    for body, code in (
        (b"{", -32700),
        (b"[]", -32600),
        (b"{}", -32600),
        (b'{"jsonrpc":"2.0","id":1,"method":"ping","params":3}', -32602),
    ):
        answer = await image.http.post(MCP, content=body)
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, code)
    for method in ("GET", "DELETE"):
        assert (await image.http.request(method, MCP)).status_code == 405
