"""What the session API takes and answers, as pydantic models: the OpenAPI document is made from them.

Parts of a message have one of `text`, `data`, `context`, `mention`, `file`. They are stored as A2A parts, so that a session
can be used over both APIs and every runtime is told the same: see `gateway.sessions.parts`.
"""

from __future__ import annotations

import base64
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from adapters.events import YieldReason
from gateway.deliver.destinations import MAX_DESTINATIONS, MAX_SECRETS, Given

Status = Literal["queued", "running", "awaiting_input", "idle", "failed", "archived"]
Level = Literal["user", "progress"]
Mode = Literal["auto", "queue", "steer"]
Scope = Literal["read", "write"]
Type = Literal["message", "turn_started", "chunk", "tool_start", "tool_result", "artifact", "ask", "done", "system", "snapshot"]
Text = Annotated[str, StringConstraints(pattern=r"^[^\x00]*$")]
Path = Annotated[str, StringConstraints(min_length=1, max_length=1024, pattern=r"^[^\x00-\x1f\x7f]*$")]
Key = Annotated[str, StringConstraints(min_length=1, max_length=255)]


def _decoded(value: object) -> bytes:
    try:
        return base64.b64decode(str(value).encode("ascii"), validate=True)
    except ValueError as exc:
        raise ValueError("it is no base64") from exc


Raw = Annotated[
    bytes,
    BeforeValidator(_decoded, json_schema_input_type=str),
    WithJsonSchema({"type": "string", "contentEncoding": "base64"}),
]

MAX_PARTS = 1000
MAX_METADATA = 64  # entries
MAX_WAIT = 60  # seconds
MAX_PAGE = 1000


class Shape(BaseModel):
    """A body: nothing is guessed, nothing unknown is passed over."""

    model_config = ConfigDict(extra="forbid", strict=True, ser_json_bytes="base64")


class Query(BaseModel):
    """The parameters of a URL; texts, as they come."""

    model_config = ConfigDict(extra="forbid")


# -- what is sent


class Context(Shape):
    """A text and the file it is from, such as a selection in an editor."""

    text: Text
    path: Path = Field(description="The file, as the agent knows it: relative to its workspace.")


class Mention(Shape):
    """A file, or some lines of it, that the agent shall look at."""

    path: Path
    start_line: int | None = Field(None, ge=1)
    end_line: int | None = Field(None, ge=1)

    @model_validator(mode="after")
    def _ordered(self) -> Mention:
        if self.end_line is not None and (self.start_line is None or self.end_line < self.start_line):
            raise ValueError("end_line goes with a start_line that is not after it")
        return self


class File(Shape):
    """A file for the agent's `inbox/`: its bytes, or where to get them; of a type its card takes (specs/files.md)."""

    raw: Raw | None = Field(None, description="The bytes, in base64.")
    url: str | None = None
    name: Annotated[str, StringConstraints(max_length=1024)] = ""
    media_type: Annotated[str, StringConstraints(max_length=255)] = ""

    @model_validator(mode="after")
    def _one(self) -> File:
        if (self.raw is None) == (self.url is None):
            raise ValueError("a file has raw or url")
        return self


class Part(Shape):
    """Exactly one of its fields."""

    text: Text | None = None
    data: Any = Field(None, description="JSON, given to the agent as it is.")
    context: Context | None = None
    mention: Mention | None = None
    file: File | None = None

    @model_validator(mode="after")
    def _one(self) -> Part:
        if len(self.model_fields_set) != 1:
            raise ValueError("a part has exactly one of text, data, context, mention, file")
        return self


Input = Annotated[Text, StringConstraints(min_length=1)] | Annotated[list[Part], Field(min_length=1, max_length=MAX_PARTS)]


class SendMessage(Shape):
    input: Input = Field(description="What to say: a text, or parts.")
    mode: Mode = Field(
        "auto",
        description="queue: a turn of its own, after what runs. steer: into the turn that runs; refused where none does. "
        "auto: steer where a turn runs, else queue.",
    )
    metadata: dict[str, Any] = Field(default_factory=dict, max_length=MAX_METADATA, description="Kept with the message.")
    idempotency_key: Key | None = Field(None, description="As the header Idempotency-Key.")


class CreateSession(Shape):
    agent: Annotated[str, StringConstraints(min_length=1, max_length=100)] = Field(description="The agent's name.")
    input: Input = Field(description="The first message: a text, or parts.")
    metadata: dict[str, Any] = Field(default_factory=dict, max_length=MAX_METADATA, description="Kept with the session.")
    limits: dict[str, Any] = Field(default_factory=dict, description="Of this session: see specs/limits.md.")
    destinations: list[Given] = Field([], max_length=MAX_DESTINATIONS, description="Webhooks: see specs/webhooks.md.")
    idempotency_key: Key | None = Field(None, description="As the header Idempotency-Key.")


