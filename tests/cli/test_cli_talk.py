"""`call` and `chat`: A2A as a caller speaks it, streams that break and are taken up again, Ctrl-C. [CLI-1]"""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
from collections.abc import Sequence
from typing import Any

import psutil
import pytest

from gateway.cli.answer import Answer
from gateway.cli.caller import Turn
from gateway.cli.connection import Found
from gateway.cli.output import Output
from gateway.errors import SwitchboardError, Unavailable
from tests.cli.cli_fake import ANSWER, CONTEXT, TASK, Fake, Frame, Shell, answer, artifact, frame_bytes, status, task
from tests.cli.conftest import Run

TOOLS = "> Read notes.md\n  Read notes.md: ok\n"
GO_ON = f'Continue with: switchboard call mailer --context {CONTEXT} "…"\n'
RESULT = {"result": {"task_id": TASK, "context_id": CONTEXT, "state": "TASK_STATE_COMPLETED", "text": ANSWER}}


def results(frames: list[Frame]) -> list[dict[str, Any]]:
    return [result for _, result in frames]


def turn_at(gateway: Fake, pauses: Sequence[float] = (0, 0, 0)) -> Turn:
    return Turn(Found(gateway.url, "--url"), "mailer", "Hi", pauses=pauses)


# -- one call


def test_text_goes_to_stdout_tools_to_stderr(run: Run, gateway: Fake) -> None:
    gateway.frames = answer()
    assert run("call", "mailer", "Wer schrieb?") == (0, f"{ANSWER}\n", TOOLS + GO_ON)
    (asked,) = gateway.asked
    message_id = asked["params"]["message"].pop("messageId")
    assert message_id
    assert asked | {"id": None} == {
        "jsonrpc": "2.0",
        "id": None,
        "method": "SendStreamingMessage",
        "params": {"message": {"role": "ROLE_USER", "parts": [{"text": "Wer schrieb?"}]}},
    }
    sent = {name: gateway.headers[0].get(name) for name in ("a2a-version", "a2a-extensions", "last-event-id")}
    assert sent == {
        "a2a-version": "1.0",
        "a2a-extensions": "https://switchboard.dev/extensions/tool-events/v1",
        "last-event-id": None,
    }


def test_json_is_the_streams_results_a_line_each_and_the_result_last(run: Run, gateway: Fake) -> None:
    gateway.frames = answer()
    ran = run("call", "mailer", "Hi", "--json")
    lines = [json.loads(line) for line in ran.out.split("\n")[:-1]]
    assert (ran.code, lines, ran.err) == (0, [*results(answer()), RESULT], "")


def test_no_stream_prints_the_whole_answer_and_no_tools(run: Run, gateway: Fake) -> None:
    gateway.frames = answer()
    assert run("call", "mailer", "Hi", "--no-stream") == (0, f"{ANSWER}\n", GO_ON)


@pytest.mark.parametrize("arguments", [[], ["-"]])
def test_the_prompt_can_come_from_stdin(arguments: list[str], switchboard: Shell, gateway: Fake) -> None:
    gateway.frames = answer()
    done = switchboard.run("call", "mailer", *arguments, input="Zeile 1\nZeile 2\n")
    assert (done.returncode, done.stdout) == (0, f"{ANSWER}\n")
    assert gateway.asked[0]["params"]["message"]["parts"] == [{"text": "Zeile 1\nZeile 2\n"}]


def test_context_and_task_continue_a_conversation(run: Run, gateway: Fake) -> None:
    gateway.frames = answer()
    run("call", "mailer", "yes", "--context", CONTEXT, "--task", TASK)
    message = gateway.asked[0]["params"]["message"]
    assert (message["contextId"], message["taskId"]) == (CONTEXT, TASK)


@pytest.mark.parametrize(
    ("end", "code", "said"),
    [
        (status("FAILED", {"text": "It broke."}, {"data": {"category": "x"}}), 3, "Error: It broke. An owner sees more"),
        (status("REJECTED"), 3, "Error: The agent's turn ended as rejected. An owner sees more"),
        (status("CANCELED"), 3, "Error: The agent's turn ended as canceled. An owner sees more"),
        (status("AUTH_REQUIRED"), 4, "Error: The agent's turn ended as auth_required. An owner sees more"),
    ],
)
def test_a_turn_that_does_not_end_well_has_its_own_exit_code(
    end: dict[str, Any], code: int, said: str, run: Run, gateway: Fake
) -> None:
    gateway.frames = answer(end=end)
    ran = run("call", "mailer", "Hi")
    assert (ran.code, ran.out) == (code, f"{ANSWER}\n")
    assert said in ran.err
    ran = run("call", "mailer", "Hi", "--json")
    state = end["statusUpdate"]["status"]["state"]
    last = {"result": RESULT["result"] | {"state": state}}
    assert (ran.code, json.loads(ran.out.split("\n")[-2]), ran.err) == (code, last, "")


