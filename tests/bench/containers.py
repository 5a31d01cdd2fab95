"""`python -m tests.bench.containers`: what a container costs beside a local process. It asserts no times.

An agent of ours speaks ACP in each placement; images are made of this machine's programs. Trust ratios more than figures.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import psutil
from docker.client import DockerClient

from adapters.launch.container import INSTALLATION
from tests import needs
from tests.support import Client, GatewayProcess, Json, gateway_process, message

PLACEMENTS: dict[str, Json] = {
    "local": {"placement": "local"},
    "sandboxed": {"placement": "sandboxed"},
    "docker": {"placement": "docker"},
    "docker, egress": {"placement": "docker", "egress": "none"},
}
PYTHON = os.path.realpath(sys.executable)
STARTS, LINES, AT_ONCE = 10, 5000, 32
# Says as many words as it is told; told none, it says one and goes on for ever.
AGENT = """
import json, sys
def say(**what): print(json.dumps({"jsonrpc": "2.0", **what}), flush=True)
def word(text):
    update = {"sessionUpdate": "agent_message_chunk", "content": {"type": "text", "text": text}}
    say(method="session/update", params={"sessionId": "s", "update": update})
for line in sys.stdin:
    asked = json.loads(line)
    method, result = asked.get("method"), {}
    if method == "initialize":
        result = {"protocolVersion": 1, "agentCapabilities": {}}
    elif method == "session/new":
        result = {"sessionId": "s"}
    elif method == "session/prompt":
        count = int(asked["params"]["prompt"][0]["text"])
        for number in range(count or 1):
            word(f"word{number} ")
        if not count:
            continue
        result = {"stopReason": "end_turn"}
    if "id" in asked:
        say(id=asked["id"], result=result)
"""


async def texts(client: Client, agent: str, prompt: str) -> AsyncIterator[Any]:
    """The frames of a call that carry text, and its task first."""
    stream = client.frames(agent, "SendStreamingMessage", {"message": message(prompt)})
    async with aclosing(stream):  # type: ignore[type-var]  # it is a generator
        async for frame in stream:
            if "task" in frame.result or "artifactUpdate" in frame.result:
                yield frame


async def first_text(client: Client, agent: str) -> float:
    """Milliseconds from the request to the first text, of a turn that then goes to its end."""
    began, first = time.perf_counter(), 0.0
    async for frame in texts(client, agent, "1"):
        if "artifactUpdate" in frame.result and not first:
            first = time.perf_counter() - began
    assert first, f"{agent} says nothing"
    return first * 1000


async def per_line(client: Client, agent: str) -> float:
    """Microseconds of a turn for each line, a turn of one line taken off."""
    walls = []
    for count in (1, LINES):
        began = time.perf_counter()
        text = "".join([text_of(frame) async for frame in texts(client, agent, str(count))])
        assert f"word{count - 1} " in text, f"{agent}: text is missing after {text[-50:]!r}"
        walls.append(time.perf_counter() - began)
    return (walls[1] - walls[0]) / (LINES - 1) * 1e6


def text_of(frame: Any) -> str:
    return "".join(part["text"] for part in frame.result.get("artifactUpdate", {}).get("artifact", {}).get("parts", []))


async def at_once(gateway: GatewayProcess, client: Client, agent: str) -> Json:
    """So many turns that all have spoken and go on: the gateway's memory and threads. Then all are canceled."""
    assert gateway.process is not None
    server = psutil.Process(gateway.process.pid)
    before, began = server.memory_info().rss, time.perf_counter()
    tasks: list[str] = []

    async def speaks() -> None:
        async for frame in texts(client, agent, "0"):
            if "task" in frame.result:
                tasks.append(frame.result["task"]["id"])
            else:
                return

    await asyncio.gather(*(speaks() for _ in range(AT_ONCE)))
    spoke, during = time.perf_counter() - began, server.memory_info().rss
    found = {"containers": len(containers_of(gateway)), "threads": server.num_threads(), "all_spoke_s": round(spoke, 2)}
    began = time.perf_counter()
    ended = await asyncio.gather(*(client.rpc(agent, "CancelTask", {"id": id}) for id in tasks))
    assert {answer["result"]["status"]["state"] for answer in ended} == {"TASK_STATE_CANCELED"}
    assert containers_of(gateway) == []
    found |= {"all_canceled_s": round(time.perf_counter() - began, 2), "mb_before": round(before / 1e6, 1)}
    return found | {"mb_during": round(during / 1e6, 1), "mb_each": round((during - before) / AT_ONCE / 1e6, 2)}


def containers_of(gateway: GatewayProcess) -> list[str]:
    client = DockerClient.from_env()
    try:
        mine = {"label": f"{INSTALLATION}={gateway.data_dir.resolve() / 'sessions'}"}
        return [one["Id"] for one in client.api.containers(filters=mine)]
    finally:
        client.close()


async def run(gateway: GatewayProcess) -> Json:
    client, found = gateway.client(), {}
    for number, (name, where) in enumerate(PLACEMENTS.items()):
        agent = f"agent-{number}"
        python = "python3" if where["placement"] == "docker" else PYTHON
        await client.owner("agent.create", name=agent, runtime="acp", command=[python, "-I", "-c", AGENT], **where)
        await first_text(client, agent)
        starts = [await first_text(client, agent) for _ in range(STARTS)]
        found[name] = {"first_text_ms_p50": round(statistics.median(starts)), "first_text_ms_max": round(max(starts))}
        found[name]["us_per_line"] = round(await per_line(client, agent), 1)
        if where["placement"] != "sandboxed":
            found[name]["at_once"] = await at_once(gateway, client, agent)
    await client.http.aclose()
    return found


def main() -> None:
    images = {"AGENT_IMAGE": needs.an_engine(), "SIDECAR_IMAGE": needs.an_engine("gateway"), "CONTAINER_NETWORK": "none"}
    env = {f"SWITCHBOARD_{name}": value for name, value in images.items()} | {"SWITCHBOARD_CONCURRENCY": str(AT_ONCE)}
    with tempfile.TemporaryDirectory(prefix="switchboard-bench-") as folder, gateway_process(Path(folder), env) as gateway:
        found = asyncio.run(run(gateway))
    for name, row in found.items():
        told = ", ".join(f"{key} {value}" for key, value in row.items() if key != "at_once")
        print(f"{name:<16} {told}")
        if "at_once" in row:
            print(f"{'':<16} {AT_ONCE} at once: " + ", ".join(f"{key} {value}" for key, value in row["at_once"].items()))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
