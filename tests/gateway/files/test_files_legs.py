"""Files to an agent and back, told alike by every transport in every version."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest
from a2a.types import a2a_pb2 as pb
from a2a.utils.errors import A2AError

from tests.gateway.a2a.clients import LEGS, Caller, Leg, calling
from tests.gateway.files.desk import PNG, desk_with_grpc
from tests.support import message

pytestmark = pytest.mark.anyio
COMMAND = (
    "cat inbox/note.txt; mkdir outbox; cp inbox/pic.png outbox/copy.png; "
    "printf 'some text' > outbox/answer.txt; head -c 150000 /dev/zero > outbox/zeros.bin"
)


def request(*files: pb.Part) -> pb.SendMessageRequest:
    parts = [pb.Part(text=COMMAND), *files]
    return pb.SendMessageRequest(message=pb.Message(message_id=message("")["messageId"], role=pb.ROLE_USER, parts=parts))


async def sent(caller: Caller, *files: pb.Part) -> list[pb.StreamResponse]:
    return [event async for event in caller.client.send_message(request(*files), context=caller.context)]


@pytest.mark.parametrize("leg", LEGS, ids=str)
async def test_files_go_to_an_agent_and_come_back(tmp_path: Path, leg: Leg) -> None:
    """[FILE-1] [FILE-4] [A2A-7]"""
    note = pb.Part(raw=b"a note\n", filename="note.txt", media_type="text/plain")
    picture = pb.Part(raw=PNG, filename="../pic.png", media_type="image/png")
    with anyio.fail_after(60):
        async with desk_with_grpc(tmp_path) as gateway, calling(gateway, leg, streaming=True) as caller:
            events = await sent(caller, note, picture)
            task = await caller.get(events[0].task.id)
            with pytest.raises(A2AError) as refused:
                await sent(caller, pb.Part(raw=b"x", media_type="application/zip"))
            with pytest.raises(A2AError) as led_home:
                await sent(caller, pb.Part(url=f"{gateway.url}/health", media_type="application/json"))
    told = {one.name: one.parts for one in task.artifacts}
    assert [(part.filename, part.media_type, part.raw) for part in task.history[0].parts[1:]] == [
        ("note.txt", "text/plain", b"a note\n"),
        ("pic.png", "image/png", PNG),
    ]
    attached = "Attached file: inbox/note.txt (text/plain)\n\nAttached file: inbox/pic.png (image/png)"
    assert told["response"][0].text == f"a note\n{attached}"
    assert told["answer.txt"][0].text == "some text"
    assert [(part.filename, part.media_type, part.raw) for part in told["copy.png"]] == [("copy.png", "image/png", PNG)]
    assert [part.raw for part in told["zeros.bin"]] == [bytes(150_000)]
    pieces = [event.artifact_update for event in events if event.artifact_update.artifact.name == "zeros.bin"]
    assert b"".join(piece.artifact.parts[0].raw for piece in pieces) == bytes(150_000)
    assert [(piece.append, piece.last_chunk) for piece in pieces] == [(False, False), (True, False), (True, True)]
    assert "does not take application/zip. It takes " in str(refused.value)
    assert "could not be fetched" in str(led_home.value)
