"""Nothing a caller is ever sent tells what an agent runs on, or where. [HIDE-1]"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.gateway.turns.calls import make_agent
from tests.gateway.turns.parrot import DONE, PARROT, RUNTIMES, chunk, say
from tests.support import HEADERS, Client, message, serving

SECRET = replace(PARROT, name="quokka", title="Quokka Code", modes=RUNTIMES["rehearsal"].modes)
BROKEN = replace(SECRET, name="quokka-broken", executable="quokka-cli", install_hint="install quokka")
PROFILES = {**RUNTIMES, "quokka": SECRET, "quokka-broken": BROKEN}
PLAYS = ["two words", "N=5", "TOOLFAIL", "N=4 CRASH", "N=2 GARBAGE", "N=1 ASK", "N=1 FAIL=auth_error", "N=1 HANG", "BIG=9999"]
METHODS = ["SendMessage", "SendStreamingMessage", "GetTask", "ListTasks", "CancelTask", "SubscribeToTask", "Nonsense"]
METHODS += [f"{verb}TaskPushNotificationConfig" for verb in ("Create", "Get", "Delete")] + ["GetExtendedAgentCard"]


class Ear:
    """Calls, and keeps all bytes and headers that came back."""

    def __init__(self, gateway: Client) -> None:
        self.gateway = gateway
        self.heard: list[str] = []

    async def get(self, path: str) -> None:
        self.keep(await self.gateway.http.get(self.gateway.url + path))

    async def call(self, agent: str, method: str, params: Any, **headers: str) -> str:
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        url = f"{self.gateway.url}/agents/{agent}"
        return self.keep(await self.gateway.http.post(url, json=body, headers={**HEADERS, **headers}))

    async def raw(self, agent: str, content: bytes, **headers: str) -> None:
        self.keep(await self.gateway.http.post(f"{self.gateway.url}/agents/{agent}", content=content, headers=headers))

    def keep(self, answer: Any) -> str:
        self.heard += [str(answer.headers), answer.text]
        text: str = answer.text
        return text


async def listen(ear: Ear, agent: str) -> None:
    for path in ("/agents", f"/agents/{agent}", f"/agents/{agent}/.well-known/agent-card.json", "/health", "/nothing"):
        await ear.get(path)
    for prompt in PLAYS:
        params = {"message": message(prompt, contextId=f"{agent}-1")}
        stream = await ear.call(agent, "SendStreamingMessage", params)
        task = json.loads(stream.split("data: ", 1)[1].split("\n", 1)[0])["result"]["task"]
        await ear.call(agent, "GetTask", {"id": task["id"]})
        await ear.call(agent, "CancelTask", {"id": task["id"]})
        await ear.call(agent, "SubscribeToTask", {"id": task["id"]}, **{"Last-Event-ID": "1"})
    await ear.call(agent, "ListTasks", {"includeArtifacts": True})
    for method in METHODS:
        for params in ({}, {"id": "x"}, {"message": 5}, [], {"id": {"a": 1}}):
            await ear.call(agent, method, params)
    await ear.raw(agent, b"{", **HEADERS)
    await ear.raw(agent, b"{}", **HEADERS, **{"Content-Type": "application/json"})


async def test_no_word_of_the_runtime_or_the_machine_reaches_a_caller(tmp_path: Path) -> None:
    async with serving(tmp_path, PROFILES, stall_seconds=0.4, stop_seconds=0, turn_backoff_seconds=0.1) as gateway:
        with anyio.fail_after(40):
            for name, runtime in (("mailer", "quokka"), ("postman", "quokka-broken")):
                await make_agent(gateway, name, runtime, prompt="Be a quokka.", env={"QUOKKA_TOKEN": "quokka-token"})
            ear = Ear(gateway)
            await listen(ear, "mailer")
            await listen(ear, "postman")
    heard = "\n".join(ear.heard).lower()
    assert "completed" in heard
    for word in ("quokka", str(tmp_path), sys.executable, "script.py", "traceback", "python", "starlette", "sqlite"):
        assert word.lower() not in heard, word


@pytest.mark.parametrize("kind", ["plain", "a symlink", "relative"])
async def test_paths_of_the_session_are_shown_as_those_of_the_workspace(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = tmp_path / "home" / "me"
    real.mkdir(parents=True)
    (tmp_path / "link").symlink_to(real)
    monkeypatch.chdir(tmp_path)
    data = {"plain": real, "a symlink": tmp_path / "link", "relative": Path("home/me")}[kind]
    async with serving(data, PROFILES) as gateway:
        with anyio.fail_after(20):
            await make_agent(gateway, "parrot", "parrot")
            ear = Ear(gateway)
            prompt = say(["where"], {**DONE, "yield_reason": "needs_input"})
            await ear.call("parrot", "SendStreamingMessage", {"message": message(prompt)})
            await ear.call("parrot", "ListTasks", {"includeArtifacts": True})
    heard = "\n".join(ear.heard)
    assert "TASK_STATE_INPUT_REQUIRED" in heard
    assert str(tmp_path) not in heard
    assert "/workspace ~ /session/x ~/tmp" in heard


async def test_text_is_not_held_back_for_the_sake_of_a_path(tmp_path: Path) -> None:
    """A piece that may be the beginning of one waits for what follows, and is told at the turn's end at the latest."""
    async with serving(tmp_path, PROFILES) as gateway:
        with anyio.fail_after(20):
            await make_agent(gateway, "parrot", "parrot")
            path = str(tmp_path)
            task = await gateway.send("parrot", say(chunk(f"see {path[:5]}"), chunk(f"{path[5:]} and /"), DONE))
    assert task["artifacts"][0]["parts"] == [{"text": f"see {path} and /"}]
