"""The same door, seen from a sandbox that outlives turns: open while a turn runs, and as its policy says."""

from __future__ import annotations

import json
import secrets
import shlex
from collections.abc import AsyncIterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest
import structlog

from adapters.launch import hands
from adapters.launch.container import Found
from gateway.egress.policy import EVERYTHING, Policy
from gateway.hands import ways
from registry import hosts
from tests import needs
from tests.gateway.deliver.receivers import Receiver
from tests.gateway.egress.boxes import PRELUDE, resolve
from tests.gateway.egress.test_contained import LOOPBACK_V6
from tests.gateway.egress.test_escapes import ATTEMPTS, HOSTS, REQUESTS
from tests.gateway.hands.stage import SPEC, Brain, Stage, staged, worker

ALLOWED = "GET http://allowed.example:{port}/ok HTTP/1.1\nHost: x"
DENIED = "GET http://denied.example:{port}/ok HTTP/1.1\nHost: x"
OPEN, CLOSED = "HTTP/1.1 204 No Content", "ECONNREFUSED"
ASK = """
for request in sys.argv[1:]:
    try: status(request)
    except OSError as exc: print(errno.errorcode[exc.errno])
"""
PLACES = """
for path in ("/run/docker.sock", "/var/run/docker.sock", "/run/3128.sock", "/run/3129.sock", *sys.argv[1:]):
    tried(lambda: connect(socket.AF_UNIX, path) or path)
tried(lambda: connect(socket.AF_INET, ("127.0.0.1", 3129)))
tried(lambda: os.stat("/proc/1/root" + sys.argv[1]))
others = {pid for pid in os.listdir("/proc") if pid.isdigit()} - {str(os.getpid())}
print(any("3128" + "=" in open(f"/proc/{pid}/cmdline").read() for pid in others))
"""


@pytest.fixture(scope="module")
def image() -> str:
    return needs.an_engine()


@pytest.fixture
def stages(tmp_path: Path, image: str) -> partial[Any]:
    return partial(staged, tmp_path / "data", image, private="127.0.0.0/8", resolve=resolve, sidecar_image=image)


@pytest.fixture
async def stage(stages: partial[Any]) -> AsyncIterator[Stage]:
    async with stages() as stage:
        yield stage


async def begin(stage: Stage, policy: Policy, session: str = "") -> Brain:
    return replace(await stage.begin(session), spec=replace(SPEC, egress=policy))


def only(*names: str, port: int, strict: bool = True) -> Policy:
    return Policy(tuple(hosts.parse(name.format(port=port)) for name in names), strict=strict)


async def inside(stage: Stage, brain: Brain, script: str, *args: object) -> list[str]:
    """What a Python script printed that a command of the sandbox runs."""
    command = shlex.join(["python3", "-I", "-c", PRELUDE + script, *map(str, args)])
    result = await stage.call(brain, "bash", command=command)
    assert not result.is_error, result.output
    return result.output.splitlines()


async def ask(stage: Stage, brain: Brain, *requests: str) -> list[str]:
    return await inside(stage, brain, ASK, *requests)


async def asked(stage: Stage, brain: Brain, request: str) -> str:
    """The first line of the answer, or why there was none."""
    return (await ask(stage, brain, request))[0]


async def over(stage: Stage, brain: Brain) -> None:
    await stage.hands.end(brain.turn.id)
    await stage.end(brain)


async def relays(stage: Stage) -> list[Found]:
    return await stage.engine.labelled(str(stage.settings.sessions_dir.resolve()))


async def notices(stage: Stage, brain: Brain, kind: str = "egress_denied") -> list[str]:
    return [one["text"] for one in await stage.events(brain, "notice") if one["kind"] == kind]


# -- what passes


async def test_only_what_the_policy_names_passes(stage: Stage, receiver: Receiver, port: int) -> None:
    """[HAND-8]"""
    brain = await begin(stage, only(*HOSTS, port=port))
    wanted = [(request.format(port=port, long="x" * 100_000), answer) for request, answer in REQUESTS]
    await stage.call(brain, "write", path="asked", content=json.dumps([request for request, _ in wanted]))
    printed = await inside(stage, brain, "import json\nfor request in json.load(open('asked')): status(request)")
    assert [said for said, (_, answer) in zip(printed, wanted, strict=True) if not said.startswith(answer)] == []
    assert len(receiver.got) == sum(answer == "HTTP/1.1 204 " for _, answer in wanted)


