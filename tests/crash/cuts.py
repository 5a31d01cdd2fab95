"""Streams that are cut at random bytes, and by kills of the gateway, joined again by Last-Event-ID: each is the uncut one."""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path

import anyio
import anyio.to_thread

from tests.crash.cutting import LEGS, Cutting, frames, results, told
from tests.crash.found import Found
from tests.support import Born, gateway_process, python

AT_ONCE = 8
PROGRESS = 5.0  # seconds to wait for some before a kill, on a busy machine
PATIENCE = 300.0
PROMPTS = (
    "N=400 D=3000",
    "N=60 D=2000",
    "N=100 D=2000 SLEEPTOOL=0.3",
    "N=40 D=1000 CRASH",
    "BIG=200000",
    "N=200 D=2000 TOOLFAIL",
)
RESTING = ("completed", "failed", "canceled", "rejected")


async def cut_streams(
    folder: Path, found: Found, rng: random.Random, env: Mapping[str, str], born: Born = python, latest_kill: float = 2.0
) -> None:
    """`found.rounds` streams, some at once, while the gateway is killed every now and then."""
    with gateway_process(folder, env, born) as gateway:
        over = anyio.Event()
        async with anyio.create_task_group() as group:

            async def kill() -> None:
                while not over.is_set():
                    held = found.counts["bytes"]
                    with anyio.move_on_after(PROGRESS):
                        while found.counts["bytes"] == held and not over.is_set():  # noqa: ASYNC110  (bytes have no event)
                            await anyio.sleep(0.02)
                    with anyio.move_on_after(rng.uniform(0, latest_kill)):
                        await over.wait()
                    await anyio.to_thread.run_sync(gateway.kill)
                    await anyio.to_thread.run_sync(gateway.start)
                    found.counts["kills"] += 1

            async def streams(mine: random.Random) -> None:
                while found.next():
                    leg = mine.choice(LEGS)
                    with found.looking_at(f"a stream of {leg}"), anyio.fail_after(PATIENCE):
                        await one(Cutting(gateway.client(), leg), mine, found)

            async with anyio.create_task_group() as readers:
                group.start_soon(kill)
                for _ in range(AT_ONCE):
                    readers.start_soon(streams, random.Random(rng.random()))
            over.set()


async def one(cut: Cutting, rng: random.Random, found: Found) -> None:
    await to_its_end(cut, rng.choice(PROMPTS), rng, found)
    start = frames(cut.held)[0]
    uncut = Cutting(cut.client, cut.leg, cut.agent, start, cut.task_id)
    while not ended(uncut.held):
        await uncut.more()
    assert told(uncut.held) == told(cut.held)
    found.counts["frames"] += len(frames(uncut.held))
    await cut.client.http.aclose()


async def to_its_end(cut: Cutting, prompt: str, rng: random.Random, found: Found) -> None:
    """Read in pieces. Who got nothing yet begins once more."""
    while not ended(cut.held):
        held = len(cut.held)
        if not cut.task_id:
            await cut.first(prompt, rng.randrange(1, 4000))
        else:
            await cut.more(rng.randrange(1, 20_000) if rng.random() < 0.9 else None)  # a frame may be larger
        found.counts["cuts"] += 1
        found.counts["bytes"] += len(cut.held) - held
        await anyio.sleep(0.005)


async def go_on(cut: Cutting, prompt: str, limit: int | None) -> None:
    if not cut.task_id:
        await cut.first(prompt, limit)
    elif not ended(cut.held):
        await cut.more(limit)


def ended(data: bytes) -> bool:
    """Whether the last frame tells a state a task rests in."""
    last = results(data)[-1] if data else {}
    update = last.get("statusUpdate", last)
    state = str(update.get("status", {}).get("state", "")).removeprefix("TASK_STATE_").lower()
    return state in RESTING
