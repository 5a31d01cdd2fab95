"""What the runtime API takes and answers, as pydantic models: the JSON Schema of events and the OpenAPI document are made
from them. specs/runtime-contract.md says what they mean.

Nothing unknown is passed over: CONTRACT_VERSION says what there is, and a misspelt field is better told than lost.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from adapters.events import ErrorCategory, YieldReason

Json = dict[str, Any]

VERSION = 1
MAX_EVENTS = 500  # of one request
MAX_TEXT = 2**18  # characters of a text
MAX_LINE = 2000  # characters of a status or a name of a kind
MAX_PARTS = 1000
MAX_WAIT = 60  # seconds of a long poll
MAX_PAGE = 1000

Id = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._:-]{1,128}$")]
Text = Annotated[str, StringConstraints(min_length=1, max_length=MAX_TEXT)]
Short = Annotated[str, StringConstraints(min_length=1, max_length=MAX_LINE)]
Name = Annotated[str, StringConstraints(min_length=1, max_length=255)]
Count = Annotated[int, Field(ge=0, le=10**12)]


class Shape(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


# -- events an image appends


class Part(Shape):
    """One of `text`, `data`, `raw` (base64) and `url`, as A2A has them."""

    model_config = ConfigDict(json_schema_extra={"oneOf": [{"required": [name]} for name in ("text", "data", "raw", "url")]})

    text: str = ""
    data: Any = None
    raw: str = ""
    url: str = ""
    filename: str = ""
    mediaType: str = ""
    metadata: Json = Field(default_factory=dict)

    @model_validator(mode="after")
    def _one(self) -> Part:
        if len(self.model_fields_set & {"text", "data", "raw", "url"}) != 1:
            raise ValueError("give exactly one of text, data, raw and url")
        return self


Parts = Annotated[list[Part], Field(min_length=1, max_length=MAX_PARTS)]


class Posted(Shape):
    id: Id = Field(description="The image's own, unique within the turn: the same id is appended once, in all attempts.")


class Chunk(Posted):
    """A piece of the answer."""

    type: Literal["chunk"]
    text: Text


class Thinking(Posted):
    """For the owner only."""

    type: Literal["thinking"]
    text: Text


class Status(Posted):
    """What the agent is doing, for the caller."""

    type: Literal["status"]
    text: Short


class ToolStart(Posted):
    type: Literal["tool_start"]
    call_id: Id = Field(description="The image's own; callers see another one.")
    tool: Name = Field(description="A canonical tool, or any other name, which only the owner reads.")
    input: Json


class ToolResult(Posted):
    type: Literal["tool_result"]
    call_id: Id
    output: str = ""
    is_error: bool = False
    exit_code: int | None = None


class Artifact(Posted):
    type: Literal["artifact"]
    name: Name
    parts: Parts
    append: bool = False
    last: bool = True


class Ask(Posted):
    """A question. The turn ends with it as needs_input, when the image exits with 0 or says so."""

    type: Literal["ask"]
    question: Text


class Message(Posted):
    """A whole answer; the turn ends with it as completed."""

    type: Literal["message"]
    parts: Parts


class Steered(Posted):
    """A message that came while the turn runs was taken into it."""

    type: Literal["steered"]
    steer: Id = Field(description="The id of the steer.")


class Usage(Posted):
    """What was used since the last such event, for the owner only."""

    type: Literal["usage"]
    input_tokens: Count = 0
    output_tokens: Count = 0
    cached_tokens: Count = 0
    cost_usd: float = Field(0.0, ge=0, le=10**9, allow_inf_nan=False)


class Notice(Posted):
    """For the owner only."""

    type: Literal["notice"]
    kind: Name
    text: Text


class Failure(Shape):
    category: ErrorCategory
    text: str = Field("", max_length=MAX_TEXT, description="For the owner only.")


class Done(Posted):
    """The end of the turn."""

    type: Literal["done"]
    yield_reason: YieldReason = "completed"
    message: str | None = Field(None, max_length=MAX_TEXT, description="What the caller is told with the end.")
    error: Failure | None = None


Event = Annotated[
    Chunk | Thinking | Status | ToolStart | ToolResult | Artifact | Ask | Message | Steered | Usage | Notice | Done,
    Field(discriminator="type"),
]


class Batch(Shape):
    events: list[Event] = Field(min_length=1, max_length=MAX_EVENTS)


class Appended(Shape):
    """The events are in the log, and will stay there."""

    accepted: int = Field(description="Events that were appended.")
    duplicates: int = Field(description="Events whose ids had been appended before.")
    cursor: int = Field(description="The session's log reaches so far: a cursor for reading on.")


# -- what an image reads


class Query(BaseModel):
    """The parameters of a URL; texts, as they come."""

    model_config = ConfigDict(extra="forbid")

    after: int = Field(0, ge=0, lt=2**62, description="Events after this seq.")
    limit: int = Field(100, ge=1, le=MAX_PAGE, description="Events, at most.")
    wait: float = Field(0, ge=0, le=MAX_WAIT, description="Seconds to wait for an event, or for something new in `control`.")


class Told(Shape):
    """An event of the session's log."""

    seq: int
    type: str
    level: Literal["user", "progress"]
    actor: Literal["human", "agent", "system"]
    task_id: str | None
    turn_id: str | None
    at: str = Field(description="RFC 3339, UTC.")
    body: Json