async def test_programs_find_the_way_by_their_variables_and_the_owner_is_told_what_was_denied(
    stage: Stage, receiver: Receiver, port: int
) -> None:
    """[HAND-8] The audit names the turn."""
    get = """
import urllib.request, urllib.error
for host in ("allowed", "denied", "denied"):
    try: print(urllib.request.urlopen(f"http://{host}.example:{sys.argv[1]}/ok").status)
    except urllib.error.HTTPError as exc: print(exc.code)
"""
    brain = await begin(stage, only("allowed.example:{port}", port=port))
    with structlog.testing.capture_logs() as lines:
        assert await inside(stage, brain, get, port) == ["204", "403", "403"]
        await over(stage, brain)
    told = [line for line in lines if line["event"] == "egress"]
    assert [(line["decision"], line["host"], line["turn"]) for line in told] == [
        ("allowed", "allowed.example", brain.turn.id),
        ("denied", "denied.example", brain.turn.id),
        ("denied", "denied.example", brain.turn.id),
    ]
    assert {(line["agent"], line["session"], line["at"]) for line in told} == {("worker", brain.turn.session_id, "sandbox")}
    (notice,) = await notices(stage, brain)
    assert notice.startswith(f"The agent was kept from denied.example:{port}. It is not on the agent's list.")


@pytest.mark.parametrize("policy", [Policy(strict=False), EVERYTHING], ids=["audit", "all"])
async def test_whoever_may_reach_everything_goes_by_the_gate_too(
    stage: Stage, receiver: Receiver, port: int, policy: Policy
) -> None:
    """[HAND-8]"""
    brain = await begin(stage, policy)
    with structlog.testing.capture_logs() as lines:
        assert await asked(stage, brain, DENIED.format(port=port)) == OPEN
    decision = "allowed" if policy.strict else "would_deny"
    assert [line["decision"] for line in lines if line["event"] == "egress"] == [decision]
    assert await notices(stage, brain) == []


async def test_where_nothing_passes_nothing_listens(stage: Stage, port: int) -> None:
    """[HAND-8]"""
    brain = await begin(stage, Policy())
    assert await asked(stage, brain, ALLOWED.format(port=port)) == CLOSED
    assert (await stage.call(brain, "bash", command="env | grep -ci proxy")).output == "0\n"
    assert await relays(stage) == []


async def test_tools_for_files_wait_for_no_way(stage: Stage) -> None:
    brain = await begin(stage, EVERYTHING)
    assert (await stage.call(brain, "write", path="a", content="x")).output == "1 bytes written to a."
    assert (await stage.call(brain, "ls")).output == "a\n"
    assert await relays(stage) == []
    await stage.call(brain, "bash", command="true")
    assert len(await relays(stage)) == 1


async def test_neither_a_key_nor_a_model_nor_the_runtime_api_is_within_reach(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, receiver: Receiver
) -> None:
    """[HAND-8]"""
    names = ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GEMINI_API_KEY")
    for name in names:
        monkeypatch.setenv(name, "sk-of-the-gateway")
    brain = await begin(stage, EVERYTHING)
    own = {"OPENAI_API_KEY": "sk-of-the-agent", "OPENAI_BASE_URL": receiver.url, "MINE": "of-the-agent"}
    brain = replace(brain, spec=replace(brain.spec, env=own))
    routes = ("/-/model/v1/models", "/-/model", "/runtime/v1/turn", "/runtime/v1/sandbox/call", "/")
    printed = await ask(stage, brain, *(f"GET {path} HTTP/1.1\nHost: x" for path in routes))
    assert {line.split()[1] for line in printed} == {"400"}
    found = (await stage.call(brain, "bash", command="cat /proc/*/environ 2>/dev/null | tr '\\0' '\\n'")).output
    assert "HTTP_PROXY=http://127.0.0.1:3128" in found
    assert [word for word in ("sk-of", "of-the-agent", "placeholder", "/-/model", "TURN_TOKEN", *names) if word in found] == []
    assert receiver.got == []


