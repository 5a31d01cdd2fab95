"""Client tokens: what they open, what not, when they end, and where they must not be found. [TOK-1] [TOK-2] [TOK-3]"""

from __future__ import annotations

import logging
import os
import stat
from functools import partial
from pathlib import Path

import anyio
import jwt
import pytest
import uvicorn

from gateway.auth.callers import Principal
from gateway.auth.client_tokens import PREFIX, ClientTokens
from gateway.errors import UsageError, WrongKey
from gateway.files.links import Links
from gateway.sessions.access import Access
from gateway.sessions.frames import NDJSON, Filter, Teller
from gateway.sessions.routes import OPERATIONS
from tests.gateway.log.log_tools import entry, opened, write
from tests.gateway.sessions.api import PATH, WAIT, Api, problem
from tests.support import Client, Json, gateway_process, serving


async def caller(gateway: Client, name: str = "me") -> Api:
    return Api(gateway, {"X-API-Key": (await gateway.owner("callers.add", name=name))["key"]})


def holding(gateway: Client, token: Json) -> Api:
    return Api(gateway, {"Authorization": f"Bearer {token['token']}"})


async def test_a_token_opens_its_session_for_its_scopes_and_nothing_else(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        mine = await caller(gateway)
        session, other = await mine.finished("N=1"), await mine.finished("N=1")
        id = session["id"]
        both, read = holding(gateway, session["client_token"]), await mine.post(f"/{id}/tokens", {"scopes": ["read"]})
        reader = holding(gateway, read)
        assert (read["session_id"], read["scopes"]) == (id, ["read"])
        assert await reader.log(id) == await mine.log(id)
        assert (await both.post(f"/{id}/messages", {"input": "N=1"}))["session_id"] == id
        await both.rest(id)
        assert problem(await reader.ask("POST", f"/{id}/messages", {"input": "N=1"})) == (403, "out_of_scope")
        for token in (both, reader):
            assert problem(await token.ask("GET", f"/{other['id']}")) == (404, "not_found")
            assert problem(await token.ask("GET", "")) == (403, "out_of_scope")
            assert problem(await token.ask("POST", "", {"agent": "hello", "input": "x"})) == (403, "out_of_scope")
            assert problem(await token.ask("GET", f"/{id}/destinations")) == (403, "out_of_scope")
        a2a = await gateway.http.get(f"{gateway.url}/agents/hello/tasks", headers=both.headers)
        assert a2a.status_code == 401


async def test_a_token_is_exchanged_for_no_more_than_it_is(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        mine = await caller(gateway)
        id = (await mine.finished("N=1"))["id"]
        reader = holding(gateway, await mine.post(f"/{id}/tokens", {"scopes": ["read"], "seconds": 60}))
        fresh = await reader.post(f"/{id}/tokens", {"scopes": ["read"]})
        assert await holding(gateway, fresh).get(f"/{id}")
        assert problem(await reader.ask("POST", f"/{id}/tokens", {"scopes": ["read", "write"]})) == (403, "out_of_scope")
        writer = holding(gateway, await mine.post(f"/{id}/tokens", {"scopes": ["write"]}))
        for token, scopes in ((reader, ["read"]), (writer, ["write"]), (mine, ["read", "write"])):
            assert (await token.post(f"/{id}/tokens", {}))["scopes"] == scopes  # those of who asks
        assert problem(await writer.ask("POST", f"/{id}/tokens", {"scopes": ["read"]})) == (403, "out_of_scope")
        assert problem(await writer.ask("GET", f"/{id}")) == (403, "out_of_scope")


async def test_a_token_ends_with_its_principal(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        mine = await caller(gateway)
        session = await mine.finished("N=1")
        token = holding(gateway, session["client_token"])
        await token.get(f"/{session['id']}")
        await gateway.owner("callers.revoke", name="me")
        assert problem(await token.ask("GET", f"/{session['id']}")) == (401, "not_allowed")


class Clock:
    def __init__(self) -> None:
        self.seconds = 1_000_000

    def __call__(self) -> int:
        return self.seconds * 1_000_000


def made(tmp_path: Path, clock: Clock, seconds: float = 900, renewable: float = 3600) -> ClientTokens:
    return ClientTokens(ClientTokens.load(tmp_path / "tokens.key", 1, 1).key, seconds, renewable, clock)


def test_a_token_holds_for_its_time_and_can_be_exchanged_for_a_longer_one_but_not_for_ever(tmp_path: Path) -> None:
    clock = Clock()
    tokens = made(tmp_path, clock)
    scopes = frozenset({"read"})
    first = tokens.grant("ses_1", "caller:1", scopes)
    assert tokens.read(tokens.token(first)) == first
    assert tokens.grant("ses_1", "caller:1", scopes, 10).expires_at == clock.seconds + 10
    assert tokens.grant("ses_1", "caller:1", scopes, 10_000).expires_at == clock.seconds + 900
    grant = first
    for _ in range(10):
        clock.seconds = grant.expires_at - 1
        grant = tokens.grant("ses_1", "caller:1", scopes, old=grant)
        assert grant.until == first.until
    assert grant.expires_at == first.until
    clock.seconds = first.until
    with pytest.raises(WrongKey, match="expired"):
        tokens.read(tokens.token(grant))


def test_a_token_nobody_here_signed_does_not_hold(tmp_path: Path) -> None:
    tokens = made(tmp_path, Clock())
    token = tokens.token(tokens.grant("ses_1", "caller:1", frozenset({"read"})))
    head, body, signature = token.split(".")
    claims = jwt.decode(token.removeprefix(PREFIX), options={"verify_signature": False})
    forged = [
        PREFIX + jwt.encode(claims, "another key that is long enough for it", "HS256"),
        PREFIX + jwt.encode(claims, None, "none"),
        PREFIX + jwt.encode({**claims, "aud": "other"}, tokens.key, "HS256"),
        PREFIX + jwt.encode({name: claims[name] for name in claims if name != "until"}, tokens.key, "HS256"),
        PREFIX + jwt.encode(claims, tokens.key, "HS512"),
        f"{head}.{body}.{signature[:-2]}",
        f"{head}.{body}x.{signature}",
        PREFIX,
        PREFIX + "." * 2,
        PREFIX + "x" * 10_000,
    ]
    for one in forged:
        with pytest.raises(WrongKey):
            tokens.read(one)


def test_the_key_is_kept_as_other_keys_are(tmp_path: Path) -> None:
    path = tmp_path / "tokens.key"
    first = ClientTokens.load(path, 1, 1)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert ClientTokens.load(path, 1, 1).key == first.key
    os.chmod(path, 0o644)
    with pytest.raises(UsageError):
        ClientTokens.load(path, 1, 1)


async def test_a_token_in_the_url_is_for_client_tokens_only(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        key = (await gateway.owner("callers.add", name="me"))["key"]
        session = await Api(gateway).finished("N=1")
        token = session["client_token"]["token"]
        url = f"{gateway.url}{PATH}/{session['id']}"
        assert (await gateway.http.get(url, params={"token": token})).status_code == 200
        for wrong in (key, "", "x", token + "x"):
            assert problem(await gateway.http.get(url, params={"token": wrong})) == (401, "not_allowed")


@pytest.mark.parametrize("quiet", [False, True])
async def test_a_stream_ends_with_its_token(quiet: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """[TOK-4] Before what comes after it, and if nothing comes."""
    clock = Clock()
    monkeypatch.setattr("gateway.sessions.access.now_us", clock)
    grant = made(tmp_path, clock, seconds=1).grant("s", "caller:1", frozenset({"read"}))
    async with opened(tmp_path) as log:
        await write(log, "s", [entry()])
        access = Access(Principal("caller:1"), grant.scopes, grant)
        stream = Teller(log, Links("https://x", b"key")).live("s", 0, NDJSON, Filter(), access)
        with anyio.fail_after(WAIT):
            told = [await anext(stream), await anext(stream)]
            if not quiet:
                clock.seconds = grant.expires_at
                await write(log, "s", [entry()])
            told += [data async for data in stream]
    assert [data.count(b"\n") for data in told] == [0, 1]


async def test_who_comes_again_to_a_stream_that_ended_is_told_why(tmp_path: Path) -> None:
    """[TOK-4] The same over Server-Sent Events and JSON Lines."""
    async with serving(tmp_path, stop_seconds=0.1) as gateway:
        mine = await caller(gateway)
        session = await mine.create("N=3 HANG")
        path = f"/{session['id']}/events"
        forms = [{"Accept": form} for form in ("text/event-stream", "application/x-ndjson")]
        token = holding(gateway, await mine.post(f"/{session['id']}/tokens", {"seconds": 1}))
        with anyio.fail_after(WAIT):
            async with anyio.create_task_group() as group:
                for form in forms:
                    group.start_soon(partial(token.ask, "GET", path, headers=form))  # to its end
            for form in forms:
                assert problem(await token.ask("GET", path, headers=form)) == (401, "not_allowed")
            await mine.post(f"/{session['id']}/cancel")
            await mine.post(f"/{session['id']}/archive")
            seq = (await mine.get(f"/{session['id']}"))["seq"]
            for form in forms:
                assert (await mine.ask("GET", path, headers=form, params={"after": seq})).status_code == 204


def test_no_log_holds_a_token(tmp_path: Path) -> None:
    with gateway_process(tmp_path, {"SWITCHBOARD_LOG_LEVEL": "debug"}) as gateway:

        async def use() -> str:
            client = gateway.client()
            api = Api(client)
            session = await api.finished("N=1")
            token: str = session["client_token"]["token"]
            path = f"/{session['id']}"
            for params in ({"token": token}, {"token": token + "x"}, {"token": token, "after": "x"}):
                await api.ask("GET", f"{path}/events", params=params)
            await client.http.aclose()
            return token

        token = anyio.run(use)
    assert token[:40] not in gateway.log()
    for path in tmp_path.glob("*.db*"):
        assert token.encode()[:40] not in path.read_bytes()


async def test_the_servers_own_access_log_does_not_see_a_token(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(tmp_path) as gateway:
        assert gateway.app is not None
        session = await Api(gateway).finished("N=1")
        token = session["client_token"]["token"]
        config = uvicorn.Config(gateway.app, port=0, lifespan="off", log_config=None, access_log=True)
        server = uvicorn.Server(config)
        monkeypatch.setattr(logging.getLogger("uvicorn.access"), "handlers", [caplog.handler])
        with caplog.at_level(logging.INFO, "uvicorn.access"), anyio.fail_after(20):
            async with anyio.create_task_group() as group:
                group.start_soon(server._serve)
                while not server.started:  # noqa: ASYNC110  (uvicorn has no event for it)
                    await anyio.sleep(0.01)
                port = server.servers[0].sockets[0].getsockname()[1]
                url = f"http://127.0.0.1:{port}{PATH}/{session['id']}/events"
                await gateway.http.get(url, params={"after": 1, "token": token, "limit": 2})
                await gateway.http.get(f"{url}?%74oken={token}")
                server.should_exit = True
    assert f"{PATH}/{session['id']}/events?after=1&limit=2 " in caplog.text
    assert token[:20] not in caplog.text


ALLOWED, FOREIGN = "https://app.example.com", "https://evil.example.com"


async def test_pages_of_configured_origins_may_call_and_no_others(tmp_path: Path) -> None:
    async with serving(tmp_path, cors_origins=f" {ALLOWED}/ , https://b.example.com") as gateway:
        url = f"{gateway.url}{PATH}"
        ask = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,idempotency-key"}
        preflight = await gateway.http.options(url, headers={"Origin": ALLOWED, **ask})
        assert (preflight.status_code, preflight.headers["access-control-allow-origin"]) == (200, ALLOWED)
        for op in OPERATIONS:
            method = {"Origin": ALLOWED, "Access-Control-Request-Method": op.method}
            assert (await gateway.http.options(f"{url}/ses_1", headers=method)).status_code == 200, op.name
        assert (await gateway.http.options(url, headers={"Origin": FOREIGN, **ask})).status_code == 400
        for path in ("", "/ses_none"):  # errors, too
            answers = [await gateway.http.get(url + path, headers={"Origin": one}) for one in (ALLOWED, FOREIGN)]
            told = [answer.headers.get("access-control-allow-origin") for answer in answers]
            assert told == [ALLOWED, None]
            assert "access-control-allow-credentials" not in answers[0].headers
    async with serving(tmp_path) as gateway:
        answer = await gateway.http.get(f"{gateway.url}{PATH}", headers={"Origin": ALLOWED})
        assert "access-control-allow-origin" not in answer.headers
