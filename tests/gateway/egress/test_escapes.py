"""What somebody inside a sandbox with an egress policy may try, and how far it gets. [EGR-1]"""

from __future__ import annotations

import os
from pathlib import Path

import anyio
import pytest
import structlog

from tests.gateway.deliver.receivers import Receiver
from tests.gateway.egress.boxes import boxed

DENIED, BAD = "HTTP/1.1 403 ", "HTTP/1.1 400 "
ATTEMPTS = {  # what is tried from inside, and how it ends
    "host": ('connect(socket.AF_INET, ("127.0.0.1", {tcp}))', "ECONNREFUSED"),
    "host-v6": ('connect(socket.AF_INET6, ("::1", {six}))', "ECONNREFUSED"),
    "abstract": ('connect(socket.AF_UNIX, "\\0{abstract}")', "ECONNREFUSED"),
    "metadata": ('connect(socket.AF_INET, ("169.254.169.254", 80))', "ENETUNREACH"),
    "private": ('connect(socket.AF_INET, ("10.0.0.1", 80))', "ENETUNREACH"),
    "v6": ('connect(socket.AF_INET6, ("2001:db8::1", 80))', "ENETUNREACH"),
    "dns": ('connect(socket.AF_INET, ("192.0.2.53", 53), socket.SOCK_DGRAM)', "ENETUNREACH"),
    "resolver": ('socket.getaddrinfo("allowed.example", 80)', "gaierror"),
    "raw": ("socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)", "EPERM"),
    "packet": ("socket.socket(socket.AF_PACKET, socket.SOCK_RAW)", "EPERM"),
}
REQUESTS = [  # what the proxy is asked, and how its answer begins
    ("GET http://allowed.example:{port}/ok HTTP/1.1\nHost: allowed.example", "HTTP/1.1 204 "),
    ("GET http://ALLOWED.Example.:{port}/ok HTTP/1.1\nHost: x", "HTTP/1.1 204 "),
    ("GET http://a.wild.example:{port}/ok HTTP/1.1\nHost: x", "HTTP/1.1 204 "),
    ("GET http://wild.example:{port}/ok HTTP/1.1\nHost: x", DENIED),
    ("GET http://notwild.example:{port}/ok HTTP/1.1\nHost: x", DENIED),
    ("GET http://denied.example:{port}/ok HTTP/1.1\nHost: allowed.example:{port}", DENIED),
    ("GET /ok HTTP/1.1\nHost: allowed.example:{port}", BAD),
    ("GET http://allowed.example@denied.example:{port}/ok HTTP/1.1\nHost: x", BAD),
    ("GET http://denied.example#@allowed.example:{port}/ok HTTP/1.1\nHost: x", BAD),
    ("GET http://denied.example\\@allowed.example:{port}/ok HTTP/1.1\nHost: x", BAD),
    ("GET https://allowed.example:{port}/ok HTTP/1.1\nHost: x", BAD),
    ("GET http://allowed.example/ok HTTP/1.1\nHost: x", DENIED),
    ("GET http://allowed.example:22/ok HTTP/1.1\nHost: x", DENIED),
    ("GET http://allowed.example:99999/ok HTTP/1.1\nHost: x", BAD),
    ("GET http://127.0.0.1:{port}/ok HTTP/1.1\nHost: allowed.example", DENIED),
    ("GET http://allowed.example:{port}/ok HTTP/1.1\nHost: a\nHost: b", BAD),
    ("GET http://metadata.example/latest/meta-data HTTP/1.1\nHost: x", DENIED),
    ("GET http://both.example/ HTTP/1.1\nHost: x", DENIED),
    ("GET http://nowhere.example/ HTTP/1.1\nHost: x", DENIED),
    ("CONNECT allowed.example:22 HTTP/1.1\nHost: x", DENIED),
    ("CONNECT denied.example:443 HTTP/1.1\nHost: allowed.example:{port}", DENIED),
    ("CONNECT 127.0.0.1:{port} HTTP/1.1\nHost: allowed.example", DENIED),
    ("CONNECT 2130706433:{port} HTTP/1.1\nHost: x", DENIED),
    ("CONNECT [::1]:{port} HTTP/1.1\nHost: x", DENIED),
    ("CONNECT allowed.example HTTP/1.1\nHost: x", BAD),
    ("CONNECT user@allowed.example:{port} HTTP/1.1\nHost: x", BAD),
    ("CONNECT metadata.example:443 HTTP/1.1\nHost: x", DENIED),
    ("GET /-/model/v1 HTTP/1.1\nHost: x", BAD),
    ("nonsense", BAD),
    ("GET http://allowed.example:{port}/ok HTTP/1.1\nX: {long}", "HTTP/1.1 4"),
]
HOSTS = ("allowed.example:{port}", "*.wild.example:{port}", "metadata.example", "both.example", "nowhere.example")


