"""A gateway in small for the crash test: starts children, tells all pids, then waits to be killed."""

from __future__ import annotations

import json
import os
import sys

import anyio

from adapters.launch.process import Warden


async def main(script: str) -> None:
    warden = Warden()
    pids: list[int] = []
    processes = []
    for number in range(3):
        argv, env = [sys.executable, "-I", "-S", script], {"PATH": os.environ["PATH"]}
        processes.append(await warden.spawn(argv, env=env, cwd="/", tag=f"turn_{number}"))
        (line,) = await processes[-1].lines()
        pids += json.loads(line.data)
    print(json.dumps([warden.pid, *pids]), flush=True)
    await anyio.sleep_forever()


anyio.run(main, sys.argv[1])
