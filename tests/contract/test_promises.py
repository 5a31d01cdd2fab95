"""Every promise in specs/promises.yaml is cited by a test: `[INV-1]` in the test's docstring or in its module's."""

import re
from pathlib import Path

import yaml

ROOT = Path(__file__).parent.parent.parent
OTHERS = {"node_modules", "site-packages"}
CITATION = re.compile(r"\[([A-Z][A-Z0-9]*-\d+)\]")


def ids() -> list[str]:
    return [entry["id"] for entry in yaml.safe_load((ROOT / "specs/promises.yaml").read_text("utf-8"))]


def promised() -> set[str]:
    return set(ids())


def cited() -> set[str]:
    files = [path for path in (ROOT / "tests").rglob("test_*.py") if not OTHERS.intersection(path.parts)]
    return {id for path in files if path != Path(__file__) for id in CITATION.findall(path.read_text("utf-8"))}


def test_an_id_is_of_one_promise() -> None:
    assert [id for id in promised() if ids().count(id) > 1] == []


def test_every_promise_is_proven_by_a_test() -> None:
    assert promised() - cited() == set()


def test_every_citation_is_of_a_promise() -> None:
    assert cited() - promised() == set()
