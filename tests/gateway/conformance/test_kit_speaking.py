"""Images that speak to their model or their sandbox otherwise than the reference runtime does: the kit sees it all. [KIT-6]"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import anyio
import anyio.to_thread
import pytest
from docker.client import DockerClient

from gateway.conformance.kit import Report, check
from registry.images import Image
from tests import needs
from tests.gateway.conformance import made
from tests.gateway.conformance.speaking import SPEAKING

MODEL = ("read", "append", "memory", "crash", "tool", "ask", "artifact", "valid", "providers")
SANDBOX = ("tool", "crash-tool", "call-again", "unavailable", "valid")
pytestmark = pytest.mark.timeout(300)  # a tenth of it is enough where nothing else runs


@pytest.fixture(scope="module")
def client() -> Iterator[DockerClient]:
    needs.an_engine("gateway")
    with closing(DockerClient.from_env()) as client:
        yield client


async def examined(client: DockerClient, folder: Path, name: str, providers: tuple[str, ...], only: tuple[str, ...]) -> Report:
    digest = await anyio.to_thread.run_sync(made.changed, client, name, SPEAKING[name])
    return await check(Image(name, digest, providers), folder, only=only)


def short_of(report: Report) -> dict[str, str]:
    return {one.id: one.evidence for one in report.results if one.verdict != "passed"}


@pytest.mark.parametrize(("name", "providers"), [("responses", ("openai", "anthropic")), ("gemini", ("google",))])
async def test_an_image_is_checked_with_a_model_in_whose_api_it_speaks(
    tmp_path: Path, client: DockerClient, name: str, providers: tuple[str, ...]
) -> None:
    report = await examined(client, tmp_path, name, providers, MODEL)
    expected = {} if len(providers) > 1 else {"providers": "it declares no second provider the kit can play"}
    assert (short_of(report), report.ok) == (expected, True)


async def test_a_provider_it_cannot_drive_is_found(tmp_path: Path, client: DockerClient) -> None:
    report = await examined(client, tmp_path, "gemini", ("google", "openai"), ("providers",))
    [result] = report.results
    assert (result.verdict, report.ok) == ("failed", False)
    assert "with openai its model was not asked" in result.evidence


async def test_what_an_image_does_by_mcp_is_seen(tmp_path: Path, client: DockerClient) -> None:
    report = await examined(client, tmp_path, "mcp", ("openai",), SANDBOX)
    assert (short_of(report), report.ok) == ({}, True)


async def test_calls_by_mcp_that_have_no_id_and_are_repeated_are_noted(tmp_path: Path, client: DockerClient) -> None:
    """The contract lets them be, so they keep no image from being pushed."""
    report = await examined(client, tmp_path, "mcp-without-ids", ("openai",), SANDBOX)
    found = short_of(report)
    assert set(found) == {"crash-tool"}
    assert "the command ran 2 times" in found["crash-tool"]
    assert "switchboard/call_id" in found["crash-tool"]
    assert [one.required for one in report.results if one.id in found] == [False]
    assert report.ok