# -- escapes


async def test_there_is_no_way_around_the_gate(stage: Stage, services: dict[str, object]) -> None:
    """[HAND-8] The host's services, the metadata address, private addresses, name servers, IPv6, raw packets."""
    script = "\n".join(f"tried(lambda: {attempt.format(**services)})" for attempt, _ in ATTEMPTS.values())
    udp = f'socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("127.0.0.1", {services["udp"]}))'
    printed = await inside(stage, await begin(stage, only("allowed.example", port=1)), f"{script}\n{udp}")
    wanted = {name: (answer,) for name, (_, answer) in ATTEMPTS.items()}
    wanted |= {"host-v6": LOOPBACK_V6, "v6": ("ENETUNREACH", "EADDRNOTAVAIL")}
    assert {name: said for name, said in zip(ATTEMPTS, printed, strict=True) if said not in wanted[name]} == {}


async def test_no_socket_of_the_machine_is_there_to_be_connected_to(stage: Stage) -> None:
    """[HAND-8] Neither the engine's, nor the runtime API's, nor the gate's own; nor is the relay seen."""
    run, brain = stage.settings.data_dir / "run", await begin(stage, EVERYTHING)
    run.mkdir(exist_ok=True)
    async with await anyio.create_unix_listener(run / "a.sock"):
        gate = brain.place.work.parent / ways.FOLDER / "egress.sock"
        await stage.call(brain, "bash", command="true")
        assert await anyio.Path(gate).is_socket()
        printed = await inside(stage, brain, PLACES, run / "a.sock", gate)
    assert len(printed) == 9
    assert [line for line in printed if line.startswith("reached")] == []
    assert printed[-1] == "False"


async def test_a_peer_is_not_reached(stage: Stage) -> None:
    """[HAND-8]"""
    name, peer, mine = f"test-{secrets.token_hex(8)}", await begin(stage, EVERYTHING), await begin(stage, EVERYTHING)
    listen = """
if os.fork(): os._exit(0)
os.setsid()
tcp, abstract = socket.create_server(("127.0.0.1", 5000)), socket.socket(socket.AF_UNIX)
abstract.bind("\\0" + sys.argv[1]); abstract.listen();
open("/workspace/up", "w").write("up")
import time; time.sleep(300)
"""
    await inside(stage, peer, listen, name)
    with anyio.fail_after(30):
        while not (await stage.call(peer, "ls")).output.startswith("up"):
            pass
    attempts = """
tried(lambda: connect(socket.AF_INET, ("127.0.0.1", 5000)))
tried(lambda: connect(socket.AF_UNIX, "\\0" + sys.argv[1]))
"""
    assert await inside(stage, peer, attempts, name) == ["reached None", "reached None"]
    assert await inside(stage, mine, attempts, name) == [CLOSED, CLOSED]


# -- it outlives turns


async def test_between_turns_nothing_passes_and_the_next_turn_has_its_own_policy(
    stage: Stage, receiver: Receiver, port: int
) -> None:
    """[HAND-9] What a command left behind, too."""
    first = await begin(stage, only("allowed.example:{port}", port=port))
    assert await asked(stage, first, ALLOWED.format(port=port)) == OPEN
    left = """
if os.fork(): os._exit(0)
os.setsid()
import time
while not os.path.exists("/workspace/go"): time.sleep(0.02)
try: said = ask(sys.argv[1].replace("\\n", "\\r\\n") + "\\r\\n\\r\\n")
except OSError as exc: said = errno.errorcode[exc.errno]
open("/workspace/.said", "w").write(said); os.rename("/workspace/.said", "/workspace/said")
"""
    await inside(stage, first, left, ALLOWED.format(port=port))
    await over(stage, first)
    assert await relays(stage) == []
    (first.place.work / "go").touch()
    said = anyio.Path(first.place.work / "said")
    with anyio.fail_after(30):
        while not await said.exists():  # noqa: ASYNC110  (nobody tells)
            await anyio.sleep(0.02)
    assert await said.read_text() == CLOSED
    second = await begin(stage, only("denied.example:{port}", port=port), first.turn.session_id)
    assert await ask(stage, second, ALLOWED.format(port=port), DENIED.format(port=port)) == ["HTTP/1.1 403 ", OPEN]
    await over(stage, second)
    third = await begin(stage, Policy(), first.turn.session_id)
    assert await asked(stage, third, DENIED.format(port=port)) == CLOSED
    assert len(await stage.containers()) == 1


