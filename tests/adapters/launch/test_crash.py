"""A gateway killed with -9 leaves no process behind, however its descendants hide."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.adapters.launch.watching import survivors, watched

HERE = Path(__file__).parent


def test_nothing_survives_a_gateway_killed_with_9() -> None:
    argv = [sys.executable, str(HERE / "gateway_stand_in.py"), str(HERE / "daemons.py")]
    env = {"PYTHONPATH": str(HERE.parents[2]), "PATH": os.environ["PATH"]}
    with subprocess.Popen(argv, stdout=subprocess.PIPE, env=env) as gateway:
        assert gateway.stdout is not None
        pids = json.loads(gateway.stdout.readline())
        with watched(pids) as deaths:
            assert len(pids) == 16
            gateway.kill()
            assert survivors(deaths) == []
