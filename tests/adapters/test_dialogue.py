"""What every runtime's dialogue shares."""

import pytest

from adapters.dialogue import Turn, printed
from adapters.jsonl import JsonLinesDialogue


@pytest.mark.parametrize(
    ("output", "shown"),
    [
        ("/bin/bash: line 1: nope: command not found\n", "sh: nope: command not found"),
        ("/usr/bin/bash: line 4: nope: command not found\n", "sh: nope: command not found"),
        ("bash: -c: line 2: syntax error near unexpected token `('\n", "sh: syntax error near unexpected token `('"),
        ("sh: 1: nope: not found\n", "sh: nope: not found"),
        ("zsh:1: command not found: nope\n", "sh: command not found: nope"),
        ("ok\n/bin/sh: 1: nope: not found\nok\n", "ok\nsh: nope: not found\nok"),
        ("./run.sh: line 3: nope: command not found\n", "./run.sh: line 3: nope: command not found"),
        ("bash: see its manual\n", "bash: see its manual"),
        ("  two\n\n  lines  \r\n\n", "two\n\n  lines"),
    ],
)
def test_output_of_a_command_does_not_tell_who_called_the_shell(output: str, shown: str) -> None:
    assert printed(output) == shown


def test_a_number_that_is_too_large_to_add_is_kept_raw_and_ends_nothing() -> None:
    dialogue = JsonLinesDialogue(lambda: "call_1")
    dialogue.start(Turn(prompt="Hi"))
    (kept,), _ = dialogue.feed(b'{"type":"usage","cost_usd":1%s}' % (b"0" * 400))
    assert (kept.type, kept.body["reason"], dialogue.running) == ("raw", "unexpected shape: OverflowError", True)