@pytest.mark.parametrize("how", ["hibernated", "stopped in the turn", "removed in the turn"])
async def test_a_sandbox_that_wakes_has_its_way_again(stages: partial[Any], receiver: Receiver, port: int, how: str) -> None:
    """[HAND-9]"""
    async with stages(hands_idle_seconds=100) as stage:
        brain = await begin(stage, only("allowed.example:{port}", port=port))
        assert await asked(stage, brain, ALLOWED.format(port=port)) == OPEN
        (found,) = await stage.containers()
        if how == "hibernated":
            await stage.hands.end(brain.turn.id)
            await stage.end(brain, idle=200)
            await stage.hands.sweep()
            brain = await begin(stage, only("allowed.example:{port}", port=port), brain.turn.session_id)
        elif how == "removed in the turn":
            await stage.engine.remove(found.id)
        else:
            await hands.stop(stage.engine, found.id)
        assert await asked(stage, brain, ALLOWED.format(port=port)) == OPEN
        assert len(await relays(stage)) == 1


async def test_a_relay_that_is_gone_is_set_up_again(stage: Stage, receiver: Receiver, port: int) -> None:
    brain = await begin(stage, EVERYTHING)
    assert await asked(stage, brain, ALLOWED.format(port=port)) == OPEN
    (before,) = await relays(stage)
    await stage.engine.remove(before.id)
    with anyio.fail_after(30):
        while await asked(stage, brain, ALLOWED.format(port=port)) != OPEN:
            pass
    (now,) = await relays(stage)
    assert now.id != before.id


async def test_another_worker_opens_a_way_of_its_own(stage: Stage, receiver: Receiver, port: int) -> None:
    """[HAND-9] As a gateway does that was started again: the relay of the one before ended with it."""
    brain = await begin(stage, only("allowed.example:{port}", port=port))
    async with worker(stage) as first:
        await first.call(brain, "one", "bash", {"command": "true"})
        assert len(await relays(stage)) == 1
    assert await relays(stage) == []
    again = replace(await stage.supersede(brain), spec=brain.spec)
    assert await asked(stage, again, ALLOWED.format(port=port)) == OPEN
    assert len(await stage.containers()) == 1


# -- what goes wrong


async def test_without_the_relays_image_commands_run_and_reach_nothing(stages: partial[Any], port: int) -> None:
    """The owner reads why."""
    async with stages(sidecar_image="switchboard-none:1") as stage:
        brain = await begin(stage, EVERYTHING)
        for _ in range(2):
            assert await asked(stage, brain, ALLOWED.format(port=port)) == CLOSED
        (notice,) = await notices(stage, brain, "sandbox")
    assert notice.startswith("Commands of this turn reach no host: The image 'switchboard-none:1' is not on")
    assert "SWITCHBOARD_SIDECAR_IMAGE" in notice


async def test_who_takes_the_relays_place_only_shuts_himself_in(stage: Stage, port: int) -> None:
    squat = """
if os.fork(): os._exit(0)
os.setsid(); listening = socket.create_server(("127.0.0.1", 3128)); open("/workspace/up", "w").close()
for fd in (0, 1, 2): os.close(fd)
caller = listening.accept()[0]; caller.recv(65536); caller.sendall(b"mine")
"""
    closed = await begin(stage, Policy())
    await inside(stage, closed, squat)
    with anyio.fail_after(30):
        while not (await stage.call(closed, "ls")).output.startswith("up"):
            pass
    await over(stage, closed)
    brain = await begin(stage, EVERYTHING, closed.turn.session_id)
    assert await asked(stage, brain, ALLOWED.format(port=port)) == "mine"
    assert len(await notices(stage, brain, "sandbox")) == 1
