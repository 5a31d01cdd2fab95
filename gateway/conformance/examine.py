"""Runs the conformance kit for a gateway: in a process of its own, in a folder of the gateway's that its engine sees, too."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread

from adapters.launch.container import Engine
from adapters.launch.process import LaunchError
from gateway.conformance.folders import made, parent_of
from gateway.errors import RuntimeUnavailable
from gateway.settings import Settings
from registry.images import Image

SECONDS = 600.0
_PASSED_ON = ("SWITCHBOARD_SIDECAR_IMAGE",)


@dataclass(frozen=True, slots=True)
class Examiner:
    """Answers the kit's report. One image at a time. Raises RuntimeUnavailable where the kit could not do its work."""

    settings: Settings
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ, repr=False)
    _turn: anyio.Lock = field(default_factory=anyio.Lock)

    async def __call__(self, image: Image) -> dict[str, Any]:
        async with self._turn:
            with made(parent_of(self.settings)) as (folder, lock):
                try:
                    return await self._run(image, folder, lock)
                finally:
                    await self._sweep(folder)

    async def _sweep(self, folder: Path) -> None:
        """What a kit that died left on the engine."""
        with anyio.CancelScope(shield=True), closing(Engine(self.environ)) as engine, suppress(LaunchError):
            for one in await engine.labelled(str((folder / "sessions").resolve())):
                await engine.remove(one.id)

    async def _run(self, image: Image, folder: Path, lock: int) -> dict[str, Any]:
        command = [sys.executable, "-m", "gateway.conformance", "--folder", str(folder), "--pushed", json.dumps(asdict(image))]
        env = {name: value for name, value in self.environ.items() if not name.startswith("SWITCHBOARD_") or name in _PASSED_ON}
        env["SWITCHBOARD_SIDECAR_IMAGE"] = self.settings.sidecar_image
        try:
            with anyio.fail_after(SECONDS):
                async with await anyio.open_process(command, stdin=subprocess.PIPE, env=env, pass_fds=[lock]) as process:
                    assert process.stdout is not None
                    assert process.stderr is not None
                    said: dict[str, bytes] = {"out": b"", "err": b""}
                    async with anyio.create_task_group() as group:
                        group.start_soon(_gather, process.stdout, said, "out")
                        group.start_soon(_gather, process.stderr, said, "err")
                    await process.wait()
        except TimeoutError as exc:
            raise RuntimeUnavailable(f"The check of {image.image!r} took more than {SECONDS:g} s.", "Try again.") from exc
        try:
            report: dict[str, Any] = json.loads(said["out"])
        except ValueError as exc:
            why = said["err"].decode("utf-8", "replace").strip().splitlines()[-1:] or ["it said nothing"]
            raise RuntimeUnavailable(
                f"The image {image.image!r} could not be checked: {why[0]}", "See: switchboard doctor"
            ) from exc
        return report


async def _gather(stream: Any, said: dict[str, bytes], name: str) -> None:
    async for piece in stream:
        said[name] = (said[name] + piece)[-(2**20) :]
