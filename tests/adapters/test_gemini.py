"""The Gemini CLI's profile and dialogues: what no recording shows."""

import json
import subprocess
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from adapters import events as ev
from adapters.calls import Named, Result
from adapters.dialogue import Exit, Turn, Unsupported
from adapters.events import Event
from adapters.profile import Plan
from adapters.runtimes.gemini import failures, tools
from adapters.runtimes.gemini.acp import GeminiAcpDialogue
from adapters.runtimes.gemini.dialogue import PrintDialogue
from adapters.runtimes.gemini.profile import PROFILE, launch_acp, launch_print
from adapters.runtimes.gemini.retold import Retold

QUIET = {
    "security": {"auth": {"selectedType": "gemini-api-key"}},
    "privacy": {"usageStatisticsEnabled": False},
    "telemetry": {"enabled": False},
    "general": {"enableAutoUpdate": False, "enableAutoUpdateNotification": False, "maxAttempts": 3},
    "tools": {"shell": {"enableInteractiveShell": False}},
    "model": {"maxSessionTurns": -1},
    "mcpServers": {},
}


def plan(turn: Turn, **more: Any) -> Plan:
    return Plan(executable="/bin/gemini", home="/journal", turn=turn, env={"GEMINI_API_KEY": "k"}, **more)


def started(turn: Turn | None = None) -> PrintDialogue:
    ids = count(1)
    dialogue = PrintDialogue(lambda: f"call_{next(ids)}")
    dialogue.start(turn or Turn("hi"))
    return dialogue


def fed(dialogue: PrintDialogue, *messages: dict[str, Any]) -> list[Event]:
    return [event for message in messages for event in dialogue.feed(json.dumps(message).encode()).events]


def said(text: str, second: float) -> dict[str, Any]:
    stamp = f"2026-01-01T00:00:{second:06.3f}Z"
    return {"type": "message", "role": "assistant", "content": text, "delta": True, "timestamp": stamp}


# -- how it is started


def test_print_mode_starts_with_a_chosen_session_id_and_its_settings_below_home() -> None:
    launch = launch_print(plan(Turn("hi", model="gemini-2.5-pro", new_session="uuid", system_prompt="Be kind.")))
    assert launch.argv == (
        *("/bin/gemini", "--output-format", "stream-json", "--session-id", "uuid"),
        *("--approval-mode", "yolo", "-m", "gemini-2.5-pro"),
    )
    assert launch.env == {
        "GEMINI_API_KEY": "k",
        "GEMINI_CLI_TRUST_WORKSPACE": "true",
        "GEMINI_CLI_NO_RELAUNCH": "true",
        "BASH_ENV": "/journal/.gemini/exit_code.sh",
    }
    assert not launch.keep_stdin
    assert {**launch.files, ".gemini/settings.json": json.loads(launch.files[".gemini/settings.json"])} == {
        ".gemini/settings.json": QUIET,
        ".gemini/GEMINI.md": "Be kind.",
        ".gemini/exit_code.sh": tools.EXIT_SCRIPT,
    }


def test_a_conversation_is_resumed_by_its_own_id() -> None:
    launch = launch_print(plan(Turn("hi", native_session="old", new_session="uuid")))
    assert launch.argv == ("/bin/gemini", "--output-format", "stream-json", "--resume", "old", "--approval-mode", "yolo")


def test_acp_mode_keeps_stdin_and_leaves_mcp_servers_to_the_dialogue() -> None:
    launch = launch_acp(plan(Turn("hi", mcp_servers=({"name": "files", "command": "npx"},))))
    assert (launch.argv, launch.keep_stdin) == (("/bin/gemini", "--acp", "--approval-mode", "yolo"), True)
    assert json.loads(launch.files[".gemini/settings.json"]) == QUIET


