"""The sandbox's MCP server, used by the real CLIs: whatever speaks MCP can be what thinks. [HAND-7]"""

from __future__ import annotations

import json
import socket
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.types import Message, Receive, Scope, Send

from gateway.runtime_api.sandbox import MCP, routes
from tests import needs
from tests.e2e.legs import Json, Leg
from tests.e2e.stage import Stage
from tests.gateway.hands.stage import Brain, staged
from tests.gateway.hands.stage import Stage as Sandbox
from tests.support import free_port

# What each calls the tool. codex wants its calls in a field of their own, which the scripted model has not: it lists only.
NAMES = {"claude": "mcp__sandbox__bash", "gemini": "mcp_sandbox_bash", "opencode": "sandbox_bash"}
TOKEN = "token-of-a-turn"


@asynccontextmanager
async def served(sandbox: Sandbox, brain: Brain, asked: list[str]) -> AsyncIterator[str]:
    """The URL of the server, which takes the one token; `asked`: the methods that were called."""
    app = Starlette(routes=routes(sandbox.hands, sandbox.settings.max_body_bytes))

    async def signed(scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        assert request.headers["authorization"] == f"Bearer {TOKEN}"
        body = await request.body()
        asked.extend(json.loads(body)["method"] for _ in [body] if body)
        scope["state"] = {"turn": brain}

        async def again() -> Message:
            return {"type": "http.request", "body": body}

        await app(scope, again, send)

    port = free_port()
    server = uvicorn.Server(uvicorn.Config(signed, port=port, log_config=None, lifespan="off", ws="none"))
    async with anyio.create_task_group() as group:
        group.start_soon(server._serve)
        yield f"http://127.0.0.1:{port}{MCP}"
        server.should_exit = True


async def _learn(stage: Stage, marker: str, leg: Leg) -> None:
    """The model calls the tool, and then has done."""
    match = {"userMessage": marker, "toolName": leg.offers}
    steps: list[Json] = [{"match": {**match, "hasToolResult": leg.runtime in NAMES}, "response": {"content": "Done."}}]
    if leg.runtime in NAMES:
        call = {"name": NAMES[leg.runtime], "arguments": {"command": "hostname > where; echo acted"}}
        steps.append({"match": {**match, "hasToolResult": False}, "response": {"toolCalls": [call]}})
    await stage.model.add(steps)


async def test_a_cli_acts_in_the_sandbox(stage: Stage, leg: Leg, tmp_path: Path) -> None:
    marker, name = f"SCN-sandbox-{uuid.uuid4().hex}", f"{leg.agent}-{uuid.uuid4().hex[:8]}"
    await _learn(stage, marker, leg)
    asked: list[str] = []
    async with staged(tmp_path, needs.an_engine()) as sandbox:
        brain = await sandbox.begin()
        async with served(sandbox, brain, asked) as url, stage.client() as client:
            server = {"name": "sandbox", "url": url, "headers": {"Authorization": f"Bearer {TOKEN}"}}
            made = {"runtime": leg.runtime, "model": leg.model, "env": leg.env(stage.model.url), "mcp_servers": [server]}
            await client.owner("agent.create", name=name, **made)
            played = await stage.say(client, name, marker)
        told = await sandbox.events(brain, "tool_result")
    assert (played.text, "tools/list" in asked) == ("Done.", True)
    if leg.runtime in NAMES:
        assert [one["output"] for one in told] == ["acted"]
        assert [one["tool"] for one in played.tools if one["type"] == "tool_start"] == ["mcp:sandbox/bash"]
        assert (brain.place.work / "where").read_text().strip() not in ("", socket.gethostname())
