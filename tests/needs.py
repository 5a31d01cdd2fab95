"""Services a machine may lack: a test that needs one skips with one line that says so, but never on CI."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest

from adapters.launch import sandbox


def missing(what: str) -> NoReturn:
    pytest.fail(what, pytrace=False) if os.environ.get("CI") else pytest.skip(what)
    raise AssertionError  # neither returns


def a_sandbox() -> None:
    if reason := sandbox.probe():
        missing(f"The tests of the sandbox need bubblewrap: {reason}")
