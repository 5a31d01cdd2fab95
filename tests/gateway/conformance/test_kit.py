"""The kit passes the reference runtime and fails each broken image, for the right reason, on the real engine."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import anyio
import anyio.to_thread
import pytest
from docker.client import DockerClient

from gateway.conformance.checks import CHECKS
from gateway.conformance.kit import Report, check
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
AT_ONCE = 6  # images
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
def reports(client: DockerClient, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Report]:
    """Of each broken image, by the one check it is known to fail."""
    folder, found, limiter = tmp_path_factory.mktemp("kits"), dict[str, Report](), anyio.CapacityLimiter(AT_ONCE)

    async def examine(name: str, digest: str) -> None:
        async with limiter:
            image = Image(name, digest, ("openai", "anthropic"), ("steer",))
            found[name] = await check(image, folder / name, only=(FAILS[name][0],))

    async def examine_all() -> None:
        async with anyio.create_task_group() as group:
            for name, changes in BROKEN.items():
                group.start_soon(examine, name, await anyio.to_thread.run_sync(made.changed, client, name, changes))

    anyio.run(examine_all)
    return found


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_image_fails_for_the_right_reason(reports: Mapping[str, Report], name: str) -> None:
    """[KIT-2]"""
    id, said = FAILS[name]
    [result] = reports[name].results
    assert (result.id, result.verdict, reports[name].ok) == (id, "failed", False)
    assert said in result.evidence


def test_the_program_prints_the_report_and_exits_with_1(client: DockerClient, tmp_path: Path) -> None:
    name = "writes-to-the-root"
    id, said = FAILS[name]
    words = [made.changed(client, name, BROKEN[name]), "--only", id, "--folder", str(tmp_path / "kit"), "--providers", "openai"]
    done = subprocess.run([sys.executable, "-m", "gateway.conformance", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    report = json.loads(done.stdout)
    [result] = report["checks"]
    assert (result["name"], result["verdict"], report["ok"]) == (id, "failed", False)
    assert said in result["result"]


def test_every_check_has_a_scene_and_a_sentence() -> None:
    assert {scene for one in CHECKS for scene in one.scenes} == set(SCENES)
    assert len({one.id for one in CHECKS}) == len(CHECKS) == len({one.says for one in CHECKS})
