"""A session from lines: whole, as it was, or not at all.

While it is on its way its row stands under a principal nobody signs in as, so that its id is taken and nobody sees it. A
gateway that is killed leaves that row; who imports the same session next takes it over, under a new fence.
"""

from __future__ import annotations

import base64
import hashlib
import json
import tarfile
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import aclosing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from shutil import rmtree
from typing import Any, BinaryIO

import anyio
import anyio.to_thread
from sqlalchemy import Connection, delete, insert, select, update
from sqlalchemy.exc import StatementError

from gateway.clock import now_us
from gateway.db.engine import Database
from gateway.errors import Conflict, Fenced, InvalidParams
from gateway.files.store import Store, Upload
from gateway.log.models import EventRow, Session
from gateway.log.rows import Position, Row
from gateway.retention import segments
from gateway.transfer import journal
from gateway.transfer.lines import FORMAT, LOCAL, TABLES
from gateway.turns.journals import JOURNAL
from gateway.turns.queue import CONTEXT_ID
from registry import repo

IMPORTING = "importing"
MAX_LINE = 64 * 2**20
BATCH_LINES, BATCH_BYTES = 1000, 2**20
DELETE_ROWS = 5000  # of one transaction
LEVELS = frozenset({"user", "progress", "internal"})

_session, _event = Session.__table__, EventRow.__table__  # type: ignore[attr-defined]
Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Whose:
    """To whom an imported session belongs. None: as it was."""

    agent: str | None = None
    principal: str | None = None


async def load(database: Database, sessions_dir: Path, store: Store, body: AsyncIterator[bytes], whose: Whose) -> Json:
    """Import a session; its id and how much came. Raises InvalidParams, NotFound for its agent, Conflict."""
    with tempfile.TemporaryFile() as packed:
        loader = Loader(database, sessions_dir, store, whose, packed)
        try:
            async with aclosing(_batches(body)) as batches:
                async for number, batch in batches:
                    await loader.take(number, batch)
            return await loader.finish()
        except StatementError as exc:
            raise InvalidParams(f"The file holds what cannot be stored: {exc.orig}", "Export the session again.") from exc
        finally:
            with anyio.CancelScope(shield=True):
                await loader.undo()


