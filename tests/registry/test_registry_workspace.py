"""What an owner may say of a session's workspace."""

from __future__ import annotations

import pytest

from registry import workspace
from registry.rules import Invalid


@pytest.mark.parametrize("path", ["", "a", "services/mailer", ".config/x", "a b/ü", "/".join("a" * 16), "a" * 255])
def test_a_folder_below_the_workspace_may_be_where_an_agent_starts(path: str) -> None:
    workspace.check_work_dir(path)


@pytest.mark.parametrize(
    "path",
    [
        *("/", "/etc", "..", "../x", "a/..", "a/../b", "a/./b", ".", "a//b", "a/", "~", "~root/x", "a\0b", "a\nb", "a\\b"),
        *("a" * 256, "\N{SNOWMAN}" * 86, "/".join("a" * 17)),
    ],
)
def test_no_other_path_may(path: str) -> None:
    """[GND-3]"""
    with pytest.raises(Invalid, match="no plain path below the workspace"):
        workspace.check_work_dir(path)
