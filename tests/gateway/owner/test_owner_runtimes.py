"""Runtimes that are images, as their owner pushes them: checked first, versions that never change, a way back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from adapters.launch.container import Engine
from gateway.owner import http, runtimes
from tests import needs
from tests.gateway.owner.owner_api import Api


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Image -> what the engine knows it by; a new push of a tag has another."""
    digests = {"mine:1": "sha256:1", "mine:2": "sha256:2", "bad:1": "sha256:3"}

    async def digest_of(_engine: Engine, image: str) -> str:
        return digests[image]

    monkeypatch.setattr(runtimes, "digest_of", digest_of)
    return digests


async def test_a_push_makes_a_version_that_new_agents_can_name(api: Api, engine: dict[str, str]) -> None:
    """[KIT-3]"""
    pushed = await api.call("runtimes.push", name="mine", image="mine:1", providers=["openai"], capabilities=["steer"])
    assert {**pushed, "created_at": ""} == {
        "name": "mine",
        "pushed": True,
        "version": 1,
        "current": True,
        "state": "active",
        "image": "mine:1",
        "digest": "sha256:1",
        "ok": True,
        "providers": ["openai"],
        "capabilities": ["steer"],
        "env_names": [],
        "created_at": "",
        "checks": [{"name": "read", "ok": True, "result": "seen", "fix": "", "required": True}],
        "warnings": [],
    }
    assert "mine" in [one["name"] for one in (await api.call("runtimes.list"))["runtimes"]]
    made = await api.call("agent.create", name="thinker", runtime="mine", model="openai/gpt-5", placement="docker")
    assert made["runtime"] == "mine"


async def test_what_falls_short_is_not_pushed_unless_its_owner_says_so_loudly(api: Api, engine: dict[str, str]) -> None:
    """[KIT-3]"""
    refused = await api.call("runtimes.push", name="bad", image="bad:1")
    assert (refused["pushed"], refused["ok"], refused["checks"][0]["ok"]) == (False, False, False)
    assert "bad" not in [one["name"] for one in (await api.call("runtimes.list"))["runtimes"]]
    pushed = await api.call("runtimes.push", name="bad", image="bad:1", unchecked=True)
    assert (pushed["pushed"], pushed["checks"]) == (True, [])
    assert "NOT CHECKED" in pushed["warnings"][0]


async def test_versions_roll_back_and_the_deprecated_stay_away(api: Api, engine: dict[str, str]) -> None:
    """[KIT-4]"""
    for image in ("mine:1", "mine:2"):
        await api.call("runtimes.push", name="mine", image=image)
    engine["mine:2"] = "sha256:22"  # the same tag, another image
    assert (await api.call("runtimes.push", name="mine", image="mine:2"))["version"] == 3
    back = await api.call("runtimes.rollback", name="mine")
    assert (back["version"], back["digest"], back["current"]) == (2, "sha256:2", True)
    assert (await api.call("runtimes.rollback", name="mine", version=3))["version"] == 3
    assert (await api.call("runtimes.deprecate", name="mine", version=2))["state"] == "deprecated"
    assert (await api.call("runtimes.rollback", name="mine"))["version"] == 1
    found = (await api.call("runtimes.versions", name="mine"))["versions"]
    assert [(one["version"], one["state"], one["current"]) for one in found] == [
        (3, "active", False),
        (2, "deprecated", False),
        (1, "active", True),
    ]
    for method, asked, code in (
        ("runtimes.rollback", {"version": 2}, "conflict"),
        ("runtimes.rollback", {}, "conflict"),
        ("runtimes.deprecate", {"version": 1}, "conflict"),
        ("runtimes.deprecate", {"version": 9}, "not_found"),
    ):
        assert (await api.refusal(method, name="mine", **asked)).code == code, method


async def test_a_push_says_what_is_wrong_with_it(api: Api, engine: dict[str, str]) -> None:
    for asked, code, said in (
        ({"name": "alpha"}, "conflict", "gateway's own"),
        ({"name": "Mine!"}, "invalid_params", "cannot be the name"),
        ({"name": "mine", "providers": ["nobody"]}, "invalid_params", "openai"),
        ({"name": "mine", "capabilities": ["fly"]}, "invalid_params", "steer"),
        ({"name": "mine", "env_names": ["A=1"]}, "invalid_params", "A=1"),
    ):
        refused = await api.refusal("runtimes.push", image="mine:1", **asked)
        assert (refused.code, said in f"{refused} {refused.hint}") == (code, True), refused


async def test_an_image_is_checked_without_being_pushed_and_a_runtime_as_it_stands(api: Api, engine: dict[str, str]) -> None:
    assert (await api.call("runtimes.check", name="bad:1"))["ok"] is False
    await api.call("runtimes.push", name="mine", image="mine:1")
    checked = await api.call("runtimes.check", name="mine")
    assert (checked["version"], checked["digest"], checked["ok"]) == (1, "sha256:1", True)


async def test_an_image_the_engine_has_not_and_an_engine_that_is_not_there(api: Api, tmp_path: Path) -> None:
    """No word is sent to a registry."""
    api.owner.environ["DOCKER_HOST"] = f"unix://{tmp_path}/nobody.sock"  # type: ignore[index]
    gone = await api.refusal("runtimes.push", name="mine", image="mine:1")
    assert (gone.code, "DOCKER_HOST" in gone.hint, "no turns" in gone.hint) == ("runtime_unavailable", True, False)
    del api.owner.environ["DOCKER_HOST"]  # type: ignore[attr-defined]
    needs.an_engine("base")
    missing = await api.refusal("runtimes.push", name="mine", image="nobody-made-this:1")
    assert (missing.code, "docker build" in missing.hint) == ("not_found", True)


async def test_a_gateway_without_turns_sends_whoever_pushes_to_one_that_has_the_engine(api: Api, tmp_path: Path) -> None:
    api.owner.environ["DOCKER_HOST"] = f"unix://{tmp_path}/nobody.sock"  # type: ignore[index]
    settings = api.owner.settings.model_copy(update={"worker": False})
    api.client._transport.app.routes[:] = http.routes(replace(api.owner, settings=settings), api.key)  # type: ignore[attr-defined]
    for asked in (api.refusal("runtimes.push", name="mine", image="mine:1"), api.refusal("runtimes.check", name="mine:1")):
        refused = await asked
        assert (refused.code, "runs no turns" in refused.hint) == ("runtime_unavailable", True)