class Loader:
    def __init__(self, database: Database, sessions_dir: Path, store: Store, whose: Whose, packed: BinaryIO) -> None:
        self._database, self._sessions_dir, self._whose, self._packed = database, sessions_dir, whose, packed
        self._store = store
        self._upload: Upload | None = None
        self._known: set[str] = set()  # contents that came
        self._hash = hashlib.sha256()
        self._rows: dict[str, list[Json]] = {"task": [], "turn": [], "file": []}
        self._session: Json = {}
        self._fence = 0
        self._reserved = self._ended = self._has_journal = False
        self._position, self._events = Position(0), 0

    # -- what comes

    async def take(self, number: int, lines: list[bytes]) -> None:
        """The next lines, of which the first has that number."""
        parsed = await anyio.to_thread.run_sync(_parsed, number, lines)
        events: list[Row] = []
        for at, (line, found) in enumerate(zip(lines, parsed, strict=True), number):
            with _line(at):
                kind = found["kind"]
                if self._ended or (kind == "session") == self._reserved:
                    raise ValueError(f"a line of kind {kind!r} is out of place")
                match kind:
                    case "session":
                        await self._begin(found)
                    case "task" | "turn":
                        self._rows[kind].append(_cleaned(kind, found["row"]))
                    case "file":
                        await self._keep_upload()
                        self._rows["file"].append(_cleaned("file", found["row"]))
                    case "bytes":
                        await self._upload_piece(base64.b64decode(found["data"], validate=True))
                    case "event":
                        events.append(self._event(found["row"]))
                    case "journal":
                        self._has_journal = True
                        self._packed.write(base64.b64decode(found["data"], validate=True))
                    case "end":
                        await self._keep_upload()
                        self._check_end(found)
                    case _:
                        raise ValueError(f"there is no kind {kind!r}")
            self._hash.update(line)
        if events:
            await self._database.write(lambda conn: self._insert(conn, events))

    async def _begin(self, found: Json) -> None:
        if found["format"] != FORMAT:
            raise ValueError(f"the format {found['format']!r} is not known here")
        self._session = _cleaned("session", found["row"])
        if not CONTEXT_ID.fullmatch(self._session["id"]):  # it names a directory
            raise ValueError("the session has an id that cannot be")
        if self._session["status"] in ("queued", "running"):
            raise ValueError("the session is at work")
        name = self._whose.agent or str(found["agent"])
        self._fence = await self._database.write(lambda conn: self._reserve(conn, name))
        self._reserved = True
        await self._clear()

    def _event(self, found: Json) -> Row:
        row = segments.row_of(self._session["id"], found)
        seq, sub = self._position
        expected = (seq, sub + 1) if row.level == "internal" else (seq + 1, 0)
        if row.position != expected or row.level not in LEVELS:
            raise ValueError(f"event {row.seq}.{row.sub} does not follow {self._position}")
        self._position, self._events = row.position, self._events + 1
        return row

    def _check_end(self, found: Json) -> None:
        if (found["events"], found["sha256"]) != (self._events, self._hash.hexdigest()):
            raise ValueError("the file was changed, or something is missing")
        missing = [file["name"] for file in self._rows["file"] if file["sha256"] not in self._known]
        if missing:
            raise ValueError(f"the bytes of file {missing[0]!r} are not the ones it had")
        self._ended = True

    async def _upload_piece(self, data: bytes) -> None:
        if self._upload is None:
            self._upload = await anyio.to_thread.run_sync(self._store.begin)
        await anyio.to_thread.run_sync(self._upload.write, data)

    async def _keep_upload(self) -> None:
        """The bytes of the file before are whole."""
        if self._upload is None and self._rows["file"] and not self._rows["file"][-1]["size"]:
            self._upload = await anyio.to_thread.run_sync(self._store.begin)
        if self._upload is not None:
            upload, self._upload = self._upload, None
            self._known.add((await anyio.to_thread.run_sync(upload.keep)).sha256)

    # -- what is stored

    def _reserve(self, conn: Connection, agent: str) -> int:
        """Take the id, over from an import that broke off. The session's agent is that of this installation."""
        record = repo.get(conn, agent)
        self._session |= {"agent_id": record.id, "agent_version": record.version, "floor_seq": 0}
        id = self._session["id"]
        old = conn.execute(select(_session.c.principal, _session.c.fence).where(_session.c.id == id)).first()
        if old is not None and old.principal != IMPORTING:
            raise Conflict(f"There is a session {id!r} already.", "It was imported before, or it was never away.")
        fence = 1 if old is None else old.fence + 1
        conn.execute(delete(_session).where(_session.c.id == id))
        row = {**self._session, "principal": IMPORTING, "status": "queued", "fence": fence, "native": {}}
        conn.execute(insert(_session), {**row, "updated_at": now_us()})
        return fence

    async def _clear(self) -> None:
        """Delete the events of an import that broke off."""
        id = self._session["id"]
        some = select(_event.c.pos).where(_event.c.session_id == id).limit(DELETE_ROWS)
        while await self._database.write(lambda conn: conn.execute(delete(_event).where(_event.c.pos.in_(some))).rowcount):
            pass

    def _check_mine(self, conn: Connection) -> None:
        mine = (_session.c.id == self._session["id"], _session.c.principal == IMPORTING, _session.c.fence == self._fence)
        if conn.execute(select(_session.c.id).where(*mine).with_for_update()).first() is None:
            raise Fenced(f"Session {self._session['id']!r} is imported by somebody else meanwhile.")

    def _insert(self, conn: Connection, rows: list[Row]) -> None:
        self._check_mine(conn)
        conn.execute(insert(_event), [row._asdict() for row in rows])

    async def finish(self) -> Json:
        """All has come: make it visible. Raises InvalidParams if it has not."""
        if not self._ended:
            raise InvalidParams("The file breaks off before its end.", "Export the session again.")
        id = self._session["id"]
        if self._has_journal:
            await self._unpack(self._sessions_dir.resolve() / id)
        await self._database.write(self._settle)
        self._reserved = False
        return {"id": id, "events": self._events, "tasks": len(self._rows["task"]), "journal": self._has_journal}

    async def _unpack(self, place: Path) -> None:
        self._packed.seek(0)
        try:
            await anyio.to_thread.run_sync(journal.unpack, self._packed, place)
        except (tarfile.TarError, EOFError) as exc:
            raise InvalidParams(f"The journal in the file cannot be unpacked: {exc}", "Export the session again.") from exc

    def _settle(self, conn: Connection) -> None:
        self._check_mine(conn)
        session = {**self._session, "principal": self._whose.principal or self._session["principal"]}
        session["native"] = {**session["native"], JOURNAL: None} if self._has_journal else {JOURNAL: ""}
        whose = {"session_id": session["id"], "agent_id": session["agent_id"], "principal": session["principal"]}
        for kind, rows in self._rows.items():
            _check_new(conn, kind, [row["id"] for row in rows])
        for kind, rows in self._rows.items():
            columns = TABLES[kind].c.keys()
            mine = {name: value for name, value in whose.items() if name in columns}
            for row in rows:
                conn.execute(insert(TABLES[kind]), {**row, **mine})
        conn.execute(update(_session).where(_session.c.id == session["id"]).values(session))

    async def undo(self) -> None:
        """Leave nothing of what did not come whole, unless somebody else has taken over."""
        if self._upload is not None:
            await anyio.to_thread.run_sync(self._upload.drop)
        if not self._reserved:
            return
        with suppress(Fenced):
            await self._database.write(self._check_mine)
            await self._clear()
            await self._database.write(self._give_up)
            await anyio.to_thread.run_sync(rmtree, self._sessions_dir / self._session["id"], True)

    def _give_up(self, conn: Connection) -> None:
        self._check_mine(conn)
        conn.execute(delete(_session).where(_session.c.id == self._session["id"]))


