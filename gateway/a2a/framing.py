"""How a stream's events are framed for a transport and a version: bare or in a JSON-RPC answer, as 1.0 or as 0.3.

An event is encoded once as 1.0; what 0.3 makes of it is converted by the SDK and shared among its readers, too.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from a2a.compat.v0_3 import conversions, proto_utils
from a2a.compat.v0_3 import types as types03
from a2a.types import a2a_pb2 as pb
from google.protobuf.json_format import MessageToDict, Parse  # type: ignore[import-untyped]  # has no stubs

from gateway.a2a.versions import Version
from gateway.wire import one_line

_GOES_ON = (types03.TaskState.submitted, types03.TaskState.working)
Event03 = types03.Task | types03.Message | types03.TaskStatusUpdateEvent | types03.TaskArtifactUpdateEvent


def dumps(value: Any) -> bytes:
    return one_line(json.dumps(value, ensure_ascii=False, separators=(",", ":")))


@dataclass(frozen=True, slots=True)
class Framing:
    """What stands around an event's JSON in its frame, and what becomes of the JSON; `name` tells conversions apart."""

    name: str
    head: bytes
    tail: bytes
    convert: Callable[[bytes], bytes] | None = None


PLAIN = Framing("plain", b"", b"")


def jsonrpc(request_id: object, version: Version = "1.0") -> Framing:
    id = dumps(request_id)
    convert = _jsonrpc_03 if version == "0.3" else None
    return Framing(f"jsonrpc-{version}", b'data: {"jsonrpc":"2.0","id":%s,"result":' % id, b"}\n\n", convert)


def rest(version: Version = "1.0") -> Framing:
    return Framing(f"rest-{version}", b"data: ", b"\n\n", _rest_03 if version == "0.3" else None)


def _jsonrpc_03(event: bytes) -> bytes:
    return one_line(_event_03(event).model_dump_json(by_alias=True, exclude_none=True))


def _rest_03(event: bytes) -> bytes:
    return dumps(MessageToDict(proto_utils.ToProto.stream_response(_event_03(event))))


def _event_03(event: bytes) -> Event03:
    made: Event03 = conversions.to_compat_stream_response(Parse(event, pb.StreamResponse())).result
    if isinstance(made, types03.TaskStatusUpdateEvent):
        made.final = made.status.state not in _GOES_ON  # the SDK forgets that a stream ends with a question, too
    return made
