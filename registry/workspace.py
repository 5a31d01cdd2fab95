"""What an owner may say of a session's workspace: a repository in it, hooks around it, where in it the runtime starts."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from registry.rules import Invalid, check_url

if TYPE_CHECKING:
    from registry.makeup import Makeup

HOOKS = ("pre_init", "post_init", "sidecar", "post_run")
MAX_FILE_NAME, MAX_FOLDERS = 255, 16  # bytes of a name; of them in a work_dir
_REF = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./+-]{0,254}")


def check(makeup: Makeup) -> None:
    """Raises Invalid."""
    check_git(makeup.git)
    check_hooks(makeup.hooks)
    check_work_dir(makeup.work_dir)


def check_git(git: Mapping[str, Any] | None) -> None:
    if git is None:
        return
    check_url("git.url", git["url"])
    ref = git.get("ref")
    if ref is not None and (not _REF.fullmatch(ref) or ".." in ref):
        raise Invalid(f"git.ref: {ref[:100]!r} is no branch, tag or commit.", "Write it like main or v1.2.")
    if git.get("username") is not None and git.get("password") is None:
        raise Invalid("git.username stands alone.", "Give git.password, too: a password, or a token.")
    if git.get("password") is not None and urlsplit(git["url"]).scheme != "https":
        raise Invalid(f"git.url: {git['url'][:100]!r} would send its password in the clear.", "Use https.")


def check_hooks(hooks: Mapping[str, Any]) -> None:
    for name, hook in hooks.items():
        if name not in HOOKS:
            raise Invalid(f"There is no hook {name[:100]!r}.", f"Choose from: {', '.join(HOOKS)}.")
        if "command" not in hook:
            raise Invalid(f"The hook {name!r} has no command.", f"Give hooks.{name}.command, too.")


def check_work_dir(path: str) -> None:
    parts = path.split("/") if path else []
    odd = any(part in ("", ".", "..") or len(part.encode("utf-8", "replace")) > MAX_FILE_NAME for part in parts)
    if odd or len(parts) > MAX_FOLDERS or not path.isprintable() or "\\" in path or path.startswith("~"):
        said = f"work_dir: {path[:200]!r} is no plain path below the workspace."
        raise Invalid(said, "Write it like 'services/mailer': relative, without '..', '.' and doubled slashes.")
