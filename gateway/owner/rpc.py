"""JSON-RPC 2.0 around the owners' methods. jsonrpcserver lives here and nowhere else.

It checks no types, runs batches of any size and puts exception texts into `error.data`; so parameters are parsed by
`params`, a batch is bounded, and every error leaves with the same `data`: {"code", "message", "hint"}.
"""

from __future__ import annotations

import warnings
from collections.abc import Awaitable, Callable, Mapping
from difflib import get_close_matches
from typing import Any

from gateway.errors import InvalidParams, SwitchboardError, UsageError
from gateway.owner.border import registry_errors
from gateway.owner.context import Owner
from gateway.owner.params import P, parse
from gateway.wire import BadBody, NoJson, check_shape, strict_json

with warnings.catch_warnings():
    # It reads its schema by a function that is deprecated since Python 3.11: https://github.com/explodinglabs/jsonrpcserver
    warnings.filterwarnings("ignore", r"(read|open)_text is deprecated", DeprecationWarning)
    from jsonrpcserver import JsonRpcError, Result, Success, async_dispatch_to_serializable

MAX_BATCH = 50
PARSE_ERROR, INVALID_REQUEST, METHOD_NOT_FOUND = -32700, -32600, -32601

Call = Callable[..., Awaitable[Result]]
Methods = dict[str, Call]


def method(methods: Methods, name: str, model: type[P]) -> Callable[[Callable[[Owner, P], Awaitable[Any]]], Any]:
    """Enter a function of (owner, parsed parameters) into `methods`."""

    def enter(function: Callable[[Owner, P], Awaitable[Any]]) -> Callable[[Owner, P], Awaitable[Any]]:
        async def call(owner: Owner, /, *args: Any, **params: Any) -> Result:
            try:
                if args:
                    raise InvalidParams("Parameters were given by position.", "Give them by name, as an object.")
                with registry_errors():
                    return Success(await function(await owner.now(), parse(model, params)))
            except SwitchboardError as exc:
                raise JsonRpcError(exc.codes.jsonrpc, exc.message, exc.to_json()) from exc

        methods[name] = call
        return function

    return enter


async def answer(body: bytes, owner: Owner, methods: Methods) -> Any:
    """The response to a request or a batch, ready for JSON; None when nobody waits for one."""
    try:
        request = loads(body)
    except UsageError as exc:
        return _refusal(PARSE_ERROR, exc)
    if isinstance(request, list) and len(request) > MAX_BATCH:
        said = f"A batch of {len(request)} requests is too long; {MAX_BATCH} are allowed."
        return _refusal(INVALID_REQUEST, UsageError(said, "Send several batches."))
    found = await async_dispatch_to_serializable("", methods, context=owner, deserializer=lambda _: request)
    for response in found if isinstance(found, list) else [found]:
        if response is not None and "error" in response:
            _tidy(response["error"], methods)
    return found


def loads(body: bytes) -> Any:
    """Strict JSON, not too deep and not too much of it. Raises UsageError."""
    try:
        check_shape(body)
        return strict_json(body)
    except BadBody as exc:
        raise UsageError(str(exc), "Send less at once, and flatter.") from exc
    except NoJson as exc:
        raise UsageError(f"The request is no valid JSON: {exc}", "Send a JSON-RPC 2.0 request in UTF-8.") from exc


def _refusal(code: int, error: UsageError) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "error": {"code": code, "message": error.message, "data": error.to_json()}, "id": None}


def _tidy(error: dict[str, Any], methods: Mapping[str, Any]) -> None:
    """Give an error the library made itself our shape."""
    if isinstance(error.get("data"), dict):
        return
    data: SwitchboardError
    match error["code"]:
        case -32601:
            name = str(error.get("data"))
            close = get_close_matches(name, methods, n=1)
            hint = f"Did you mean {close[0]!r}?" if close else f"There are: {', '.join(methods)}."
            data = UsageError(f"There is no method {name[:100]!r}.", hint)
        case -32600:
            data = UsageError("This is no JSON-RPC 2.0 request.", "Send jsonrpc, method, params (an object) and id.")
        case _:
            data = SwitchboardError("Something went wrong in the gateway.", "Its log says what.")
    error["message"], error["data"] = data.message, data.to_json()