def test_mcp_servers_and_the_turn_limit_go_into_the_settings() -> None:
    servers = (
        {"name": "files", "command": ["npx", "files"], "args": ["-q"], "env": {"A": "b"}},
        {"name": "web", "url": "https://mcp.example", "headers": {"X-Key": "k"}},
        {"name": "old", "url": "https://old.example", "type": "sse"},
    )
    launch = launch_print(plan(Turn("hi", mcp_servers=servers), max_turns=7))
    assert json.loads(launch.files[".gemini/settings.json"]) == QUIET | {
        "model": {"maxSessionTurns": 7},
        "mcpServers": {
            "files": {"command": "npx", "args": ["files", "-q"], "env": {"A": "b"}, "trust": True},
            "web": {"httpUrl": "https://mcp.example", "headers": {"X-Key": "k"}, "trust": True},
            "old": {"url": "https://old.example", "headers": {}, "trust": True},
        },
    }


@pytest.mark.parametrize(
    ("prompt", "sent"),
    [("/help me", b" /help me"), ("//x", b" //x"), ("--dash\nand more", b"--dash\nand more"), ("a \ud83d b", b"a ? b")],
)
def test_a_prompt_reaches_the_model_as_text(prompt: str, sent: bytes) -> None:
    assert PrintDialogue(lambda: "id").start(Turn(prompt)).outgoing == [sent]


def test_print_mode_takes_nothing_while_it_works() -> None:
    dialogue = started()
    with pytest.raises(Unsupported):
        dialogue.steer("more")
    with pytest.raises(Unsupported):
        dialogue.interrupt()
    assert PROFILE.mode("acp").capabilities.interrupt


# -- exit codes of commands


def run_as_the_cli(command: str, home: Path) -> str:
    """`command` in the wrapper the CLI puts around it, with our script as BASH_ENV."""
    script = home / "exit_code.sh"
    script.write_text(tools.EXIT_SCRIPT)
    wrapped = f"shopt -u extglob; _file=/dev/null\n(\n  trap 'jobs -p > \"$_file\"' EXIT\n{command}\n)\n__code=$?\nexit $__code"
    env = {"PATH": "/usr/bin:/bin", "BASH_ENV": str(script)}
    done = subprocess.run(["bash", "-c", wrapped], env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return done.stdout.strip()


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("echo fine", Result("fine", False, 0)),
        ("echo fine; exit 7", Result("fine", True, 7)),
        ("printf unfinished; exit 2", Result("unfinished", True, 2)),
        ("false", Result("", True, 1)),
        ("bash -c 'exit 5' || echo went on", Result("went on", False, 0)),
        ("echo before; exec sh -c 'echo inner; exit 4'", Result("before\ninner", True, 4)),
        ("trap 'echo mine' EXIT; exit 3", Result("mine", True, 3)),
        ('echo "[$BASH_ENV]"; no_such_command_x 2>/dev/null', Result("[]", True, 127)),
    ],
)
def test_a_failing_command_tells_its_exit_code(command: str, expected: Result, tmp_path: Path) -> None:
    assert tools.result("shell", run_as_the_cli(command, tmp_path)) == expected


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ("partial\n\n[exit code 7]\nboom", Result("partial\nboom", True, 7)),
        ("[exit code 1]\nboom\nbang", Result("boom\nbang", True, 1)),
        ("[exit code 3]\nmore\n\n[exit code 7]", Result("more", True, 7)),
        ("says [exit code 7] in passing", Result("says [exit code 7] in passing", False, 0)),
        ("abc\n[GEMINI_CLI_WARNING: Output truncated. The buffer is limited to 16MB.]", Result("abc", False, 0, True)),
    ],
)
def test_the_exit_line_is_taken_out_wherever_it_stands(output: str, expected: Result) -> None:
    assert tools.result("shell", output) == expected


@pytest.mark.parametrize(
    ("output", "shown", "is_error", "exit_code"),
    [
        ("Command exited with code: 5", "", True, 5),
        ("Command terminated by signal: 9", "", True, 137),
        ("Blocked: command substitution detected in shell command.", "The command was not run.", True, None),
        ("Command moved to background (PID: 4). Output hidden.", "The command goes on in the background.", False, None),
        ("Command cancelled by user.", "The command was stopped.", True, None),
        (
            "Command was automatically cancelled because it exceeded the timeout of 5.0 minutes without output."
            "\n\nOutput before cancellation:\nstep 1\n\n[exit code 143]",
            *("step 1", True, None),
        ),
    ],
)
def test_what_the_cli_says_of_a_command_is_said_in_our_words(
    output: str, shown: str, is_error: bool, exit_code: int | None
) -> None:
    assert tools.result("shell", output) == Result(shown, is_error, exit_code, detail=output)


