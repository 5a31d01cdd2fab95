"""What was sent against the pydantic model it has to fit: the errors say what is wrong where, what was there, what to do."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from gateway.errors import InvalidParams

M = TypeVar("M", bound=BaseModel)


def checked(model: type[M], value: Any, *, secret: Collection[str], see: str, kind: str = "") -> M:
    """Raises InvalidParams, which quotes nothing at or below a field of `secret`.

    `see`: the document that describes `model`. `kind`: what a field is called, such as "parameter ".
    """
    try:
        return model.model_validate(value)
    except ValidationError as exc:
        errors = exc.errors(include_url=False, include_context=False)
        said = "; ".join(_said(error, frozenset(secret), kind) for error in errors[:3])
        raise InvalidParams(f"{said}.", _hint(model, errors[0], see)) from exc


def _said(error: Mapping[str, Any], secret: frozenset[str], kind: str) -> str:
    place = ".".join(map(str, error["loc"]))
    match error["type"]:
        case "extra_forbidden":
            return f"There is no {kind}{place!r}"
        case "missing":
            return f"{f'The {kind}' if kind else ''}{place!r} is missing"
    said = f"{place or 'the body'}: {error['msg'].removeprefix('Value error, ')}"
    return said if secret.intersection(error["loc"]) else f"{said} (was {repr(error['input'])[:100]})"


def _hint(model: type[BaseModel], error: Mapping[str, Any], see: str) -> str:
    *parents, last = error["loc"] or ("",)
    known = _fields(model, parents) if error["type"] == "extra_forbidden" else None
    if known is None:
        return f"See {see}."
    close = get_close_matches(str(last), known, n=1)
    return f"Did you mean {close[0]!r}?" if close else f"There are: {', '.join(known) or 'none'}."


def _fields(model: type[BaseModel], parents: Sequence[str | int]) -> list[str] | None:
    """The fields of the model that lies at a place; None where the place alone does not tell which."""
    for name in (parent for parent in parents if isinstance(parent, str)):
        found = _model_in(model.model_fields[name].annotation) if name in model.model_fields else None
        if found is None:
            return None
        model = found
    return list(model.model_fields)


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for one in get_args(annotation) if (found := _model_in(one))), None)
