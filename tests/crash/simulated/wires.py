"""Connections of simulated hosts to a real PostgreSQL: real bytes on virtual time.

What a host sends arrives after a delay that is drawn. Then everything stands still until the server has answered, or waits
for a lock that somebody else has, and the answer sets out on its way back. So no time passes while a statement is carried
out, and which statement follows which is drawn, not raced for: a seed plays the same interleaving of transactions again.
"""

from __future__ import annotations

import asyncio
import select
import socket
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from random import Random
from typing import Any, Protocol

from tests.crash.simulated.loop import HOST, Host, SimulatedLoop

STILL_SECONDS = 4.0  # in a transaction, after which the server throws a client out
PATIENCE, AGAIN = 0.003, 0.001  # seconds of real time for an answer, before the server is asked who waits for a lock
GIVE_UP = 30.0  # seconds of real time
UNHEARD = 0.01  # of all ends of transactions are never heard of
CANCEL = 80877102  # the code of a request to cancel, as the first message
CHANNEL = b"switchboard"  # the parameter of a NOTIFY, by which a hint is known

Waiting = Mapping[int, list[int]]  # who waits for a lock, and for whom


class Watching(Protocol):
    """A look at the server from outside of the simulation."""

    def waiting(self) -> Waiting: ...

    def connected(self) -> set[int]: ...


class Network:
    """All connections of all hosts to one server."""

    def __init__(self, loop: SimulatedLoop, random: Random, watching: Watching) -> None:
        self.loop, self.random, self.watching = loop, random, watching
        self.wires: list[Wire] = []
        self.leaving: set[int] = set()  # processes of the server whose client is gone
        self.away: set[Host] = set()  # hosts that reach nothing any more
        self.down = False
        self.faults = True

    async def connect(self, factory: Callable[[], Any], path: str) -> tuple[Wire, Any]:
        """In place of the loop's `create_unix_connection`."""
        host = HOST.get()
        await asyncio.sleep(self.delay())
        if self.down or host in self.away:
            raise ConnectionRefusedError("The database is away.")
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(path)
        protocol = factory()
        wire = Wire(self, host, sock, protocol)
        self.wires.append(wire)
        protocol.connection_made(wire)
        return wire, protocol

    def delay(self) -> float:
        """Seconds until what is sent arrives."""
        drawn = self.random.random()
        if not self.faults or drawn < 0.98:
            return self.random.uniform(0.00005, 0.0008)
        return self.random.uniform(0.001, 0.15) if drawn < 0.9995 else self.random.uniform(0.15, 6)

    def breaks(self, chance: float = 0.001) -> bool:
        return self.faults and self.random.random() < chance

    def of(self, host: Host) -> list[Wire]:
        return [wire for wire in self.wires if wire.host is host]

    def cut(self) -> None:
        """Every connection, as when the server dies."""
        for wire in list(self.wires):
            wire.cut()

    def throw_out(self, host: Host) -> None:
        """Who stands still in a transaction does not hold up the others for ever. It is looked at again as long as it does."""
        if not host.frozen or host.dead:
            return
        for wire in self.of(host):
            if wire.in_transaction and self.loop.time() >= wire.answered_at + STILL_SECONDS:
                wire.cut()
        self.loop.call_later(1.0, self.throw_out, host, context=self.loop.world.context())

    def settle(self) -> None:
        """Until every statement is answered or waits for a lock, and nobody is left whose client has gone."""
        give_up, patience = time.monotonic() + GIVE_UP, PATIENCE
        while (busy := [wire for wire in self.wires if wire.busy]) or self.leaving:
            ready = select.select([wire.sock for wire in busy], [], [], patience)[0]
            for wire in busy:
                if wire.sock in ready:
                    wire.receive()
            if not ready and self._stands_still(busy):
                break
            patience = PATIENCE if ready else AGAIN
            assert time.monotonic() < give_up, f"the server does not answer: {[wire.expected for wire in busy]}"
        for wire in list(self.wires):
            if wire.unheard:
                wire.cut()
            else:
                wire.send_back()

    def _stands_still(self, busy: list[Wire]) -> bool:
        waiting = self.watching.waiting()
        if self.leaving and (gone := self.leaving - self.watching.connected()):
            self.leaving -= gone
            self.released()
            return False
        if self.leaving - waiting.keys() or any(wire.pid not in waiting for wire in busy) or _deadlocked(waiting):
            return False
        for wire in busy:
            wire.blocked = True
        return True

    def released(self) -> None:
        """A transaction has ended: who waits for a lock may have got it."""
        for wire in self.wires:
            wire.blocked = False


def _deadlocked(waiting: Waiting) -> bool:
    """Whether some wait in a circle: the server will end that, after a moment."""
    for first in waiting:
        reached, look = set[int](), list(waiting[first])
        while look:
            pid = look.pop()
            if pid == first:
                return True
            if pid not in reached:
                reached.add(pid)
                look += waiting.get(pid, [])
    return False


