"""Agent cards: what stands on them, their signatures, conditional requests. Readers are JOSE libraries, not ours."""

from __future__ import annotations

import base64
import json
import stat
from pathlib import Path
from typing import Any

import httpx2
import pytest
from a2a.client.card_resolver import parse_agent_card
from a2a.utils._jcs import canonicalize
from a2a.utils.signing import InvalidSignaturesError, create_signature_verifier
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jws
from joserfc.errors import BadSignatureError
from joserfc.jwk import KeySet
from jwt import PyJWKSet

from gateway.a2a.cards import Face, card
from gateway.a2a.signing import canonical, forms, signed
from registry.rules import KeyFileUnsafe
from registry.signing import CardKeys
from tests.support import Client, gateway_process, serving

Json = dict[str, Any]
SKILL = {
    "id": "mail",
    "name": "Mail",
    "description": "Writes “mails” — quickly.",
    "tags": ["mail"],
    "examples": ["Write to Bo"],
}
FACE = {
    "description": "Writes mails.\n\tBrieflý.",
    "skills": [SKILL, {"id": "bare", "name": "Bare"}],
    "provider": {"organization": "Acme", "url": "https://acme.example"},
    "documentation_url": "https://acme.example/mailer",
    "icon_url": "https://acme.example/mailer.png",
    "input_modes": ["text/plain"],
    "output_modes": ["text/plain", "text/markdown; charset=utf-8"],
    "tags": ["office", "mail"],
}
DAY_US = 86_400_000_000


async def fetch(gateway: Client, name: str = "mailer", *, method: str = "GET", **headers: str) -> httpx2.Response:
    return await gateway.http.request(method, f"{gateway.url}/agents/{name}/.well-known/agent-card.json", headers=headers)


async def keys_of(gateway: Client) -> KeySet:
    return KeySet.import_key_set((await gateway.http.get(f"{gateway.url}/.well-known/jwks.json")).json())


def verify(body: Json, keys: KeySet) -> Json:
    """The protected header, if one of the card's signatures is good over the card as it came. By joserfc."""
    unsigned = {name: value for name, value in body.items() if name != "signatures"}
    payload = base64.urlsafe_b64encode(canonicalize(unsigned).encode()).decode().rstrip("=")
    signature = body["signatures"][0]
    found = jws.deserialize_compact(f"{signature['protected']}.{payload}.{signature['signature']}", keys, algorithms=["ES256"])
    return dict(found.headers())


