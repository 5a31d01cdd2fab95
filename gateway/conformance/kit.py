"""Checks an image against the contract for custom runtimes: plays the scenes, judges what they show.

report = await check(image, folder)
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio

from gateway.conformance.checks import CHECKS, Check
from gateway.conformance.evidence import NO_MODEL, Found, Shown, Verdict
from gateway.conformance.scenes import OF_PROVIDERS, SCENES, SCRIPTS, WITHOUT_MODEL
from gateway.conformance.stage import PLAYED, Played, Scene, opened
from registry.images import Image

AT_ONCE = 4  # scenes that are played at the same time


@dataclass(frozen=True, slots=True)
class Result:
    id: str
    says: str
    required: bool
    verdict: Verdict
    evidence: str


@dataclass(frozen=True, slots=True)
class Report:
    image: str
    digest: str
    results: list[Result]

    @property
    def ok(self) -> bool:
        return not any(one.required and one.verdict == "failed" for one in self.results)

    def to_json(self) -> dict[str, Any]:
        """As `runtimes.check` answers it."""
        checks = [
            {"name": one.id, "ok": one.verdict != "failed", "result": one.evidence, "fix": _fix(one), "required": one.required}
            | {"verdict": one.verdict, "says": one.says}
            for one in self.results
        ]
        return {"image": self.image, "digest": self.digest, "ok": self.ok, "checks": checks}


def _fix(result: Result) -> str:
    return f"The contract: {result.says}" if result.verdict == "failed" else ""


async def check(
    image: Image,
    folder: Path,
    *,
    only: Collection[str] = (),
    at_once: int = AT_ONCE,
    heard: Callable[[str], None] = lambda _line: None,
    **settings: Any,
) -> Report:
    """`folder` is empty, and where the engine sees it, too. `only`: ids of checks. Raises LaunchError, SwitchboardError.

    `heard` is told of each scene that is over.
    """
    wanted = [one for one in CHECKS if not only or one.id in only]
    played: dict[str, Played] = {}
    async with opened(image, folder, SCRIPTS, concurrency=max(at_once, 1), **settings) as stage:
        limiter = anyio.CapacityLimiter(at_once)

        async def play(scene: Scene, provider: str) -> None:
            async with limiter:
                played[scene.name] = await stage.play(scene, provider)
            heard(scene.name)

        async with anyio.create_task_group() as group:
            for name in _scenes(wanted, image):
                group.start_soon(play, SCENES[name], stage.providers[0])
            for provider in stage.providers[1:] if any(one.id == "providers" for one in wanted) else ():
                group.start_soon(play, OF_PROVIDERS[provider], provider)
    shown = Shown(played, "steer" in image.capabilities)
    return Report(image.image, image.digest, [_result(one, _judged(one, shown)) for one in wanted])


def _result(check: Check, found: Found) -> Result:
    return Result(check.id, check.says, check.required and found.required, found.verdict, found.evidence)


def _scenes(wanted: list[Check], image: Image) -> list[str]:
    """The slow ones first."""
    names = {name for one in wanted for name in one.scenes} or {"text"}
    if not any(provider in PLAYED for provider in image.providers):
        names &= set(WITHOUT_MODEL)
    if "steer" not in image.capabilities:
        names -= {"steer"}
    return sorted(names, key=lambda name: (name not in ("slow", "deadline", "cancel"), list(SCENES).index(name)))


def _judged(check: Check, shown: Shown) -> Found:
    missing = [name for name in check.scenes if name not in shown.played]
    if missing == ["steer"]:
        return Found("not shown", "it does not say that it takes a steer")
    if missing:
        return Found("not shown", NO_MODEL)
    late = [name for name in check.scenes if shown[name].late]
    if late:
        return Found("failed", f"the scene {late[0]} came to no end: {shown[late[0]].error or 'it had to be canceled'}")
    return check.judge(shown)
