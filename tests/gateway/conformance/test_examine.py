"""The kit as a gateway runs it: in a process of its own, of which nothing stays."""

from __future__ import annotations

import os
import sys
from contextlib import closing
from pathlib import Path

import anyio
import pytest
from docker.client import DockerClient
from docker.models.containers import Container

from adapters.launch.container import INSTALLATION, Engine
from gateway.conformance import examine
from gateway.conformance.examine import Examiner
from gateway.conformance.folders import made, sweep
from gateway.errors import RuntimeUnavailable
from gateway.settings import Settings
from registry.images import Image
from tests import needs
from tests.support import serving

DIES = """
import json, os, sys
from docker.client import DockerClient
folder = sys.argv[sys.argv.index("--folder") + 1]
labels = {"switchboard.installation": os.path.realpath(os.path.join(folder, "sessions"))}
DockerClient.from_env().containers.create(sys.argv[1], ["sleep", "60"], labels=labels, network_mode="none")
print("something\\nit broke", file=sys.stderr)
os.kill(os.getpid(), 9)
"""


async def test_a_kit_that_dies_is_told_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = needs.an_engine("base")
    data_dir = tmp_path / "data"
    real = anyio.open_process

    async def dying(command: list[str], **more: object) -> object:
        return await real([sys.executable, "-c", DIES, image, *command[3:]], **more)  # type: ignore[arg-type]

    monkeypatch.setattr(examine.anyio, "open_process", dying)
    with pytest.raises(RuntimeUnavailable, match="it broke"):
        await Examiner(Settings(data_dir=data_dir))(Image("mine:1", "sha256:1"))
    labels = [one["Labels"].get(INSTALLATION, "") for one in DockerClient.from_env().api.containers(all=True)]
    assert [one for one in labels if tmp_path.name in one] == []
    assert list((data_dir / "conformance").iterdir()) == []


KEEPS = """
import pathlib, sys
from gateway.conformance.folders import made
with made(pathlib.Path(sys.argv[1])) as (folder, _lock):
    print(folder, flush=True)
    sys.stdin.read()
"""


async def test_what_a_gateway_left_that_was_killed_in_a_check_is_removed_by_the_next(tmp_path: Path) -> None:
    """[BOX-5] Not what a check has that still plays, of whichever gateway."""
    image, parent, client = needs.an_engine("base"), (tmp_path / "conformance").resolve(), DockerClient.from_env()

    def contained(folder: Path) -> Container:
        """The container of a check."""
        labels = {INSTALLATION: str(folder / "sessions")}
        return client.containers.create(image, ["true"], labels=labels, network_mode="none")

    def left() -> set[str]:
        containers = client.api.containers(all=True, filters={"label": INSTALLATION})
        return {one["Id"] for one in containers if one["Labels"][INSTALLATION].startswith(str(parent))}

    with made(parent) as (alive, _lock), anyio.fail_after(30), closing(client):
        async with await anyio.open_process([sys.executable, "-c", KEEPS, str(parent)]) as gateway:
            assert gateway.stdout is not None
            dead = Path((await gateway.stdout.receive()).decode().strip())
            kept, gone = contained(alive), contained(dead)
            try:
                await sweep(Engine(os.environ), parent)
                assert left() == {kept.id, gone.id}
                gateway.kill()
                await gateway.wait()
                async with serving(tmp_path):
                    while await anyio.Path(dead).exists():  # noqa: ASYNC110  (nobody tells)
                        await anyio.sleep(0.02)
                assert left() == {kept.id}
                assert alive.is_dir()
            finally:
                for id in left():
                    client.api.remove_container(id, force=True)
    assert list(parent.iterdir()) == []


async def test_an_image_that_cannot_run_falls_short_at_its_start(tmp_path: Path) -> None:
    needs.an_engine("gateway")
    data_dir = tmp_path / "data"
    report = await Examiner(Settings(data_dir=data_dir))(Image("mine:1", f"sha256:{'0' * 64}"))
    assert report["ok"] is False
    assert (report["checks"][0]["name"], report["checks"][0]["verdict"]) == ("start", "failed")
    assert list((data_dir / "conformance").iterdir()) == []
