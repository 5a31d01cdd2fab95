"""The tutorial, command by command, against a gateway and a model of ours; and how long the reference runtime is."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import uvicorn

from gateway.conformance.model import Model
from tests import needs
from tests.gateway.conformance.made import MINIMAL
from tests.support import free_port, gateway_process

BLOCK = re.compile(r"```sh\n(.*?)```", re.DOTALL)
IMAGES = ("parrot:1", "minimal:1", "minimal:2")
pytestmark = pytest.mark.timeout(300)


def test_the_reference_runtime_has_less_than_150_lines_and_no_sdk() -> None:
    source = (MINIMAL / "runtime.py").read_text("utf-8")
    assert len(source.splitlines()) < 150
    imported = {name.partition(".")[0] for node in ast.walk(ast.parse(source)) for name in _imports(node)}
    assert imported <= sys.stdlib_module_names


def _imports(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [name.name for name in node.names]
    return [node.module or ""] if isinstance(node, ast.ImportFrom) else []


@contextmanager
def model() -> Iterator[str]:
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(Model({}).app(), port=port, log_level="critical", lifespan="off"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        server.should_exit = True
        thread.join(10)


def programs(folder: Path, base: str) -> None:
    """`switchboard` is ours, `docker` builds on what there is."""
    docker = shutil.which("docker")
    if docker is None:
        needs.missing("The tutorial needs the command docker.")
    build = f'if [ "$1" = build ]; then shift; set -- build -q --build-arg BASE_IMAGE={base} "$@"; fi'
    for name, text in (
        ("switchboard", f'exec "{sys.executable}" -m gateway.cli "$@"'),
        ("docker", f'{build}\nexec "{docker}" "$@"'),
    ):
        folder.mkdir(exist_ok=True)
        (folder / name).write_text(f"#!/bin/sh\n{text}\n", "utf-8")
        (folder / name).chmod(0o755)


def test_the_tutorials_commands_make_a_runtime_from_nothing(tmp_path: Path) -> None:
    """[KIT-5]"""
    base = needs.an_engine("base")
    needs.an_engine("gateway")
    programs(tmp_path / "bin", base)
    work = shutil.copytree(MINIMAL, tmp_path / "minimal")
    blocks = BLOCK.findall((MINIMAL / "README.md").read_text("utf-8"))
    assert len(blocks) == 4
    env = {"SWITCHBOARD_EGRESS_PRIVATE_HOSTS": "127.0.0.1"}
    try:
        with model() as url, gateway_process(tmp_path / "data", env) as gateway:
            shell = {
                **os.environ,
                "PATH": f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}",
                "SWITCHBOARD_URL": gateway.url,
                "SWITCHBOARD_DATA_DIR": str(gateway.data_dir),
                "OPENAI_API_KEY": "a-key",
                "OPENAI_BASE_URL": url,
            }
            said = []
            for number, block in enumerate(blocks):
                where = tmp_path if number < 2 else work
                done = subprocess.run(
                    ["sh", "-ec", block], cwd=where, env=shell, capture_output=True, text=True, check=False, timeout=150
                )
                assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}\n{gateway.log()[-3000:]}"
                said.append(done.stdout)
    finally:
        subprocess.run(["docker", "rmi", "-f", *IMAGES], capture_output=True, check=False)
    assert "You said: Pieces of eight" in said[1]
    assert "That is all." in said[2]
    assert re.search(r"^2 +current", said[3], re.MULTILINE)
    assert "get version 1 now" in said[3]
