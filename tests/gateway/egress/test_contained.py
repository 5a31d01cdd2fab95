"""The same door, seen from a container: one beside it holds the relay, and there is no other way. [EGR-1]"""

from __future__ import annotations

import json
import secrets
from pathlib import Path

import anyio
import pytest
import structlog

from adapters.registration import profiles
from tests import needs
from tests.gateway.deliver.receivers import Receiver
from tests.gateway.egress.boxes import boxed
from tests.gateway.egress.test_escapes import ATTEMPTS, HOSTS, REQUESTS
from tests.gateway.egress.test_model import ASK, FIND, KEY

LOOPBACK_V6 = ("ECONNREFUSED", "EADDRNOTAVAIL")  # where the engine gives a container no IPv6, not even to itself
PLACES = """
for path in ("/proc/sysrq-trigger", "/proc/sys/kernel/core_pattern", "/proc/sys/net/ipv4/ip_forward", "/sys/kernel/profiling",
             "/dev/mem", "/dev/sda", "/proc/kcore", "/proc/1/environ"):
    tried(lambda: open(path, "r+b") and path)
for path in ("/run/docker.sock", "/var/run/docker.sock", "/run/3128.sock", sys.argv[1]):
    tried(lambda: connect(socket.AF_UNIX, path) or path)
tried(lambda: os.stat("/proc/1/root" + sys.argv[1]))
tried(lambda: os.mknod("/tmp/disk", 0o60600, os.makedev(8, 0)))
tried(lambda: os.setuid(0))
others = {pid for pid in os.listdir("/proc") if pid.isdigit()} - {str(os.getpid())}
print(any("relay" in open(f"/proc/{pid}/cmdline").read() for pid in others))
"""


@pytest.fixture(scope="module")
def image() -> str:
    return needs.an_engine()


async def test_there_is_no_way_around_the_gate(tmp_path: Path, services: dict[str, object], image: str) -> None:
    script = "\n".join(f"tried(lambda: {attempt.format(**services)})" for attempt, _ in ATTEMPTS.values())
    udp = f'socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("127.0.0.1", {services["udp"]}))'
    async with boxed(tmp_path, "allowed.example", image=image) as box:
        printed = await box.run(f"{script}\n{udp}")
    wanted = {name: (answer,) for name, (_, answer) in ATTEMPTS.items()}
    wanted |= {"host-v6": LOOPBACK_V6, "v6": ("ENETUNREACH", "EADDRNOTAVAIL")}
    assert {name: said for name, said in zip(ATTEMPTS, printed, strict=True) if said not in wanted[name]} == {}


async def test_only_what_the_policy_names_passes(tmp_path: Path, receiver: Receiver, port: int, image: str) -> None:
    asked = [request.format(port=port, long="x" * 100_000) for request, _ in REQUESTS]
    async with boxed(tmp_path / "box", *(host.format(port=port) for host in HOSTS), image=image) as box:
        (box.folder / "work/asked").write_text(json.dumps(asked))
        printed = await box.run("import json\nfor request in json.load(open('asked')): status(request)")
    assert [said for said, (_, answer) in zip(printed, REQUESTS, strict=True) if not said.startswith(answer)] == []
    assert len(receiver.got) == sum(answer == "HTTP/1.1 204 " for _, answer in REQUESTS)


async def test_a_peer_is_not_reached(tmp_path: Path, image: str) -> None:
    """Neither what another container listens on, nor its gate, nor its files."""
    listen = """
tcp, abstract = socket.create_server(("127.0.0.1", 5000)), socket.socket(socket.AF_UNIX)
abstract.bind("\\0" + sys.argv[1]); abstract.listen()
open("note", "w").write("mine"); print("up", flush=True); sys.stdin.read()
"""
    attempts = """
tried(lambda: connect(socket.AF_INET, ("127.0.0.1", 5000))); tried(lambda: connect(socket.AF_UNIX, "\\0" + sys.argv[1]))
print([os.path.exists(path) for path in sys.argv[2:]])
"""
    name = f"test-{secrets.token_hex(8)}"
    async with boxed(tmp_path / "peer", image=image) as peer, boxed(tmp_path / "mine", image=image) as mine:
        listening = await peer.started(listen, name)
        with anyio.fail_after(30):
            assert [line.data for line in await listening.lines()] == [b"up"]
            assert (peer.folder / "work/note").read_text() == "mine"
            printed = await mine.run(attempts, name, peer.gate.socket, peer.folder / "work/note")
        await listening.aclose()
    assert printed == ["ECONNREFUSED", "ECONNREFUSED", "[False, False]"]


async def test_neither_the_machines_kernel_nor_its_engine_nor_the_relay_is_within_reach(tmp_path: Path, image: str) -> None:
    """[BOX-1]"""
    async with boxed(tmp_path, image=image) as box:
        printed = await box.run(PLACES, box.gate.socket)
    assert len(printed) == 16
    assert [line for line in printed[:-1] if line.startswith("reached")] == []
    assert printed[-1] == "False"


async def test_the_key_is_put_on_outside_and_not_to_be_found_inside(tmp_path: Path, receiver: Receiver, image: str) -> None:
    """[EGR-2]"""
    env = {"ANTHROPIC_API_KEY": KEY, "ANTHROPIC_BASE_URL": receiver.url}
    async with boxed(tmp_path, profile=profiles()["claude"], env=env, private="", image=image) as box:
        asked = ASK.format(path="/-/model/ok?a=b&key=mine")
        assert await box.run("status(sys.argv[1])" + FIND, asked) == ["HTTP/1.1 204 No Content", "True []"]
    (got,) = receiver.got
    assert got.headers["x-api-key"] == KEY
    assert got.path == "/ok"


async def test_in_audit_mode_everything_passes_and_is_written_down(
    tmp_path: Path, receiver: Receiver, port: int, image: str
) -> None:
    """[EGR-3]"""
    asked = f"GET http://other.example:{port}/ok HTTP/1.1\nHost: x"
    with structlog.testing.capture_logs() as lines:
        async with boxed(tmp_path, "allowed.example", strict=False, private="", image=image) as box:
            printed = await box.run("status(sys.argv[1])", asked)
    assert printed == ["HTTP/1.1 204 No Content"]
    assert [(line["decision"], line["host"]) for line in lines if line["event"] == "egress"] == [
        ("would_deny", "other.example")
    ]
    assert box.told == []