class Cancel(Shape):
    """The turn is to end: finish what must not be left half done, post done with canceled, exit."""

    type: Literal["cancel"]


class Steer(Shape):
    """A message that came while the turn runs: take it into the turn and post steered; one that is left is the next turn."""

    type: Literal["steer"]
    id: str
    text: str


Control = list[Annotated[Cancel | Steer, Field(discriminator="type")]]


class Page(Shape):
    events: list[Told]
    cursor: int = Field(description="The `after` of the next page.")
    more: bool = Field(description="Whether there are more events already.")
    control: Control = Field(description="All that is asked of the turn and was not answered yet.")


class Alive(Shape):
    deadline_ms: int
    control: Control


class TurnInput(Shape):
    """What the turn is to do."""

    contract: int
    session_id: str
    task_id: str
    turn_id: str
    attempt: int
    read_cursor: int = Field(description="The seq before this turn's first message.")
    deadline_ms: int = Field(description="When the turn is ended, in milliseconds since 1970.")
    prompt: str = Field(description="The text of the turn's messages, their data as JSON, and a line for each file.")
    parts: list[Json] = Field(description="Their parts; files as `path` in the sandbox's workspace.")
    message_id: str | None
    metadata: Json
    references: list[Json] = Field(description="Tasks the message refers to: task_id, state, text.")
    system_prompt: str | None = Field(description="The agent's instructions, from its owner.")
    provider: str | None
    model: str | None
    variables: dict[str, str] = Field(description="The agent's own, secrets among them: they stand in no environment.")
    mcp_servers: list[Json]


# -- the sandbox


class Call(Shape):
    """A call of a sandbox tool."""

    call_id: Id = Field(description="The image's own, unique within the turn: the same call is done once, in all attempts.")
    tool: Name = Field(description="bash, read, write, edit, ls, glob or grep.")
    input: Json = Field(description="What the tool takes.")


class Answer(Shape):
    """What a call answered. What could not be done is an answer, too, in words for a model."""

    call_id: str
    output: str
    is_error: bool
    exit_code: int | None = Field(description="Of a command that ended by itself.")
    truncated: bool = Field(description="Whether there was more.")
    encoding: Literal["utf-8", "base64"]
    timed_out: bool
    interrupted: bool = Field(
        description="The gateway was interrupted: whether the call ran is not known, and it is not run again."
    )


class Problem(Shape):
    """Every error. `index` and `reason`: the first event that cannot be taken, where one was at fault."""

    code: str
    message: str
    hint: str
    index: int | None = None
    reason: str | None = None