@pytest.mark.parametrize(("attempt", "answer"), ATTEMPTS.values(), ids=ATTEMPTS)
async def test_there_is_no_way_around_the_gate(tmp_path: Path, services: dict[str, object], attempt: str, answer: str) -> None:
    async with boxed(tmp_path, "allowed.example") as box:
        printed = await box.run(f"tried(lambda: {attempt.format(**services)})")
    assert printed == [answer]


async def test_the_hosts_udp_is_not_reached(tmp_path: Path, services: dict[str, object]) -> None:
    async with boxed(tmp_path) as box:
        await box.run(f'socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("127.0.0.1", {services["udp"]}))')


async def test_a_peer_is_not_reached(tmp_path: Path) -> None:
    """Neither what another sandbox listens on, nor its gate."""
    listen = """
tcp, abstract = socket.create_server(("127.0.0.1", 5000)), socket.socket(socket.AF_UNIX)
abstract.bind("\\0peer"); abstract.listen()
print("up", flush=True); sys.stdin.read()
"""
    attempts = 'tried(lambda: connect(socket.AF_INET, ("127.0.0.1", 5000))); tried(lambda: connect(socket.AF_UNIX, "\\0peer"))'
    async with boxed(tmp_path / "peer") as peer, boxed(tmp_path / "mine") as mine:
        listening = await peer.started(listen)
        with anyio.fail_after(20):
            assert [line.data for line in await listening.lines()] == [b"up"]
            printed = await mine.run(attempts + "; print(os.path.exists(sys.argv[1]))", peer.gate.socket)
        await listening.aclose()
    assert printed == ["ECONNREFUSED", "ECONNREFUSED", "False"]


async def test_it_holds_no_capability(tmp_path: Path) -> None:
    async with boxed(tmp_path) as box:
        printed = await box.run('print(re.search("CapEff:\\t(.*)", open("/proc/self/status").read())[1])')
    assert int(printed[0], 16) == 0


@pytest.mark.parametrize(("request_", "answer"), REQUESTS)
async def test_only_what_the_policy_names_passes(
    tmp_path: Path, receiver: Receiver, port: int, request_: str, answer: str
) -> None:
    names = [host.format(port=port) for host in HOSTS]
    asked = request_.format(port=port, long="x" * 50)
    async with boxed(tmp_path, *names) as box:
        printed = await box.run("status(sys.argv[1].replace('x' * 50, 'x' * 100_000))", asked)
    assert printed[0].startswith(answer), printed
    assert len(receiver.got) == (answer == "HTTP/1.1 204 ")
    assert len(box.told) == (answer == DENIED)


async def test_the_host_of_the_url_is_what_the_server_is_told(tmp_path: Path, receiver: Receiver, port: int) -> None:
    asked = "GET http://allowed.example:{port}/ok HTTP/1.1\nHost: other.example\nProxy-Authorization: x\nX-Mine: 1"
    async with boxed(tmp_path, f"allowed.example:{port}") as box:
        await box.run("status(sys.argv[1])", asked.format(port=port))
    (got,) = receiver.got
    assert got.headers == {"host": f"allowed.example:{port}", "x-mine": "1"}


