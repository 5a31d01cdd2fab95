"""What `runtimes.check` and `doctor` look at: each check with its result and the mend. Keys by name, never by value."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from urllib.parse import urlsplit

import anyio
import anyio.to_thread
from anyio.abc import Process
from sqlalchemy import text

from adapters.launch import container, sandbox
from adapters.profile import Profile, parse_version
from gateway.clock import now_us
from gateway.errors import SwitchboardError
from gateway.owner.context import Check, Owner
from registry import repo
from registry.makeup import Makeup

VERSION_SECONDS = 20.0
MAX_OUTPUT = 64 * 1024  # bytes kept of what a program prints
LEAST_FREE = 2**30  # bytes
ELSEWHERE = Check(
    "runtimes",
    True,
    "no turn runs in this process: a gateway beside a worker tells what is there of sandboxes, containers and runtimes",
    required=False,
)
_ELSE = "with a key it makes then,"
KEY_FILES = {  # and what becomes of what was made with one that is lost
    "owner.key": f"{_ELSE} owners sign in by that one.",
    "secrets.key": "without it no secret of an agent or a webhook opens, and it does not start.",
    "callers.key": f"{_ELSE} no caller's key holds any more.",
    "cards.key": f"{_ELSE} the cards that callers have kept no longer verify.",
    "tokens.key": f"{_ELSE} no client token given out holds any more.",
    "files.key": f"{_ELSE} no URL of a file given out holds any more.",
    "turns.key": f"{_ELSE} images at work can report nothing more.",
}


async def runtime(owner: Owner, profile: Profile) -> list[Check]:
    """Is the runtime there, does it start, is it the version we know, and is there a key for it?"""
    if not profile.executable:
        return [Check("program", True, "the agent brings its own command"), *keys(owner, [profile])]
    path = owner.path_of(profile)
    version, checks = None, [_program(profile, path)]
    if path is not None:
        version, found = await _version(owner, profile, path)
        checks.append(found)
    await owner.database.write(lambda conn: repo.saw_runtime(conn, profile.name, path, version, now_us()))
    return [*checks, *keys(owner, [profile])]


def _program(profile: Profile, path: str | None) -> Check:
    fix = profile.install_hint or f"Install {profile.title} and put {profile.executable!r} on the PATH of the gateway."
    return Check("program", path is not None, path or f"{profile.executable!r} was not found on PATH", fix)


async def _version(owner: Owner, profile: Profile, path: str) -> tuple[str | None, Check]:
    fix = f"Run it yourself: {' '.join([path, *profile.version_argv])}"
    try:
        printed = await _run([path, *profile.version_argv], owner.environ.get("PATH", os.defpath))
    except TimeoutError:
        return None, Check("version", False, f"it did not answer within {VERSION_SECONDS:g} seconds", fix)
    except (OSError, subprocess.CalledProcessError) as exc:
        return None, Check("version", False, f"it could not be run: {exc}", fix)
    version, known = parse_version(printed), profile.known_versions
    if version is None:
        return None, Check("version", False, f"it printed no version: {printed.strip()[:100]!r}", fix)
    if known and _minor(version) != _minor(known):
        fix = "It probably works; if answers look odd, install the version that was tried."
        return version, Check("version", False, f"{version}; tried with {known}", fix, required=False)
    return version, Check("version", True, version)


async def _run(argv: list[str], path: str) -> str:
    """What a program prints, started with nothing of our environment but PATH and with a HOME of its own."""
    with (
        tempfile.TemporaryDirectory(prefix="switchboard-", ignore_cleanup_errors=True) as home,
        anyio.fail_after(VERSION_SECONDS),
    ):
        env = {"PATH": path, "HOME": home, "TMPDIR": home, "LANG": "C.UTF-8", "TERM": "dumb", "NO_COLOR": "1"}
        opening = anyio.open_process(
            argv, stdin=subprocess.DEVNULL, stderr=subprocess.STDOUT, cwd=home, env=env, start_new_session=True
        )
        async with await opening as process:
            try:
                printed = await _output(process)
                code = await process.wait()
            except BaseException:  # not only the program: launchers start another one
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                raise
    if code != 0:
        raise subprocess.CalledProcessError(code, argv)
    return printed.decode("utf-8", "replace")


async def _output(process: Process) -> bytes:
    assert process.stdout is not None
    printed = b""
    async for piece in process.stdout:
        printed = (printed + piece)[:MAX_OUTPUT]
    return printed


def _minor(version: str) -> list[str]:
    return (parse_version(version) or "").split(".")[:2]


def keys(owner: Owner, profiles: Iterable[Profile]) -> list[Check]:
    """One check a variable. A key is advice as long as another one of the same runtime is there."""
    found: dict[str, Check] = {}
    for profile in profiles:
        some = any(owner.environ.get(name) for name in profile.key_env.values())
        for provider, name in sorted(profile.key_env.items()):
            there = bool(owner.environ.get(name))
            fix = f"Set {name} where the gateway runs, or for one agent: switchboard agent update NAME --env {name}=..."
            result = f"{name} is {'set' if there else 'not set'}"
            found.setdefault(name, Check(f"key {provider}", there, result, fix, required=not some))
    return list(found.values())


async def doctor(owner: Owner) -> list[Check]:
    """Everything about this gateway that may be wrong."""
    checks = await anyio.to_thread.run_sync(_machine, owner)
    checks.append(await _database(owner))
    checks.append(_public_url(owner))
    if owner.settings.worker:
        checks += [await _sandbox(owner), await _containers(owner), *await _runtimes(owner)]
    else:
        checks.append(ELSEWHERE)
    for more in owner.more_checks:
        checks.append(await more())
    return checks


def _machine(owner: Owner) -> list[Check]:
    directory = owner.settings.data_dir
    checks = [_writable(owner), _disk(owner)]
    return [*checks, *(_key_file(str(directory / name), name) for name in KEY_FILES)]


def _writable(owner: Owner) -> Check:
    directory = owner.settings.data_dir
    try:
        with tempfile.NamedTemporaryFile(dir=directory):
            return Check("data directory", True, str(directory))
    except OSError as exc:
        fix = f"Make '{directory}' writable, or set SWITCHBOARD_DATA_DIR."
        return Check("data directory", False, f"cannot write to '{directory}': {exc.strerror}", fix)


def _disk(owner: Owner) -> Check:
    try:
        free = shutil.disk_usage(owner.settings.data_dir).free
    except OSError as exc:
        return Check("disk", False, f"cannot be read: {exc.strerror}", "Look at the data directory.")
    return Check(
        "disk", free >= LEAST_FREE, f"{free / 2**30:.1f} GiB free", "Free some space.", required=free < LEAST_FREE / 10
    )


def _key_file(path: str, name: str) -> Check:
    try:
        mode = stat.S_IMODE(os.stat(path).st_mode)
    except OSError as exc:
        fix = f"Restore '{path}' from a backup before the gateway starts anew: {KEY_FILES[name]}"
        return Check(name, False, f"cannot be read: {exc.strerror}", fix)
    fix = f"Run: chmod 600 '{path}'"
    return Check(name, os.name != "posix" or not mode & 0o077, f"mode {mode:04o}", fix)


async def _database(owner: Owner) -> Check:
    try:
        await owner.database.read(lambda conn: conn.execute(text("SELECT 1")).scalar())
    except SwitchboardError as exc:
        return Check("database", False, exc.message, exc.hint)
    return Check("database", True, "answers")


def _public_url(owner: Owner) -> Check:
    fix = "Set SWITCHBOARD_PUBLIC_URL to the origin callers use, such as https://agents.example.com."
    url = urlsplit(owner.settings.url)
    try:
        plain = url.scheme in ("http", "https") and url.hostname and (url.port or 1) > 0
    except ValueError:
        plain = False
    if not plain or url.query or url.fragment or "@" in url.netloc:
        return Check("public URL", False, f"{owner.settings.url!r} is no origin", fix)
    local = url.hostname in ("127.0.0.1", "localhost", "::1")
    if local and owner.settings.host not in ("127.0.0.1", "localhost", "::1"):
        return Check(
            "public URL", False, f"cards say {owner.settings.url}, which only this machine reaches", fix, required=False
        )
    if url.scheme == "http" and not local:
        return Check("public URL", False, f"{owner.settings.url} is not encrypted", fix, required=False)
    return Check("public URL", True, owner.settings.url)


async def _sandbox(owner: Owner) -> Check:
    """Required where an agent is to run in one; else advice."""
    agents = await owner.database.read(repo.listing)
    inside = [agent.name for agent in agents if agent.makeup.placement == "sandboxed"]
    reason = await anyio.to_thread.run_sync(sandbox.probe)
    result = reason or f"works; {len(inside)} of {len(agents)} agents run inside"
    return Check("sandbox", not reason, result, "Install bubblewrap.", required=bool(inside))


async def _containers(owner: Owner) -> Check:
    """Required where an agent is to run in one; else advice."""
    agents = await owner.database.read(repo.listing)
    inside = [agent.name for agent in agents if agent.makeup.placement == "docker"]
    images = {"SWITCHBOARD_AGENT_IMAGE": owner.settings.agent_image}
    if any(agent.makeup.placement == "docker" and _has_sidecar(owner, agent.makeup) for agent in agents):
        images["SWITCHBOARD_SIDECAR_IMAGE"] = owner.settings.sidecar_image
    reason = await anyio.to_thread.run_sync(container.unready, owner.environ, images)
    result = reason or f"the engine answers and has the image; {len(inside)} of {len(agents)} agents run inside"
    fix = "Install a container engine and build the image (switchboard runtimes build, or make images)."
    return Check("containers", not reason, result, fix, required=bool(inside))


def _has_sidecar(owner: Owner, makeup: Makeup) -> bool:
    profile = owner.profiles.get(makeup.runtime)
    return makeup.filtered or (profile is not None and bool(profile.image))


async def _runtimes(owner: Owner) -> list[Check]:
    """Each runtime, missing ones only as advice unless an agent runs on them; keys of those that are there."""
    agents = await owner.database.read(repo.listing)
    seen = await owner.database.read(repo.seen_runtimes)
    checks = []
    for profile in owner.profiles.values():
        users = [one.name for one in agents if one.makeup.runtime == profile.name and one.makeup.placement != "docker"]
        last = seen.get(profile.name)
        result = (last.version if last else None) or "installed"
        fix = profile.install_hint or f"Install {profile.title}."
        if not owner.installed(profile):
            result = f"not found on PATH{'; used by ' + ', '.join(users) if users else ''}"
        checks.append(Check(f"runtime {profile.name}", owner.installed(profile), result, fix, required=bool(users)))
    there = [profile for profile in owner.profiles.values() if profile.executable and owner.installed(profile)]
    advice = [Check(key.name, key.ok, key.result, key.fix, required=False) for key in keys(owner, there)]
    return [*checks, *advice]
