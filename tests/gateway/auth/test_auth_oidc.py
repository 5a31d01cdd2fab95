"""Tokens of an issuer: which hold, which do not, and how its keys are fetched."""

from __future__ import annotations

import base64
import hmac
import json
import time
from pathlib import Path
from typing import Any

import anyio
import jwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from fake_issuer import EC, OTHER_RSA, P384, RSA, WEAK_RSA, Issuer, issuing, public_jwk

from gateway.auth.oidc import Oidc, load, usable
from gateway.errors import Unavailable, UsageError, WrongKey
from tests.support import message, serving


def b64(value: Any) -> str:
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def forged(issuer: Issuer) -> dict[str, str]:
    """Tokens nobody may come in with."""
    now = int(time.time())
    good = issuer.token()
    head, body, signature = good.split(".")
    pem = RSA.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    unsigned = f"{b64({'alg': 'HS256', 'kid': 'r1'})}.{body}"
    return {
        "no signature": f"{b64({'alg': 'none', 'kid': 'r1'})}.{body}.",
        "the public key as a shared secret": f"{unsigned}.{b64(hmac.digest(pem, unsigned.encode(), 'sha256'))}",
        "another algorithm": issuer.token(alg="RS512"),
        "PSS": issuer.token(alg="PS256"),
        "a foreign key under a known id": issuer.token(OTHER_RSA),
        "a key of another kind": issuer.token(EC, "ES256", "r1"),
        "an unknown key": issuer.token(kid="r9"),
        "no key id where there are several": issuer.token(kid=None),
        "changed claims": f"{head}.{b64(issuer.claims(sub='bob'))}.{signature}",
        "another audience": issuer.token(aud="others"),
        "no audience": issuer.token(aud=None),
        "another issuer": issuer.token(iss="https://evil.example.com"),
        "no issuer": issuer.token(iss=None),
        "expired": issuer.token(exp=now - 60),
        "never expires": issuer.token(exp=None),
        "not yet": issuer.token(nbf=now + 600),
        "no subject": issuer.token(sub=None),
        "an empty subject": issuer.token(sub=""),
        "a long subject": issuer.token(sub="x" * 256),
        "a subject with a line end": issuer.token(sub="a\nb"),
        "a critical header": jwt.encode(issuer.claims(), RSA, "RS256", {"kid": "r1", "crit": ["x"], "x": 1}),
        "brackets": f"{b64(b'[' * 40_000)}.{body}.{signature}",
        "a header that is no object": f"{b64([])}.{body}.{signature}",
        "a key id that is no text": f"{b64({'alg': 'RS256', 'kid': 1})}.{body}.{signature}",
        "no token": "token",
        "dots": "..",
        "umlauts": "ä.ö.ü",
    }


async def test_only_tokens_of_the_issuer_for_our_audience_hold() -> None:
    """[AUTH-3]"""
    async with issuing() as issuer:
        oidc = Oidc(issuer.url, "agents")
        assert await oidc.subject(issuer.token()) == "ann"
        assert await oidc.subject(issuer.token(EC, "ES256", "e1", sub="bob", aud=["x", "agents"])) == "bob"
        assert await oidc.subject(issuer.token(exp=int(time.time()) - 5)) == "ann"  # clocks differ
        for what, token in forged(issuer).items():
            with pytest.raises(WrongKey):
                raise AssertionError(f"{what}: {await oidc.subject(token)}")


async def test_a_token_without_key_id_is_of_the_only_key() -> None:
    async with issuing() as issuer:
        issuer.keys = [public_jwk(RSA, None)]
        assert await Oidc(issuer.url, "agents").subject(issuer.token(kid=None)) == "ann"


async def test_keys_are_fetched_once_and_again_for_an_unknown_one_at_most_once_a_minute() -> None:
    """[AUTH-3]"""
    now = 0.0
    async with issuing() as issuer:
        oidc = Oidc(issuer.url, "agents", clock=lambda: now)
        for _ in range(3):
            await oidc.subject(issuer.token())
        assert issuer.asked == ["discovery", "keys"]
        issuer.keys = [public_jwk(OTHER_RSA, "r2")]  # the issuer changes its key
        for _ in range(3):
            with pytest.raises(WrongKey):
                await oidc.subject(issuer.token(OTHER_RSA, kid="r2"))
        assert len(issuer.asked) == 2
        now = 60.0
        assert await oidc.subject(issuer.token(OTHER_RSA, kid="r2")) == "ann"
        assert len(issuer.asked) == 4
        with pytest.raises(WrongKey):
            await oidc.subject(issuer.token())  # the old key is gone
        assert len(issuer.asked) == 4


async def test_a_withdrawn_key_stops_within_an_hour_and_a_silent_issuer_changes_nothing() -> None:
    """[AUTH-3]"""
    now = 0.0
    async with issuing() as issuer:
        oidc = Oidc(issuer.url, "agents", clock=lambda: now)
        await oidc.subject(issuer.token())
        now, issuer.broken = 3600.0, 500
        assert await oidc.subject(issuer.token()) == "ann"
        assert await oidc.subject(issuer.token()) == "ann"
        assert issuer.asked.count("keys") == 2
        now, issuer.broken, issuer.keys = 3660.0, None, []
        with pytest.raises(WrongKey):
            await oidc.subject(issuer.token())


