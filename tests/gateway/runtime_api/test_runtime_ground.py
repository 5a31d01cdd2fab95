"""What an agent is given of the machine, in the sandbox of a runtime that is an image: as every other agent. [GND-1]"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from adapters.launch.container import Engine
from adapters.launch.hands import rooms
from gateway.deliver.guard import SystemResolver
from tests import needs
from tests.gateway.egress.boxes import resolve
from tests.gateway.files.desk import raw
from tests.gateway.runtime_api.stand_in import Played, chunk, thinking
from tests.gateway.turns.calls import of_type, state_of
from tests.gateway.turns.repository import made, served
from tests.gateway.turns.test_turns_ground import data, turned
from tests.support import Client, Json, text_of

__all__ = ["data"]  # a fixture

SECONDS = 60


async def shell(image: Played) -> int:
    """Runs its prompt in the sandbox, as one call, and tells what it printed."""
    turn = await image.get("turn")
    body = {"call_id": "1", "tool": "bash", "input": {"command": turn["prompt"]}}
    answer = await image.http.post("/runtime/v1/sandbox/call", json=body)
    await image.post(chunk("1", answer.json()["output"]))
    return 0


async def files(image: Played) -> int:
    """Calls the tools of files one after another, and tells what they answered."""
    calls = [
        ("write", {"path": "made/here", "content": "one\ntwo\n"}),
        ("edit", {"path": "made/here", "edits": [{"old": "two", "new": "three"}]}),
        ("read", {"path": "/workspace/a/b/made/here"}),
        ("ls", {}),
        ("ls", {"path": "../.."}),
        ("glob", {"pattern": "**/here"}),
        ("grep", {"pattern": "thr", "path": ".."}),
        ("read", {"path": "../../inbox/x.txt"}),
        ("read", {"path": "../../../etc/passwd"}),
        ("bash", {"command": "pwd; cat made/here"}),
    ]
    for number, (tool, given) in enumerate(calls):
        body = {"call_id": str(number), "tool": tool, "input": given}
        answer = await image.http.post("/runtime/v1/sandbox/call", json=body)
        await image.post(chunk(str(number), f"{answer.json()['output'].strip()}\n"))
    return 0


@pytest.fixture(autouse=True)
def _sandboxes(data: Path) -> Iterator[None]:
    """Those of a test are removed."""
    yield

    async def remove() -> None:
        engine = Engine(os.environ)
        for one in await rooms(engine, str((data.parents[1] / "gateway/sessions").resolve())):
            await engine.remove(one.id)
        engine.close()

    anyio.run(remove)


@asynccontextmanager
async def gateway(data: Path, patch: pytest.MonkeyPatch, play: Any = shell, **more: Any) -> AsyncIterator[Client]:
    roots = {"mount_roots": str(data.parent), "agent_image": needs.an_engine()}
    with anyio.fail_after(SECONDS):
        async with thinking(data.parents[1] / "gateway", patch, play, **roots, **more) as client:
            yield client


async def changed(client: Client, **changes: Any) -> None:
    await client.owner("agent.update", name="thinker", changes=changes)


async def said(client: Client, command: str, **more: Any) -> str:
    task = await client.send("thinker", command, **more)
    assert state_of(task) == "COMPLETED"
    return text_of(task)


async def told(client: Client, task: Json, kind: str) -> str:
    notices = of_type(await client.events(task["contextId"]), "notice")
    return "".join(one["body"]["text"] for one in notices if one["body"]["kind"] == kind)


async def test_a_mount_is_read_and_one_that_may_be_is_written(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a link in it leads to is not there."""
    mounts = [{"source": str(data), "target": "/mnt/data"}]
    look = "cat /mnt/data/note; cat /mnt/data/out 2>/dev/null || echo no; echo new > /mnt/data/new"
    async with gateway(data, monkeypatch) as client:
        await changed(client, mounts=mounts)
        assert (await said(client, look)).startswith("hereno\n")
        assert not (data / "new").exists()
        await changed(client, mounts=[{**mounts[0], "writable": True}])
        assert await said(client, look) == "hereno\n"
    assert (data / "new").read_text() == "new\n"


async def test_a_mount_that_leads_elsewhere_by_now_is_refused(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also in a session whose sandbox was made before."""
    (tmp_path / "elsewhere").mkdir()
    async with gateway(data, monkeypatch) as client:
        await changed(client, mounts=[{"source": str(data), "target": "/mnt/data"}])
        before = await client.send("thinker", "cat /mnt/data/note")
        turned(data, tmp_path / "elsewhere")
        for context in ({}, {"contextId": before["contextId"]}):
            task = await client.send("thinker", "ls /mnt/data", **context)
            assert text_of(task) == "The sandbox cannot be used now."
            assert "below none of the roots that agents may be given" in await told(client, task, "sandbox")
    assert text_of(before) == "here"


async def test_sessions_of_an_agent_share_its_volumes(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with gateway(data, monkeypatch) as client:
        await changed(client, volumes=[{"name": "cache", "target": "/mnt/cache"}])
        await said(client, "echo kept | tee /mnt/cache/note")
        assert await said(client, "cat /mnt/cache/note") == "kept\n"


async def test_its_repository_and_its_hooks_are_for_its_sandbox(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """[PREP-1]"""
    root = data.parent / "git"
    root.mkdir()
    made(root / "repository")
    monkeypatch.setattr(SystemResolver, "__call__", lambda self, host, port: resolve(host, port))
    with served(root) as origin:
        host = f"git.example:{origin.rpartition(':')[2]}"
        git, hooks = {"url": f"http://{host}/repository"}, {"pre_init": {"command": "echo changed >> count"}}
        async with gateway(data, monkeypatch, egress_private_hosts="127.0.0.1", sidecar_image=needs.an_engine()) as client:
            await changed(client, git=git, hooks=hooks, egress=[host])
            task = await client.send(
                "thinker", "cat count; git log --oneline | wc -l; git fetch -q && git remote get-url origin"
            )
            hook = await told(client, task, "hook")
    assert (text_of(task), hook.count("done")) == (f"3\nchanged\n3\n{git['url']}\n", 2)


async def test_its_tools_start_in_its_work_dir(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """[GND-3] And what they name is named as it is found from there."""
    async with gateway(data, monkeypatch, files) as client:
        await changed(client, work_dir="a/b")
        task = await client.send("thinker", "", parts=[{"text": "go"}, raw(b"sent", "x.txt", "text/plain")])
    assert text_of(task).splitlines() == [
        "8 bytes written to made/here.",
        "1 texts replaced in made/here.",
        "one",
        "three",
        "made/",
        "a/",
        "inbox/",
        "made/here",
        "made/here:2:three",
        "sent",
        "The path '../../../etc/passwd' leads out of the workspace. "
        "Tools read and write below /workspace only; for another place run a command.",
        "/workspace/a/b",
        "one",
        "three",
    ]


async def test_a_work_dir_that_leads_out_is_refused(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """[GND-3]"""
    async with gateway(data, monkeypatch) as client:
        await changed(client, work_dir="a/b", hooks={"pre_init": {"command": "ln -s ../home a"}})
        task = await client.send("thinker", "pwd")
        owner = await told(client, task, "sandbox")
    assert text_of(task) == "The sandbox cannot be used now."
    assert "leads out of its workspace by a symbolic link" in owner
