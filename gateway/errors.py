"""Every error that leaves the gateway, as one tree, and one table with its codes.

    SwitchboardError
    ├── UsageError            what was sent makes no sense: the value is quoted, the mend is said
    │   ├── InvalidParams
    │   ├── ModelMismatch     the runtime cannot drive this model
    │   ├── TooLarge
    │   ├── InvalidEvent      told to a runtime: an event that the contract does not know
    │   ├── WrongMethod       of HTTP, for a path that takes others
    │   └── UnsupportedType   a media type that the agent does not take
    ├── NotFound              agent, session, task, runtime ... (what is not yours does not exist either)
    ├── Conflict              changed by somebody else meanwhile, or the name is taken
    │   ├── Archived          a session that is read-only for good
    │   ├── Busy              a session that works
    │   ├── NothingRuns       nothing to steer or to interrupt
    │   ├── KeyReused         an idempotency key that stands for another request
    │   ├── CallReused        an id of a sandbox call that stands for another one
    │   ├── TurnSuperseded    told to a runtime: another attempt has its turn
    │   └── TurnEnded         told to a runtime: its turn is over
    ├── NotAllowed            no key
    │   └── WrongKey          a key or token that does not hold
    ├── OutOfScope            a token that is for less
    ├── RateLimited           too many calls, or tasks, of one caller
    ├── RuntimeUnavailable    the runtime is not installed, or its key is missing
    ├── Fenced                a superseded runner tried to write (never leaves the engine)
    ├── Unavailable           the database is down, or the disk is full: nothing was done
    │   └── Crowded           told to a runtime: its turn has asked for more at once than is held for it
    └── OutcomeUnknown        the database was lost in the middle of a commit: it may be stored, or not

Owners get message and hint. Callers get a neutral sentence with an incident id; the translation is the A2A face's.
Every error leaves in one JSON shape: {"code", "message", "hint"}: in JSON-RPC as `error.data`, in HTTP as the body.
"""

from __future__ import annotations

from typing import Any, NamedTuple


class Codes(NamedTuple):
    jsonrpc: int
    http: int
    exit: int


class SwitchboardError(Exception):
    """`message` says what happened with the value quoted; `hint` what to do."""

    code = "internal_error"

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    @property
    def said(self) -> str:
        """Both, where there is room for one text only."""
        return f"{self.message} {self.hint}"

    def to_json(self) -> dict[str, Any]:
        return {"code": self.code, "message": self.message, "hint": self.hint}

    @property
    def codes(self) -> Codes:
        return TABLE[self.code]


class UsageError(SwitchboardError):
    code = "usage_error"


class InvalidParams(UsageError):
    code = "invalid_params"


class ModelMismatch(UsageError):
    code = "model_mismatch"


class TooLarge(UsageError):
    code = "too_large"


class InvalidEvent(InvalidParams):
    """`index` is that of the event in its batch."""

    code = "invalid_event"

    def __init__(self, message: str, hint: str, index: int, reason: str) -> None:
        super().__init__(message, hint)
        self.index, self.reason = index, reason

    def to_json(self) -> dict[str, Any]:
        return {**super().to_json(), "index": self.index, "reason": self.reason}


class WrongMethod(UsageError):
    code = "wrong_method"


class UnsupportedType(UsageError):
    code = "unsupported_type"


class NotFound(SwitchboardError):
    code = "not_found"


class Conflict(SwitchboardError):
    code = "conflict"


class Archived(Conflict):
    code = "session_archived"


class Busy(Conflict):
    code = "session_busy"


class NothingRuns(Conflict):
    code = "nothing_running"


class KeyReused(Conflict):
    code = "key_reused"


class TurnSuperseded(Conflict):
    code = "turn_superseded"


class TurnEnded(Conflict):
    code = "turn_ended"


class CallReused(Conflict):
    code = "call_reused"


class NotAllowed(SwitchboardError):
    code = "not_allowed"


class WrongKey(NotAllowed):
    pass


class OutOfScope(SwitchboardError):
    code = "out_of_scope"


class RateLimited(SwitchboardError):
    """`retry_after`: seconds after which another try may do."""

    code = "rate_limited"

    def __init__(self, message: str, hint: str, retry_after: int = 1) -> None:
        super().__init__(message, hint)
        self.retry_after = retry_after


class RuntimeUnavailable(SwitchboardError):
    code = "runtime_unavailable"


class Fenced(SwitchboardError):
    code = "fenced"

    def __init__(self, message: str) -> None:
        super().__init__(message, "Leave it to whoever came after.")


class Unavailable(SwitchboardError):
    """`incident`: under which the log has it, where callers are told."""

    code = "unavailable"
    incident = ""


class Crowded(Unavailable):
    """An image's own doing, which it may do again later: nobody's incident."""


class OutcomeUnknown(SwitchboardError):
    """Whoever would try again must know that doing it twice harms nobody. `incident` as of Unavailable."""

    code = "outcome_unknown"
    incident = ""


TABLE: dict[str, Codes] = {
    "internal_error": Codes(-32603, 500, 1),
    "usage_error": Codes(-32602, 400, 2),
    "invalid_params": Codes(-32602, 400, 2),
    "model_mismatch": Codes(-32602, 422, 2),
    "invalid_event": Codes(-32602, 400, 2),
    "too_large": Codes(-32602, 413, 2),
    "wrong_method": Codes(-32600, 405, 2),
    "unsupported_type": Codes(-32602, 415, 2),
    "not_found": Codes(-32010, 404, 1),
    "conflict": Codes(-32011, 409, 1),
    "session_archived": Codes(-32011, 409, 1),
    "session_busy": Codes(-32011, 409, 1),
    "nothing_running": Codes(-32011, 409, 1),
    "key_reused": Codes(-32016, 422, 2),
    "turn_superseded": Codes(-32011, 409, 1),
    "turn_ended": Codes(-32011, 409, 1),
    "call_reused": Codes(-32016, 422, 2),
    "not_allowed": Codes(-32012, 401, 4),
    "out_of_scope": Codes(-32012, 403, 4),
    "runtime_unavailable": Codes(-32013, 409, 1),
    "fenced": Codes(-32603, 500, 1),
    "unavailable": Codes(-32014, 503, 1),
    "rate_limited": Codes(-32015, 429, 1),
    "outcome_unknown": Codes(-32017, 503, 1),
}