def test_a_question_is_part_of_the_answer_and_says_how_to_reply(run: Run, gateway: Fake) -> None:
    gateway.frames = answer(end=status("INPUT_REQUIRED", {"text": "Go on?"}))
    ran = run("call", "mailer", "Hi")
    reply = f'Answer with: switchboard call mailer --context {CONTEXT} --task {TASK} "…"\n'
    assert ran == (0, f"{ANSWER}\nGo on?\n", TOOLS + reply)


def test_the_task_that_waits_for_the_reply_does_not_end_the_stream(run: Run, gateway: Fake) -> None:
    gateway.frames = [("9", {"task": task("TASK_STATE_INPUT_REQUIRED")}), *answer()[1:]]
    assert run("call", "mailer", "yes", "--context", CONTEXT, "--task", TASK).out == f"{ANSWER}\n"


def test_a_direct_message_is_an_answer(run: Run, gateway: Fake) -> None:
    gateway.frames = [("", {"message": {"messageId": "m", "contextId": "c", "parts": [{"text": "Direct"}]}})]
    assert run("call", "mailer", "Hi") == (0, "Direct\n", GO_ON.replace(CONTEXT, "c"))


def test_a_completed_task_without_updates_is_an_answer(run: Run, gateway: Fake) -> None:
    whole = task("TASK_STATE_COMPLETED") | {"artifacts": [artifact("All of it")["artifactUpdate"]["artifact"]]}
    gateway.frames = [("1", {"task": whole})]
    assert run("call", "mailer", "Hi") == (0, "All of it\n", GO_ON)


def test_artifacts_begin_on_lines_of_their_own_and_files_are_told(run: Run, gateway: Fake) -> None:
    file = artifact("", id="art_2")
    file["artifactUpdate"]["artifact"]["parts"] = [{"url": "https://x.test/a.png", "filename": "a.png"}, {"data": {"k": 1}}]
    gateway.frames = [*answer()[:7], ("9", file), ("10", artifact("more", id="art_3")), ("11", status("COMPLETED"))]
    ran = run("call", "mailer", "Hi")
    assert ran.out == f'{ANSWER}\n{{"k": 1}}\nmore\n'
    assert "file a.png: https://x.test/a.png\n" in ran.err


@pytest.mark.parametrize(
    ("http", "body", "code", "said"),
    [
        (404, {"error": {"code": -32001, "message": "Agent 'mailer' was not found."}}, 1, "switchboard agent list"),
        (200, {"error": {"code": -32602, "message": "The text is too long."}}, 2, "The text is too long."),
        (200, {"error": {"code": -32603, "message": "Not now (incident inc_1).", "data": [{"x": 1}]}}, 1, "inc_1"),
        (
            401,
            {"code": "not_allowed", "message": "Sign in.", "hint": "Get a token."},
            4,
            "Sign in. Pass --token or SWITCHBOARD_TOKEN.",
        ),
        (429, {"error": {"code": -32015, "message": "More than 2 requests in a minute."}}, 1, "More than 2 requests"),
        (502, "<html>", 1, "HTTP 502"),
    ],
)
def test_a_refused_call_says_why(http: int, body: Any, code: int, said: str, run: Run, gateway: Fake) -> None:
    gateway.refusals["SendStreamingMessage"] = (http, body)
    ran = run("call", "mailer", "Hi")
    assert (ran.code, ran.out) == (code, "")
    assert said in ran.err
    assert json.loads(run("call", "mailer", "Hi", "--json").err)["message"]


# -- breaks


WHOLE = b"".join(frame_bytes(id, "0" * 36, result) for id, result in answer())
FIRST = len(frame_bytes("1", "0" * 36, {"task": task()}))


@pytest.mark.parametrize("clean", [False, True])
def test_wherever_a_stream_breaks_every_event_comes_once(clean: bool, gateway: Fake) -> None:
    gateway.frames, gateway.clean = answer(), clean
    for place in range(FIRST, len(WHOLE), 61):
        gateway.breaks = [place, None]
        assert list(turn_at(gateway)) == results(answer()), place
    assert set(gateway.methods()) == {"SendStreamingMessage", "SubscribeToTask"}