# -- tools


@pytest.mark.parametrize(
    ("name", "given", "expected"),
    [
        (
            "read_file",
            {"file_path": "a", "start_line": 5, "end_line": 9},
            ("read_file", {"path": "a", "offset": 5, "limit": 5}),
        ),
        ("read_many_files", {"include": ["a", "b"]}, ("read_file", {"path": "a, b"})),
        ("list_directory", {"dir_path": "src"}, ("list_files", {"path": "src"})),
        ("glob", {"pattern": "*.py"}, ("search_files", {"pattern": "*.py"})),
        ("grep_search", {"pattern": "x", "dir_path": "src"}, ("search_files", {"pattern": "x", "path": "src"})),
        ("web_fetch", {"prompt": "Sum up https://a.example/b, please"}, ("web_fetch", {"url": "https://a.example/b"})),
        ("google_web_search", {"query": "q"}, ("web_search", {"query": "q"})),
        (
            "write_todos",
            {"todos": [{"description": "one", "status": "in_progress"}]},
            ("plan", {"items": [{"text": "one", "status": "in_progress"}]}),
        ),
        ("invoke_agent", {"agent_name": "generalist", "prompt": "do"}, ("subagent", {"prompt": "do"})),
        ("save_memory", {"fact": "x"}, ("other", {})),
        ("mcp_my_tools_add_two", {"a": 1}, ("mcp:my tools/add_two", {"a": 1})),
        ("mcp_other_add", {"a": 1}, ("mcp:other/add", {"a": 1})),
    ],
)
def test_tools_have_canonical_names_and_inputs(name: str, given: dict[str, Any], expected: tuple[str, dict[str, Any]]) -> None:
    assert tools.call(name, given, ["my", "my tools"]) == Named(*expected, name)


def test_an_unknown_tools_input_is_for_the_owner_only() -> None:
    events = fed(
        started(),
        {"type": "tool_use", "tool_name": "save_memory", "tool_id": "x", "parameters": {"fact": "secret"}},
        {"type": "tool_result", "tool_id": "x", "status": "success", "output": "Okay, I've remembered that."},
    )
    assert events == [
        ev.tool_start("call_1", "other", {}, "Other"),
        ev.tool_detail("call_1", vendor_tool="save_memory"),
        ev.tool_detail("call_1", vendor_input={"fact": "secret"}),
        ev.tool_result("call_1", ""),
        ev.tool_detail("call_1", output="Okay, I've remembered that."),
    ]


@pytest.mark.parametrize(
    ("name", "title", "expected"),
    [
        ("list_directory", "src", ("list_files", {"path": "src"})),
        ("grep_search", "'hel' within ./", ("search_files", {"pattern": "hel"})),
        ("google_web_search", 'Searching the web for: "q"', ("web_search", {"query": "q"})),
        ("write_todos", "Set 1 todo(s)", ("plan", {})),
        ("mcp_my_tools_add", "add", ("mcp:my/tools_add", {})),
    ],
)
def test_in_acp_mode_a_call_is_known_by_its_id_and_title(name: str, title: str, expected: tuple[str, dict[str, Any]]) -> None:
    dialogue = GeminiAcpDialogue(lambda: "call_1")
    dialogue.start(Turn("hi", mcp_servers=({"name": "my"},)))
    assert dialogue.tool_of({"toolCallId": f"{name}__{name}_17_0", "title": title}) == Named(*expected, name)


# -- text told twice


