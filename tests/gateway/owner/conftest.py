"""`api`: the owners' endpoint on a fresh data directory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from starlette.applications import Starlette

from gateway.auth.callers import Pepper
from gateway.auth.client_tokens import ClientTokens
from gateway.auth.owners import OwnerKey
from gateway.auth.turn_tokens import TurnTokens
from gateway.db.engine import Database
from gateway.errors import NotFound
from gateway.files.links import Links
from gateway.owner import http
from gateway.owner.border import load_card_keys, load_secrets
from gateway.owner.context import Owner
from gateway.settings import Settings
from registry.images import Image
from tests.gateway.owner.owner_api import PROFILES, Api


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def api(tmp_path: Path, anyio_backend: str) -> AsyncIterator[Api]:
    (tmp_path / "bin").mkdir()
    settings = Settings(data_dir=tmp_path / "data", public_url="https://agents.example.com")
    canceled: list[str] = []

    async def cancel(session_id: str) -> list[str]:
        canceled.append(session_id)
        return ["tsk_1"]

    async def ping(webhook_id: str) -> dict[str, Any]:
        raise NotFound(f"There is no webhook {webhook_id!r}.", "Look again.")

    async def examine(image: Image) -> dict[str, Any]:
        check = {"name": "read", "ok": "bad" not in image.image, "result": "seen", "fix": "", "required": True}
        return {"image": image.image, "digest": image.digest, "ok": check["ok"], "checks": [check]}

    key = OwnerKey.load(settings.owner_key_file)
    Pepper.load(settings.callers_key_file)
    ClientTokens.load(settings.tokens_key_file, 1, 1)
    TurnTokens.load(settings.turns_key_file)
    Links.load(settings.files_key_file, settings.url, 1)
    owner = Owner(
        database=Database(settings.database),
        settings=settings,
        secrets=load_secrets(settings),
        profiles=PROFILES,
        card=lambda agent: {"name": agent.name, "version": str(agent.version), "description": agent.makeup.description},
        cancel=cancel,
        card_keys=load_card_keys(settings),
        ping=ping,
        examine=examine,
        environ={"PATH": str(tmp_path / "bin"), "ANTHROPIC_API_KEY": "sk-of-the-gateway"},
    )
    await owner.database.start()
    transport = httpx2.ASGITransport(app=Starlette(routes=http.routes(owner, key)))
    async with httpx2.AsyncClient(transport=transport, base_url="http://gateway") as client:
        yield Api(client, owner, key, tmp_path, canceled)
    await owner.database.aclose()
