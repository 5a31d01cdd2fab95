"""The kit passes the reference runtime and fails each broken image, for the right reason, on the real engine."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from docker.client import DockerClient

from gateway.conformance.checks import CHECKS
from gateway.conformance.kit import check
from gateway.conformance.scenes import SCENES
from registry.images import Image
from tests import needs
from tests.gateway.conformance import made
from tests.gateway.conformance.broken import BROKEN

# What is wrong with each, and what is said of it.
FAILS = {
    "ignores-cancel": ("cancel", "told of the cancel was stopped"),
    "never-exits": ("end", "it was stopped"),
    "names-anew": ("crash-tool", "the command ran 2 times"),
    "ignores-409": ("superseded", "it was still there"),
    "remembers-in-tmp": ("memory", "was not told of the first"),
    "writes-to-the-root": ("start", "Read-only file system"),
    "exits-with-1": ("end", "it exited with 1"),
    "waits-for-the-answer": ("ask", "it did not exit"),
    "ignores-steer": ("steer", "did not post steered"),
    "sends-junk": ("valid", "POST /events (400)"),
    "never-beats": ("heartbeat", "it ended as deadline_exceeded"),
    "never-repeats": ("unavailable", "should have read"),
}
AT_ONCE = 4  # images
pytestmark = pytest.mark.timeout(300)  # a quarter of it is enough where nothing else runs


@pytest.fixture(scope="module")
def client() -> Iterator[DockerClient]:
    needs.an_engine("gateway")
    client = DockerClient.from_env()
    yield client
    client.close()


async def test_the_reference_runtime_passes_every_check(tmp_path: Path, client: DockerClient) -> None:
    """[KIT-1]"""
    image = Image("minimal:1", made.minimal(client), ("openai", "anthropic"), ("steer",))
    report = await check(image, tmp_path)
    assert {one.id: one.evidence for one in report.results if one.verdict != "passed"} == {}
    assert [one.id for one in report.results] == [one.id for one in CHECKS]
    assert report.ok


@pytest.fixture(scope="module")
def reports(client: DockerClient, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Of each broken image, by the one check it is known to fail; each kit is a process of its own."""

    def examined(name: str) -> tuple[int, Any]:
        command = [
            sys.executable,
            "-m",
            "gateway.conformance",
            made.changed(client, name, BROKEN[name]),
            "--only",
            FAILS[name][0],
        ]
        command += ["--providers", "openai,anthropic", "--capabilities", "steer"]
        done = subprocess.run([*command, "--folder", str(folder / name)], capture_output=True, text=True, check=False)
        assert done.stdout, done.stderr
        return done.returncode, json.loads(done.stdout)

    folder = tmp_path_factory.mktemp("kits")
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return dict(zip(BROKEN, pool.map(examined, BROKEN), strict=True))


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_image_fails_for_the_right_reason(reports: dict[str, Any], name: str) -> None:
    """[KIT-2]"""
    id, said = FAILS[name]
    code, report = reports[name]
    [result] = report["checks"]
    assert (code, result["name"], result["verdict"], report["ok"]) == (1, id, "failed", False)
    assert said in result["result"]


def test_every_check_has_a_scene_and_a_sentence() -> None:
    assert {scene for one in CHECKS for scene in one.scenes} == set(SCENES)
    assert len({one.id for one in CHECKS}) == len(CHECKS) == len({one.says for one in CHECKS})
