"""The owners' endpoint in process: real HTTP, a real database file, two made-up runtimes beside the rehearsal."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx2
import pytest

from adapters.profile import Profile
from adapters.runtimes.rehearsal.profile import PROFILE as REHEARSAL
from gateway.auth.owners import OwnerKey
from gateway.owner.context import Owner

SPEAKS = REHEARSAL.modes["jsonl"]
DEAF = replace(SPEAKS, name="plain", capabilities=replace(SPEAKS.capabilities, mcp=False))
ALPHA = Profile(
    name="alpha",
    title="Alpha",
    executable="alpha-cli",
    providers=frozenset({"anthropic"}),
    modes={"stream": replace(SPEAKS, name="stream", capabilities=replace(SPEAKS.capabilities, mcp=True)), "plain": DEAF},
    default_mode="stream",
    key_env={"anthropic": "ANTHROPIC_API_KEY"},
    default_model="anthropic/claude-sonnet-4-6",
    known_versions="2.1.0",
    install_hint="install alpha",
)
BETA = replace(
    ALPHA,
    name="beta",
    title="Beta",
    executable="beta-cli",
    providers=frozenset({"openai", "google"}),
    key_env={"openai": "OPENAI_API_KEY", "google": "GEMINI_API_KEY"},
    default_model="openai/gpt-5.5",
)
GAMMA = replace(BETA, name="gamma", default_model=None)
OWN = replace(REHEARSAL, name="own", title="Own command", executable="", takes_command=True)
PROFILES = {profile.name: profile for profile in (ALPHA, BETA, OWN, REHEARSAL)}


class Refused(Exception):
    """A JSON-RPC error, as the client got it."""

    def __init__(self, error: dict[str, Any]) -> None:
        super().__init__(error["message"])
        self.error = error
        self.code: str = error["data"]["code"]
        self.hint: str = error["data"]["hint"]


@dataclass
class Api:
    client: httpx2.AsyncClient
    owner: Owner
    key: OwnerKey
    directory: Path
    canceled: list[str]

    async def post(self, body: bytes | str, **headers: str) -> httpx2.Response:
        return await self.client.post("/owner", content=body, headers={"Authorization": f"Bearer {self.key.value}"} | headers)

    async def call(self, method: str, **params: Any) -> Any:
        response = await self.post(json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}))
        assert response.status_code == 200 or (response.status_code == 503 and response.headers["retry-after"] == "1")
        answer = response.json()
        if "error" in answer:
            assert set(answer["error"]["data"]) == {"code", "message", "hint"}
            assert answer["error"]["data"]["hint"]
            raise Refused(answer["error"])
        return answer["result"]

    async def refusal(self, method: str, **params: Any) -> Refused:
        with pytest.raises(Refused) as info:
            await self.call(method, **params)
        return info.value

    def install(self, name: str, prints: str) -> str:
        """Put a program of that name on the gateway's PATH."""
        path = self.directory / "bin" / name
        path.write_text(f"#!/bin/sh\n{prints}\n", encoding="utf-8")
        path.chmod(0o755)
        return str(path)
