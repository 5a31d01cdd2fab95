"""The command's tests: a fake gateway on a real port, the command in a home of its own, in or out of this process."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from gateway.cli.main import main
from tests.cli.cli_fake import KEY, Fake, Server, Shell, serving, shell


class Ran(NamedTuple):
    code: int
    out: str
    err: str


Run = Callable[..., Ran]


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    with serving() as server:
        yield server


@pytest.fixture
def gateway(server: Server) -> Fake:
    server.fake = Fake(url=server.url)
    return server.fake


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home and working directory; no setting of ours in the environment."""
    for name in [name for name in os.environ if name.startswith(("SWITCHBOARD_", "XDG_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run(home: Path, gateway: Fake, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """The command in this process, pointed at the fake gateway."""
    monkeypatch.setenv("SWITCHBOARD_URL", gateway.url)
    monkeypatch.setenv("SWITCHBOARD_OWNER_KEY", KEY)

    def run(*args: str) -> Ran:
        capfd.readouterr()
        code = main(args)
        return Ran(code, *capfd.readouterr())

    return run


@pytest.fixture
def switchboard(home: Path, gateway: Fake) -> Shell:
    """The command as a process of its own, pointed at the fake gateway."""
    return shell(home, SWITCHBOARD_URL=gateway.url, SWITCHBOARD_OWNER_KEY=KEY)
