"""The kit as a gateway runs it: in a process of its own, of which nothing stays."""

from __future__ import annotations

import sys
from pathlib import Path

import anyio
import pytest
from docker.client import DockerClient

from adapters.launch.container import INSTALLATION
from gateway.conformance import examine
from gateway.conformance.examine import Examiner
from gateway.errors import RuntimeUnavailable
from gateway.settings import Settings
from registry.images import Image
from tests import needs

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


async def test_an_image_that_cannot_run_falls_short_at_its_start(tmp_path: Path) -> None:
    needs.an_engine("gateway")
    data_dir = tmp_path / "data"
    report = await Examiner(Settings(data_dir=data_dir))(Image("mine:1", f"sha256:{'0' * 64}"))
    assert report["ok"] is False
    assert (report["checks"][0]["name"], report["checks"][0]["verdict"]) == ("start", "failed")
    assert list((data_dir / "conformance").iterdir()) == []
