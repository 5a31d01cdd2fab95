"""The kit passes the reference runtime and fails each broken image, for the right reason, on the real engine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest
from docker.client import DockerClient

from gateway.conformance.checks import CHECKS
from gateway.conformance.kit import Report, check
from gateway.conformance.scenes import SCENES
from registry.images import Image
from tests import needs
from tests.gateway.conformance import made
from tests.gateway.conformance.broken import BROKEN

SECONDS = 110
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
SOON = ("cancel", "end", "ask", "memory")  # the suite's; the others take longer and are run by `make crash`


@pytest.fixture(scope="module")
def client() -> Iterator[DockerClient]:
    needs.an_engine("gateway")
    client = DockerClient.from_env()
    yield client
    client.close()


async def report_of(image: str, folder: Path, *only: str) -> Report:
    with anyio.fail_after(SECONDS):
        return await check(Image("tried:1", image, ("openai", "anthropic"), ("steer",)), folder, only=only)


async def test_the_reference_runtime_passes_every_check(tmp_path: Path, client: DockerClient) -> None:
    """[KIT-1]"""
    report = await report_of(made.minimal(client), tmp_path)
    assert {one.id: one.evidence for one in report.results if one.verdict != "passed"} == {}
    assert [one.id for one in report.results] == [one.id for one in CHECKS]
    assert report.ok


@pytest.mark.parametrize("name", BROKEN)
async def test_a_broken_image_fails_for_the_right_reason(tmp_path: Path, client: DockerClient, name: str) -> None:
    """[KIT-2]"""
    id, said = FAILS[name]
    report = await report_of(made.broken(client, name), tmp_path, id)
    [result] = report.results
    assert (result.verdict, said in result.evidence) == ("failed", True), result.evidence
    assert not report.ok


def test_every_check_has_a_scene_and_a_sentence() -> None:
    assert {scene for one in CHECKS for scene in one.scenes} == set(SCENES)
    assert len({one.id for one in CHECKS}) == len(CHECKS) == len({one.says for one in CHECKS})
