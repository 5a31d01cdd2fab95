"""A stream cut at any byte and resumed by Last-Event-ID, with restarts in between, equals the uncut one. [A2A-21]

Over JSON-RPC and HTTP+JSON, in 1.0 and 0.3. SWITCHBOARD_CRASH_SEED plays a printed seed again.
"""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from tests.crash.cuts import cut_streams, ended
from tests.crash.cutting import LEGS, Cutting, Leg, frames, last_id, told, whole
from tests.crash.found import Found
from tests.crash.seeds import seeded
from tests.support import Born, serving

PROMPTS = ["Grüße an 世界 \U0001f600 \u2028 e\u0301 \x85", "N=3 ASK", "N=4 TOOLFAIL", "N=6 CRASH"]
LONG = "N=400 D=3000"

on_every_leg = pytest.mark.parametrize("leg", LEGS, ids=str)


@on_every_leg
async def test_after_a_restart_every_byte_is_a_place_to_go_on_from(tmp_path: Path, leg: Leg) -> None:
    """The rest of the stream depends on the last id alone, so it is fetched once for each, and tried for every byte."""
    uncut: dict[str, Cutting] = {}
    async with serving(tmp_path, turn_attempts=2) as gateway:
        with anyio.fail_after(30):
            for prompt in PROMPTS:
                uncut[prompt] = Cutting(gateway, leg)
                await uncut[prompt].first(prompt)
    async with serving(tmp_path) as gateway:
        with anyio.fail_after(30):
            for stream in uncut.values():
                stream.client = gateway
                raw, events = stream.held, told(stream.held)
                rest = {id: told(await stream.after(id)) for id in ["0", *(id for id, _ in events if id)]}
                for cut in range(len(raw) + 1):
                    held = raw[: whole(raw[:cut])]
                    kept = told(held) or events[:1]  # whoever holds no frame yet knows no task to ask for
                    assert kept + rest[last_id(held) or "0"] == events, cut


@on_every_leg
async def test_a_stream_that_is_cut_at_random_bytes_while_it_runs_is_the_uncut_one(tmp_path: Path, leg: Leg) -> None:
    rng = seeded()
    async with serving(tmp_path) as gateway:
        with anyio.fail_after(60):
            cut, uncut = Cutting(gateway, leg), Cutting(gateway, leg)
            await cut.first(LONG, rng.randrange(500, 1500))
            while not cut.task_id:
                await cut.first(LONG, 2000)
            uncut.task_id, uncut.held = cut.task_id, frames(cut.held)[0]
            async with anyio.create_task_group() as group:
                group.start_soon(uncut.more)
                while not ended(cut.held):
                    await cut.more(rng.randrange(1, 4000))
    assert len(frames(uncut.held)) > 20
    assert told(cut.held) == told(uncut.held)


@pytest.mark.usefixtures("database_url")
async def test_streams_cut_by_kills_of_the_gateway_are_the_uncut_ones(tmp_path: Path, born: Born) -> None:
    await cut_streams(tmp_path, Found("cut streams", 8), seeded(), {}, born)
