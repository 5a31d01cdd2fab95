"""Logs tell what failed, and never what was in the variables then: prompts and secrets."""

import subprocess
import sys

import pytest

SCRIPT = """
import structlog
from gateway.settings import Settings
from gateway.telemetry import configure
configure(Settings(log_json={as_json}))
def broken(secret):
    raise ValueError("it broke")
try:
    broken("sk-" + "very-secret"[::-1])
except ValueError:
    structlog.get_logger("test").exception("turn_broken")
"""


@pytest.mark.parametrize("as_json", [True, False])
def test_a_traceback_shows_no_local_variables(as_json: bool) -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT.format(as_json=as_json)], capture_output=True, text=True, check=True)
    assert "it broke" in done.stderr
    assert "turn_broken" in done.stderr
    assert "very-secret"[::-1] not in done.stderr
