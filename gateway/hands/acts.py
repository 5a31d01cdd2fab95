"""What the tools do, in the session's container: small scripts of /bin/sh there, everything byte-exact decided here.

A path is checked twice: as text before anything runs, and inside, where symbolic links are followed: one that leads out of
the workspace is refused, not followed. That keeps a tool to what its name says; what protects everybody else is the container.
Files are written beside their place and moved there, so nobody reads half of one, and keep their mode.

What is made of many names, lines or edits is made in a thread, of which there are few, so that it holds up nobody else.
"""

from __future__ import annotations

import base64
import posixpath
import re
from codecs import getincrementaldecoder
from collections.abc import Awaitable, Callable, Iterable, Iterator
from itertools import islice
from typing import NamedTuple

import anyio
import anyio.to_thread

from adapters.launch.reading import Ends, Ran
from gateway.errors import InvalidParams
from gateway.hands.paths import leads_out, seen, within
from gateway.hands.patterns import Pattern
from gateway.hands.tools import MAX_FILE, Bash, Edit, Glob, Grep, Input, Ls, Read, Result, Write, content_of, wrong

ENDS = Ends(128 * 1024, 128 * 1024)  # of a command's output
LISTING = 16 * 2**20  # bytes of a list of files, or of lines found
MAX_ENTRIES = 2000  # files or lines that are told
MAX_LINE = 500  # characters of a line that was found
FILE_SECONDS = 120
EDITED = 2**29  # bytes that one call's edits look through: fifty of the largest file, five hundred of one of a megabyte
_threads = anyio.CapacityLimiter(2)


# $1: a path relative to the workspace, which the container works in. Sets `at`: where it really is.
_FIND = """
export LC_ALL=C
near=$1
while [ ! -e "./$near" ] && [ ! -L "./$near" ]; do near=$(dirname -- "$near"); done
at=$(readlink -f -- "./$near") || exit 71
case "$at/" in "$PWD"/*) ;; *) exit 71 ;; esac
"""
_EXISTING = _FIND + '[ "$near" = "$1" ] || exit 72\n'
_READ = (
    _EXISTING
    + """
[ -d "$at" ] && exit 73
[ -f "$at" ] || exit 74
[ -r "$at" ] || exit 75
case $2 in
    all) head -c "$5" < "$at" ;;
    bytes) tail -c "+$3" -- "$at" | head -c "$5" ;;
    lines) tail -n "+$3" -- "$at" | head -n "$4" | head -c "$5" ;;
esac
"""
)
# $2: its size
_WRITE = (
    _FIND
    + """
if [ "$near" != "$1" ]; then
    rest=$1
    [ "$near" = . ] || rest=${1#"$near"/}
    at=$at/$rest
    mkdir -p -- "$(dirname -- "$at")" || exit 75
elif [ -d "$at" ]; then
    exit 73
elif [ -e "$at" ]; then
    [ -f "$at" ] || exit 74
    [ -w "$at" ] || exit 75
fi
new=$(mktemp -- "$(dirname -- "$at")/.new.XXXXXX") || exit 75
trap 'rm -f -- "$new"' EXIT
chmod "$(printf %o $((0666 & ~$(umask))))" "$new"
[ -f "$at" ] && cp -p -- "$at" "$new"
cat > "$new" || exit 75
[ "$(wc -c < "$new")" -eq "$2" ] || exit 76
mv -f -- "$new" "$at" || exit 75
"""
)
_LIST = _EXISTING + '[ -d "$at" ] || exit 74\ncd -- "$at" && ls -1Ap 2> /dev/null | head -c "$2"\n'
_FILES = (
    _EXISTING
    + """
[ -d "$at" ] || exit 74
cd -- "$at" && find . -name .git -prune -o -type f -print0 2> /dev/null | head -c "$2"
"""
)
# $3: the pattern, $4: -i or nothing
_GREP = (
    _EXISTING
    + """
export LC_ALL=C.UTF-8
more=
grep -qI x /dev/null 2>/dev/null
[ $? -le 1 ] && more='-I --exclude-dir=.git'
grep -E -e "$3" /dev/null > /dev/null || [ $? -eq 1 ] || exit 75
if [ -d "$at" ]; then cd -- "$at" && grep -rnE $more $4 -e "$3" . 2> /dev/null
else grep -HnE $more $4 -e "$3" "./$1" 2> /dev/null; fi | head -c "$2"
"""
)
_SHELL = 'cd -- "$2" || exit 126; command -v bash > /dev/null && exec bash -c "$1" < /dev/null; exec sh -c "$1" < /dev/null'
_ENDED = {
    "timeout": "ended after {} ms, with all it had started",
    "flood": "ended, because it did nothing but print",
    "lost": "its container was stopped or cut off, or it ended its own shell",
    "gone": "its container was cut off: it is not known how far it came. Look, then decide",
}
_GONE = "It is not known whether this was done: the sandbox was cut off. Look, then decide."
_LINE = re.compile(r"(.+?):(\d+):(.*)", re.DOTALL)
_NAMES, _LINES = re.compile(rb"([^\0]+)\0"), re.compile(rb"[^\n]+")


