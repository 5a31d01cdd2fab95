"""Services a machine may lack: a test that needs one skips with one line that says so, but never on CI."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import NoReturn

import pytest

from adapters.launch import container, sandbox


def missing(what: str) -> NoReturn:
    pytest.fail(what, pytrace=False) if os.environ.get("CI") else pytest.skip(what)
    raise AssertionError  # neither returns


def a_sandbox() -> None:
    if reason := sandbox.probe():
        missing(f"The tests of the sandbox need bubblewrap: {reason}")


def a_registry() -> str:
    """The program of one."""
    program = shutil.which("docker-registry")
    if program is None:
        missing("The tests with a registry need docker-registry; try: apt-get install docker-registry")
    return program


def an_engine(image: str = "agent") -> str:
    """A container engine; answers one of our images on it, made of this machine's programs."""
    reason, tag = _built(image)
    if reason:
        missing(f"The tests of containers need a container engine and the CLIs: {reason}")
    return tag


@cache
def _built(image: str) -> tuple[str, str]:
    if reason := container.unreachable(os.environ):
        return reason, ""
    script = Path(__file__).parents[1] / "docker/build.py"
    done = subprocess.run([sys.executable, script, "--base", "local", image], capture_output=True, text=True, check=False)
    return done.stderr.strip() if done.returncode else "", done.stdout.strip()
