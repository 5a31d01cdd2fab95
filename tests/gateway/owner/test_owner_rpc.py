"""The endpoint itself: keys, sizes, JSON, batches, and one shape for every error. [OWN-1]"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gateway.auth.owners import OwnerKey
from gateway.errors import UsageError
from gateway.owner.border import load_secrets
from gateway.owner.methods import METHODS
from gateway.settings import Settings
from tests.gateway.owner.owner_api import Api

REQUEST = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "agent.list", "params": {}})


@pytest.mark.parametrize("header", ["", "Bearer ", "Bearer sbo_wrong", "Basic abc", "Bearer ключ".encode()])
async def test_a_missing_or_wrong_key_is_answered_401(api: Api, header: str | bytes) -> None:
    response = await api.client.post("/owner", content=REQUEST, headers={"Authorization": header} if header else {})
    assert response.status_code == 401
    assert response.headers["www-authenticate"] == "Bearer"
    assert set(response.json()) == {"code", "message", "hint"}
    assert response.json()["code"] == "not_allowed"


async def test_the_key_opens_whatever_the_case_of_the_scheme(api: Api) -> None:
    assert (await api.post(REQUEST)).json() == {"jsonrpc": "2.0", "id": 1, "result": {"agents": []}}
    assert (await api.post(REQUEST, Authorization=f"bearer {api.key.value}")).status_code == 200


async def test_only_post_is_answered(api: Api) -> None:
    assert (await api.client.get("/owner")).status_code == 405


@pytest.mark.parametrize("announced", [True, False])
async def test_a_body_that_is_too_large_is_answered_413(api: Api, announced: bool) -> None:
    size = api.owner.settings.max_body_bytes + 1

    async def pieces() -> Any:
        for _ in range(0, size, 2**20):
            yield b" " * 2**20

    body = b" " * size if announced else pieces()
    response = await api.client.post("/owner", content=body, headers={"Authorization": f"Bearer {api.key.value}"})
    assert response.status_code == 413
    assert response.json()["code"] == "too_large"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", -32700),
        (b"{", -32700),
        (b"\xff\xfe\xfd", -32700),
        (b'{"jsonrpc": "2.0", "id": 1, "method": "agent.list", "params": {"x": NaN}}', -32700),
        (b'{"jsonrpc": "2.0", "id": 1, "method": "agent.list", "params": {"x": "\\ud800"}}', -32700),
        (b'{"jsonrpc": "2.0", "id": 1, "method": "agent.list", "params": {"x": "\xed\xa0\x80"}}', -32700),
        (b"[" * 101 + b"]" * 101, -32700),
        (b"[" * 100_000 + b"]" * 100_000, -32700),
        (b'{"a":' * 50_000 + b"1" + b"}" * 50_000, -32700),
        (b"9" * 5000, -32700),
        (b"null", -32600),
        (b"[]", -32600),
        (b'{"method": "agent.list"}', -32600),
        (b'{"jsonrpc": "2.0", "id": {}, "method": "agent.list"}', -32600),
        (b'{"jsonrpc": "2.0", "id": 1, "method": "agent.lost"}', -32601),
        (b'{"jsonrpc": "2.0", "id": 1, "method": "agent.show", "params": ["mailer"]}', -32602),
        (b'{"jsonrpc": "2.0", "id": 1, "method": "agent.show"}', -32602),
    ],
)
async def test_what_is_no_request_gets_an_error_of_the_usual_shape(api: Api, body: bytes, code: int) -> None:
    response = await api.post(body)
    assert response.status_code == 200
    error = response.json()["error"]
    assert error["code"] == code
    assert set(error["data"]) == {"code", "message", "hint"}
    assert error["message"] == error["data"]["message"]


async def test_a_method_misspelt_is_told_the_nearest(api: Api) -> None:
    assert (await api.refusal("agent.lst")).hint == "Did you mean 'agent.list'?"


async def test_a_parameter_misspelt_is_told_the_nearest(api: Api) -> None:
    assert (await api.refusal("agent.create", name="a", runtime="rehearsal", promt="x")).hint == "Did you mean 'prompt'?"
    refused = await api.refusal("agent.update", name="a", changes={"promt": "x"})
    assert (refused.error["message"], refused.hint) == ("There is no parameter 'changes.promt'.", "Did you mean 'prompt'?")
    nested = {"skills": [{"id": "a", "name": "A", "exmples": []}]}
    assert (await api.refusal("agent.update", name="a", changes=nested)).hint == "Did you mean 'examples'?"
    assert (await api.refusal("doctor", all=True)).hint == "There are: none."


async def test_parameters_named_like_our_own_arguments_are_refused_like_others(api: Api) -> None:
    for name in ("owner", "self", "args", "params", "context"):
        request = {"jsonrpc": "2.0", "id": 1, "method": "agent.list", "params": {name: 1}}
        assert (await api.post(json.dumps(request))).json()["error"]["data"]["code"] == "invalid_params"


async def test_a_notification_is_done_and_answered_204(api: Api) -> None:
    params = {"name": "mailer", "runtime": "rehearsal"}
    response = await api.post(json.dumps({"jsonrpc": "2.0", "method": "agent.create", "params": params}))
    assert (response.status_code, response.content) == (204, b"")
    assert len((await api.call("agent.list"))["agents"]) == 1


async def test_a_batch_is_answered_request_by_request(api: Api) -> None:
    requests = [
        {"jsonrpc": "2.0", "id": "a", "method": "agent.list"},
        {"jsonrpc": "2.0", "method": "agent.list"},
        {"jsonrpc": "2.0", "id": "b", "method": "nothing"},
    ]
    answers = (await api.post(json.dumps(requests))).json()
    assert [answer["id"] for answer in answers] == ["a", "b"]
    assert answers[0]["result"] == {"agents": []}
    assert answers[1]["error"]["data"]["code"] == "usage_error"


@pytest.mark.parametrize(("size", "answered"), [(50, True), (51, False)])
async def test_a_batch_has_at_most_fifty_requests(api: Api, size: int, answered: bool) -> None:
    response = await api.post(json.dumps([json.loads(REQUEST)] * size))
    assert isinstance(response.json(), list) is answered
    if not answered:
        assert response.json()["error"]["code"] == -32600


async def test_an_unforeseen_exception_is_logged_and_tells_nothing(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: object) -> dict[str, Any]:
        raise RuntimeError("hush-hush")

    await api.call("agent.create", name="mailer", runtime="rehearsal")
    monkeypatch.setattr(type(api.owner), "card", property(lambda _: broken), raising=False)
    refused = await api.refusal("agent.card", name="mailer")
    assert (refused.error["code"], refused.code) == (-32603, "internal_error")
    assert "hush" not in json.dumps(refused.error)


async def test_a_database_that_does_not_answer_is_said_so(api: Api) -> None:
    await api.owner.database.aclose()
    (api.directory / "data" / "switchboard.db").write_bytes(b"no database at all" * 1000)
    refused = await api.refusal("agent.list")
    assert (refused.error["code"], refused.code) == (-32014, "unavailable")


async def test_every_promised_method_is_there() -> None:
    assert sorted(METHODS) == [
        "agent.card",
        "agent.create",
        "agent.delete",
        "agent.list",
        "agent.show",
        "agent.update",
        "agent.versions",
        "callers.add",
        "callers.list",
        "callers.revoke",
        "callers.rotate",
        "doctor",
        "keys.list",
        "keys.rotate",
        "models.list",
        "runtimes.check",
        "runtimes.deprecate",
        "runtimes.list",
        "runtimes.push",
        "runtimes.rollback",
        "runtimes.versions",
        "sessions.cancel",
        "sessions.events",
        "sessions.list",
        "sessions.show",
        "webhooks.deliveries",
        "webhooks.list",
        "webhooks.redeliver",
        "webhooks.test",
    ]


def test_the_owner_key_is_made_once_and_only_its_owner_may_read_it(tmp_path: Path) -> None:
    path = tmp_path / "data" / "owner.key"
    key = OwnerKey.load(path)
    assert key.value.startswith("sbo_")
    assert len(key.value) >= 43
    assert path.stat().st_mode & 0o777 == 0o600
    assert OwnerKey.load(path) == key
    assert key.value not in repr(key)


def test_a_key_file_others_may_read_is_refused(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    OwnerKey.load(settings.owner_key_file)
    load_secrets(settings)
    for name in ("owner.key", "secrets.key"):
        (tmp_path / name).chmod(0o640)
    with pytest.raises(UsageError) as info:
        OwnerKey.load(settings.owner_key_file)
    assert "mode 0640" in info.value.message
    assert info.value.hint == f"Run: chmod 600 '{settings.owner_key_file}'"
    with pytest.raises(UsageError):
        load_secrets(settings)


def test_an_empty_key_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "owner.key"
    path.touch(0o600)
    with pytest.raises(UsageError):
        OwnerKey.load(path)
