"""Callers with keys: who gets in, who is told what, and what is kept of a key."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest

from gateway.auth.callers import ANONYMOUS, Pepper, credentials
from gateway.errors import UsageError, WrongKey
from tests.support import HEADERS, Client, message, serving

Json = dict[str, Any]
SEND: Json = {"jsonrpc": "2.0", "id": 1, "method": "SendMessage"}


async def post(gateway: Client, agent: str, **headers: str) -> httpx2.Response:
    body = {**SEND, "params": {"message": message("N=1")}}
    sent = {name.encode(): value.encode("latin-1") for name, value in {**HEADERS, **headers}.items()}
    return await gateway.http.post(f"{gateway.url}/agents/{agent}", json=body, headers=sent)


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


async def restricted(gateway: Client, name: str = "vault", **fields: Any) -> None:
    await gateway.owner("agent.create", name=name, runtime="rehearsal", description="D", public=False, **fields)


async def key_of(gateway: Client, name: str, **fields: Any) -> str:
    made = await gateway.owner("callers.add", name=name, **fields)
    return str(made["key"])


async def test_a_restricted_agent_answers_who_signs_in_and_tells_others_how(tmp_path: Path) -> None:
    """[AUTH-1]"""
    async with serving(tmp_path) as gateway:
        await restricted(gateway)
        key = await key_of(gateway, "shop")
        with anyio.fail_after(30):
            for headers in (bearer(key), {"X-API-Key": key}, {"authorization": f"bearer  {key}"}):
                assert (
                    (await post(gateway, "vault", **headers)).json()["result"]["task"]["status"]["state"].endswith("COMPLETED")
                )
        missing = await post(gateway, "vault")
        wrong = await post(gateway, "vault", **bearer(key[:-1] + "!"))
    said = "Send 'Authorization: Bearer <key or token>', or a key as 'X-API-Key'."
    info = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "UNAUTHENTICATED"}
    info |= {"domain": "a2a-protocol.org", "metadata": {}}  # type: ignore[dict-item]

    def body(text: str) -> Json:
        return {"jsonrpc": "2.0", "id": None, "error": {"code": -32012, "message": f"{text} {said}", "data": [info]}}

    assert (missing.status_code, missing.headers["www-authenticate"]) == (401, 'Bearer realm="agents"')
    assert missing.json() == body("Agent 'vault' answers only callers who sign in.")
    assert (wrong.status_code, wrong.headers["www-authenticate"]) == (401, 'Bearer realm="agents", error="invalid_token"')
    assert wrong.json() == body("The key is wrong.")


@pytest.mark.parametrize("agent", ["hello", "vault", "no-such-agent"])
async def test_wrong_credentials_get_one_answer_whatever_they_are_and_whomever_they_call(agent: str, tmp_path: Path) -> None:
    """[AUTH-1]"""
    async with serving(tmp_path) as gateway:
        await restricted(gateway)
        key = await key_of(gateway, "shop")
        bad = ("sbk_", "sbk__", "sbk_0123456789ab_x", key[:-1], key + "x", key.upper(), gateway.owner_key, "a.b.c", "\xff")
        answers = [await post(gateway, agent, **bearer(value)) for value in bad]
    assert {(answer.status_code, answer.text) for answer in answers} == {(401, answers[0].text)}


async def test_a_forbidden_agent_answers_as_one_that_does_not_exist(tmp_path: Path) -> None:
    """[INV-7]"""
    async with serving(tmp_path) as gateway:
        await restricted(gateway, "vault")
        await restricted(gateway, "safe")
        key = await key_of(gateway, "shop", agents=["safe"])
        with anyio.fail_after(30):
            assert (await post(gateway, "safe", **bearer(key))).status_code == 200
            assert (await post(gateway, "hello", **bearer(key))).status_code == 200  # public: everybody's
        foreign, absent = await post(gateway, "vault", **bearer(key)), await post(gateway, "nada", **bearer(key))
    assert (foreign.status_code, foreign.text.replace("vault", "nada")) == (absent.status_code, absent.text)
    assert foreign.status_code == 404
    assert dict(foreign.headers) | {"content-length": "", "date": ""} == dict(absent.headers) | {
        "content-length": "",
        "date": "",
    }


async def test_a_right_to_an_agent_does_not_pass_to_another_of_its_name(tmp_path: Path) -> None:
    """[AUTH-1]"""
    async with serving(tmp_path) as gateway:
        await restricted(gateway)
        key = await key_of(gateway, "shop", agents=["vault"])
        await gateway.owner("agent.delete", name="vault")
        await restricted(gateway)
        assert (await post(gateway, "vault", **bearer(key))).status_code == 404
        assert (await gateway.owner("callers.list"))["callers"][0]["agents"] == []


async def test_a_rotated_and_a_revoked_key_stop_at_once(tmp_path: Path) -> None:
    """[AUTH-2]"""
    async with serving(tmp_path) as gateway:
        await restricted(gateway)
        old = await key_of(gateway, "shop")
        with anyio.fail_after(30):
            task = (await post(gateway, "vault", **bearer(old))).json()["result"]["task"]
        new = (await gateway.owner("callers.rotate", name="shop"))["key"]
        assert (await post(gateway, "vault", **bearer(old))).status_code == 401
        got = await gateway.rpc("vault", "GetTask", {"id": task["id"]}, bearer(new))
        assert got["result"]["id"] == task["id"]  # the same caller under another key
        await gateway.owner("callers.revoke", name="shop")
        assert (await post(gateway, "vault", **bearer(new))).status_code == 401
        again = await key_of(gateway, "shop")
        got = await gateway.rpc("vault", "GetTask", {"id": task["id"]}, bearer(again))
        assert got["error"]["code"] == -32001  # another caller of that name inherits nothing


async def test_a_key_is_nowhere_but_in_the_answer_that_made_it(tmp_path: Path) -> None:
    """[AUTH-2]"""
    async with serving(tmp_path) as gateway:
        key = await key_of(gateway, "shop")
        listed = json.dumps(await gateway.owner("callers.list"))
    secret = key.split("_", 2)[2]
    names = ("switchboard.db", "switchboard.db-wal", "callers.key", "owner.key", "secrets.key")
    kept = b"".join(path.read_bytes() for path in map(tmp_path.joinpath, names) if path.exists())
    assert key.split("_")[1].encode() in kept
    assert len(secret) >= 43
    assert secret.encode() not in kept
    assert secret not in listed
    assert (tmp_path / "callers.key").stat().st_mode & 0o777 == 0o600


async def test_the_directory_tells_of_restricted_agents_only_those_who_may_call(tmp_path: Path) -> None:
    """[AUTH-1]"""
    async with serving(tmp_path) as gateway:
        await restricted(gateway, "safe")
        await restricted(gateway, "vault")
        some, all_ = await key_of(gateway, "some", agents=["safe"]), await key_of(gateway, "all")

        async def names(**headers: str) -> list[str]:
            answer = await gateway.http.get(f"{gateway.url}/agents", headers=headers)
            assert "Authorization" in answer.headers["vary"]
            return [agent["name"] for agent in answer.json()["agents"]]

        assert await names() == ["hello"]
        assert await names(**bearer(some)) == ["hello", "safe"]
        assert await names(**bearer(all_)) == ["hello", "safe", "vault"]
        refused = await gateway.http.get(f"{gateway.url}/agents", headers=bearer("sbk_x_y"))
    assert (refused.status_code, refused.headers["www-authenticate"]) == (401, 'Bearer realm="agents", error="invalid_token"')
    assert refused.json()["code"] == "not_allowed"


async def test_callers_are_listed_with_what_they_may(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        made = await gateway.owner("callers.add", name="shop", agents=["hello"], requests_per_minute=60, running_tasks=4)
        key = made.pop("key")
        assert key.startswith(f"sbk_{made['key_id']}_")
        assert (await gateway.owner("callers.list"))["callers"] == [made]
    assert made.pop("created_at")
    assert made.pop("principal").startswith("caller:cal_")
    assert made == {"name": "shop", "key_id": made["key_id"], "agents": ["hello"], "rotated_at": None} | {
        "requests_per_minute": 60,
        "running_tasks": 4,
    }


@pytest.mark.parametrize(
    ("method", "params", "code"),
    [
        ("callers.add", {"name": "shop"}, "conflict"),
        ("callers.add", {"name": "-"}, "invalid_params"),
        ("callers.add", {"name": "x" * 64}, "invalid_params"),
        ("callers.add", {"name": "new", "agents": []}, "invalid_params"),
        ("callers.add", {"name": "new", "agents": ["nobody"]}, "not_found"),
        ("callers.add", {"name": "new", "requests_per_minute": 0}, "invalid_params"),
        ("callers.add", {"name": "new", "running_tasks": True}, "invalid_params"),
        ("callers.rotate", {"name": "shopp"}, "not_found"),
        ("callers.revoke", {"name": "other"}, "not_found"),
    ],
)
async def test_what_cannot_be_is_refused(method: str, params: Json, code: str, tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        await gateway.owner("callers.add", name="shop")
        before = await gateway.owner("callers.list")
        with pytest.raises(AssertionError, match=f"'code': '{code}'"):
            await gateway.owner(method, **params)
        assert await gateway.owner("callers.list") == before


@pytest.mark.parametrize(
    ("headers", "found"),
    [
        ({}, None),
        ({"authorization": "Basic abc"}, None),
        ({"authorization": "Bearer a"}, "a"),
        ({"authorization": "bearer  a "}, "a"),
        ({"x-api-key": "a"}, "a"),
        ({"authorization": "Basic b", "x-api-key": "a"}, "a"),
        ({"authorization": "Bearer a", "x-api-key": "a"}, "a"),
    ],
)
def test_credentials_come_as_bearer_or_as_api_key(headers: dict[str, str], found: str | None) -> None:
    assert credentials(headers) == found


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": "Bearer"},
        {"authorization": "Bearer "},
        {"x-api-key": ""},
        {"authorization": "Bearer", "x-api-key": ""},
        {"authorization": "Bearer a", "x-api-key": "b"},
    ],
)
def test_empty_and_contradicting_credentials_are_wrong(headers: dict[str, str]) -> None:
    with pytest.raises(WrongKey):
        credentials(headers)


def test_a_pepper_others_may_read_is_refused(tmp_path: Path) -> None:
    Pepper.load(tmp_path / "callers.key")
    (tmp_path / "callers.key").chmod(0o644)
    with pytest.raises(UsageError, match="0644"):
        Pepper.load(tmp_path / "callers.key")


def test_keys_are_hashed_under_the_pepper() -> None:
    key = Pepper(b"a").new_key()
    assert key.hash == Pepper(b"a").hash(key.key) != Pepper(b"b").hash(key.key)
    assert ANONYMOUS.anonymous
