"""A private repository: its password is given to git for its own server, and to nobody else."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import pytest

from gateway.turns import checkout
from tests.gateway.deliver.test_sender import certificate
from tests.gateway.turns.calls import error_of, of_type, state_of
from tests.gateway.turns.repository import git, leading, made, nested, served
from tests.gateway.turns.test_turns_hooks import SECONDS, agent, gateway, place, told, without_times, work_of
from tests.support import Client, Json

__all__ = ["place"]  # a fixture

USER, PASSWORD = "robot", "s3cret-of-the-repository"


@dataclass(frozen=True)
class Server:
    origin: str
    root: Path
    certificates: Path
    seen: list[str]  # command lines of all processes, as they were while git fetched

    def trusted(self, place: str) -> dict[str, Any]:
        """What an agent needs to believe its certificate."""
        if place == "local":
            return {"env": {"GIT_SSL_CAINFO": str(self.certificates / "cert.pem")}}
        mounts = [{"source": str(self.certificates), "target": "/mnt/certificates"}]
        return {"env": {"GIT_SSL_CAINFO": "/mnt/certificates/cert.pem"}, "mounts": mounts}

    def git(self, name: str = "repository", **more: Any) -> Json:
        return {"url": f"{self.origin}/{name}", "username": USER, "password": PASSWORD, **more}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    root, certificates = tmp_path_factory.mktemp("git"), tmp_path_factory.mktemp("certificates")
    certificates.chmod(0o755)
    made(root / "repository")
    cert, key = certificate(certificates, "localhost")
    seen: list[str] = []
    with served(root, pair=f"{USER}:{PASSWORD}", cert=cert, key=key, asked=lambda: seen.append(_command_lines())) as origin:
        nested(root / "whole", "../repository", f"{origin}/repository")
        yield Server(origin, root, certificates, seen)


def _command_lines() -> str:
    found = []
    for path in Path("/proc").glob("*/cmdline"):
        with suppress(OSError):
            found.append(path.read_bytes().replace(b"\0", b" ").decode("utf-8", "replace"))
    return "\n".join(found)


def found_in(folder: Path) -> list[str]:
    """Files that hold the password, or what stands for it on the wire."""
    return [str(path) for path in folder.rglob("*") if path.is_file() and PASSWORD.encode() in path.read_bytes()]


async def sent(client: Client, **more: Any) -> Json:
    with anyio.fail_after(SECONDS):
        return await client.send("worker", "N=1", **more)


async def test_a_private_repository_is_checked_out_and_its_password_is_nowhere(
    tmp_path: Path, place: str, server: Server
) -> None:
    """[PREP-3]"""
    processes = "cat /proc/*/environ /proc/*/cmdline 2>/dev/null | tr '\\0' ' '"
    look = f"cat count; git config --list --show-origin; env; {processes}"
    trusted = server.trusted(place)
    server.seen.clear()
    async with gateway(tmp_path / "data", place, mount_roots=str(server.certificates)) as client:
        await agent(client, place, {"pre_init": look}, git=server.git(), **trusted)
        task = await sent(client)
        events = await client.events(task["contextId"])
        shown = await client.owner("agent.show", name="worker")
        stored = json.dumps(await client.owner("agent.versions", name="worker"))
    lines = without_times([event["body"]["text"] for event in events if event["body"].get("kind") == "hook"])
    assert (state_of(task), lines[:2]) == ("COMPLETED", ["git: done", "pre_init: 3"]), lines[:9]
    assert any("remote.origin.url" in line for line in lines)
    assert [text for text in (json.dumps(events), json.dumps(shown), stored) if PASSWORD in text] == []
    assert shown["values"]["git"]["value"] == server.git() | {"password": "set"}
    assert found_in(tmp_path / "data") == []
    assert [lines for lines in server.seen if "fetch -q -- origin" not in lines or PASSWORD in lines] == []


async def test_submodules_of_the_same_server_are_checked_out_with_it(tmp_path: Path, place: str, server: Server) -> None:
    """[PREP-3]"""
    async with gateway(tmp_path / "data", place, mount_roots=str(server.certificates)) as client:
        await agent(client, place, git=server.git("whole", submodules=True), **server.trusted(place))
        task = await sent(client)
        lines = without_times(await told(client, task))
    work = work_of(tmp_path / "data", task)
    assert (state_of(task), lines) == ("COMPLETED", ["git: done"])
    assert [(work / f"module{n}/count").read_text() for n in (0, 1)] == ["1\n", "3\n"]
    assert found_in(tmp_path / "data") == []


async def test_without_being_asked_for_submodules_are_left_out(tmp_path: Path, server: Server) -> None:
    async with gateway(tmp_path / "data") as client:
        await agent(client, git=server.git("whole"), **server.trusted("local"))
        task = await sent(client)
    assert (state_of(task), list((work_of(tmp_path / "data", task) / "module0").iterdir())) == ("COMPLETED", [])


async def test_a_submodule_of_another_server_is_not_told_the_password(tmp_path: Path, server: Server) -> None:
    """[PREP-3] Another port is another server."""
    other = tmp_path / "other"
    other.mkdir()
    made(other / "repository")
    pair = {"cert": str(server.certificates / "cert.pem"), "key": str(server.certificates / "key.pem")}
    with served(other, pair=f"{USER}:{PASSWORD}", **pair) as origin:
        nested(server.root / "foreign", f"{origin}/repository")
        async with gateway(tmp_path / "data") as client:
            await agent(client, git=server.git("foreign", submodules=True), **server.trusted("local"))
            task = await sent(client)
            lines = "".join(await told(client, task))
    assert (state_of(task), error_of(task)["category"]) == ("FAILED", "setup_failed")
    assert "could not read Username" in lines


async def test_a_server_that_leads_to_another_one_does_not_take_the_password_along(tmp_path: Path, server: Server) -> None:
    """[PREP-3]"""
    pair = {"cert": str(server.certificates / "cert.pem"), "key": str(server.certificates / "key.pem")}
    with leading("", **pair) as (elsewhere, heard), leading(elsewhere, **pair) as (origin, first):
        async with gateway(tmp_path / "data") as client:
            git = {"url": f"{origin}/repository", "username": USER, "password": PASSWORD}
            await agent(client, git=git, **server.trusted("local"))
            task = await sent(client)
    assert state_of(task) == "FAILED"
    assert [said[:6] for said in first] == ["", "Basic "]
    assert heard
    assert set(heard) == {""}


async def test_a_submodule_that_is_not_there_yet_is_fetched_by_the_next_turn(tmp_path: Path, server: Server) -> None:
    """[PREP-2] Nothing of the first try is in its way."""
    nested(server.root / "early", "../late")
    async with gateway(tmp_path / "data") as client:
        await agent(client, git=server.git("early", submodules=True), **server.trusted("local"))
        task = await sent(client)
        made(server.root / "late")
        again = await sent(client, contextId=task["contextId"])
        lines = [line for line in without_times(await told(client, task)) if line in ("git: done", "git: exit code 1")]
    work = work_of(tmp_path / "data", task)
    assert (state_of(task), state_of(again), lines) == ("FAILED", "COMPLETED", ["git: exit code 1", "git: done"])
    assert (work / "module0/count").read_text() == "1\n"
    assert git(work, "status", "--porcelain") == ""


async def test_a_wrong_password_fails_the_turn_and_is_not_told_either(tmp_path: Path, server: Server) -> None:
    """[PREP-3] Nor by what a server, or git, prints of it."""
    wrong = "wr0ng-password"
    env = server.trusted("local")["env"] | {"GIT_TRACE_CURL": "2", "GIT_TRACE_REDACT": "0"}
    async with gateway(tmp_path / "data") as client:
        await agent(client, git=server.git() | {"password": wrong}, env=env)
        task = await sent(client)
        events = json.dumps(await client.events(task["contextId"]))
    (detail,) = of_type(json.loads(events), "error_detail")
    assert (state_of(task), error_of(task)["category"]) == ("FAILED", "setup_failed")
    assert "git failed: exit code 128" in detail["body"]["text"]
    assert "Authorization: Basic ***" in events or "authorization: Basic ***" in events
    assert wrong not in events


async def test_it_never_fetches_in_what_somebody_else_has_prepared(tmp_path: Path, server: Server) -> None:
    """[PREP-3] A workspace that an agent left, on a machine that has not prepared it."""
    trap = tmp_path / "trap"
    trap.write_text(f"#!/bin/sh\ncat /proc/$PPID/environ /proc/$$/environ >> {tmp_path / 'caught'}\n")
    trap.chmod(0o755)
    async with gateway(tmp_path / "data") as client:
        await agent(client, git=server.git("whole", submodules=True), **server.trusted("local"))
        task = await sent(client)
        work = work_of(tmp_path / "data", task)
        (work.parent / "ready").unlink()
        for name in ("core.fsmonitor", "credential.helper", "core.askPass", "core.gitProxy", "uploadpack.packObjectsHook"):
            for at in (work, work / "module0"):
                git(at, "config", name, str(trap))
        hook = work / ".git/hooks/post-checkout"
        hook.parent.mkdir(exist_ok=True)
        hook.symlink_to(trap)
        (work / ".git/unfinished").touch()
        again = await sent(client, contextId=task["contextId"])
        lines = without_times(await told(client, task))
    assert (state_of(task), state_of(again), lines) == ("COMPLETED", "COMPLETED", ["git: done", "git: done"])
    assert not (tmp_path / "caught").exists()
    assert not hook.exists()
    assert (work / "module1/count").read_text() == "3\n"


def test_what_is_printed_of_a_password_is_hidden_however_it_is_written() -> None:
    given = {"url": "https://a.example/b", "password": "a+b c"}
    assert checkout.hidden(given, "a+b c; Basic Z2l0OmErYiBj") == "***; Basic ***"
    assert checkout.hidden({"url": "https://a.example/b"}, "a+b c") == "a+b c"


# -- what an owner may say


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"url": "http://example.com/x", "password": PASSWORD}, "would send its password in the clear"),
        ({"url": "https://example.com/x", "username": "me"}, "git.username stands alone"),
        ({"url": "https://example.com/x", "username": "me:you", "password": PASSWORD}, "git.username"),
        ({"url": "https://example.com/x", "password": f"{PASSWORD}\n"}, "git.password"),
        ({"url": "https://example.com/x", "password": {"is": PASSWORD}}, "git.password"),
        ({"url": "https://example.com/x", "password": "set"}, "there is none for the server"),
    ],
)
async def test_what_cannot_be_is_refused_without_a_word_of_the_password(tmp_path: Path, given: Json, words: str) -> None:
    async with gateway(tmp_path) as client:
        with pytest.raises(AssertionError, match=words.replace(".", r"\.")) as caught:
            await agent(client, git=given)
    said = str(caught.value)
    assert PASSWORD not in said


async def test_a_password_is_kept_for_its_own_server_only(tmp_path: Path) -> None:
    async with gateway(tmp_path) as client:
        url = "https://example.com/x"
        await agent(client, git={"url": url, "password": PASSWORD})

        async def changed(**git: Any) -> Json:
            found: Json = await client.owner("agent.update", name="worker", changes={"git": git})
            return found

        same = await changed(url=url, password="set")
        again = await changed(url=url, password=PASSWORD)
        other = await changed(url="https://example.com/y", ref="main", password="set")
        for elsewhere in ("https://example.org/x", "https://example.com:8443/x"):
            with pytest.raises(AssertionError, match="there is none for the server"):
                await changed(url=elsewhere, password="set")
        without = await changed(url=url)
    assert (same["changed"], again["changed"]) == ({}, {})
    assert other["changed"]["git"]["new"] == {"url": "https://example.com/y", "ref": "main", "password": "set"}
    assert without["changed"]["git"]["new"] == {"url": url}
