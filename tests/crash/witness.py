"""What a client of a gateway that dies holds in its hands, and what the log must say about it afterwards."""

from __future__ import annotations

import os
import re
import select
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import httpx2

from gateway.turns.resume import GO_ON
from tests.support import Client, Frame, GatewayProcess, Json, message

AGENT = "crashing"
FINAL = frozenset({"TASK_STATE_COMPLETED", "TASK_STATE_FAILED", "TASK_STATE_CANCELED", "TASK_STATE_REJECTED"})
TOOL_SAYS = "The command said: rehearsal\n"
TOOL_FAILED = "The command failed with exit code 7.\n"
# What a runtime had finished, but could not tell before its gateway died, it takes for a new prompt when it is told to go on.
_BACK = f"You said: {GO_ON}\n{TOOL_SAYS}"
SAID_BACK = frozenset(_BACK[:length] for length in range(len(_BACK) + 1))
_OPENING = re.compile(r"\ATurn \d+\. Before this you said: .*\n")


@asynccontextmanager
async def calling(gateway: GatewayProcess) -> AsyncIterator[Client]:
    client = gateway.client()
    gateway.caller_key = await client.sign_in(gateway.caller_key)
    try:
        yield client
    finally:
        await client.http.aclose()


@dataclass
class Cut:
    """One call, and the frames its client had received when the gateway died."""

    prompt: str
    context_id: str | None = None
    waits: bool = True  # for the end, or only hands its message in
    frames: list[Frame] = field(default_factory=list)
    accepted: Json | None = None  # the task, once the client knows of it
    speaking: anyio.Event = field(default_factory=anyio.Event)  # a piece of text came

    async def call(self, client: Client) -> None:
        """Call, until it ends or the connection breaks."""
        try:
            await (self._listen(client) if self.waits else self._hand_in(client))
        except httpx2.TransportError:
            pass

    async def _listen(self, client: Client) -> None:
        async for frame in client.stream(AGENT, self.prompt, **self._context()):
            self.frames.append(frame)
            self.accepted = self.accepted or frame.result["task"]
            if "artifactUpdate" in frame.result:
                self.speaking.set()

    async def _hand_in(self, client: Client) -> None:
        params = {"message": message(self.prompt, **self._context()), "configuration": {"returnImmediately": True}}
        self.accepted = (await client.rpc(AGENT, "SendMessage", params))["result"]["task"]

    def _context(self) -> Json:
        return {"contextId": self.context_id} if self.context_id else {}

    @property
    def context(self) -> str | None:
        """Where its events are; known also of a call that went on with a conversation and was never answered."""
        return str(self.accepted["contextId"]) if self.accepted else self.context_id

    def told(self) -> list[Frame]:
        """What came after the task, up to the last id: a client that resumes from there gets the rest again."""
        last = max(number for number, frame in enumerate(self.frames) if frame.id)
        return self.frames[1 : last + 1]


async def resumed(client: Client, task_id: str, after: str) -> list[Frame]:
    """A task's stream from an event on to its end."""
    frames = client.frames(AGENT, "SubscribeToTask", {"id": task_id}, {"Last-Event-ID": after})
    return [frame async for frame in frames]


async def check(client: Client, cut: Cut) -> None:
    """All that must hold for a call that was accepted, after the gateway has come back."""
    if cut.accepted is None:
        return
    task_id, context_id = cut.accepted["id"], cut.accepted["contextId"]
    with anyio.fail_after(60):
        replay = await resumed(client, task_id, cut.frames[0].id if cut.frames else "0")
    assert replay[-1].result["statusUpdate"]["status"]["state"] in FINAL
    if cut.frames:
        told = cut.told()
        assert replay[: len(told)] == told, "a client was shown what is not stored"
        with anyio.fail_after(60):
            rest = await resumed(client, task_id, told[-1].id if told else cut.frames[0].id)
        assert told + rest == replay
    events = await client.events(context_id)
    check_log(events)
    check_task(events, task_id, cut.prompt, replay)


def check_log(events: list[Json]) -> None:
    """A session's whole log: positions, and what callers see of them."""
    positions = [(event["seq"], event["sub"]) for event in events]
    assert positions == sorted(set(positions))
    seen = [(event["seq"], event["sub"]) for event in events if event["level"] != "internal"]
    assert seen == [(number, 0) for number in range(1, len(seen) + 1)]
    assert len({event["id"] for event in events}) == len(events)


def check_task(events: list[Json], task_id: str, prompt: str, replay: list[Frame]) -> None:
    """A task's part of the log, of one turn; and that its stream says the same."""
    check_turns([event for event in events if event["task_id"] == task_id], [prompt], replay)


