"""What a card says of signing in is what is asked for; the extended card is for those who did."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from a2a.types import a2a_pb2 as pb
from google.protobuf.json_format import MessageToDict, ParseDict

from tests.support import HEADERS, Client, serving

Json = dict[str, Any]
SKILL = {"id": "audit", "name": "Audit", "description": "Looks at the books.", "tags": ["books"]}


async def card(gateway: Client, name: str) -> Json:
    answer = await gateway.http.get(f"{gateway.url}/agents/{name}/.well-known/agent-card.json")
    assert answer.status_code == 200
    found: Json = answer.json()
    known: Json = MessageToDict(ParseDict(found, pb.AgentCard(), ignore_unknown_fields=True))  # without what 0.3 adds
    return known


async def extended(gateway: Client, name: str, key: str = "") -> tuple[int, Json]:
    body = {"jsonrpc": "2.0", "id": 1, "method": "GetExtendedAgentCard", "params": {}}
    headers = HEADERS | ({"X-API-Key": key} if key else {})
    answer = await gateway.http.post(f"{gateway.url}/agents/{name}", json=body, headers=headers)
    found: Json = answer.json()
    return answer.status_code, found


async def test_a_public_agent_asks_for_nothing(tmp_path: Path) -> None:
    """[AUTH-6]"""
    async with serving(tmp_path) as gateway:
        found = await card(gateway, "hello")
    assert {"securitySchemes", "securityRequirements"} & found.keys() == set()


async def test_a_restricted_agents_card_is_readable_and_says_how_to_sign_in(tmp_path: Path) -> None:
    """[AUTH-6]"""
    issuer = {"oidc_issuer": "https://login.example.com/", "oidc_audience": "agents"}
    async with serving(tmp_path, **issuer) as gateway:
        await gateway.owner("agent.create", name="vault", runtime="rehearsal", public=False)
        found = await card(gateway, "vault")
    said = "An API key from whoever runs this agent."
    assert found["securitySchemes"] == {
        "bearer": {"httpAuthSecurityScheme": {"scheme": "Bearer", "description": said}},
        "apiKey": {"apiKeySecurityScheme": {"location": "header", "name": "X-API-Key", "description": said}},
        "openIdConnect": {
            "openIdConnectSecurityScheme": {"openIdConnectUrl": "https://login.example.com/.well-known/openid-configuration"}
        },
    }
    assert found["securityRequirements"] == [{"schemes": {name: {}}} for name in ("bearer", "apiKey", "openIdConnect")]
    assert not found["capabilities"].get("extendedAgentCard")


async def test_signed_in_callers_get_the_extended_card(tmp_path: Path) -> None:
    """[AUTH-6]"""
    async with serving(tmp_path) as gateway:
        key = (await gateway.owner("callers.add", name="shop"))["key"]
        assert (await extended(gateway, "hello", key))[1]["error"]["code"] == -32007
        more = {"description": "Books, for colleagues.", "skills": [SKILL]}
        await gateway.owner("agent.update", name="hello", changes={"extended": more})
        public = await card(gateway, "hello")
        status, refused = await extended(gateway, "hello")
        found = (await extended(gateway, "hello", key))[1]["result"]
        assert (await gateway.owner("agent.update", name="hello", changes={"extended": None}))["version"] == 3
        assert not (await card(gateway, "hello"))["capabilities"].get("extendedAgentCard")
    assert public["capabilities"]["extendedAgentCard"] is True
    assert set(public["securitySchemes"]) == {"bearer", "apiKey"}
    assert "securityRequirements" not in public
    assert "audit" not in str(public)
    assert (status, refused["error"]["code"]) == (401, -32012)
    assert (found["description"], [skill["id"] for skill in found["skills"]]) == ("Books, for colleagues.", ["chat", "audit"])
    assert found["skills"][1] == SKILL
    assert {"name", "version", "capabilities", "supportedInterfaces"} <= found.keys()
    assert found["version"] == public["version"]