def test_a_break_between_the_events_of_one_row_repeats_none(gateway: Fake) -> None:
    gateway.frames = answer()
    gateway.breaks = [len(WHOLE) - 1, None]
    turn = turn_at(gateway)
    assert list(turn) == results(answer())
    assert gateway.headers[1]["last-event-id"] == "7"
    assert (turn.task_id, turn.context_id, turn.state) == (TASK, CONTEXT, "TASK_STATE_COMPLETED")


def test_the_command_continues_a_broken_stream_exactly(switchboard: Shell, gateway: Fake) -> None:
    gateway.frames = answer()
    gateway.breaks = [len(WHOLE) // 2, 300, None]
    done = switchboard.run("call", "mailer", "Hi")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{ANSWER}\n", TOOLS + GO_ON)
    assert gateway.methods() == ["SendStreamingMessage", "SubscribeToTask", "SubscribeToTask"]
    assert [asked["params"] for asked in gateway.asked[1:]] == [{"id": TASK}] * 2


def test_the_token_goes_with_every_request_of_a_call(switchboard: Shell, gateway: Fake) -> None:
    gateway.frames, gateway.breaks = answer(), [len(WHOLE) // 2, None]
    switchboard.env["SWITCHBOARD_TOKEN"] = "sbk_1_x"
    assert switchboard.run("call", "mailer", "Hi").stdout == f"{ANSWER}\n"
    assert switchboard.run("chat", "mailer", input="Hi\n").stdout == f"{ANSWER}\n"
    assert {headers.get("authorization") for headers in gateway.headers} == {"Bearer sbk_1_x"}


def test_a_message_is_never_sent_twice(gateway: Fake) -> None:
    gateway.frames, gateway.breaks = answer(), [FIRST - 1, None]
    with pytest.raises(Unavailable, match="broke before the agent had answered"):
        list(turn_at(gateway))
    assert gateway.methods() == ["SendStreamingMessage"]


def test_tries_are_bounded_and_begin_anew_with_every_event(gateway: Fake) -> None:
    gateway.frames, gateway.breaks = answer(), [FIRST, 0, 0, 200, *[0] * 4]
    with pytest.raises(Unavailable, match="could not be taken up again in 3 tries"):
        list(turn_at(gateway))
    assert gateway.methods() == ["SendStreamingMessage", *["SubscribeToTask"] * 6]


def test_a_task_that_ended_meanwhile_is_read_whole_and_shown_from_where_the_text_stopped(
    gateway: Fake, capsys: pytest.CaptureFixture[str]
) -> None:
    gateway.frames, gateway.breaks = answer()[:7] + answer()[8:], [len(WHOLE) // 2, None]
    gateway.refusals["SubscribeToTask"] = (200, {"error": {"code": -32004, "message": "The task has ended."}})
    turn, shown = turn_at(gateway), Answer(Output())
    for event in turn:
        shown.take(event)
    assert gateway.methods() == ["SendStreamingMessage", "SubscribeToTask", "GetTask"]
    assert (turn.state, shown.text) == ("TASK_STATE_COMPLETED", ANSWER)
    assert capsys.readouterr().out == ANSWER


def test_text_that_begins_anew_stands_for_what_was_said_before(capsys: pytest.CaptureFixture[str]) -> None:
    """[RESUME-4] A terminal cannot take back what it shows: the answer begins on a line of its own."""
    shown = Answer(Output())
    for text, append in (("one ", False), ("two ", True), ("a ", False), ("b", True), ("a b", False)):
        shown.take({"artifactUpdate": {"artifact": {"artifactId": "1", "parts": [{"text": text}]}, "append": append}})
    assert shown.text == "a b"
    assert capsys.readouterr().out == "one two \na b"


def test_a_task_that_is_gone_after_a_break_is_an_error(gateway: Fake) -> None:
    gateway.frames = answer()[:3]
    gone = (404, {"error": {"code": -32001, "message": "Task 'tsk_1' was not found."}})
    gateway.refusals = {"SubscribeToTask": gone, "GetTask": gone}
    with pytest.raises(SwitchboardError, match="was not found") as raised:
        list(turn_at(gateway))
    assert raised.value.code == "not_found"


def test_an_error_in_mid_stream_ends_the_call(run: Run, gateway: Fake) -> None:
    gateway.frames = [*answer()[:3], ("", {"error": {"code": -32603, "message": "Sorry (incident inc_1)."}})]
    ran = run("call", "mailer", "Hi")
    assert (ran.code, ran.out, ran.err) == (1, "Grüße, \n", "Error: Sorry (incident inc_1).\n")
    assert gateway.methods() == ["SendStreamingMessage"]


# -- Ctrl-C


def held(gateway: Fake) -> None:
    gateway.frames, gateway.held = answer()[:3], True


def test_ctrl_c_cancels_the_task_and_exits_130(switchboard: Shell, gateway: Fake) -> None:
    held(gateway)
    with switchboard.start("call", "mailer", "Hi") as process:
        assert process.stdout is not None
        assert process.stdout.read(len("Grüße, ")) == "Grüße, "
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=30) == ("\n", "\nCanceled.\n")
    assert process.returncode == 130
    assert [(a["method"], a["params"]) for a in gateway.asked[1:]] == [("CancelTask", {"id": TASK})]


def test_ctrl_c_with_json_still_ends_with_the_result(switchboard: Shell, gateway: Fake) -> None:
    held(gateway)
    with switchboard.start("call", "mailer", "Hi", "--json") as process:
        assert process.stdout is not None
        assert [json.loads(process.stdout.readline()) for _ in range(3)] == results(answer()[:3])
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    result = RESULT["result"] | {"state": "TASK_STATE_CANCELED", "text": "Grüße, "}
    assert (process.returncode, json.loads(out), err) == (130, {"result": result}, "")


# -- chat


def test_chat_keeps_the_conversation_from_line_to_line(switchboard: Shell, gateway: Fake) -> None:
    gateway.frames = answer()
    done = switchboard.run("chat", "mailer", input="eins\n\nzwei\n")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{ANSWER}\n" * 2, TOOLS * 2)
    sent = [asked["params"]["message"] for asked in gateway.asked]
    assert [(m["parts"][0]["text"], m.get("contextId"), m.get("taskId")) for m in sent] == [
        ("eins", None, None),
        ("zwei", CONTEXT, None),
    ]


def test_chat_answers_a_question_in_the_same_task(switchboard: Shell, gateway: Fake) -> None:
    gateway.frames = answer(end=status("INPUT_REQUIRED", {"text": "Go on?"}))
    switchboard.run("chat", "mailer", "--context", "ses_0", input="eins\nja\n")
    sent = [asked["params"]["message"] for asked in gateway.asked]
    assert [(m["contextId"], m.get("taskId")) for m in sent] == [("ses_0", None), (CONTEXT, TASK)]


def test_chat_without_a_gateway_fails_where_nobody_is_there_to_see(switchboard: Shell) -> None:
    done = switchboard.run("chat", "mailer", "--url", "http://127.0.0.1:1", input="Hi\n")
    assert (done.returncode, done.stdout) == (1, "")
    assert "switchboard serve" in done.stderr


class Terminal:
    """The command on a terminal of its own."""

    def __init__(self, shell: Shell, *args: str, **env: str) -> None:
        self.master, slave = pty.openpty()
        shell.env |= {"TERM": "xterm", "INPUTRC": "/dev/null"} | env
        ends = {"stdin": slave, "stdout": slave, "stderr": slave}
        self.process = shell.start(*args, start_new_session=True, **ends)
        os.close(slave)
        self.seen = ""

    def until(self, text: str) -> str:
        """What came up to `text`, which is taken off."""
        while text not in self.seen:
            data = os.read(self.master, 4096)
            assert data, self.seen
            self.seen += data.decode()
        before, _, self.seen = self.seen.partition(text)
        return before

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def interrupt(self) -> None:
        """Ctrl-C once it waits. Python's readline misses a signal that comes between its prompt and its select()."""
        while psutil.Process(self.process.pid).status() != psutil.STATUS_SLEEPING:
            pass
        self.process.send_signal(signal.SIGINT)

    def wait(self) -> int:
        try:
            while data := os.read(self.master, 4096):
                self.seen += data.decode()
        except OSError:  # EIO: the other end was closed
            pass
        os.close(self.master)
        return self.process.wait(30)


def test_chat_on_a_terminal_talks_and_leaves_with_ctrl_d(switchboard: Shell, gateway: Fake) -> None:
    gateway.frames = answer()
    terminal = Terminal(switchboard, "chat", "mailer")
    assert "\x1b[2mTalking with mailer." in terminal.until("mailer> ")
    terminal.type("Hallo\n")
    assert terminal.until("und Ende").endswith("\r\n")
    terminal.until("mailer> ")
    terminal.type("\x04")
    assert terminal.wait() == 0
    assert gateway.asked[0]["params"]["message"]["parts"] == [{"text": "Hallo"}]


def test_chat_cancels_with_ctrl_c_and_leaves_with_the_second(switchboard: Shell, gateway: Fake) -> None:
    held(gateway)
    terminal = Terminal(switchboard, "chat", "mailer", NO_COLOR="1")
    terminal.until("mailer> ")
    terminal.type("Hallo\n")
    terminal.until("Grüße, ")
    terminal.interrupt()
    terminal.until("Canceled.")
    terminal.until("Press Ctrl-C again to leave.")
    terminal.until("mailer> ")
    terminal.interrupt()
    assert terminal.wait() == 130
    assert gateway.methods() == ["SendStreamingMessage", "CancelTask"]


def test_ctrl_c_at_the_prompt_is_forgiven_by_the_next_line(switchboard: Shell, gateway: Fake) -> None:
    gateway.frames = answer()
    terminal = Terminal(switchboard, "chat", "mailer")
    terminal.until("mailer> ")
    terminal.interrupt()
    terminal.until("Press Ctrl-C again to leave.")
    terminal.until("mailer> ")
    terminal.type("Hallo\n")
    terminal.until("und Ende")
    terminal.until("mailer> ")
    terminal.interrupt()
    terminal.until("Press Ctrl-C again to leave.")
    terminal.until("mailer> ")
    terminal.type("\x04")
    assert terminal.wait() == 0


def test_chat_goes_on_after_an_error(switchboard: Shell, gateway: Fake) -> None:
    gateway.frames = answer()
    gateway.refusals["SendStreamingMessage"] = (200, {"error": {"code": -32603, "message": "Not now."}})
    terminal = Terminal(switchboard, "chat", "mailer", NO_COLOR="1")
    terminal.until("mailer> ")
    terminal.type("Hallo\n")
    terminal.until("Error: Not now.")
    terminal.until("mailer> ")
    terminal.type("\x04")
    assert terminal.wait() == 0


def test_an_answer_cannot_steer_the_terminal_but_a_pipe_gets_it_exactly(switchboard: Shell, gateway: Fake) -> None:
    wild = "\x1b]0;title\x07red\x1b[31m"
    gateway.frames = [("1", {"task": task()}), ("2", artifact(wild)), ("3", status("COMPLETED"))]
    assert switchboard.run("call", "mailer", "Hi").stdout == f"{wild}\n"
    terminal = Terminal(switchboard, "call", "mailer", "Hi", NO_COLOR="1")
    assert terminal.wait() == 0
    assert "\x1b" not in terminal.seen
    assert "]0;titlered[31m" in terminal.seen


def test_delete_asks_on_a_terminal(switchboard: Shell, gateway: Fake) -> None:
    gateway.owner["agent.delete"] = {"name": "a", "deleted": True}
    terminal = Terminal(switchboard, "agent", "delete", "a")
    terminal.until("Delete agent 'a'? [y/N]: ")
    terminal.type("n\n")
    assert (terminal.wait(), gateway.asked) == (1, [])
    terminal = Terminal(switchboard, "agent", "delete", "a")
    terminal.until("Delete agent 'a'? [y/N]: ")
    terminal.type("y\n")
    assert (terminal.wait(), gateway.methods()) == (0, ["agent.delete"])


def test_colour_only_on_a_terminal_and_never_against_no_color(switchboard: Shell, gateway: Fake) -> None:
    gateway.owner["agent.versions"] = {"versions": []}
    plain = Terminal(switchboard, "agent", "versions", "a", NO_COLOR="1")
    assert plain.wait() == 0
    assert "\x1b" not in plain.seen
    switchboard.env.pop("NO_COLOR")
    coloured = Terminal(switchboard, "agent", "versions", "a")
    assert coloured.wait() == 0
    assert coloured.seen.startswith("\x1b[1mVERSION")
    assert (
        "\x1b"
        not in subprocess.run(
            [*switchboard.command, "agent", "versions", "a"], env=switchboard.env, capture_output=True, text=True, check=True
        ).stdout
    )
