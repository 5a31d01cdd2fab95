"""How a repository is put into a session's workspace: one script of /bin/sh, and what it is told.

The password of a private repository is in the environment of that script and of the git it starts, nowhere else: not in a URL,
an argument, a file, nor in what is printed. git is given it for the repository's own scheme, host and port only. It never
fetches in a `.git` that somebody else may have written: one that has a HEAD is left alone, any other is made anew first.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

USERNAME = "git"  # where the owner gives none: servers that take tokens take any
HIDDEN = "***"
_USER, _PASSWORD = "SWITCHBOARD_GIT_USERNAME", "SWITCHBOARD_GIT_PASSWORD"

# $1: URL, $2: ref, $3: depth, $4: "yes" with submodules, $5: its origin; "" for what is not given. What an attempt began that
# was ended in the middle is taken back before the next one: so much is in `.git/unfinished`.
_SCRIPT = """
command -v git > /dev/null || { echo 'git is not there'; exit 127; }
user=$SWITCHBOARD_GIT_USERNAME password=$SWITCHBOARD_GIT_PASSWORD
unset SWITCHBOARD_GIT_USERNAME SWITCHBOARD_GIT_PASSWORD GIT_DIR GIT_WORK_TREE
export GIT_TERMINAL_PROMPT=0 GIT_ASKPASS= SSH_ASKPASS= GIT_CONFIG_GLOBAL=/dev/null GIT_TEMPLATE_DIR=
export GIT_ALLOW_PROTOCOL=https:http GIT_CEILING_DIRECTORIES="$(dirname -- "$PWD")"
if git rev-parse -q --verify HEAD > /dev/null 2>&1; then
    [ -e .git/unfinished ] || exit 0
    new=$(mktemp -d) && git init -q --bare "$new" || exit
    GIT_DIR=$new GIT_WORK_TREE=$PWD GIT_INDEX_FILE=$PWD/.git/index git ls-files -z | xargs -0 rm -rf --
    rm -rf -- "$new"
fi
rm -rf -- .git
helper='!f() { [ "$1" != get ] || printf "username=%s\\npassword=%s\\n" \\
    "$SWITCHBOARD_GIT_USERNAME" "$SWITCHBOARD_GIT_PASSWORD"; }; f'
fetching() {
    if [ -z "$password" ]; then git "$@"
    else SWITCHBOARD_GIT_USERNAME=$user SWITCHBOARD_GIT_PASSWORD=$password \\
        git -c credential.helper= -c "credential.$origin.helper=$helper" "$@"; fi
}
origin=$5
git init -q . && : > .git/unfinished || exit
git config remote.origin.url "$1" && git config remote.origin.fetch '+refs/heads/*:refs/remotes/origin/*' || exit
fetching fetch -q ${3:+--depth "$3"} -- origin "${2:-HEAD}" && git checkout -q -B work FETCH_HEAD || exit
if [ -n "$4" ]; then
    git -c core.quotePath=false ls-files -s | sed -n 's/^160000 [^\t]*\t//p' |
        while IFS= read -r at; do rm -rf -- "$at/.git"; done
    fetching submodule --quiet update --init --recursive || exit
fi
rm -- .git/unfinished
"""


def words(git: Mapping[str, Any]) -> tuple[str, ...]:
    """A script of /bin/sh, its name, its arguments."""
    parts = urlsplit(git["url"])
    submodules = "yes" if git.get("submodules") else ""
    return (
        *(_SCRIPT, "git", git["url"], git.get("ref") or "", str(git.get("depth") or "")),
        *(submodules, f"{parts.scheme}://{parts.netloc}"),
    )


def credentials(git: Mapping[str, Any]) -> dict[str, str]:
    """Variables of that script."""
    password = git.get("password")
    return {} if password is None else {_USER: git.get("username") or USERNAME, _PASSWORD: password}


def hidden(git: Mapping[str, Any], text: str) -> str:
    """A line that git printed, without the password, whoever made it print that."""
    password = git.get("password")
    if password is None:
        return text
    pair = f"{git.get('username') or USERNAME}:{password}"
    return text.replace(base64.b64encode(pair.encode()).decode(), HIDDEN).replace(password, HIDDEN)


def told(git: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """What makes a checkout another one: not who fetches it."""
    return None if git is None else {name: value for name, value in git.items() if name not in ("username", "password")}
