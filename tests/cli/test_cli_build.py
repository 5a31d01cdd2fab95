"""`switchboard runtimes build` on the real engine: what is built, and what is said where it cannot be."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from docker.client import DockerClient

from tests import needs
from tests.cli.cli_fake import ROOT, shell
from tests.cli.conftest import Run
from tests.registries import registry
from tests.support import free_port

OURS = ("gateway", "docker")


@pytest.fixture
def engine(home: Path) -> str:
    return needs.an_engine("base")


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """A checkout with as much as a build needs, but for what npm installs."""
    root = tmp_path / "checkout"
    for name in OURS:
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    (root / "tests").mkdir()
    return root


@pytest.fixture
def base(engine: str) -> Iterator[str]:
    """A base nothing was built on yet; what is built on it is removed."""
    tag = uuid.uuid4().hex
    with closing(DockerClient.from_env()) as client:
        client.images.get(engine).tag("switchboard-test-base", tag)
        yield f"switchboard-test-base:{tag}"
        client.api.remove_image(f"switchboard-test-base:{tag}", noprune=True)


def test_an_image_is_built_once_and_works(run: Run, base: str) -> None:
    code, out, err = run("runtimes", "build", "minimal", "--base", base, "--json")
    [image] = json.loads(out)["images"]
    with closing(DockerClient.from_env()) as client:
        attrs = client.images.get("switchboard-minimal:latest").attrs
        again = run("runtimes", "build", "minimal", "--base", base)
        client.api.remove_image(image["image"], noprune=True)
    assert code == again.code == 0
    assert image == {"name": "minimal", "image": image["image"], "id": attrs["Id"], "base": base, "built": True}
    assert attrs["Config"]["Entrypoint"] == ["python3", "/runtime.py"]
    assert "minimal: Step 2/4" in err
    assert again.out == f"{image['image']}, on {base}: there already\n"
    assert f"Next: switchboard runtimes push {image['image']} --name minimal" in again.err


def test_all_are_those_of_make_images_and_the_reference_runtime(run: Run, engine: str) -> None:
    words = [ROOT / "docker/build.py", "--base", "local", "agent", "gateway", "postgres"]  # as `make images`
    made = subprocess.run([sys.executable, *words], capture_output=True, text=True, check=True)
    code, out, _ = run("runtimes", "build", "--all", "--base", "local", "--json")
    names = {one["name"]: one["image"] for one in json.loads(out)["images"]}
    assert (code, list(names)) == (0, ["agent", "gateway", "minimal", "postgres"])
    assert [names[name] for name in ("agent", "gateway", "postgres")] == made.stdout.split()


def test_a_base_that_cannot_be_had_is_named(run: Run, engine: str, tmp_path: Path) -> None:
    with registry(tmp_path) as hub:
        for base, why in ((f"{hub.address}/none:1", "not found"), (f"127.0.0.1:{free_port()}/none:1", "connection refused")):
            code, out, err = run("runtimes", "build", "--base", base)
            assert (code, out) == (1, "")
            assert f"no base image '{base}'" in err
            assert why in err
            assert "--base local" in err


def test_a_base_on_which_it_does_not_build_is_told_with_the_last_words(run: Run, engine: str) -> None:
    with closing(DockerClient.from_env()) as client:
        empty = client.api.import_image_from_data(bytes(10_240), "switchboard-test-empty", "latest")
    assert "errorDetail" not in empty
    code, out, err = run("runtimes", "build", "postgres", "--base", "switchboard-test-empty:latest", "--json")
    assert (code, out) == (1, "")
    error = json.loads(err.splitlines()[-1])
    assert error["code"] == "runtime_unavailable"
    assert "RUN echo" in error["message"]


def test_an_engine_that_does_not_answer_is_told(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/nobody.sock")
    code, out, err = run("runtimes", "build")
    assert (code, out) == (1, "")
    assert f"The container engine at unix://{tmp_path}/nobody.sock does not answer" in err
    assert "set DOCKER_HOST" in err


def test_what_npm_has_not_installed_is_named(home: Path, engine: str, elsewhere: Path) -> None:
    there = elsewhere / "tests/node_modules/.bin"
    there.mkdir(parents=True)
    for name in ("claude", "gemini", "opencode"):
        (there / name).touch()
    done = shell(home, PYTHONPATH=f"{elsewhere}{os.pathsep}{ROOT}").run("runtimes", "build", "--base", "local")
    assert (done.returncode, done.stdout) == (1, "")
    assert "The npm packages of codex are not in" in done.stderr
    assert "make clis" in done.stderr


def test_an_installation_without_the_files_says_what_to_do(home: Path, elsewhere: Path) -> None:
    shutil.rmtree(elsewhere / "docker")
    done = shell(home, PYTHONPATH=str(elsewhere)).run("runtimes", "build")
    assert (done.returncode, done.stdout) == (1, "")
    assert "in a checkout, or set SWITCHBOARD_AGENT_IMAGE" in done.stderr


def test_an_image_nobody_knows_is_a_usage_error(run: Run) -> None:
    assert run("runtimes", "build", "nonsense").code == 2