class Command(NamedTuple):
    """What is to run in the container: it works in the workspace."""

    argv: tuple[str, ...]
    seconds: float
    keep: Ends
    content: bytes | None = None


Run = Callable[[Command], Awaitable[Ran]]


class Failed(Exception):
    """A tool could not do what it was asked; in words for whoever asked."""


class CutOff(Failed):
    """Nobody knows whether it has."""


async def act(run: Run, input: Input, writing: anyio.Lock, start: str = "") -> Result:
    """Do what a tool is asked, from the folder `start` of the workspace. `writing`: held while a file is changed.

    Raises LaunchError.
    """
    try:
        match input:
            case Bash():
                return await _bash(run, input, start)
            case Read():
                return await _read(run, within(input.path, start), input)
            case Write():
                content, path = content_of(input), within(input.path, start)
                async with writing:
                    await _write(run, path, content)
                return Result(f"{len(content)} bytes written to {seen(path, start)}.")
            case Edit():
                async with writing:
                    return await _edit(run, within(input.path, start), input, start)
            case Ls():
                listed = await _told(run, _LIST, within(input.path, start), LISTING)
                names = listed.decode("utf-8", "replace").splitlines()
                return _listed(names, len(names))
            case Glob():
                return await _glob(run, within(input.path, start), input, start)
            case Grep():
                return await _grep(run, within(input.path, start), input, start)
    except CutOff as exc:
        return Result(str(exc), is_error=True, interrupted=True)
    except (Failed, InvalidParams) as exc:
        return wrong(str(exc) if isinstance(exc, Failed) else f"{exc.message} {exc.hint}")
    raise AssertionError(input)


async def _bash(run: Run, input: Bash, start: str) -> Result:
    argv = ("/bin/sh", "-c", _SHELL, "sh", input.command, start or ".")
    ran = await run(Command(argv, input.timeout_ms / 1000, ENDS))
    output = _text(ran)
    if ran.cause:
        said = _ENDED[ran.cause].format(input.timeout_ms)
        output += f"[{said}]" if not output or output.endswith("\n") else f"\n[{said}]"
    failed = bool(ran.cause) or ran.code != 0
    late, gone = ran.cause == "timeout", ran.cause == "gone"
    return Result(output, failed, ran.code, truncated=ran.left_out > 0, timed_out=late, interrupted=gone)


def _text(ran: Ran) -> str:
    if not ran.left_out:
        return (ran.first + ran.last).decode("utf-8", "replace")
    first, last = ran.first.decode("utf-8", "replace"), ran.last.decode("utf-8", "replace")
    return f"{first}\n[... {ran.left_out} bytes left out ...]\n{last}"


# -- files


async def _read(run: Run, path: str, input: Read) -> Result:
    if input.encoding == "base64":
        most = min(input.limit or MAX_FILE, MAX_FILE)
        how = ("bytes", (input.offset or 0) + 1, 0, most + 1)
        content = await _told(run, _READ, path, *how)
        more = len(content) > most
        return Result(base64.b64encode(content[:most]).decode(), truncated=more, encoding="base64")
    lines = input.offset is not None or input.limit is not None
    how = ("lines" if lines else "all", max(input.offset or 1, 1), input.limit or 10**9, MAX_FILE + 1)
    content = await _told(run, _READ, path, *how)
    truncated = len(content) > MAX_FILE
    try:  # what the cut has left of a character is not told
        text = getincrementaldecoder("utf-8")().decode(content[:MAX_FILE], final=not truncated)
    except UnicodeDecodeError:
        raise Failed(f"{path!r} is no UTF-8 text. Read it with encoding base64.") from None
    return Result(text, truncated=truncated)


async def _write(run: Run, path: str, content: bytes) -> None:
    await _told(run, _WRITE, path, len(content), content=content)


