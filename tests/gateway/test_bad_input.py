"""Bad input gets the protocol's error, never a traceback, and leaves nothing behind. [A2A-5]"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import anyio
import pytest

from adapters.runtimes.rehearsal.profile import PROFILE
from tests.support import HEADERS, Json, message, serving, text_of

RUNTIMES = {"rehearsal": PROFILE}
PARSE, REQUEST, METHOD, PARAMS = -32700, -32600, -32601, -32602
NOT_FOUND, CONTENT_TYPE, VERSION = -32001, -32005, -32009
JSON_TYPE = {"Content-Type": "application/json"}


def call(params: Any, method: str = "SendMessage") -> Json:
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}


def sending(**changes: Any) -> Json:
    return call({"message": message("N=0") | changes})


def parts(*parts: Any) -> Json:
    return sending(parts=list(parts))


def data(value: Any) -> Json:
    return parts({"data": value})


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


BODIES: dict[str, tuple[Any, int]] = {
    "nothing": (b"", PARSE),
    "half an object": (b'{"jsonrpc": "2.0"', PARSE),
    "not JSON": (b"hello", PARSE),
    "not UTF-8": (b'{"jsonrpc": "2.0", "id": 1, "method": "\xff"}', PARSE),
    "half a surrogate pair in UTF-8": (b'{"jsonrpc": "2.0", "id": 1, "method": "\xed\xa0\x80"}', PARSE),
    "UTF-16": ('{"jsonrpc": "2.0", "id": 1, "method": "ListTasks"}'.encode("utf-16"), PARSE),
    "a number too long to read": (b'{"jsonrpc": "2.0", "id": 1, "method": "ListTasks", "params": %s}' % (b"9" * 5000), PARSE),
    "100,000 brackets": (b"[" * 100_000, PARSE),
    "100,000 brackets, closed": (b"[" * 100_000 + b"]" * 100_000, PARSE),
    "brackets in a request": (json.dumps(data(0)).replace("0}", "[" * 5000 + "]" * 5000 + "}").encode(), PARSE),
    "objects in one another": (b'{"a":' * 50_000 + b"1" + b"}" * 50_000, PARSE),
    "a string": (b'"hello"', REQUEST),
    "a number": (b"5", REQUEST),
    "null": (b"null", PARSE),
    "an empty object": ({"id": 1}, REQUEST),
    "an empty batch": ([], REQUEST),
    "a batch": ([sending(), sending()], REQUEST),
    "another JSON-RPC": ({**sending(), "jsonrpc": "1.0"}, REQUEST),
    "no JSON-RPC": ({"id": 1, "method": "ListTasks"}, REQUEST),
    "a method that is a number": ({**sending(), "method": 5}, REQUEST),
    "a method that is a list": ({**sending(), "method": []}, REQUEST),
    "an id that is an object": ({**sending(), "id": {"a": 1}}, REQUEST),
    "an id that is true": ({**sending(), "id": True}, REQUEST),
    "no such method": (call({}, "Nonsense"), METHOD),
    "a method of an older version": (call({}, "message/send"), VERSION),
    "params that are a list": (call([1, 2]), PARAMS),
    "params that are text": ({**sending(), "params": "hello"}, REQUEST),
    "no params": (call({}), PARAMS),
    "no message": (call({"message": None}), PARAMS),
    "no id of the message": (sending(messageId=""), PARAMS),
    "no role": (sending(role=None), PARAMS),
    "the agent's role": (sending(role="ROLE_AGENT"), PARAMS),
    "no such role": (sending(role="ROLE_KING"), PARAMS),
    "no parts": (sending(parts=[]), PARAMS),
    "parts that are no list": (sending(parts={"text": "a"}), PARAMS),
    "a part that is text": (parts("hello"), PARAMS),
    "an empty part": (parts({}), PARAMS),
    "a part of two kinds": (parts({"text": "a", "url": "http://a"}), PARAMS),
    "text that is a number": (parts({"text": 5}), PARAMS),
    "too many parts": (parts(*[{"text": "a"}] * 1001), PARAMS),
    "a NUL": (parts({"text": "N=0\0"}), PARAMS),
    "a lone surrogate": (parts({"text": "\ud800"}), PARSE),
    "a lone surrogate in data": (data({"a": "\udfff"}), PARSE),
    "1.1 MB of text": (parts({"text": "x" * 1_100_000}), PARAMS),
    "1.1 MB of text in pieces": (parts(*[{"text": "x" * 11_000}] * 100), PARAMS),
    "1.1 MB of data": (data("x" * 1_100_000), PARAMS),
    "NaN": (data(float("nan")), PARSE),
    "Infinity in metadata": (sending(metadata={"a": float("inf")}), PARSE),
    "1e999": (json.dumps(data(0)).replace('"data": 0', '"data": 1e999').encode(), PARAMS),
    "a number with 400 digits": (data(10**400), PARAMS),
    "data that is nested 96 times": (data(nested(96)), PARSE),
    "data that is nested 80 times": (data(nested(80)), PARAMS),
    "a file": (parts({"raw": "aGVsbG8=", "filename": "a.png"}), CONTENT_TYPE),
    "a link": (parts({"text": "see"}, {"url": "https://192.0.2.1/a.png", "mediaType": "image/png"}), CONTENT_TYPE),
    "a link into the house": (parts({"text": "see"}, {"url": "http://127.0.0.1:1/a.txt", "mediaType": "text/plain"}), PARAMS),
    "a task that is an object": (sending(taskId={"a": 1}), PARAMS),
    "a task with a NUL": (sending(taskId="a\0b"), NOT_FOUND),
    "a task id of 100,000 letters": (sending(taskId="x" * 100_000), NOT_FOUND),
    "no task": (call({}, "GetTask"), PARAMS),
    "a task that is a list": (call({"id": []}, "GetTask"), PARAMS),
    "a stream of nothing": (call({}, "SendStreamingMessage"), PARAMS),
    "a stream of a file": (
        call(parts({"raw": "aGVsbG8=", "filename": "a.zip"})["params"], "SendStreamingMessage"),
        CONTENT_TYPE,
    ),
    "a stream of no task": (call({"id": "x"}, "SubscribeToTask"), NOT_FOUND),
    "a stream of an unnamed task": (call({}, "SubscribeToTask"), PARAMS),
    "a webhook": (call({"taskId": "a", "url": "https://a.example"}, "CreateTaskPushNotificationConfig"), -32001),
    "the extended card": (call({}, "GetExtendedAgentCard"), -32007),
}
WORDS = ("Traceback", "Error(", "sys.", ".py", "sqlite", "rehearsal", "object at 0x")


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def gateway(tmp_path_factory: pytest.TempPathFactory, anyio_backend: str) -> Any:
    """One gateway for all: bad input changes nothing."""
    folder = tmp_path_factory.mktemp("data")
    async with serving(folder, RUNTIMES, max_body_bytes=2_000_000) as client:
        client.folder = folder  # type: ignore[attr-defined]
        yield client


async def post(gateway: Any, body: Any, path: str = "/agents/hello", **headers: str) -> Any:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return await gateway.http.post(gateway.url + path, content=content, headers={**HEADERS, **JSON_TYPE, **headers})


@pytest.mark.parametrize("name", BODIES)
async def test_a_bad_body_gets_its_error(gateway: Any, name: str) -> None:
    body, code = BODIES[name]
    with anyio.fail_after(20):
        answer = await post(gateway, body)
        listed = (await gateway.rpc("hello", "ListTasks", {}))["result"]
    told = answer.json()
    assert told["error"]["code"] == code, told
    assert (told["jsonrpc"], "result" in told) == ("2.0", False)
    assert listed["totalSize"] == 0
    for word in (*WORDS, str(gateway.folder)):
        assert word not in answer.text
    assert len(answer.content) < 4000


async def test_what_is_unusual_but_right_is_taken(tmp_path: Path) -> None:
    unusual = {
        "a field nobody knows": sending(future={"a": 1}),
        "many levels of data": data(nested(30)),
        "an emoji": parts({"text": "N=0 \U0001f600"}),
        "line ends of Unicode": parts({"text": "N=0 \u2028 \x85 \r\n"}),
        "an empty text": parts({"text": ""}),
        "a part with a name": parts({"text": "N=0", "filename": "a.txt", "mediaType": "text/plain", "metadata": {"a": 1}}),
        "an id that is text": {**sending(), "id": "é\u2028"},
        "an id that is null": {**sending(), "id": None},
        "exactly what a prompt may have": parts({"text": "N=0 " + "x" * (1_000_000 - 4)}),
    }
    async with serving(tmp_path, RUNTIMES) as gateway:
        with anyio.fail_after(40):
            for name, body in unusual.items():
                told = (await post(gateway, body)).json()
                assert told["result"]["task"]["status"]["state"] == "TASK_STATE_COMPLETED", (name, told)
                assert told["id"] == body["id"]
                assert told["result"]["task"]["history"][0]["parts"] == body["params"]["message"]["parts"]


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({"Content-Type": "text/plain"}, 415, CONTENT_TYPE),
        ({"Content-Type": ""}, 415, CONTENT_TYPE),
        ({"Content-Type": "application/json-but-not"}, 415, CONTENT_TYPE),
        ({"A2A-Version": ""}, 200, VERSION),
        ({"A2A-Version": "0.3"}, 200, VERSION),
        ({"A2A-Version": "2.0"}, 200, VERSION),
        ({"A2A-Version": "nonsense"}, 200, VERSION),
    ],
)
async def test_bad_headers_get_their_error(gateway: Any, headers: dict[str, str], status: int, code: int) -> None:
    for method in ("SendMessage", "SendStreamingMessage"):
        answer = await post(gateway, {**sending(), "method": method}, **headers)
        assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert (await gateway.rpc("hello", "ListTasks", {}))["result"]["totalSize"] == 0


async def test_the_content_type_may_name_its_charset(gateway: Any) -> None:
    answer = await post(gateway, call({}, "ListTasks"), **{"Content-Type": "Application/JSON; charset=utf-8"})
    assert "result" in answer.json()


async def test_a_huge_body_is_refused(gateway: Any) -> None:
    async def endless() -> Any:
        for _ in range(40):
            yield b" " * 100_000

    declared = await post(gateway, b" " * 2_000_001)
    streamed = await gateway.http.post(f"{gateway.url}/agents/hello", content=endless(), headers={**HEADERS, **JSON_TYPE})
    crowded = await post(gateway, b"[" + b"[]," * 200_000 + b"[]]")
    for answer in (declared, streamed, crowded):
        assert (answer.status_code, answer.json()["error"]["code"]) == (413, REQUEST)


@pytest.mark.parametrize("path", ["nobody", "..%2fhello", "%00", "%ff", "HELLO", "hello%20", "x" * 5000, "hello/extra"])
async def test_an_address_that_leads_nowhere_is_not_found(gateway: Any, path: str) -> None:
    for card in ("", "/.well-known/agent-card.json"):
        url = f"/agents/{path}{card}"
        answer = await (gateway.http.get(gateway.url + url) if card else post(gateway, sending(), url))
        assert answer.status_code == 404
        assert len(answer.content) < 1000
        assert str(gateway.folder) not in answer.text


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH"])
async def test_other_ways_to_ask_are_not_allowed(gateway: Any, method: str) -> None:
    answer = await gateway.http.request(method, f"{gateway.url}/agents/hello")
    assert answer.status_code == 405


async def test_a_bad_body_of_a_hidden_name_tells_nothing_of_the_body(gateway: Any) -> None:
    assert (await post(gateway, b"[" * 100_000, "/agents/nobody")).status_code == 404


async def test_the_gateway_still_works(tmp_path: Path) -> None:
    """After everything at once."""
    async with serving(tmp_path, RUNTIMES) as gateway:
        with anyio.fail_after(60):
            async with anyio.create_task_group() as group:
                for body, _ in BODIES.values():
                    group.start_soon(post, gateway, body)
            assert text_of(await gateway.send("hello", "N=1")) == "word0 "
