"""Runtimes, models and the doctor through the owners' endpoint."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import psutil
import pytest

from adapters.launch import container, sandbox
from gateway.owner import checks, http
from gateway.owner.context import Check, Owner
from gateway.settings import Settings
from registry import catalog
from tests.gateway.owner.owner_api import ALPHA, Api
from tests.support import serving


def by_name(report: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {check["name"]: check for check in report["checks"]}


def runs(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


async def test_runtimes_are_listed_with_what_they_can_do(api: Api) -> None:
    path = api.install("alpha-cli", "echo 'alpha 2.1.7 (build 5)'")
    found = {runtime["name"]: runtime for runtime in (await api.call("runtimes.list"))["runtimes"]}
    assert list(found) == ["alpha", "beta", "own", "rehearsal"]
    can = {"deltas": True, "resume": True, "steer": True, "interrupt": True, "structured": True}
    can |= {"direct": False, "replays": False}
    assert found["alpha"] == {
        "name": "alpha",
        "title": "Alpha",
        "providers": ["anthropic"],
        "modes": [
            {"name": "stream", "capabilities": {**can, "mcp": True}},
            {"name": "plain", "capabilities": {**can, "mcp": False}},
        ],
        "default_mode": "stream",
        "default_model": "anthropic/claude-sonnet-4-6",
        "installed": True,
        "path": path,
        "version": None,
    }
    assert (found["beta"]["installed"], found["beta"]["path"]) == (False, None)
    assert (found["own"]["installed"], found["own"]["path"]) == (True, None)


async def test_a_check_says_what_is_there_and_is_remembered(api: Api) -> None:
    path = api.install("alpha-cli", "echo 'alpha 2.1.7 (build 5)'")
    assert await api.call("runtimes.check", name="alpha") == {
        "name": "alpha",
        "ok": True,
        "checks": [
            {"name": "program", "ok": True, "result": path, "fix": "", "required": True},
            {"name": "version", "ok": True, "result": "2.1.7", "fix": "", "required": True},
            {"name": "key anthropic", "ok": True, "result": "ANTHROPIC_API_KEY is set", "fix": "", "required": False},
        ],
    }
    assert (await api.call("runtimes.list"))["runtimes"][0]["version"] == "2.1.7"


async def test_a_version_nobody_tried_is_advice(api: Api) -> None:
    api.install("alpha-cli", "echo 3.0.0")
    report = await api.call("runtimes.check", name="alpha")
    assert report["ok"]
    version = by_name(report)["version"]
    assert (version["ok"], version["required"], version["result"]) == (False, False, "3.0.0; tried with 2.1.0")
    assert version["fix"]


async def test_a_runtime_that_is_missing_is_not_ok_and_the_fix_is_said(api: Api) -> None:
    report = await api.call("runtimes.check", name="beta")
    assert not report["ok"]
    assert {name: (check["ok"], check["required"]) for name, check in by_name(report).items()} == {
        "program": (False, True),
        "key google": (False, True),
        "key openai": (False, True),
    }
    assert by_name(report)["program"]["fix"] == "install alpha"


@pytest.mark.parametrize(("prints", "word"), [("exit 3", "could not be run"), ("echo hello", "printed no version")])
async def test_a_runtime_that_does_not_tell_its_version_is_not_ok(api: Api, prints: str, word: str) -> None:
    api.install("alpha-cli", prints)
    report = await api.call("runtimes.check", name="alpha")
    assert not report["ok"]
    assert word in by_name(report)["version"]["result"]


async def test_a_runtime_that_hangs_is_given_up_and_ended(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "VERSION_SECONDS", 1)
    pids = api.directory / "pids"
    api.install("alpha-cli", f"/bin/sleep 600 & echo $$ $! > {pids}; wait")
    report = await api.call("runtimes.check", name="alpha")
    assert "did not answer" in by_name(report)["version"]["result"]
    with anyio.fail_after(5):
        for pid in pids.read_text(encoding="utf-8").split():
            while runs(int(pid)):
                await anyio.lowlevel.checkpoint()


async def test_a_version_is_asked_for_with_an_empty_environment(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HUSH", "hush-hush")
    seen = api.directory / "seen"
    api.install("alpha-cli", f"/usr/bin/env > {seen}; pwd >> {seen}; echo 2.1.0")
    await api.call("runtimes.check", name="alpha")
    text = seen.read_text(encoding="utf-8")
    assert "hush" not in text
    assert "sk-of-the-gateway" not in text
    home = next(line for line in text.splitlines() if line.startswith("HOME=")).removeprefix("HOME=")
    assert text.splitlines()[-1].endswith(home)


async def test_the_rehearsal_and_an_agents_own_command_are_always_ok(api: Api) -> None:
    assert (await api.call("runtimes.check", name="rehearsal"))["ok"]
    assert (await api.call("runtimes.check", name="own"))["ok"]


async def test_no_key_is_ever_answered(api: Api) -> None:
    api.install("alpha-cli", "echo 2.1.0")
    for report in (await api.call("runtimes.check", name="alpha"), await api.call("doctor")):
        assert "sk-of-the-gateway" not in json.dumps(report)


async def test_a_runtime_there_is_not_is_not_found(api: Api) -> None:
    refused = await api.refusal("runtimes.check", name="alfa")
    assert (refused.code, refused.hint) == ("not_found", "Did you mean 'alpha'?")


async def test_models_are_those_of_the_catalogue(api: Api) -> None:
    found = (await api.call("models.list"))["models"]
    assert {"id": "anthropic/claude-opus-4-6", "provider": "anthropic", "name": "Claude Opus 4.6"} in found
    assert [model["id"] for model in found] == list(catalog.models())


async def test_doctor_looks_at_everything_and_a_runtime_nobody_uses_is_advice(api: Api) -> None:
    api.install("alpha-cli", "echo 2.1.0")
    report = await api.call("doctor")
    assert report["ok"]
    assert {name: (check["ok"], check["required"]) for name, check in by_name(report).items()} == {
        "data directory": (True, True),
        "disk": (True, False),
        "owner.key": (True, True),
        "secrets.key": (True, True),
        "callers.key": (True, True),
        "cards.key": (True, True),
        "tokens.key": (True, True),
        "files.key": (True, True),
        "turns.key": (True, True),
        "database": (True, True),
        "public URL": (True, True),
        "sandbox": (not sandbox.probe(), False),
        "containers": (not container.unready(os.environ, {"": "switchboard-agent"}), False),
        "runtime alpha": (True, False),
        "runtime beta": (False, False),
        "runtime own": (True, False),
        "runtime rehearsal": (True, False),
        "key anthropic": (True, False),
    }


async def test_doctor_of_a_gateway_without_turns_leaves_to_others_what_only_they_know(tmp_path: Path) -> None:
    """[COMP-2] Whether a worker lives it does know."""
    with anyio.fail_after(20):
        async with serving(tmp_path, worker=False) as gateway:
            await gateway.owner("agent.create", name="boxed", runtime="claude", placement="docker")
            found = by_name(await gateway.owner("doctor"))
            alone = found["worker"]
            assert (alone["ok"], alone["required"], alone["result"]) == (False, True, "none in this process, 0 elsewhere")
            assert "switchboard worker" in alone["fix"]
            assert {name for name in found if name.startswith(("sandbox", "containers", "runtime", "key "))} == {"runtimes"}
            assert (found["runtimes"]["ok"], found["runtimes"]["required"]) == (True, False)
            async with serving(tmp_path):
                report = await gateway.owner("doctor")
    assert by_name(report)["worker"]["result"] == "none in this process, 1 elsewhere"
    assert report["ok"]


async def test_doctor_is_not_ok_when_an_agents_runtime_is_missing(api: Api) -> None:
    await api.call("agent.create", name="mailer", runtime="beta")
    report = await api.call("doctor")
    assert not report["ok"]
    assert by_name(report)["runtime beta"] == {
        "name": "runtime beta",
        "ok": False,
        "result": "not found on PATH; used by mailer",
        "fix": "install alpha",
        "required": True,
    }


async def test_doctor_says_of_each_key_that_is_gone_to_restore_it_before_a_restart(api: Api) -> None:
    held = sorted(file.name for file in api.owner.settings.data_dir.glob("*.key"))
    for name in held:
        (api.owner.settings.data_dir / name).unlink()
    report = by_name(await api.call("doctor"))
    assert sorted(name for name, check in report.items() if name.endswith(".key") and not check["ok"]) == held
    for name in held:
        assert report[name]["fix"].startswith(f"Restore '{api.owner.settings.data_dir / name}' from a backup before")


async def test_doctor_is_not_ok_when_others_may_read_a_key(api: Api) -> None:
    path = api.owner.settings.owner_key_file
    path.chmod(0o644)
    report = await api.call("doctor")
    assert not report["ok"]
    assert (by_name(report)["owner.key"]["result"], by_name(report)["owner.key"]["fix"]) == (
        "mode 0644",
        f"Run: chmod 600 '{path}'",
    )


@pytest.mark.parametrize(
    ("settings", "ok", "required"),
    [
        ({"public_url": "https://agents.example.com"}, True, True),
        ({}, True, True),
        ({"public_url": "agents.example.com"}, False, True),
        ({"public_url": "https://a.example.com/?x=1"}, False, True),
        ({"public_url": "https://a.example.com:99999"}, False, True),
        ({"public_url": "http://agents.example.com"}, False, False),
        ({"host": "0.0.0.0"}, False, False),
    ],
)
async def test_doctor_judges_the_public_url(api: Api, settings: dict[str, Any], ok: bool, required: bool) -> None:
    owner = replace(api.owner, settings=Settings(data_dir=api.directory / "data", **settings))
    check = checks._public_url(owner)
    assert (check.ok, check.required) == (ok, required)


async def test_doctor_asks_other_packages_too(api: Api) -> None:
    async def warden() -> Check:
        return Check("warden", False, "not running", "Restart the gateway.")

    owner: Owner = replace(api.owner, more_checks=(warden,))
    api.client._transport.app.routes[:] = http.routes(owner, api.key)  # type: ignore[attr-defined]
    report = await api.call("doctor")
    assert not report["ok"]
    assert by_name(report)["warden"]["fix"] == "Restart the gateway."


def test_a_profile_without_a_hint_still_gets_a_fix(tmp_path: object) -> None:
    check = checks._program(replace(ALPHA, install_hint=""), None)
    assert check.fix == "Install Alpha and put 'alpha-cli' on the PATH of the gateway."