async def test_a_card_shows_every_public_field(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        await gateway.owner("agent.create", name="mailer", runtime="rehearsal", **FACE)
        found = (await fetch(gateway)).json()
        assert await gateway.owner("agent.card", name="mailer") == found
    url = f"{gateway.url}/agents/mailer"
    assert found.pop("signatures")
    extensions = found["capabilities"].pop("extensions")
    assert [set(extension) for extension in extensions] == [{"uri", "description"}]
    assert {found.pop(name) for name in ("url", "preferredTransport", "protocolVersion")} == {url, "JSONRPC", "0.3"}
    assert found.pop("additionalInterfaces") == [{"url": url, "transport": "HTTP+JSON"}]
    assert found.pop("supportedInterfaces")[0]["url"] == f"{gateway.url}/agents/mailer"
    assert found.pop("capabilities")["streaming"] is True
    assert found == {
        "name": "mailer",
        "description": "Writes mails.\n\tBrieflý.",
        "version": "1",
        "provider": {"organization": "Acme", "url": "https://acme.example"},
        "documentationUrl": "https://acme.example/mailer",
        "iconUrl": "https://acme.example/mailer.png",
        "defaultInputModes": ["text/plain"],
        "defaultOutputModes": ["text/plain", "text/markdown; charset=utf-8"],
        "skills": [
            {**SKILL, "tags": ["mail", "office"]},
            {"id": "bare", "name": "Bare", "description": "Bare", "tags": ["office", "mail"]},
        ],
    }


async def test_a_card_of_nothing_but_a_name_is_complete_all_the_same(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        await gateway.owner("agent.create", name="mailer", runtime="rehearsal", skills=[{"id": "x", "name": "X"}])
        found = (await fetch(gateway)).json()
    assert found["description"] == "The agent mailer."
    assert found["defaultInputModes"] == found["defaultOutputModes"] == ["text/plain", "application/json"]
    assert found["skills"] == [{"id": "x", "name": "X", "description": "X", "tags": ["x"]}]
    assert not {"provider", "documentationUrl", "iconUrl"} & set(found)


async def test_the_gateways_provider_stands_on_cards_that_name_none(tmp_path: Path) -> None:
    async with serving(tmp_path, provider_organization="Acme") as gateway:
        assert (await fetch(gateway, "hello")).json()["provider"] == {"organization": "Acme", "url": gateway.url}
        own = {"organization": "Bo", "url": "https://bo.example"}
        await gateway.owner("agent.create", name="mailer", runtime="rehearsal", provider=own)
        assert (await fetch(gateway)).json()["provider"] == own


async def test_public_fields_make_a_new_edition_and_null_takes_them_away(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        await gateway.owner("agent.create", name="mailer", runtime="rehearsal", description="M.")
        plain = (await fetch(gateway)).json()
        changes = {name: FACE[name] for name in FACE if name != "description"}
        updated = await gateway.owner("agent.update", name="mailer", changes=changes)
        assert set(updated["changed"]) == set(changes)
        assert (await fetch(gateway)).json()["version"] == "2"
        await gateway.owner("agent.update", name="mailer", changes=dict.fromkeys(changes))
        again = (await fetch(gateway)).json()
    assert {**again, "version": "1", "signatures": []} == {**plain, "signatures": []}


async def test_two_runtimes_with_the_same_face_have_the_same_card(tmp_path: Path) -> None:
    """[HIDE-1] [HIDE-3]"""
    async with serving(tmp_path) as gateway:
        for name, runtime in (("mailer", "rehearsal"), ("poster", "claude")):
            await gateway.owner("agent.create", name=name, runtime=runtime, prompt=f"You are {runtime}.", **FACE)
        one, two = [await fetch(gateway, name) for name in ("mailer", "poster")]
        assert _unsigned(one).replace(b"mailer", b"NAME") == _unsigned(two).replace(b"poster", b"NAME").replace(
            b"example/mailer", b"example/NAME"
        )
        changes = {"runtime": "codex", "prompt": "You are codex.", "limits": {"max_turns": 2}}
        assert (await gateway.owner("agent.update", name="poster", changes=changes))["version"] == 2
        after = await fetch(gateway, "poster")
        assert (after.content, _lasting(after)) == (two.content, _lasting(two))
        said = [after.text, str(after.headers)]
        for path in ("/agents", "/.well-known/api-catalog", "/.well-known/jwks.json", "/.well-known/agent-card.json"):
            answer = await gateway.http.get(gateway.url + path)
            said += [answer.text, str(answer.headers)]
    for word in ("claude", "codex", "rehearsal", "gpt", "anthropic", "openai", str(tmp_path)):
        assert word not in "\n".join(said).lower()


def _unsigned(answer: httpx2.Response) -> bytes:
    return answer.content.partition(b', "signatures"')[0]


def _lasting(answer: httpx2.Response) -> dict[str, str]:
    return {name: value for name, value in answer.headers.items() if name != "date"}


async def test_any_jose_library_verifies_a_card(tmp_path: Path) -> None:
    """[CARD-1] joserfc over the card as it came; the SDK's verifier over what it parsed."""
    async with serving(tmp_path) as gateway:
        await gateway.owner("agent.create", name="mailer", runtime="rehearsal", **FACE)
        body = (await fetch(gateway)).json()
        jwks = (await gateway.http.get(f"{gateway.url}/.well-known/jwks.json")).json()
    (key,) = jwks["keys"]
    assert set(key) == {"kty", "crv", "x", "y", "kid", "use", "alg"}
    header = {"alg": "ES256", "typ": "JOSE", "kid": key["kid"], "jku": f"{gateway.url}/.well-known/jwks.json"}
    keys = KeySet.import_key_set(jwks)
    assert (len(body["signatures"]), verify(body, keys)) == (2, header)  # with and without what 0.3 adds
    assert keys.keys[0].thumbprint() == key["kid"]
    by_the_sdk = create_signature_verifier(lambda kid, _: PyJWKSet.from_dict(jwks)[str(kid)], ["ES256"])
    by_the_sdk(parse_agent_card(json.loads(json.dumps(body))))
    forged = {**body, "description": "Writes mails to everybody."}
    with pytest.raises(BadSignatureError):
        verify(forged, keys)
    with pytest.raises(InvalidSignaturesError):
        by_the_sdk(parse_agent_card(forged))


async def test_after_a_rotation_old_cards_verify_and_new_ones_are_signed_anew(tmp_path: Path) -> None:
    """[CARD-1]"""
    async with serving(tmp_path) as gateway:
        old, modified = (await fetch(gateway, "hello")), (await fetch(gateway, "hello")).headers["last-modified"]
        before = await gateway.owner("keys.list")
        rotated = await gateway.owner("keys.rotate")
        assert rotated == await gateway.owner("keys.list")
        new, keys = await fetch(gateway, "hello"), await keys_of(gateway)
    assert [key["signs"] for key in rotated["keys"]] == [True, False]
    assert rotated["keys"][1]["kid"] == before["keys"][0]["kid"]
    assert verify(old.json(), keys)["kid"] == before["keys"][0]["kid"]
    assert verify(new.json(), keys)["kid"] == rotated["keys"][0]["kid"]
    assert _unsigned(old) == _unsigned(new)
    assert old.headers["etag"] != new.headers["etag"]
    assert new.headers["last-modified"] >= modified


async def test_bytes_and_etag_survive_a_restart(tmp_path: Path) -> None:
    """[CARD-2]"""
    found = []
    with gateway_process(tmp_path) as gateway:
        for _ in range(2):
            client = gateway.client()
            answer = await fetch(client, "hello")
            await client.http.aclose()
            found.append((answer.content, answer.headers["etag"]))
            gateway.kill()
            gateway.start()
    assert found[0] == found[1]


async def test_conditional_requests(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        await gateway.owner("agent.create", name="mailer", runtime="rehearsal", description="M.")
        full = await fetch(gateway)
        etag, modified = full.headers["etag"], full.headers["last-modified"]
        assert full.headers["cache-control"] == "public, max-age=60"
        assert full.headers["content-type"] == "application/json"
        has_it = [
            {"If-None-Match": etag},
            {"If-None-Match": f"W/{etag}"},
            {"If-None-Match": f'"other, one", W/"x" , {etag}'},
            {"If-None-Match": "*"},
            {"If-None-Match": etag, "If-Modified-Since": "Thu, 01 Jan 1970 00:00:00 GMT"},
            {"If-Modified-Since": modified},
            {"If-Modified-Since": "Fri, 31 Dec 2100 00:00:00 GMT"},
        ]
        for headers in has_it:
            answer = await fetch(gateway, **headers)
            assert (answer.status_code, answer.content) == (304, b""), headers
            assert (answer.headers["etag"], answer.headers["last-modified"]) == (etag, modified)
        has_not = [
            {"If-None-Match": '"other"'},
            {"If-None-Match": "nonsense"},
            {"If-None-Match": '"other"', "If-Modified-Since": modified},
            {"If-Modified-Since": "Thu, 01 Jan 1970 00:00:00 GMT"},
            {"If-Modified-Since": "yesterday"},
        ]
        for headers in has_not:
            assert (await fetch(gateway, **headers)).content == full.content, headers
        await gateway.owner("agent.update", name="mailer", changes={"description": "N."})
        assert (await fetch(gateway, **{"If-None-Match": etag})).status_code == 200


async def test_head_is_the_answer_without_its_body(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        paths = ("/agents/hello/.well-known/agent-card.json", "/agents", "/.well-known/jwks.json", "/.well-known/api-catalog")
        for path in paths:
            full, head = await gateway.http.get(gateway.url + path), await gateway.http.head(gateway.url + path)
            assert (head.status_code, head.content, _lasting(head)) == (200, b"", _lasting(full))
            tag = {"If-None-Match": full.headers["etag"]}
            assert (await gateway.http.head(gateway.url + path, headers=tag)).status_code == 304


async def test_a_card_of_nobody_is_not_found(tmp_path: Path) -> None:
    """[DISC-2]"""
    async with serving(tmp_path) as gateway:
        missing = await fetch(gateway, "nobody")
    assert missing.status_code == 404
    assert missing.json()["code"] == "not_found"


# -- keys


class Clock:
    now = 1_000_000

    def __call__(self) -> int:
        return self.now


def test_the_key_file_is_for_its_owner_alone_and_keeps_no_retired_private_key(tmp_path: Path) -> None:
    path, clock = tmp_path / "cards.key", Clock()
    keys = CardKeys(path, DAY_US, clock)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    first = keys.current()
    clock.now += 1
    second = keys.rotate()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    lines = [json.loads(line) for line in path.read_text("ascii").splitlines()]
    assert ["d" in line for line in lines] == [False, True]
    assert [(key.kid, key.retired_at) for key in keys.published()] == [(second.kid, None), (first.kid, clock.now)]


def test_a_retired_key_is_published_for_its_time_and_then_forgotten(tmp_path: Path) -> None:
    clock = Clock()
    keys = CardKeys(tmp_path / "cards.key", DAY_US, clock)
    keys.rotate()
    clock.now += DAY_US - 1
    assert len(keys.published()) == 2
    clock.now += 1
    assert len(keys.published()) == 1
    keys.rotate()
    assert len(keys.all()) == 2


def test_a_rotation_by_another_process_is_seen(tmp_path: Path) -> None:
    one, two = (CardKeys(tmp_path / "cards.key", DAY_US, Clock()) for _ in range(2))
    assert one.current().kid == two.current().kid
    assert one.rotate().kid == two.current().kid


@pytest.mark.parametrize("text", ["nonsense", "{}", '{"x": "AA", "y": "AA", "created_at": 1}'])
def test_a_damaged_key_file_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "cards.key"
    path.write_text(text, "ascii")
    path.chmod(0o600)
    with pytest.raises(KeyFileUnsafe):
        CardKeys(path, DAY_US, Clock())


def test_a_key_file_others_may_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "cards.key"
    CardKeys(path, DAY_US, Clock())
    path.chmod(0o640)
    with pytest.raises(KeyFileUnsafe):
        CardKeys(path, DAY_US, Clock())


# -- canonical forms

BARE = Face("agt_1", "mailer", 1, "", (), True, 1, 0)
texts = st.text(st.characters(exclude_categories=["Cs"]))


@given(
    st.recursive(texts | st.booleans(), lambda inner: st.lists(inner) | st.dictionaries(st.text("abcAZ"), inner), max_leaves=9)
)
def test_the_canonical_form_is_that_of_rfc_8785(value: Any) -> None:
    assert canonical(value).decode() == canonicalize(value)


def test_empty_scopes_make_a_signature_for_either_reading(tmp_path: Path) -> None:
    """[CARD-1] The SDK takes empty values away before it verifies, other readers do not."""
    security = {
        "securitySchemes": {"bearer": {"httpAuthSecurityScheme": {"scheme": "Bearer"}}},
        "securityRequirements": [{"schemes": {"bearer": {}}}],
    }
    key = CardKeys(tmp_path / "cards.key", DAY_US, Clock()).current()
    made = card(BARE, "https://x.example", security=security, extended=True)
    assert [len(forms(card(BARE, "https://x.example"))), len(forms(made))] == [1, 2]
    body = signed(made, key, "https://x.example/.well-known/jwks.json")
    jwks = {"keys": [key.jwk()]}
    verify(body, KeySet.import_key_set(jwks))
    create_signature_verifier(lambda kid, _: PyJWKSet.from_dict(jwks)[str(kid)], ["ES256"])(parse_agent_card(body))
