"""Right requests of every transport, and what a stranger may make of them: wrong types, missing, odd, huge, cut."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from hypothesis import strategies as st

Json = dict[str, Any]
V10, V03, TYPE = {"A2A-Version": "1.0"}, {"A2A-Version": "0.3"}, {"Content-Type": "application/json"}
TASK, CONTEXT = "TASK", "CONTEXT"  # stand for ids of a task there is
HOOK = "https://hooks.example.com/"


@dataclass(frozen=True)
class Asked:
    """A request: `body` is JSON to be, unless `raw` is set."""

    kind: str  # jsonrpc, rest, owner, public
    method: str
    path: str
    headers: dict[str, str] = field(default_factory=dict)
    body: Any = None
    raw: bytes | None = None

    @property
    def content(self) -> bytes:
        if self.raw is not None:
            return self.raw
        return b"" if self.body is None else json.dumps(self.body).encode()


def message(**more: Any) -> Json:
    return {
        "messageId": "m",
        "role": "ROLE_USER",
        "parts": [{"text": "hello"}, {"data": {"a": [1]}}],
        "metadata": {"k": 1},
        **more,
    }


def sending(**more: Any) -> Json:
    configuration = {"historyLength": 1, "acceptedOutputModes": ["text/plain"], "returnImmediately": True}
    return {"message": message(**more), "configuration": configuration, "metadata": {"m": 1}}


def message03(**more: Any) -> Json:
    return {"kind": "message", "messageId": "m", "role": "user", "parts": [{"kind": "text", "text": "hello"}], **more}


CONFIG = {"taskId": TASK, "id": "c", "url": HOOK, "token": "t", "authentication": {"scheme": "Bearer", "credentials": "x"}}
CONFIG03 = {"id": "c", "url": HOOK, "token": "t"}
RPC10: dict[str, Json] = {
    "SendMessage": sending(),
    "SendStreamingMessage": sending(contextId=CONTEXT),
    "GetTask": {"id": TASK, "historyLength": 2},
    "ListTasks": {
        "contextId": CONTEXT,
        "status": "TASK_STATE_WORKING",
        "pageSize": 5,
        "pageToken": "MQ",
        "includeArtifacts": True,
    },
    "CancelTask": {"id": TASK, "metadata": {"a": 1}},
    "SubscribeToTask": {"id": TASK},
    "CreateTaskPushNotificationConfig": CONFIG,
    "GetTaskPushNotificationConfig": {"taskId": TASK, "id": "c"},
    "ListTaskPushNotificationConfigs": {"taskId": TASK, "pageSize": 1},
    "DeleteTaskPushNotificationConfig": {"taskId": TASK, "id": "c"},
    "GetExtendedAgentCard": {},
}
RPC03: dict[str, Json] = {
    "message/send": {"message": message03(), "configuration": {"blocking": False, "historyLength": 1}},
    "message/stream": {"message": message03(contextId=CONTEXT)},
    "tasks/get": {"id": TASK, "historyLength": 1},
    "tasks/cancel": {"id": TASK},
    "tasks/resubscribe": {"id": TASK},
    "tasks/pushNotificationConfig/set": {"taskId": TASK, "pushNotificationConfig": CONFIG03},
    "tasks/pushNotificationConfig/get": {"id": TASK, "pushNotificationConfigId": "c"},
    "tasks/pushNotificationConfig/list": {"id": TASK},
    "tasks/pushNotificationConfig/delete": {"id": TASK, "pushNotificationConfigId": "c"},
    "agent/getAuthenticatedExtendedCard": {},
}
OWNER: dict[str, Json] = {
    "agent.create": {"name": "made", "runtime": "mute", "description": "d", "tags": ["t"], "env": {"A": "b"}, "public": True},
    "agent.list": {},
    "agent.show": {"name": "face"},
    "agent.update": {"name": "spare", "changes": {"description": "x", "limits": {"turn_seconds": 5}}, "if_version": 1},
    "agent.versions": {"name": "spare"},
    "agent.card": {"name": "face"},
    "callers.add": {"name": "c", "agents": ["spare"], "requests_per_minute": 5, "running_tasks": 1},
    "callers.list": {},
    "callers.rotate": {"name": "c"},
    "keys.list": {},
    "sessions.list": {"agent": "face", "status": "idle", "limit": 5, "cursor": "x"},
    "sessions.show": {"id": CONTEXT},
    "sessions.events": {"id": CONTEXT, "after": "0.0", "limit": 5, "level": "progress"},
    "webhooks.list": {"limit": 5, "cursor": "x"},
    "webhooks.deliveries": {"state": "dead", "limit": 5, "cursor": "x"},
    "webhooks.redeliver": {"id": "x"},
    "models.list": {},
}
AGENT = "/agents/face"
REST10: list[tuple[str, str, Any]] = [
    ("POST", "/message:send", sending()),
    ("POST", "/message:stream", sending(contextId=CONTEXT)),
    ("POST", "/face/message:send", sending()),
    ("GET", f"/tasks/{TASK}?historyLength=1", None),
    ("GET", f"/tasks?contextId={CONTEXT}&pageSize=3&status=TASK_STATE_WORKING&includeArtifacts=true", None),
    ("POST", f"/tasks/{TASK}:cancel", {}),
    ("GET", f"/tasks/{TASK}:subscribe", None),
    ("POST", f"/tasks/{TASK}:subscribe", {}),
    ("POST", f"/tasks/{TASK}/pushNotificationConfigs", CONFIG),
    ("GET", f"/tasks/{TASK}/pushNotificationConfigs?pageSize=1", None),
    ("GET", f"/tasks/{TASK}/pushNotificationConfigs/c", None),
    ("DELETE", f"/tasks/{TASK}/pushNotificationConfigs/c", None),
    ("GET", "/extendedAgentCard", None),
]
MESSAGE03 = {"messageId": "m", "role": "ROLE_USER", "content": [{"text": "hello"}]}
REST03: list[tuple[str, str, Any]] = [
    ("POST", "/v1/message:send", {"message": MESSAGE03, "configuration": {"blocking": False}}),
    ("POST", "/v1/message:stream", {"message": MESSAGE03}),
    ("GET", f"/v1/tasks/{TASK}?historyLength=1", None),
    ("POST", f"/v1/tasks/{TASK}:cancel", {}),
    ("GET", f"/v1/tasks/{TASK}:subscribe", None),
    ("POST", f"/v1/tasks/{TASK}/pushNotificationConfigs", {"config": {"name": "n", "pushNotificationConfig": CONFIG03}}),
    ("GET", f"/v1/tasks/{TASK}/pushNotificationConfigs", None),
    ("GET", f"/v1/tasks/{TASK}/pushNotificationConfigs/c", None),
    ("DELETE", f"/v1/tasks/{TASK}/pushNotificationConfigs/c", None),
    ("GET", "/v1/card", None),
]
PUBLIC = [
    "/agents?q=face&tag=chat&pageSize=3&pageToken=aGVsbG8",
    "/agents/face/.well-known/agent-card.json",
    "/.well-known/agent-card.json",
    "/.well-known/jwks.json",
    "/.well-known/api-catalog",
    "/health",
]


def rpc(method: str, params: Json) -> Json:
    return {"jsonrpc": "2.0", "id": 7, "method": method, "params": params}


REQUESTS = [
    *(Asked("jsonrpc", "POST", AGENT, V10 | TYPE, rpc(name, params)) for name, params in RPC10.items()),
    *(Asked("jsonrpc", "POST", AGENT + "/", V03 | TYPE, rpc(name, params)) for name, params in RPC03.items()),
    *(Asked("rest", method, AGENT + path, V10 | TYPE, body) for method, path, body in REST10),
    *(Asked("rest", method, AGENT + path, V03 | TYPE, body) for method, path, body in REST03),
    *(Asked("owner", "POST", "/owner", TYPE, rpc(name, params)) for name, params in OWNER.items()),
    *(Asked("public", "GET", path) for path in PUBLIC),
]


def nested(depth: int, wrap: Callable[[Any], Any]) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = wrap(value)
    return value


ODD: list[Any] = [
    *(None, True, False, 0, -1, 1.5, -0.0, 2**31, 2**63, 2**64, -(2**63) - 1, 10**30, 10**400, 1e308, 5e-324),
    *(
        float("nan"),
        float("inf"),
        "",
        " ",
        "0",
        "-1",
        "1e999",
        "NaN",
        "null",
        "x" * 5000,
        "9" * 400,
        "\0",
        "a\0b",
        "\r\nX: y",
        "\t",
    ),
    *(
        "\ud800",
        "\udfff\ud800",
        "\u202e",
        "\u2028\x85",
        "\ufeff",
        "e\u0301" * 50,
        "\U0001f468\u200d\U0001f469",
        "İ",
        "ﬀ",
        "\x7f\x80",
    ),
    *("../../etc/passwd", "..", "/", "a/b", "%00", "%2e%2e%2f", "{}", "${x}", "%s%n", "' OR 1=1 --", "<script>", "__proto__"),
    *(
        TASK,
        CONTEXT,
        "tsk_" + "0" * 24,
        "ses_" + "0" * 24,
        "TASK_STATE_WORKING",
        "ROLE_AGENT",
        "ROLE_UNSPECIFIED",
        "user",
        "agent",
    ),
    *(
        "2026-13-45T99:99:99Z",
        "0001-01-01T00:00:00Z",
        "9999-12-31T23:59:59.999999999Z",
        "MSAyIDM",
        "====",
        "é",
        "hello",
        "nobody",
    ),
    *(
        "file:///etc/passwd",
        "http://127.0.0.1:1/",
        "https://[::1]/",
        "https://hooks.example.com:99999/",
        "https://\u2100/",
        "gopher://x",
    ),
    *(
        [],
        {},
        [[]],
        [{}],
        [None],
        {"": ""},
        {"a": None},
        [1] * 999,
        {str(n): n for n in range(500)},
        {"text": "a", "url": "b"},
    ),
    *({"raw": "!!!"}, {"raw": "aGk="}, {"data": {"a": 1e308}}, {"kind": "text"}, {"kind": "file", "file": {"bytes": "aGk="}}),
    *(nested(60, lambda v: [v]), nested(98, lambda v: [v]), nested(150, lambda v: {"a": v}), nested(600, lambda v: [v])),
]
ODD_HEADERS: list[tuple[str, str]] = [
    *(("A2A-Version", value) for value in ("", "1.0", "0.3", "1.0.9", "2.0", "1", "v1.0", "1.0, 0.3", "9" * 500)),
    *(
        ("Content-Type", value)
        for value in ("", "text/plain", "application/json; charset=utf-16", "application/a2a+json", "/", "\xff")
    ),
    *(("Last-Event-ID", value) for value in ("0", "1", "-1", "1.2", "9" * 30, "x", "\xe9", "1e3", " ", "\u00b2")),
    *(("A2A-Extensions", value) for value in ("", "x", "https://switchboard.dev/extensions/tool-events/v1", "," * 500)),
    *(("Accept", value) for value in ("", "text/event-stream", "image/png", "*/*;q=x")),
    *(("Authorization", value) for value in ("", "Bearer", "Bearer x", "Basic eDp5", "Bearer sbk_x_y", "Bearer a.b.c")),
    *(("X-API-Key", value) for value in ("", "x", "sbk_a_b", "sbk_" * 500, "\xe9")),
    *(("If-None-Match", value) for value in ("*", "x", '"', '"a", W/"b"', "," * 500)),
    *(("If-Modified-Since", value) for value in ("x", "Thu, 01 Jan 1970 00:00:00 GMT", "Sun, 99 Xxx 9999 99:99:99 GMT", "0")),
    *(("Idempotency-Key", value) for value in ("", "k", "k" * 5000, "\xe9")),
    *(("Host", value) for value in ("", "evil.example", "[", "a b", "x:y")),
    *(("Cookie", "a=b; c"), ("Traceparent", "00-x"), ("X-Forwarded-For", "x"), ("Content-Encoding", "gzip"), ("Expect", "x")),
]
PIECES = [
    "%00",
    "%ff",
    "%2f",
    "..",
    "//",
    "?",
    "&a=b",
    "&pageSize=x",
    "&historyLength=-1",
    "=&=",
    "%",
    ":cancel",
    ";",
    "é",
    "x" * 3000,
    "9" * 30,
]
BYTES = [
    b"\0",
    b"\xff",
    b"\xc3",
    b"{",
    b"}",
    b"[",
    b'"',
    b"\\",
    b"\\ud800",
    b"\xed\xa0\x80",
    b"[" * 3000,
    b'{"a":' * 3000,
    b"9" * 5000,
]

where = st.integers(0, 10_000)
Change = Callable[[Asked], Asked]


def places(value: Any, found: list[tuple[Any, Any]] | None = None) -> list[tuple[Any, Any]]:
    """Every (container, key) in a JSON value."""
    found = [] if found is None else found
    keys = value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        found.append((value, key))
        if len(found) < 300:
            places(value[key], found)
    return found


def in_body(at: int, change: Callable[[Any, Any], None]) -> Change:
    def apply(asked: Asked) -> Asked:
        holder = [json.loads(json.dumps(asked.body))]
        found = places(holder)
        change(*found[at % len(found)])
        return replace(asked, body=holder[0])

    return apply


def remove(container: Any, key: Any) -> None:
    del container[key]
    if not container and isinstance(container, list):
        container.append(None)


def add(name: str, odd: Any) -> Callable[[Any, Any], None]:
    def apply(container: Any, key: Any) -> None:
        target = container[key] if isinstance(container[key], dict | list) else container
        if isinstance(target, dict):
            target[name] = odd
        else:
            target.append(odd)

    return apply


def in_path(at: int, piece: str) -> Change:
    def apply(asked: Asked) -> Asked:
        cut = 1 + at % len(asked.path)
        return replace(asked, path=asked.path[:cut] + piece + asked.path[cut:])

    return apply


def in_bytes(at: int, piece: bytes | None) -> Change:
    def apply(asked: Asked) -> Asked:
        content = asked.content
        cut = at % (len(content) + 1)
        return replace(asked, raw=content[:cut] if piece is None else content[:cut] + piece + content[cut:])

    return apply


def header(named: tuple[str, str]) -> Change:
    return lambda asked: replace(asked, headers=asked.headers | {named[0]: named[1]})


NAMES = [
    "kind",
    "id",
    "message",
    "parts",
    "text",
    "params",
    "tenant",
    "jsonrpc",
    "taskId",
    "contextId",
    "url",
    "role",
    "name",
    "x",
]
changes: st.SearchStrategy[Change] = st.one_of(
    st.builds(lambda at, odd: in_body(at, lambda c, k: c.__setitem__(k, odd)), where, st.sampled_from(ODD)),
    st.builds(lambda at: in_body(at, remove), where),
    st.builds(lambda at, name, odd: in_body(at, add(name, odd)), where, st.sampled_from(NAMES), st.sampled_from(ODD)),
    st.builds(header, st.sampled_from(ODD_HEADERS)),
    st.builds(in_path, where, st.sampled_from(PIECES)),
    st.builds(in_bytes, where, st.one_of(st.none(), st.sampled_from(BYTES))),
)


def changed(asked: Asked, made: list[Change]) -> Asked:
    for change in made:
        asked = change(asked)
    return asked


odd_requests = st.builds(changed, st.sampled_from(REQUESTS), st.lists(changes, max_size=3))