class CreateToken(Shape):
    scopes: Annotated[list[Scope], Field(min_length=1)] | None = Field(
        None, description="No more than who asks has. Default: all of those."
    )
    seconds: int | None = Field(
        None, ge=1, description="How long it holds. Default and most: SWITCHBOARD_CLIENT_TOKEN_SECONDS."
    )


class SetSecrets(Shape):
    secrets: list[str] = Field(max_length=MAX_SECRETS, repr=False, description="Each of them signs from now on.")


class ListSessions(Query):
    agent: str | None = Field(None, description="Only of the agent of this name.")
    status: Status | None = Field(None, description="Only in this status.")
    limit: int = Field(50, ge=1, le=200)
    cursor: str | None = Field(None, description="What the last page said as `next`.")


class GetResult(Query):
    wait: float = Field(0, ge=0, le=MAX_WAIT, description="Wait so many seconds for the session to rest.")


LEVELS = "progress: all a caller may read. user: without tools and progress; a `turn_started` only where text begins anew."


class ReadLog(Query):
    after: int = Field(0, ge=0, lt=2**62, description="Only events after this `seq`.")
    level: Level = Field("progress", description=LEVELS)
    types: list[Type] | None = Field(None, description="Only of these types, between commas.")

    @field_validator("types", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        return value.split(",") if isinstance(value, str) else value


class ReadEvents(ReadLog):
    limit: int = Field(200, ge=1, le=MAX_PAGE, description="Of a page of JSON.")
    wait: float = Field(0, ge=0, le=MAX_WAIT, description="Of a page of JSON: wait so many seconds for the first event.")


# -- what is answered


class Problem(BaseModel):
    """Every error."""

    code: str
    message: str = Field(description="What happened.")
    hint: str = Field(description="What to do; may be empty.")


class Session(BaseModel):
    """The durable unit of an agent at work. Its id is the `contextId` of A2A."""

    id: str
    agent: str
    status: Status
    metadata: dict[str, Any]
    limits: dict[str, Any] = Field(description="Those it was given itself.")
    seq: int = Field(description="Of the last event.")
    created_at: str
    updated_at: str


class SessionPage(BaseModel):
    sessions: list[Session] = Field(description="Newest first.")
    next: str | None = Field(description="The cursor of the next page; null on the last one.")


class Token(BaseModel):
    """A client token: short-lived, for one session, safe to hand to a browser."""

    token: str
    session_id: str
    scopes: list[Scope]
    expires_at: str


class Created(Session):
    task_id: str
    turn_id: str
    client_token: Token


class Sent(BaseModel):
    session_id: str
    task_id: str
    turn_id: str = Field(description="The turn that gets the message.")
    seq: int = Field(description="Of the message in the log: what comes of it comes after.")
    delivery: Literal["queued", "steered"]


class Destination(BaseModel):
    """A webhook of a session; its secrets are never told again."""

    id: str
    url: str
    level: Level
    types: list[str] = Field(description="Empty: all of the level.")
    signed: bool
    created_at: str


class Destinations(BaseModel):
    destinations: list[Destination]


class Nothing(BaseModel):
    """No body."""


class Interrupted(BaseModel):
    session_id: str
    turn_id: str


class Canceled(BaseModel):
    session_id: str
    tasks: list[str] = Field(description="What was ended; empty where nothing was at work.")


class Failure(BaseModel):
    category: str
    retryable: bool
    message: str
    incident: str | None = None


class Turn(BaseModel):
    id: str
    task_id: str
    yield_reason: YieldReason
    error: Failure | None
    queued_at: str
    started_at: str | None
    ended_at: str | None


class Artifact(BaseModel):
    name: str
    parts: list[dict[str, Any]] = Field(description="As A2A has them.")


class Result(BaseModel):
    """What came of the last turn that ended."""

    session_id: str
    status: Status
    turn: Turn | None = Field(description="null until a turn has ended.")
    text: str = Field(description="All that the agent said in it.")
    question: str | None = Field(description="What the agent asked, where it ended with needs_input or needs_auth.")
    artifacts: list[Artifact]


class Event(BaseModel):
    """One row of the log; `seq` has no gaps. Bodies: specs/events.schema.json.

    A `snapshot` stands for events that went into the archive (specs/retention.md); no filter leaves it out.
    """

    seq: int
    id: str
    type: Type
    level: Level
    actor: Literal["human", "agent", "system"]
    task_id: str | None
    turn_id: str | None
    created_at: str
    body: dict[str, Any]


class EventPage(BaseModel):
    events: list[Event]
    next: int = Field(description="`after` of the next page, also where nothing came.")
