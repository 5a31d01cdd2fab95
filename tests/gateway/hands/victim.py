"""A worker that is killed in the middle of a call: python -m tests.gateway.hands.victim STAGE, as JSON."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import anyio

from gateway.db.engine import Database
from gateway.log.store import Log
from gateway.turns.launching import Place
from gateway.turns.leases import Claimed
from tests.gateway.hands.stage import Brain, staged


async def main() -> None:
    given = json.loads(sys.argv[1])
    async with staged(Path(given["data_dir"]), given["image"], given["url"]) as stage:
        database: Database = stage.database
        turn = Claimed(**given["turn"])
        brain = Brain(Log(database), turn, Place.of(stage.settings.sessions_dir, turn.session_id))
        await stage.hands.call(brain, given["call_id"], "bash", {"command": given["command"]})


anyio.run(main)