class Wire(asyncio.Transport):
    """One connection."""

    def __init__(self, network: Network, host: Host, sock: socket.socket, protocol: Any) -> None:
        super().__init__()
        self.network, self.host, self.sock, self.protocol = network, host, sock, protocol
        self.pid = 0  # of the server's process
        self.expected: deque[str] = deque()  # the messages that end what the server was asked
        self.blocked = False  # waits for a lock
        self.in_transaction = False
        self.answered_at = 0.0
        self._owed = 0  # hints that are still to come
        self._listens = self._tells = False
        self._amid = False  # a statement is prepared and not executed, when no hint is sent
        self._begun = self._gone = self._closed = False
        self.unheard = False  # it breaks before its last answer is heard
        self._asked, self._answer, self._back = bytearray(), bytearray(), bytearray()
        self._there_at = self._here_at = 0.0

    @property
    def busy(self) -> bool:
        return not self._gone and not self.blocked and bool(self.expected or (self._owed > 0 and not self._amid))

    # -- as the driver sees it

    def write(self, data: Any) -> None:
        if not self._closed:
            self._on_its_way(self._arrive, bytes(data))

    def writelines(self, list_of_data: Any) -> None:
        self.write(b"".join(list_of_data))

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._on_its_way(self.leave)
            self.network.loop.call_soon(self.protocol.connection_lost, None)

    abort = close

    def is_closing(self) -> bool:
        return self._closed

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    # -- there

    def _on_its_way(self, what: Callable[..., None], *args: Any) -> None:
        loop = self.network.loop
        self._there_at = max(self._there_at, loop.time() + self.network.delay())
        loop.call_at(self._there_at, what, *args, context=loop.world.context())

    def _arrive(self, data: bytes) -> None:
        if self._gone:
            return
        late = self.in_transaction and self.network.loop.time() > self.answered_at + STILL_SECONDS
        if late or self.network.breaks():
            self.cut()
            return
        self._expect(data)
        with suppress(OSError):
            self.sock.sendall(data)
        self.network.settle()

    def _expect(self, data: bytes) -> None:
        self._asked += data
        if not self._begun and len(self._asked) >= 8:
            self._begun = True
            self.expected.append("end" if int.from_bytes(self._asked[4:8], "big") == CANCEL else "Z")
            self._asked.clear()
        for kind, body in _messages(self._asked):
            if kind in "QS":
                self.expected.append("Z")
            elif kind == "H":
                self.expected.append("described")
                self._amid = True
            elif kind == "X":
                self.expected.append("end")
            self._tells |= kind == "B" and self._listens and CHANNEL in body

    # -- and back

    def receive(self) -> None:
        """What the server has answered so far."""
        data = b""
        with suppress(OSError):
            data = self.sock.recv(1 << 20)
        if not data:
            self._over()
            return
        self._back += data
        self._answer += data
        for kind, body in _messages(self._answer):
            if kind == "Z":
                self._ready(body)
            elif kind in "TnE" and self.expected and self.expected[0] == "described":
                self.expected.popleft()
            elif kind == "K":
                self.pid = int.from_bytes(body[:4], "big")
            elif kind == "C":
                self._listens |= body == b"LISTEN\0"
            elif kind == "A":
                self._owed -= 1

    def _ready(self, body: bytes) -> None:
        while self.expected and self.expected.popleft() != "Z":
            pass
        before, self.in_transaction, self._amid = self.in_transaction, body != b"I", False
        self.answered_at = self.network.loop.time()
        self.unheard = self.network.breaks()
        if before and not self.in_transaction:
            self.unheard = self.unheard or self.network.breaks(UNHEARD)
            self.network.released()
        if self._tells:
            self._tells = False
            for wire in self.network.wires:
                wire._owed += wire._listens

    def send_back(self) -> None:
        if self._back and not self.unheard:
            data, self._back = bytes(self._back), bytearray()
            self._on_its_way_back(self._deliver, data)

    def _on_its_way_back(self, what: Callable[..., None], *args: Any) -> None:
        loop = self.network.loop
        self._here_at = max(self._here_at, loop.time() + self.network.delay())
        loop.call_at(self._here_at, what, *args, context=self.host.context())

    def _deliver(self, data: bytes) -> None:
        if not self._closed and not self.unheard:
            self.protocol.data_received(data)

    # -- its end

    def cut(self) -> None:
        """The connection breaks; the client will hear of it."""
        if not self._gone:
            self._on_its_way_back(self.lose)
            self.leave()

    def lose(self) -> None:
        """The client hears that the connection is broken."""
        if not self._closed:
            self._closed = True
            self.protocol.connection_lost(ConnectionResetError("The connection broke."))

    def leave(self) -> None:
        """The server hears that its client is gone."""
        if not self._gone:
            if self.pid:
                self.network.leaving.add(self.pid)
            self._over()
            self.network.settle()

    def die(self) -> None:
        """The client is no more; what it has sent still arrives."""
        self._on_its_way(self.leave)

    def _over(self) -> None:
        """One side has closed."""
        self._gone = True
        self.expected.clear()
        self.sock.close()
        self.network.released()
        self.network.wires.remove(self)
        if self._back:
            self.send_back()
        if not self._closed:
            self._on_its_way_back(self.lose)


def _messages(data: bytearray) -> Iterator[tuple[str, bytes]]:
    """Take whole messages off the front."""
    while len(data) >= 5 and len(data) > (size := int.from_bytes(data[1:5], "big")):
        kind, body = chr(data[0]), bytes(data[5 : size + 1])
        del data[: size + 1]
        yield kind, body
