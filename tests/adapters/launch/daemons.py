"""Starts daemons that try to get away, tells their pids, and waits. Ignores TERM, and they inherit that."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Mapping


def sleeper(env: Mapping[str, str], *, orphan: bool) -> int:
    """A process in its own session, adopted by whoever adopts orphans if `orphan`."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.setsid()
        if orphan and os.fork() != 0:
            os._exit(0)
        os.write(writer, b"%d" % os.getpid())
        os.execve("/bin/sleep", ["sleep", "1000"], env)
    if orphan:
        os.waitpid(child, 0)
    return int(os.read(reader, 20))


signal.signal(signal.SIGTERM, signal.SIG_IGN)
pids = [sleeper(env, orphan=orphan) for env in (os.environ, {}) for orphan in (False, True)]
print(json.dumps([os.getpid(), *pids]), flush=True)
if "exit" not in sys.argv:
    signal.pause()
