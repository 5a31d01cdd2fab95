"""`python -m tests.bench.containers [NAME ...]`: what a container costs beside a local process. It asserts no times.

An agent of ours speaks ACP in each placement, and an image of ours is a runtime; images are made of this machine's programs.
A session that is woken has spoken before and holds no process and no container; a sandbox that is woken was stopped by its
worker. Trust ratios more than figures.
"""

from __future__ import annotations

import argparse
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
from adapters.launch.hands import HANDS
from tests import needs
from tests.gateway.runtime_api import brains
from tests.support import Client, GatewayProcess, Json, gateway_process, message

PLACEMENTS: dict[str, Json] = {
    "local": {"placement": "local"},
    "sandboxed": {"placement": "sandboxed"},
    "docker": {"placement": "docker"},
    "docker, egress": {"placement": "docker", "egress": "none"},
}
IMAGE = "image"  # a runtime of one's own
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
        result = {"protocolVersion": 1, "agentCapabilities": {"loadSession": True}}
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


async def texts(client: Client, agent: str, prompt: str, **more: Any) -> AsyncIterator[Any]:
    """The frames of a call that carry text, and its task first."""
    stream = client.frames(agent, "SendStreamingMessage", {"message": message(prompt, **more)})
    async with aclosing(stream):  # type: ignore[type-var]  # it is a generator
        async for frame in stream:
            if "task" in frame.result or "artifactUpdate" in frame.result:
                yield frame


async def first_text(client: Client, agent: str, prompt: str = "1", word: str = "", context: str = "") -> tuple[float, str]:
    """Milliseconds from the request to the first text, or to that word, and the session. The turn goes to its end."""
    began, first, text = time.perf_counter(), 0.0, ""
    async for frame in texts(client, agent, prompt, **({"contextId": context} if context else {})):
        if "task" in frame.result:
            context = frame.result["task"]["contextId"]
        text += text_of(frame)
        if text and word in text and not first:
            first = time.perf_counter() - began
    assert first, f"{agent} says {text!r}"
    return first * 1000, context


def spread(name: str, ms: list[float]) -> Json:
    return {f"{name}_ms_p50": round(statistics.median(ms)), f"{name}_ms_max": round(max(ms))}


async def starts(gateway: GatewayProcess, client: Client, agent: str, prompt: str = "1") -> Json:
    """How soon new sessions speak, and how soon they do when they are woken."""
    await first_text(client, agent, prompt)
    cold = [await first_text(client, agent, prompt) for _ in range(STARTS)]
    woken = []
    for _, context in cold:
        await at_rest(gateway)
        woken.append((await first_text(client, agent, prompt, context=context))[0])
    return spread("first_text", [ms for ms, _ in cold]) | spread("woken", woken)


async def at_rest(gateway: GatewayProcess) -> None:
    """No turn has a process or a container any more."""
    assert gateway.process is not None
    (warden,) = psutil.Process(gateway.process.pid).children()
    while warden.children() or containers_of(gateway):  # noqa: ASYNC110  (nobody tells)
        await asyncio.sleep(0.01)


async def sandboxes(gateway: GatewayProcess, client: Client, agent: str) -> Json:
    """How soon a command has run in a new sandbox, and in one that was stopped: the turn's own beginning counted in."""
    cold = [await first_text(client, agent, "ACT", "acted") for _ in range(STARTS)]
    while sandboxes_of(gateway):  # noqa: ASYNC110  (nobody tells; it is once a minute)
        await asyncio.sleep(0.5)
    woken = [(await first_text(client, agent, "ACT", "acted", context))[0] for _, context in cold]
    return spread("command_in_new_sandbox", [ms for ms, _ in cold]) | spread("command_in_woken_sandbox", woken)


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
    """Of turns."""
    return labelled(INSTALLATION, gateway)


def sandboxes_of(gateway: GatewayProcess, *, asleep: bool = False) -> list[str]:
    return labelled(HANDS, gateway, all=asleep)


def labelled(label: str, gateway: GatewayProcess, **more: bool) -> list[str]:
    client = DockerClient.from_env()
    try:
        mine = {"label": f"{label}={gateway.data_dir.resolve() / 'sessions'}"}
        return [one["Id"] for one in client.api.containers(filters=mine, **more)]
    finally:
        client.close()


async def run(gateway: GatewayProcess, names: list[str]) -> Json:
    client, found = gateway.client(), {}
    for number, (name, where) in enumerate(PLACEMENTS.items()):
        if name not in names:
            continue
        agent = f"agent-{number}"
        python = "python3" if where["placement"] == "docker" else PYTHON
        await client.owner("agent.create", name=agent, runtime="acp", command=[python, "-I", "-c", AGENT], **where)
        found[name] = await starts(gateway, client, agent)
        found[name]["us_per_line"] = round(await per_line(client, agent), 1)
        if where["placement"] != "sandboxed":
            found[name]["at_once"] = await at_once(gateway, client, agent)
    if IMAGE in names:
        await of_an_image(client)
        found[IMAGE] = await starts(gateway, client, "brain") | await sandboxes(gateway, client, "brain")
    await client.http.aclose()
    return found


async def of_an_image(client: Client) -> None:
    """An agent whose runtime it is."""
    engine = DockerClient.from_env()
    try:
        image = brains.made(engine, needs.an_engine("base"))
    finally:
        engine.close()
    facts = {"providers": ["openai"], "capabilities": ["steer"], "unchecked": True}
    await client.owner("runtimes.push", name="brain", image=image, **facts)
    await client.owner("agent.create", name="brain", runtime="brain", placement="docker")


def main() -> None:
    known = [*PLACEMENTS, IMAGE]
    parser = argparse.ArgumentParser(prog="python -m tests.bench.containers")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {'; '.join(known)}; default: all")
    names = parser.parse_args().names or known
    if unknown := set(names) - set(known):
        parser.error(f"there is no {', '.join(sorted(unknown))}")
    images = {"AGENT_IMAGE": needs.an_engine(), "SIDECAR_IMAGE": needs.an_engine("gateway"), "CONTAINER_NETWORK": "none"}
    env = {f"SWITCHBOARD_{name}": value for name, value in images.items()} | {"SWITCHBOARD_CONCURRENCY": str(AT_ONCE)}
    env["SWITCHBOARD_HANDS_IDLE_SECONDS"] = "1"
    with tempfile.TemporaryDirectory(prefix="switchboard-bench-") as folder, gateway_process(Path(folder), env) as gateway:
        try:
            found = asyncio.run(run(gateway, names))
        finally:
            remove(sandboxes_of(gateway, asleep=True))
    for name, row in found.items():
        told = ", ".join(f"{key} {value}" for key, value in row.items() if key != "at_once")
        print(f"{name:<16} {told}")
        if "at_once" in row:
            print(f"{'':<16} {AT_ONCE} at once: " + ", ".join(f"{key} {value}" for key, value in row["at_once"].items()))
    print(json.dumps(found))


def remove(containers: list[str]) -> None:
    client = DockerClient.from_env()
    for id in containers:
        client.api.remove_container(id, force=True)
    client.close()


if __name__ == "__main__":
    main()
