"""What of the machine an agent may be given, and how each thing that may not be is refused. [GND-1]"""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

from registry import ground, rules
from registry.ground import Ground
from registry.makeup import Makeup
from registry.rules import Invalid, RuntimeFacts

FACTS = RuntimeFacts("many")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root that agents may be given, beside what they may not."""
    for name in ("root/data/sub", "root/keys/.ssh", "root/cloud/.config/gcloud", "root/own/sessions", "outside/secret"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "root/file").write_text("x")
    (tmp_path / "root/out").symlink_to(tmp_path / "outside")
    (tmp_path / "root/in").symlink_to("data")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "root/docker.sock"))
    return tmp_path / "root"


def allowed(root: Path, *security: str) -> Ground:
    return Ground((str(root),), frozenset(security), str(root / "own"))


def contained(**more: Any) -> Makeup:
    return Makeup("many", placement="docker", **more)


def test_a_directory_and_a_file_below_a_root_are_found_where_they_really_are(root: Path) -> None:
    found = [ground.source_of(str(root / name), allowed(root)) for name in ("data/sub", "file", "in")]
    assert found == [str(root / name) for name in ("data/sub", "file", "data")]


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("data", "no plain absolute path"),
        ("", "no plain absolute path"),
        ("{root}/data/../data", "no plain absolute path"),
        ("{root}/data/", "no plain absolute path"),
        ("/{root}/data", "no plain absolute path"),
        ("{root}/da\0ta", "no plain absolute path"),
        ("{root}/../outside", "no plain absolute path"),
        ("{root}x", "below none of the roots"),
        ("/etc", "below none of the roots"),
        ("/proc/self/root{root}/../outside/secret", "no plain absolute path"),
        ("/proc/self/root/etc", "it leads to '/etc'"),
        ("{root}/out", "it leads to .*outside'"),
        ("{root}/out/secret", "it leads to .*outside/secret'"),
        ("{root}/nothing", "cannot be used where the gateway runs: No such file"),
        ("{root}/docker.sock", "neither a directory nor a file"),
        ("{root}/keys", "keys are kept there"),
        ("{root}/keys/.ssh", "keys are kept there"),
        ("{root}/cloud", "keys are kept there"),
        ("{root}/cloud/.config/gcloud", "keys are kept there"),
        ("{root}/own", "the gateway's own data"),
        ("{root}/own/sessions", "the gateway's own data"),
        ("{root}", "the gateway's own data"),
    ],
)
def test_what_may_not_be_mounted_is_refused_with_the_reason(root: Path, source: str, told: str) -> None:
    with pytest.raises(Invalid, match=f"(?s){told}"):
        ground.source_of(source.format(root=root), allowed(root))


@pytest.mark.parametrize(
    "source",
    ["/", "/etc", "/etc/ssl", "/proc", "/sys", "/dev", "/root", "/run", "/usr/bin", "/var", "/var/lib/docker", "/var/run"],
)
def test_the_systems_directories_are_refused_even_below_a_root(source: str) -> None:
    with pytest.raises(Invalid, match="directory of the system's"):
        ground.source_of(source, Ground(("/",)))


def test_without_a_root_nothing_can_be_mounted(root: Path) -> None:
    with pytest.raises(Invalid) as caught:
        ground.source_of(str(root / "data"), Ground())
    assert caught.value.hint == "The operator names roots in SWITCHBOARD_MOUNT_ROOTS; there: none."


@pytest.mark.parametrize(
    "target",
    [
        "/data",
        "mnt/data",
        "/mnt",
        "/mnt/",
        "/mnt/../etc",
        "/mnt/a/../../etc",
        "/mnt/.a",
        "/mnt/a//b",
        "/mnt/a/",
        "/mnt/a b",
        "/mnt/a\n",
    ],
)
def test_what_is_mounted_is_seen_below_mnt_only(root: Path, target: str) -> None:
    with pytest.raises(Invalid, match="cannot be where a mount is seen inside"):
        ground.check(contained(volumes=[{"name": "v", "target": target}]), allowed(root))


@pytest.mark.parametrize(
    ("makeup", "told"),
    [
        (Makeup("many", volumes=[{"name": "v", "target": "/mnt/v"}]), "Volumes need a sandbox or a container"),
        (
            Makeup("many", mounts=[{"source": "/srv", "target": "/mnt/v", "writable": False}]),
            "Mounts need a sandbox or a container",
        ),
        (contained(volumes=[{"name": "v", "target": "/mnt/v"}, {"name": "w", "target": "/mnt/v/w"}]), "lie in one another"),
        (contained(volumes=[{"name": "v", "target": "/mnt/v"}, {"name": "w", "target": "/mnt/v"}]), "lie in one another"),
        (contained(volumes=[{"name": "v", "target": "/mnt/v"}, {"name": "v", "target": "/mnt/w"}]), "given twice"),
        (contained(security_opt=["apparmor=unconfined"]), "may not be given to agents"),
        (contained(security_opt=["label=disable"]), "may not be given to agents"),
        (contained(security_opt=["apparmor=other"]), "may not be given to agents"),
        (Makeup("many", placement="sandboxed", security_opt=["apparmor=mine"]), "security_opt is of containers"),
    ],
)
def test_what_does_not_go_together_is_refused(root: Path, makeup: Makeup, told: str) -> None:
    with pytest.raises(Invalid, match=told):
        ground.check(makeup, allowed(root, "apparmor=mine", "apparmor=unconfined", "label=disable"))


def test_what_the_operator_names_may_be_given(root: Path) -> None:
    mounts = [{"source": str(root / "data"), "target": "/mnt/data", "writable": True}]
    volumes = [{"name": "cache", "target": "/mnt/cache"}]
    ground.check(contained(mounts=mounts, volumes=volumes, security_opt=["apparmor=mine"]), allowed(root, "apparmor=mine"))


@pytest.mark.parametrize("name", ["memory_mb", "cpus", "pids"])
def test_a_limit_of_containers_needs_one(name: str) -> None:
    rules.check(contained(limits={name: 100}), FACTS)
    with pytest.raises(Invalid, match="is of containers"):
        rules.check(Makeup("many", placement="sandboxed", limits={name: 100}), FACTS)


@pytest.mark.parametrize("limits", [{"memory_mb": 63}, {"pids": 15}, {"cpus": 0.001}, {"cpus": 0}, {"memory_mb": 64.5}])
def test_a_container_is_given_enough_to_begin(limits: dict[str, float]) -> None:
    with pytest.raises(Invalid):
        rules.check_limits(limits)