async def test_a_second_request_on_a_connection_is_not_smuggled_through(tmp_path: Path, receiver: Receiver, port: int) -> None:
    first = "POST http://allowed.example:{port}/ok HTTP/1.1\nHost: x\nContent-Length: 2\n\nhi"
    second = "GET http://denied.example:{port}/ok HTTP/1.1\nHost: x"
    async with boxed(tmp_path, f"allowed.example:{port}") as box:
        printed = await box.run("status(sys.argv[1])", (first + second).format(port=port))
    assert printed[0].startswith("HTTP/1.1 204 ")
    assert [(got.path, got.body) for got in receiver.got] == [("/ok", b"hi")]


async def test_where_a_redirect_leads_is_judged_anew(tmp_path: Path, receiver: Receiver, port: int) -> None:
    receiver.location = f"http://denied.example:{port}/ok"
    script = """
import urllib.error, urllib.request
try:
    print(urllib.request.urlopen(sys.argv[1]).status)
except urllib.error.HTTPError as exc:
    print(exc.code, exc.url)
"""
    async with boxed(tmp_path, f"allowed.example:{port}") as box:
        printed = await box.run(script, f"http://allowed.example:{port}/redirect")
    assert printed == [f"403 http://denied.example:{port}/ok"]
    assert [got.path for got in receiver.got] == ["/redirect"]
    assert box.notices == [f"The agent was kept from denied.example:{port}"]


async def test_a_tunnel_carries_bytes_both_ways(tmp_path: Path, receiver: Receiver, port: int) -> None:
    script = """
host = sys.argv[1]
with socket.create_connection(("127.0.0.1", 3128), 20) as connection:
    connection.sendall(f"CONNECT {host} HTTP/1.1\\r\\nHost: {host}\\r\\n\\r\\nGET /ok HTTP/1.1\\r\\nHost: inner".encode())
    connection.sendall(b"\\r\\nConnection: close\\r\\n\\r\\n")
    answer = b""
    while data := connection.recv(65536):
        answer += data
print(*(line for line in answer.decode().split("\\r\\n") if line.startswith("HTTP")), sep="\\n")
"""
    async with boxed(tmp_path, f"allowed.example:{port}") as box:
        printed = await box.run(script, f"allowed.example:{port}")
    assert printed == ["HTTP/1.1 200 ", "HTTP/1.1 204 No Content"]
    assert [got.headers["host"] for got in receiver.got] == ["inner"]


async def test_nothing_is_left_of_a_gate(tmp_path: Path, receiver: Receiver, port: int) -> None:
    """Not even where somebody inside keeps a tunnel open, or says nothing."""
    hold = """
connections = [socket.create_connection(("127.0.0.1", 3128), 20) for _ in range(2)]
connections[0].sendall(f"CONNECT {sys.argv[1]} HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n".encode())
print(connections[0].recv(12).decode())
"""
    opened: list[int] = []
    for number in range(3):
        async with boxed(tmp_path / str(number), f"allowed.example:{port}") as box:
            assert await box.run(hold, f"allowed.example:{port}") == ["HTTP/1.1 200"]
        assert sorted(path.name for path in box.folder.iterdir()) == ["home", "work"]
        opened.append(len(os.listdir("/proc/self/fd")))
    assert opened[2] == opened[1]


async def test_in_audit_mode_everything_passes_and_is_written_down(tmp_path: Path, receiver: Receiver, port: int) -> None:
    """[EGR-3]"""
    asked = f"GET http://other.example:{port}/ok HTTP/1.1\nHost: x"
    with structlog.testing.capture_logs() as lines:
        async with boxed(tmp_path, f"allowed.example:{port}", strict=False, private="") as box:
            printed = await box.run("status(sys.argv[1])", asked)
    assert printed == ["HTTP/1.1 204 No Content"]
    assert box.told == []
    assert lines == [
        {
            "event": "egress",
            "log_level": "info",
            "agent": "mailer",
            "session": "ses_1",
            "turn": "trn_1",
            "decision": "would_deny",
            "way": "GET",
            "host": "other.example",
            "port": port,
            "addresses": (),
            "reason": "It is not on the agent's list.",
        }
    ]
