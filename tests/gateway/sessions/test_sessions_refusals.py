"""What a session API refuses, and how: one shape, and nothing that tells of others' sessions. [INV-7]"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import anyio
import httpx2

from gateway.sessions.routes import OPERATIONS
from tests.gateway.sessions.api import PATH, WAIT, Api, problem
from tests.gateway.sessions.test_sessions_openapi import valid
from tests.support import Client, serving

NOBODY = "ses_" + "0" * 24


async def caller(gateway: Client, name: str, **more: Any) -> Api:
    return Api(gateway, {"X-API-Key": (await gateway.owner("callers.add", name=name, **more))["key"]})


def shown(answer: httpx2.Response) -> dict[str, str]:
    return {name: value for name, value in answer.headers.items() if name != "date"}


async def test_a_session_of_another_answers_as_one_that_does_not_exist(tmp_path: Path) -> None:
    async with serving(tmp_path, host="127.0.0.1") as gateway:
        mine, other, anonymous = await caller(gateway, "me"), await caller(gateway, "other"), Api(gateway)
        id = (await mine.finished("N=1"))["id"]
        token = (await anonymous.finished("N=1"))["client_token"]["token"]
        stranger = Api(gateway, {"Authorization": f"Bearer {token}"})
        for op in OPERATIONS:
            if not op.of_one:
                continue
            path = op.path.removeprefix("/sessions").replace("{destination}", "dst_1")
            for who in (other, anonymous, stranger):
                answers = [await who.ask(op.method, path.replace("{id}", one), valid(op)) for one in (id, NOBODY)]
                told = [(answer.status_code, answer.text.replace(id, NOBODY), shown(answer)) for answer in answers]
                assert told[0] == told[1]
                assert told[0][0] == 404
        assert [one["id"] for one in (await mine.get(""))["sessions"]] == [id]
        assert (await other.get(""))["sessions"] == []


async def test_an_agent_that_may_not_be_called_any_more_takes_its_sessions_along(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        await gateway.owner("agent.create", name="other", runtime="rehearsal")
        mine, anonymous = await caller(gateway, "me", agents=["other"]), Api(gateway)
        kept = (await mine.finished("N=1", agent="other"))["id"]
        lost = [(await api.finished("N=1"))["id"] for api in (mine, anonymous)]
        await gateway.owner("agent.update", name="hello", changes={"public": False})
        for api, id in zip((mine, anonymous), lost, strict=True):
            assert problem(await api.ask("GET", f"/{id}")) == (404, "not_found")
        assert [one["id"] for one in (await mine.get(""))["sessions"]] == [kept]
        assert (await anonymous.get(""))["sessions"] == []
        create = {"agent": "hello", "input": "x"}
        assert problem(await mine.ask("POST", "", create)) == (404, "not_found")
        assert problem(await anonymous.ask("POST", "", create)) == (401, "not_allowed")
        await gateway.owner("agent.delete", name="other")
        assert problem(await mine.ask("GET", f"/{kept}")) == (404, "not_found")


async def test_strangers_do_not_list_one_anothers_sessions(tmp_path: Path) -> None:
    """[AUTH-4]"""
    async with serving(tmp_path, anonymous_listing=False) as gateway:
        assert problem(await Api(gateway).ask("GET", "")) == (401, "not_allowed")
        create = {"agent": "hello", "input": "N=1", "idempotency_key": "short"}
        assert problem(await Api(gateway).ask("POST", "", create)) == (400, "usage_error")


BODIES: list[tuple[str, Any]] = [
    ("", b""),
    ("", b"{"),
    ("", b"[]"),
    ("", b'"x"'),
    ("", b'{"agent": "hello", "input": "x", "metadata": {"a": NaN}}'),
    ("", b'{"agent": "hello", "input": "\\ud800"}'),
    ("", b"\xff{}"),
    ("", b"[" * 200),
    ("", {"agent": "hello", "input": "x", "metadata": {"a": [[[[]]]]}, "limit": 1}),
    ("", {"agent": "hello"}),
    ("", {"agent": 5, "input": "x"}),
    ("", {"agent": "hello", "input": ""}),
    ("", {"agent": "hello", "input": []}),
    ("", {"agent": "hello", "input": [{}]}),
    ("", {"agent": "hello", "input": [{"text": "a"}] * 1001}),
    ("", {"agent": "hello", "input": "a\0b"}),
    ("", {"agent": "hello", "input": "x", "idempotency_key": ""}),
    ("", {"agent": "hello", "input": "x", "idempotency_key": "with space"}),
    ("", {"agent": "hello", "input": "x", "destinations": [{"url": "http://10.0.0.1/"}]}),
    ("", {"agent": "hello", "input": "x", "destinations": [{"url": "https://example.com", "secrets": ["whsec_x"]}]}),
    ("", {"agent": "hello", "input": "x", "destinations": [{"url": "https://example.com", "bogus": "whsec_secret"}]}),
    ("/{id}/messages", {"input": "x", "mode": "shout"}),
    ("/{id}/messages", {"text": "x"}),
    ("/{id}/tokens", {"scopes": []}),
    ("/{id}/tokens", {"scopes": ["admin"]}),
    ("/{id}/tokens", {"seconds": 0}),
]


async def test_a_body_that_makes_no_sense_is_refused_and_does_nothing(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        api = Api(gateway)
        id = (await api.finished("N=1"))["id"]
        log = await api.log(id)
        for path, body in BODIES:
            content = body if isinstance(body, bytes) else json.dumps(body).encode()
            url = f"{gateway.url}{PATH}{path.replace('{id}', id)}"
            answer = await gateway.http.post(url, content=content, headers={"Content-Type": "application/json"})
            assert answer.status_code == 400, (body, answer.text)
            assert problem(answer)[1] in ("invalid_params", "usage_error")
            assert "secret" not in answer.text.replace("secrets", "").replace("a secret is", "")
        assert await api.log(id) == log
        assert len((await api.get(""))["sessions"]) == 1


async def test_a_text_that_is_too_long_is_refused(tmp_path: Path) -> None:
    async with serving(tmp_path, max_prompt_chars=10) as gateway:
        answer = await Api(gateway).ask("POST", "", {"agent": "hello", "input": [{"text": "12345"}, {"text": "678901"}]})
        assert problem(answer) == (413, "too_large")


async def test_a_cursor_of_a_list_that_is_none_is_refused(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        for cursor in ("x", "eA==", "\u2603", "", "OTk5OTk5OTk5OTk5OTk5OTk5OTk5OTkgYQ=="):
            answer = await Api(gateway).ask("GET", "", params={"cursor": cursor})
            assert (cursor, *problem(answer)) == (cursor, 400, "invalid_params")


async def test_paths_and_methods_there_are_not_have_the_same_shape(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        for method, path, expected in (("GET", "/a/b/c", 404), ("PUT", "", 405), ("DELETE", f"/{NOBODY}", 405)):
            assert problem(await Api(gateway).ask(method, path))[0] == expected


async def test_a_limit_of_tasks_at_work_holds_here_as_well(tmp_path: Path) -> None:
    """[AUTH-5]"""
    async with serving(tmp_path, stop_seconds=0.1) as gateway:
        api = await caller(gateway, "me", running_tasks=1)
        session = await api.create("HANG")
        refused = await api.ask("POST", "", {"agent": "hello", "input": "N=1"})
        assert problem(refused) == (429, "rate_limited")
        assert int(refused.headers["retry-after"]) > 0
        await api.post(f"/{session['id']}/cancel")
        await api.finished("N=1")


async def test_a_full_queue_is_refused_and_nothing_is_stored(tmp_path: Path) -> None:
    async with serving(tmp_path, queue_limit=1, concurrency=1, stop_seconds=0.1) as gateway:
        api = Api(gateway)
        session = await api.create("N=1 HANG")
        with anyio.fail_after(WAIT):
            async for _, _event in api.sse(session["id"], types="chunk"):
                break
        await api.create("N=1")
        refused = await api.ask("POST", "", {"agent": "hello", "input": "N=1"})
        assert (*problem(refused), refused.headers["retry-after"]) == (503, "unavailable", "1")
        assert len((await api.get(""))["sessions"]) == 2
        await api.post(f"/{session['id']}/cancel")


async def test_nothing_a_caller_reads_tells_what_runs_underneath(tmp_path: Path) -> None:
    """[HIDE-1]"""
    async with serving(tmp_path) as gateway:
        api = Api(gateway)
        session = await api.finished("N=1 TOOLFAIL GARBAGE FAIL=rate_limit")
        texts = [session, await api.rest(session["id"]), *(await api.log(session["id"])), await api.get("")]
        told = json.dumps(texts).replace("echo rehearsal", "").replace('"rehearsal', "").lower()
        for word in ("rehears", "surprise", str(tmp_path).lower(), "a rehearsed failure", "native", "runtime"):
            assert word not in told
