"""Agents that start in a folder of their workspace. [GND-3]"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import pytest

from tests import needs
from tests.gateway.files.desk import desk, raw, say, spoken
from tests.gateway.turns.calls import error_of, state_of
from tests.gateway.turns.test_turns_ground import SECONDS, SHELLS, said, told
from tests.support import Client, serving, text_of


@pytest.fixture(params=["local", "sandboxed", "docker"])
def placed(request: pytest.FixtureRequest) -> dict[str, Any]:
    if request.param == "docker":
        return {"placement": "docker", "settings": {"agent_image": needs.an_engine(), "container_network": "none"}}
    if request.param == "sandboxed":
        needs.a_sandbox()
    return {"placement": request.param, "settings": {}}


async def made(gateway: Client, placed: dict[str, Any], **more: Any) -> None:
    await gateway.owner("agent.create", name="shell", runtime="rehearsal", placement=placed["placement"], **more)


async def test_it_starts_there_and_the_rest_of_the_workspace_is_around_it(tmp_path: Path, placed: dict[str, Any]) -> None:
    """The folder is made if need be; hooks work in the workspace."""
    hooks = {"pre_init": {"command": "mkdir services; echo here > services/note"}}
    async with serving(tmp_path, SHELLS, **placed["settings"]) as gateway:
        await made(gateway, placed, work_dir="services/mailer", hooks=hooks)
        with anyio.fail_after(SECONDS):
            task = await gateway.send("shell", "pwd; cat ../note; touch mine")
        again = await said(gateway, "ls", contextId=task["contextId"])
    work = tmp_path / "sessions" / task["contextId"] / "work"
    assert text_of(task) == "/workspace/services/mailer here [0]"
    assert (work / "services/mailer/mine").exists()
    assert again == "mine [0]"


async def test_a_file_of_a_message_is_told_as_it_is_found_from_there(tmp_path: Path) -> None:
    async with desk(tmp_path) as gateway:
        await gateway.owner("agent.update", name="echo", changes={"work_dir": "a/b"})
        with anyio.fail_after(SECONDS):
            task = await say(gateway, "cat ../../inbox/x.txt", raw(b"sent", "x.txt", "text/plain"))
    assert spoken(task) == "sentAttached file: ../../inbox/x.txt (text/plain)"


@pytest.mark.parametrize("elsewhere", ["/etc", "../../..", "../home"])
async def test_a_link_that_leads_out_is_not_followed(tmp_path: Path, placed: dict[str, Any], elsewhere: str) -> None:
    async with serving(tmp_path, SHELLS, **placed["settings"]) as gateway:
        await made(gateway, placed, work_dir="a/b", hooks={"pre_init": {"command": f"ln -s {elsewhere} a"}})
        with anyio.fail_after(SECONDS):
            task = await gateway.send("shell", "pwd")
        owner = await told(gateway, task)
    assert (state_of(task), error_of(task)["category"]) == ("FAILED", "startup_crash")
    assert "leads out of its workspace by a symbolic link" in owner
    assert not (tmp_path / "sessions" / task["contextId"] / "home/b").exists()


async def test_a_link_within_the_workspace_is_followed_and_a_file_is_no_folder(tmp_path: Path) -> None:
    async with serving(tmp_path, SHELLS) as gateway:
        placed = {"placement": "local"}
        await made(gateway, placed, work_dir="a", hooks={"pre_init": {"command": "mkdir b; touch b/mine; ln -s b a"}})
        assert await said(gateway, "ls") == "mine [0]"
        await gateway.owner("agent.update", name="shell", changes={"hooks": {"pre_init": {"command": "touch a"}}})
        with anyio.fail_after(SECONDS):
            task = await gateway.send("shell", "pwd")
        owner = await told(gateway, task)
    assert state_of(task) == "FAILED"
    assert "is no folder of its workspace" in owner
