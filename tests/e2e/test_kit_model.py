"""The conformance kit's model, asked by the four real CLIs: vendors' own clients understand every API it speaks. [KIT-6]"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import uvicorn

from gateway.conformance.model import Model
from gateway.conformance.scenes import RAN, SCRIPTS, WHOLE
from tests.e2e.legs import Leg
from tests.e2e.stage import SECONDS, Stage
from tests.support import free_port


@asynccontextmanager
async def served(model: Model) -> AsyncIterator[str]:
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(model.app(), port=port, log_config=None, lifespan="off", ws="none"))
    async with anyio.create_task_group() as group:
        group.start_soon(server._serve)
        yield f"http://127.0.0.1:{port}"
        server.should_exit = True


async def test_a_cli_reads_its_text_and_does_what_it_asks_for(stage: Stage, leg: Leg) -> None:
    model, name = Model(SCRIPTS), f"kit-{uuid.uuid4().hex[:8]}"
    with anyio.fail_after(SECONDS):
        async with served(model) as url, stage.client() as client:
            await client.owner("agent.create", name=name, runtime=leg.runtime, model=leg.model, env=leg.env(url))
            said = await stage.say(client, name, "This is scene:text.")
            did = await stage.say(client, name, "This is scene:shell.")
    results = [call for call in did.calls if call["type"] == "tool_result"]
    assert said.text == WHOLE
    assert did.text.replace("\n", "") == f"Running it. {RAN}"
    assert [(one["output"].strip(), one["is_error"]) for one in results] == [("kit-printed", False)]
    assert any("kit-printed" in one.said.replace("echo kit-printed", "") for one in model.requests("shell"))