def test_an_answer_told_again_after_a_pause_is_shown_once_with_what_it_adds() -> None:
    retold = Retold()
    pieces = [("One two ", 0), ("three", 0.1), ("One ", 1.2), ("two three", 1.3), (" four", 1.4), (" five", 1.5)]
    shown = [retold.feed(text, f"2026-01-01T00:00:{second:06.3f}Z")[0] for text, second in pieces]
    assert shown == ["One two ", "three", "", "", " four", " five"]


def test_what_only_looked_like_a_repetition_is_shown_in_full() -> None:
    dialogue = started()
    events = fed(dialogue, said("ha ha ho", 0), said("ha ", 2), said("hu", 2.1))
    assert [event.body["text"] for event in events] == ["ha ha ho", "ha hu"]


def test_a_repetition_that_ends_well_was_meant() -> None:
    dialogue = started()
    result = {"type": "result", "status": "success", "stats": {}}
    assert fed(dialogue, said("again", 0), said("again", 2), result) == [
        ev.chunk("again"),
        ev.chunk("again"),
        ev.done("completed"),
    ]


def test_words_repeated_without_a_pause_are_no_repetition() -> None:
    assert [event.body["text"] for event in fed(started(), said("ha", 0), said("ha", 0.5))] == ["ha", "ha"]


def test_held_text_is_shown_when_the_process_dies() -> None:
    dialogue = started()
    fed(dialogue, said("again", 0), said("aga", 2))
    assert dialogue.finish(Exit(code=0, cause="canceled")) == [ev.chunk("aga"), ev.done("canceled")]


# -- how a turn ends


def test_a_detected_loop_is_a_limit_and_no_success() -> None:
    events = fed(
        started(),
        {"type": "error", "severity": "warning", "message": "Loop detected, stopping execution"},
        {"type": "result", "status": "success", "stats": {}},
    )
    assert events == [
        ev.notice("warning", "Loop detected, stopping execution"),
        ev.error_detail("budget_exceeded", "Loop detected"),
        ev.done("max_turns", "budget_exceeded"),
    ]


@pytest.mark.parametrize(
    ("exit", "category"),
    [
        (Exit(code=41, stderr="Invalid auth method selected."), "auth_error"),
        (Exit(code=42, stderr='Error starting session: Session ID "x" already exists.'), "duplicate_session"),
        (Exit(code=42, stderr="No previous sessions found for this project."), "startup_crash"),
        (Exit(code=55, stderr="not running in a trusted directory"), "startup_crash"),
        (Exit(code=173), "rate_limit"),
        (Exit(code=244), "upstream_api_error"),
        (Exit(code=1, stderr="Unknown argument: x"), "startup_crash"),
        (Exit(code=134, stderr="FATAL ERROR: JavaScript heap out of memory"), "out_of_memory"),
    ],
)
def test_a_process_that_printed_nothing_is_judged_by_its_exit_code(exit: Exit, category: str) -> None:
    assert started().finish(exit)[-1].body["error"]["category"] == category


@pytest.mark.parametrize(
    ("text", "category"),
    [
        ("You have exhausted your daily quota on this model.", "quota_exceeded"),
        ("You exceeded your current quota, please check your plan.\nSuggested retry after 2s.", "rate_limit"),
        ("Model response was truncated because it exceeded the token limit. Try using /compress", "output_limit"),
        ("The model response was blocked due to safety settings.", "content_refused"),
        ("The model returned an empty response with no text or thoughts.", "upstream_api_error"),
        ('{"error":{"code":400,"message":"Invalid JSON payload"}}', "invalid_request"),
        ("something nobody has seen", "upstream_api_error"),
    ],
)
def test_error_texts_have_categories(text: str, category: str) -> None:
    assert failures.of_result(text).category == category


def test_an_mcp_tools_own_words_are_shown_when_it_fails() -> None:
    response = [{"functionResponse": {"name": "f", "response": {"content": [{"type": "text", "text": "no such row"}]}}}]
    message = f"MCP tool 'f' reported tool error for function call: {{}} with response: {json.dumps(response)}"
    assert tools.result("mcp:db/f", "Error: ...", {"message": message}).output == "no such row"
    assert tools.result("mcp:db/f", "", {"message": "lost"}) == Result("The tool reported an error.", True, detail="lost")