@contextmanager
def _line(number: int) -> Iterator[None]:
    """What is wrong with a line, said with its number."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError) as exc:
        said = f"it has no {exc.args[0]!r}" if isinstance(exc, KeyError) else str(exc)
        hint = "Give a file that `switchboard sessions export` wrote."
        raise InvalidParams(f"Line {number} cannot be imported: {said}.", hint) from exc


def _parsed(number: int, lines: list[bytes]) -> list[Json]:
    out = []
    for at, line in enumerate(lines, number):
        with _line(at):
            found = json.loads(line)
            if not isinstance(found, dict):
                raise TypeError("it is no JSON object")
            out.append(found)
    return out


def _check_new(conn: Connection, kind: str, ids: list[str]) -> None:
    id = TABLES[kind].c.id
    for start in range(0, len(ids), 500):
        if conn.execute(select(id).where(id.in_(ids[start : start + 500]))).first() is not None:
            raise Conflict(f"A {kind} of this session is here already.", "It was imported before, under another id.")


def _cleaned(kind: str, row: Mapping[str, Any]) -> Json:
    """Of a row what this installation has columns for."""
    known = set(TABLES[kind].c.keys()) - LOCAL[kind]
    return {name: value for name, value in row.items() if name in known}


async def _batches(body: AsyncIterator[bytes]) -> AsyncGenerator[tuple[int, list[bytes]]]:
    """Whole lines, some at a time, and the number of the first."""
    buffer, number = bytearray(), 1
    lines: list[bytes] = []
    size = 0
    async for data in body:
        buffer += data
        if len(buffer) > MAX_LINE:
            raise InvalidParams(
                f"Line {number + len(lines)} is longer than {MAX_LINE} bytes.", "Send a file as an export wrote it."
            )
        if b"\n" not in data:
            continue
        *whole, rest = bytes(buffer).split(b"\n")
        buffer = bytearray(rest)
        lines += [line + b"\n" for line in whole]
        size += len(data)
        if len(lines) >= BATCH_LINES or size >= BATCH_BYTES:
            yield number, lines
            number, lines, size = number + len(lines), [], 0
    if buffer:
        lines.append(bytes(buffer))
    if lines:
        yield number, lines