def check_turns(mine: list[Json], prompts: list[str], replay: list[Frame]) -> None:
    """All events of a task, whose turns were asked so; and that its stream says the same."""
    texts = {event["seq"]: event["body"]["text"] for event in mine if event["type"] == "chunk"}
    assert texts == streamed(replay)
    turns = list(dict.fromkeys(event["turn_id"] for event in mine if event["turn_id"]))
    assert len(turns) == len(prompts)
    for turn, prompt in zip(turns, prompts, strict=True):
        check_turn([event for event in mine if event["turn_id"] == turn], prompt)


def check_turn(events: list[Json], prompt: str) -> None:
    """The text of each attempt, which is that of one rehearsal alone, from its first word on; the tools, the one end."""
    spoken = attempts(events)
    check_fences(events)
    for text in spoken:
        assert full_text(prompt).startswith(text) or text in SAID_BACK, f"{text[:80]!r} ... {text[-80:]!r} is not of {prompt!r}"
    started = [event["body"]["call_id"] for event in events if event["type"] == "tool_start"]
    assert started == [event["body"]["call_id"] for event in events if event["type"] == "tool_result"]
    assert [event["type"] for event in events].count("done") == 1
    done = next(event for event in events if event["type"] == "done")
    if done["body"]["yield_reason"] in ("completed", "needs_input"):
        assert spoken[-1] == full_text(prompt) or spoken[-1] in SAID_BACK


def check_fences(events: list[Json]) -> None:
    """Nothing of an attempt stands behind the beginning of the next: a tool that was open is closed before it."""
    open: set[str] = set()
    for event in events:
        if event["type"] == "tool_start":
            open.add(event["body"]["call_id"])
        elif event["type"] == "tool_result":
            open.remove(event["body"]["call_id"])
        elif event["type"] in ("turn_started", "done"):
            assert not open


def attempts(events: list[Json]) -> list[str]:
    """What was said in each attempt of a turn, one after another."""
    texts: list[str] = []
    for event in events:
        if event["type"] == "turn_started":
            assert event["body"]["attempt"] == len(texts) + 1
            texts.append("")
        elif event["type"] == "chunk":
            texts[-1] += event["body"]["text"]
    return [_OPENING.sub("", text) for text in texts]


def full_text(prompt: str) -> str:
    """What the rehearsal says if nobody stops it."""
    if big := re.search(r"BIG=(\d+)", prompt):
        return "x" * int(big[1]) + TOOL_SAYS
    count = re.search(r"N=(\d+)", prompt)
    assert count is not None
    words = [f"word{number} " for number in range(int(count[1]))]
    if "CRASH" in prompt:
        words = words[: len(words) // 2]
    return "".join(words) + (TOOL_SAYS if "SLEEPTOOL" in prompt else TOOL_FAILED if "TOOLFAIL" in prompt else "")


def streamed(frames: list[Frame]) -> dict[int, str]:
    """The pieces of text by their event's number, without the whole artifact at the end."""
    updates = [(frame, frame.result["artifactUpdate"]) for frame in frames if frame.id and "artifactUpdate" in frame.result]
    return {int(frame.id): update["artifact"]["parts"][0]["text"] for frame, update in updates}


async def tasks(client: Client) -> AsyncIterator[Json]:
    """Every task of the agent."""
    token = ""
    while True:
        page = (await client.rpc(AGENT, "ListTasks", {"pageSize": 100, "pageToken": token}))["result"]
        for task in page["tasks"]:
            yield task
        token = page.get("nextPageToken", "")
        if not token:
            return


def turns_processes(data_dir: Path) -> list[int]:
    """Processes of any turn of the gateway on `data_dir`, wherever they hide."""
    return [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if _is_turns(pid, data_dir)]


def _is_turns(pid: int, data_dir: Path) -> bool:
    try:
        variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return False
    home = b"HOME=" + os.fsencode(data_dir)
    return any(item.startswith(b"SWITCHBOARD_TURN=") for item in variables) and any(v.startswith(home) for v in variables)


def wait_for_deaths(data_dir: Path, seconds: float) -> list[int]:
    """Wait until no process of a turn is left; answers those that are, after `seconds`."""
    deadline = time.monotonic() + seconds
    while (left := turns_processes(data_dir)) and time.monotonic() < deadline:
        for pid in left:
            _wait_for_death(pid, deadline)
    return left


def _wait_for_death(pid: int, deadline: float) -> None:
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        select.select([fd], [], [], max(0.0, deadline - time.monotonic()))
    finally:
        os.close(fd)