async def _edit(run: Run, path: str, input: Edit, start: str) -> Result:
    content = await _told(run, _READ, path, "all", 1, 0, MAX_FILE + 1)
    if len(content) > MAX_FILE:
        raise Failed(f"{path!r} has more than {MAX_FILE} bytes, which is too much to edit. Change it by a command.")
    edited = await anyio.to_thread.run_sync(_edited, content, input, path, limiter=_threads)
    await _write(run, path, edited)
    return Result(f"{len(input.edits)} texts replaced in {seen(path, start)}.")


def _edited(content: bytes, input: Edit, path: str) -> bytes:
    looked = 0
    for number, one in enumerate(input.edits, 1):
        looked += len(content)
        if looked > EDITED:
            raise Failed(f"{len(input.edits)} edits are too many at once for {path!r}, which is large. Nothing was changed.")
        old, new = one.old.encode("utf-8", "replace"), one.new.encode("utf-8", "replace")
        found = content.count(old)
        if found != 1:
            mend = "Give more of what stands around it." if found else "Read the file, and give it exactly as it stands there."
            raise Failed(f"Edit {number}: its old text stands {found} times in {path!r}. {mend} Nothing was changed.")
        content = content.replace(old, new)
    if len(content) > MAX_FILE:
        raise Failed(f"{path!r} would have more than {MAX_FILE} bytes. Nothing was changed.")
    return content


# -- searching


async def _glob(run: Run, path: str, input: Glob, start: str) -> Result:
    pattern = Pattern(input.pattern)
    listed = await _told(run, _FILES, path, LISTING)

    def found() -> Result:
        names = (name[1].decode("utf-8", "replace").removeprefix("./") for name in _NAMES.finditer(listed))
        mine = sorted(name for name in names if pattern.match(name))
        return _listed((seen(f"{path}/{name}", start) for name in mine), len(mine), complete=len(listed) < LISTING)

    return await anyio.to_thread.run_sync(found, limiter=_threads)


async def _grep(run: Run, path: str, input: Grep, start: str) -> Result:
    flag = "-i" if input.ignore_case else ""
    wanted = Pattern(input.glob) if input.glob else None
    by_name = "/" not in (input.glob or "")
    printed = await _told(run, _GREP, path, LISTING, input.pattern, flag)

    def found() -> Result:
        lines = _found(printed, path, start, wanted, by_name)
        first = list(islice(lines, MAX_ENTRIES))
        return _listed(first, len(first) + sum(1 for _ in lines), complete=len(printed) < LISTING)

    return await anyio.to_thread.run_sync(found, limiter=_threads)


def _found(printed: bytes, path: str, start: str, wanted: Pattern | None, by_name: bool) -> Iterator[str]:
    """What grep has printed, as it is told. `by_name`: the last part of a file's path is to match."""
    last, fits, told = "", False, ""
    for line in _LINES.finditer(printed):
        parts = _LINE.match(line[0].decode("utf-8", "replace").removeprefix("./"))
        if parts is None:
            continue
        name, number, text = parts.groups()
        if name != last:
            last, told = name, seen(name if name == path else f"{path}/{name}", start)
            fits = wanted is None or wanted.match(posixpath.basename(name) if by_name else name)
        if fits:
            yield f"{told}:{number}:{text[:MAX_LINE]}"


def _listed(lines: Iterable[str], found: int, *, complete: bool = True) -> Result:
    """The first of those that were found."""
    more = [f"[... {found - MAX_ENTRIES} more]"] if found > MAX_ENTRIES else []
    told = [*islice(lines, MAX_ENTRIES), *more]
    return Result("".join(f"{line}\n" for line in told), truncated=bool(more) or not complete)


async def _told(run: Run, script: str, path: str, *args: object, content: bytes | None = None) -> bytes:
    """What a script of ours printed. Raises Failed."""
    argv = ("/bin/sh", "-c", script, "sh", path, *map(str, args))
    ran = await run(Command(argv, FILE_SECONDS, Ends(LISTING + 1, 0), content))
    if ran.code == 0:
        return ran.first
    raise CutOff(_GONE) if ran.cause == "gone" else Failed(_why(path, ran))


def _why(path: str, ran: Ran) -> str:
    said = (ran.first + ran.last)[:2000].decode("utf-8", "replace").strip()
    match ran.code:
        case 71:
            return leads_out(path)
        case 72:
            return f"There is no {path!r} in the workspace."
        case 73:
            return f"{path!r} is a folder."
        case 74:
            return f"{path!r} is neither a file nor a folder that this tool could use."
        case None:
            return f"The container did not do it ({ran.cause or 'lost'}). Try again."
    return f"It did not work for {path!r}: {said or f'exit code {ran.code}'}"
