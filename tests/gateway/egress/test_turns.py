"""Turns of agents with an egress policy: what their callers and their owner are told of a closed door. [EGR-4]"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import anyio
import pytest

from adapters import events as ev
from adapters.profile import Launch, Plan, Profile
from adapters.runtimes.rehearsal.profile import PROFILE as REHEARSAL
from gateway.deliver.guard import Guard
from gateway.egress.judge import Denied, Judge
from gateway.egress.policy import Policy
from tests.gateway.deliver.receivers import Receiver
from tests.gateway.egress.boxes import PYTHON, resolve
from tests.gateway.turns.calls import error_of, state_of
from tests.support import Client, Json, serving, text_of

CODE = """
import json, os, sys, urllib.error, urllib.request
del os.environ["no_proxy"], os.environ["NO_PROXY"]  # "localhost", the one name every machine's own resolver finds
told = json.loads(json.loads(sys.stdin.readline())["prompt"])
for url in told["get"]:
    try:
        status = urllib.request.urlopen(url).status
    except urllib.error.HTTPError as exc:
        status = exc.code
    print(json.dumps({"type": "chunk", "text": f"{status} "}))
print(json.dumps({"type": "done", **told["done"]}), flush=True)
"""


def launch(plan: Plan) -> Launch:
    return Launch(argv=(PYTHON, "-I", "-c", CODE), sees=(sys.base_prefix,), keep_stdin=True)


SEEKER: Profile = replace(REHEARSAL, name="seeker", modes={"jsonl": replace(REHEARSAL.modes["jsonl"], launch=launch)})


async def sought(gateway: Client, *urls: str, category: str = "") -> tuple[Json, list[str]]:
    """The task of a runtime that asked for these URLs and then ended, and the notices of its owner."""
    done = {"yield_reason": "failed", "error": {"category": category}} if category else {"yield_reason": "completed"}
    with anyio.fail_after(30):
        task = await gateway.send("seeker", json.dumps({"get": urls, "done": done}))
        events = await gateway.events(task["contextId"])
    return task, [event["body"]["text"] for event in events if event["body"].get("kind") == "egress_denied"]


async def test_a_named_host_is_reached_and_another_is_not(tmp_path: Path, receiver: Receiver) -> None:
    here = receiver.url.replace("127.0.0.1", "localhost")
    policy = {"placement": "sandboxed", "egress": [here.removeprefix("http://")]}
    async with serving(tmp_path, {"seeker": SEEKER}, egress_private_hosts="127.0.0.0/8, ::1") as gateway:
        await gateway.owner("agent.create", name="seeker", runtime="seeker", **policy)
        task, notices = await sought(gateway, f"{here}/ok", "http://denied.example/a", "http://denied.example/b")
    assert (state_of(task), text_of(task)) == ("COMPLETED", "204 403 403 ")
    assert notices == [
        "The agent was kept from denied.example:80. It is not on the agent's list. "
        "To allow more: switchboard agent update seeker --egress HOST,..."
    ]


async def test_a_turn_that_fails_before_a_closed_door_says_so(tmp_path: Path) -> None:
    async with serving(tmp_path, {"seeker": SEEKER}) as gateway:
        await gateway.owner("agent.create", name="seeker", runtime="seeker", placement="sandboxed", egress="none")
        closed, notices = await sought(gateway, "http://api.example/", category="upstream_api_error")
        other, _ = await sought(gateway, "http://api.example/", category="content_refused")
        quiet, _ = await sought(gateway, category="upstream_api_error")
    told = error_of(closed)
    neutral = ev.NEUTRAL["egress_denied"]
    assert told == {"category": "egress_denied", "retryable": False, "message": neutral, "incident": told["incident"]}
    assert "api.example" not in json.dumps(closed["status"])
    assert len(notices) == 1
    assert [error_of(task)["category"] for task in (other, quiet)] == ["content_refused", "upstream_api_error"]


async def test_no_host_is_told_twice_and_not_ever_more_of_them() -> None:
    told: list[ev.Event] = []
    judge = Judge(Policy(), Guard.allowing("", resolve), told.extend, {"agent": "mailer"})
    for number in (*range(25), 0):
        with pytest.raises(Denied):
            await judge.admit("CONNECT", f"h{number}.example", 443)
    assert len(told) == 20


async def test_a_model_that_failed_by_itself_is_not_blamed_on_a_closed_door() -> None:
    judge = Judge(Policy(), Guard.allowing("", resolve), lambda events: None, {"agent": "mailer"})
    last = [ev.chunk("a"), ev.done("failed", "permission_denied")]
    with pytest.raises(Denied):
        await judge.admit("CONNECT", "denied.example", 443)
    judge.model_failed = True
    assert judge.judged(last) == last
    judge.model_failed = False
    assert judge.judged(last) == [ev.chunk("a"), ev.done("failed", "egress_denied")]
