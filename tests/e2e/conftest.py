"""The stage of the end-to-end tests: the four real CLIs, a scripted model and one gateway, for the whole run."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from adapters.registration import profiles
from tests import needs
from tests.e2e.legs import LEGS, Leg
from tests.e2e.model import Model, served
from tests.e2e.stage import Stage
from tests.support import gateway_process

BIN = Path(__file__).parents[1] / "node_modules" / ".bin"
PROGRAMS = ["llmock", *(profiles()[leg.runtime].executable for leg in LEGS)]


def missing() -> list[str]:
    return [name for name in PROGRAMS if not (BIN / name).exists()]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Where the CLIs are missing one test stands for all that need them: one line says so, not one for each."""
    if not missing():
        return
    others = [item for item in items if "stage" in getattr(item, "fixturenames", ())][1:]
    config.hook.pytest_deselected(items=others)
    items[:] = [item for item in items if item not in others]


@pytest.fixture(scope="session")
def clis() -> Path:
    """The folder with the CLIs. Where they are missing the tests are skipped, but never on CI."""
    if missing():
        needs.missing(f"The tests with the real CLIs need {', '.join(missing())}. Run: make clis")
    return BIN


@pytest.fixture(scope="session")
def model(clis: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Model]:
    yield from served(clis / "llmock", tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="session")
def stage(clis: Path, model: Model, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """Nothing of this machine's environment that a runtime would take reaches the gateway."""
    with pytest.MonkeyPatch.context() as patch:
        for profile in profiles().values():
            for name in profile.all_env_names():
                patch.delenv(name, raising=False)
        env = {"PATH": f"{clis}{os.pathsep}{os.environ['PATH']}"}
        env["SWITCHBOARD_CONTAINER_NETWORK"] = "host"  # where the scripted model is
        env["SWITCHBOARD_LEASE_SECONDS"] = "30"  # a disk that stands still for seconds interrupts nothing
        with gateway_process(tmp_path_factory.mktemp("gateway"), env) as gateway:
            found = Stage(model, gateway)
            anyio.run(_agents, found)
            yield found


async def _agents(stage: Stage) -> None:
    async with stage.client() as client:
        for leg in LEGS:
            made = {"runtime": leg.runtime, "model": leg.model}
            await client.owner("agent.create", name=leg.agent, **made, env=leg.env(stage.model.url))
            for name, placement in ((leg.boxed, "sandboxed"), (leg.contained, "docker")):
                await client.owner("agent.create", name=name, **made, env=leg.env(stage.model.url), placement=placement)
            for name, placement in ((leg.gated, "sandboxed"), (leg.walled, "docker")):
                way = {"placement": placement, "egress": ["allowed.example"]}
                await client.owner("agent.create", name=name, **made, **way, env=leg.env(stage.model.url))
            await client.owner("agent.create", name=f"{leg.agent}-keyless", **made, env=leg.env(stage.model.url, key=False))


@pytest.fixture(params=LEGS, ids=lambda leg: leg.runtime)
def leg(request: pytest.FixtureRequest) -> Leg:
    found: Leg = request.param
    return found