async def test_many_first_tokens_at_once_fetch_the_keys_once() -> None:
    async with issuing() as issuer:
        oidc, found = Oidc(issuer.url, "agents"), []

        async def one() -> None:
            found.append(await oidc.subject(issuer.token()))

        async with anyio.create_task_group() as group:
            for _ in range(10):
                group.start_soon(one)
        assert (found, issuer.asked) == (["ann"] * 10, ["discovery", "keys"])


@pytest.mark.parametrize(
    "told",
    [
        {"issuer": "https://evil.example.com"},
        {"jwks_uri": "http://keys.example.com/"},
        {"jwks_uri": "file:///etc/passwd"},
        {"jwks_uri": None},
    ],
)
async def test_a_discovery_document_that_is_not_the_issuers_is_not_believed(told: dict[str, Any]) -> None:
    """[AUTH-3]"""
    async with issuing() as issuer:
        issuer.told = told
        with pytest.raises(Unavailable):
            await Oidc(issuer.url, "agents").subject(issuer.token())
        assert issuer.asked == ["discovery"]


async def test_a_set_key_url_needs_no_discovery() -> None:
    async with issuing() as issuer:
        assert await Oidc(issuer.url, "agents", f"{issuer.url}/keys").subject(issuer.token()) == "ann"
        assert issuer.asked == ["keys"]


def test_only_keys_for_our_algorithms_are_taken() -> None:
    good = [public_jwk(RSA, "r"), public_jwk(EC, "e")]
    secret = {"kty": "oct", "kid": "s", "k": b64(b"x" * 32)}
    bad = [secret, public_jwk(P384, "p"), public_jwk(RSA, "enc", use="enc"), public_jwk(RSA, "512", alg="RS512")]
    bad += [{}, {"kty": "RSA", "kid": "x"}, public_jwk(EC, "alg", alg="RS256"), "x"]  # type: ignore[list-item]
    assert sorted(usable({"keys": [*bad, *good]})) == ["e", "r"]


async def test_a_weak_key_checks_nothing() -> None:
    async with issuing() as issuer:
        issuer.keys = [public_jwk(WEAK_RSA, "w")]
        with pytest.warns(jwt.InsecureKeyLengthWarning), pytest.raises(WrongKey):
            await Oidc(issuer.url, "agents").subject(issuer.token(WEAK_RSA, kid="w"))


@pytest.mark.parametrize(
    ("issuer", "audience", "jwks"),
    [
        ("https://login.example.com", "", ""),
        ("", "agents", ""),
        ("", "", "https://login.example.com/keys"),
        ("http://login.example.com", "agents", ""),
        ("https://login.example.com", "agents", "http://login.example.com/keys"),
        ("login.example.com", "agents", ""),
    ],
)
def test_settings_that_do_not_go_together_are_refused_at_the_start(issuer: str, audience: str, jwks: str) -> None:
    with pytest.raises(UsageError):
        load(issuer, audience, jwks)
    assert load("", "", "") is None


async def test_who_signs_in_with_a_token_owns_what_he_starts(tmp_path: Path) -> None:
    """[AUTH-3]"""
    async with issuing() as issuer, serving(tmp_path, oidc_issuer=issuer.url, oidc_audience="agents") as gateway:
        await gateway.owner("agent.create", name="vault", runtime="rehearsal", public=False)
        ann, bob = ({"Authorization": f"Bearer {issuer.token(sub=sub)}"} for sub in ("ann", "bob"))
        with anyio.fail_after(30):
            sent = await gateway.rpc("vault", "SendMessage", {"message": message("N=1")}, ann)
        task = sent["result"]["task"]
        assert (await gateway.owner("sessions.show", id=task["contextId"]))["principal"] == "oidc:ann"
        assert (await gateway.rpc("vault", "GetTask", {"id": task["id"]}, ann))["result"]["id"] == task["id"]
        assert (await gateway.rpc("vault", "GetTask", {"id": task["id"]}, bob))["error"]["code"] == -32001
        body = {"jsonrpc": "2.0", "id": 1, "method": "ListTasks", "params": {}}
        late = {"Authorization": f"Bearer {issuer.token(exp=1)}", "A2A-Version": "1.0"}
        refused = await gateway.http.post(f"{gateway.url}/agents/vault", json=body, headers=late)
        as_key = await gateway.rpc("vault", "ListTasks", {}, {"X-API-Key": issuer.token()})
    assert (refused.status_code, refused.headers["www-authenticate"]) == (401, 'Bearer realm="agents", error="invalid_token"')
    assert refused.json()["error"]["message"] == "The token does not hold: Signature has expired. Sign in again."
    assert len(as_key["result"]["tasks"]) == 1


async def test_while_the_issuer_never_answered_tokens_are_told_to_come_back(tmp_path: Path) -> None:
    async with issuing() as issuer, serving(tmp_path, oidc_issuer=issuer.url, oidc_audience="agents") as gateway:
        issuer.broken = 500
        body = {"jsonrpc": "2.0", "id": 1, "method": "ListTasks", "params": {}}
        headers = {"Authorization": f"Bearer {issuer.token()}", "A2A-Version": "1.0"}
        refused = await gateway.http.post(f"{gateway.url}/agents/hello", json=body, headers=headers)
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
    assert refused.json()["error"]["code"] == -32014
