"""specs/owner-api.md says what is so: methods and their parameters, codes of errors, what a runtime can do."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

from adapters.profile import Capabilities
from adapters.registration import profiles
from gateway.errors import TABLE
from gateway.owner import methods, params
from gateway.wire import MAX_DEPTH

SPEC = (Path(__file__).parents[3] / "specs/owner-api.md").read_text("utf-8")
ENTERED = re.findall(r'@method\(METHODS, "(.+?)", (\w+)\)', Path(methods.__file__).read_text("utf-8"))


def told(text: str) -> dict[str, bool]:
    """The parameters a heading names, and whether each must be given."""
    plain = re.sub(r'\{[^}]*\}|"[^"]*"', "", text)
    names = {name: not optional for name, optional in re.findall(r"(?:^|, )(\w+)(\??)", plain)}
    rest = dict.fromkeys(params.Changes.model_fields, False) if "...fields" in plain else {}
    return rest | names


def test_every_method_and_its_parameters_are_told() -> None:
    assert {name for name, _ in ENTERED} == set(methods.METHODS)
    found = {name: told(text) for name, text in re.findall(r"^### (\S+) `\{(.*?)\}` →", SPEC, re.MULTILINE)}
    assert found == {
        name: {field: info.is_required() for field, info in getattr(params, model).model_fields.items()}
        for name, model in ENTERED
    }


def test_what_is_told_of_errors_and_bounds_is_so() -> None:
    rows = re.findall(r"^\| (-\d+) \| (\w+) \|", SPEC, re.MULTILINE)
    codes = {name: int(code) for code, name in rows if name != "usage_error"}  # JSON-RPC's own have that one
    assert codes == {name: TABLE[name].jsonrpc for name in codes}
    assert {"not_found", "conflict", "runtime_unavailable", "unavailable", "outcome_unknown"} <= set(codes)
    assert f"may be {MAX_DEPTH} levels deep" in SPEC


def test_what_is_told_of_a_runtime_is_so() -> None:
    claude = profiles()["claude"]
    assert f'"default_model": "{claude.default_model}"' in SPEC
    assert f"such as '{claude.default_model}'" in SPEC
    (capabilities,) = re.findall(r'"capabilities": \{(.*?)\}', SPEC, re.DOTALL)[:1]
    assert re.findall(r'"(\w+)":', capabilities) == [field.name for field in dataclasses.fields(Capabilities)]
