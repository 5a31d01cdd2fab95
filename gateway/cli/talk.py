"""`call` and `chat`: a caller's side of an agent, over A2A; with a caller's token where the agent asks for one."""

from __future__ import annotations

import os
import sys
from shlex import quote
from typing import TYPE_CHECKING

import click

from gateway.cli.connection import find_token, find_url
from gateway.cli.output import Output
from gateway.cli.shell import Command, as_json, with_token, with_url
from gateway.errors import SwitchboardError, UsageError

if TYPE_CHECKING:
    from gateway.cli.answer import Answer
    from gateway.cli.caller import Turn

CTRL_C = 130


@click.command(
    "call",
    cls=Command,
    examples=('switchboard call mailer "Who wrote to me today?"', "cat report.txt | switchboard call mailer - --json"),
)
@click.argument("agent", metavar="NAME")
@click.argument("prompt", required=False)
@click.option("--context", default="", metavar="ID", help="Continue this conversation.")
@click.option("--task", default="", metavar="ID", help="Answer the question this task asked; goes with --context.")
@click.option("--no-stream", is_flag=True, help="Print the answer once it is complete, and no tools.")
@with_token
@with_url
@as_json
def call(
    out: Output,
    agent: str,
    prompt: str | None,
    context: str,
    task: str,
    no_stream: bool,
    url: str | None,
    token: str | None,
) -> int:
    """Ask an agent something; its answer streams to the terminal.

    The prompt is an argument, or - for standard input. Exit code 3 says that the agent's turn failed.
    """
    from gateway.cli.caller import Turn

    at = find_url(url)
    turn = Turn(at, agent, prompt_of(prompt), token=find_token(token, at), context=context, task=task)
    code = _run(out, turn, live=not no_stream)
    if not out.json and turn.context_id and code != CTRL_C:
        out.say(_continuation(turn, url))
    return code


@click.command("chat", cls=Command, examples=("switchboard chat mailer", "switchboard chat mailer --context 0b1c"))
@click.argument("agent", metavar="NAME")
@click.option("--context", default="", metavar="ID", help="Continue this conversation.")
@with_token
@with_url
@as_json
def chat(out: Output, agent: str, context: str, url: str | None, token: str | None) -> int:
    """Talk with an agent, a line at a time.

    Ctrl-C cancels what the agent is doing, twice leaves; so does Ctrl-D.
    """
    return _Chat(out, agent, context, url, token).run()


class _Chat:
    def __init__(self, out: Output, agent: str, context: str, url: str | None, token: str | None) -> None:
        self.out, self.agent, self.url = out, agent, find_url(url)
        self.token = find_token(token, self.url)
        self.context, self.task = context, ""
        self.asking = os.isatty(0)

    def run(self) -> int:
        if self.asking:
            import readline  # noqa: F401  # gives input() editing and a history

            self.out.say(f"Talking with {self.agent}. Ctrl-C cancels, Ctrl-D leaves.")
        interrupted = False
        while True:
            try:
                code = self._next()
            except EOFError:
                return 0
            except KeyboardInterrupt:
                code = CTRL_C
            if code == CTRL_C and interrupted:
                return CTRL_C
            interrupted = code == CTRL_C
            if interrupted:
                self.out.say("\nPress Ctrl-C again to leave.")

    def _next(self) -> int:
        line = self._line()
        return self._say(line) if line.strip() else 0

    def _line(self) -> str:
        prompt = f"{self.agent}> " if self.asking else ""
        if prompt and not sys.stdout.isatty():
            print(prompt, end="", file=sys.stderr, flush=True)
            prompt = ""
        return input(prompt)

    def _say(self, line: str) -> int:
        from gateway.cli.caller import WAITING, Turn

        turn = Turn(self.url, self.agent, _clean(line), token=self.token, context=self.context, task=self.task)
        try:
            return _run(self.out, turn, live=True)
        except SwitchboardError as exc:
            if not self.asking:
                raise
            self.out.error(exc)
            return exc.codes.exit
        finally:
            self.context = turn.context_id
            self.task = turn.task_id if turn.state in WAITING else ""


def _run(out: Output, turn: Turn, *, live: bool) -> int:
    """Send and show; Ctrl-C cancels the task. The exit code of the turn."""
    from gateway.cli.answer import Answer, TurnFailed, exit_of

    answer = Answer(out, live=live)
    stopped = _show(out, turn, answer)
    if out.json:
        out.line(answer.result(turn.task_id, turn.context_id, turn.state))
    if stopped:
        return CTRL_C
    code = exit_of(turn.state)
    if code and not out.json:
        said = answer.trouble or f"The agent's turn ended as {turn.state.removeprefix('TASK_STATE_').lower()}."
        out.error(TurnFailed(said, f"An owner sees more with: switchboard sessions show {turn.context_id}"))
    return code


def _show(out: Output, turn: Turn, answer: Answer) -> bool:
    """Whether Ctrl-C ended it. A second Ctrl-C, while the task is being canceled, leaves at once."""
    from gateway.cli.interrupt import CtrlC

    ctrl_c = CtrlC()
    try:
        with ctrl_c.watched():
            for event in turn:
                with ctrl_c.held_off():
                    answer.take(event)
    except KeyboardInterrupt:
        answer.finish()
        _cancel(out, turn)
        return True
    except SwitchboardError:
        answer.finish()
        raise
    answer.finish()
    return False


def _cancel(out: Output, turn: Turn) -> None:
    try:
        turn.cancel()
    except SwitchboardError as exc:
        out.error(exc)
    except KeyboardInterrupt as exc:
        raise click.Abort from exc
    else:
        if not out.json:
            out.say("\nCanceled." if turn.task_id else "\nStopped before the agent had answered.")


def _continuation(turn: Turn, url: str | None) -> str:
    from gateway.cli.caller import WAITING

    options = f" --context {turn.context_id}" + (f" --url {quote(url)}" if url else "")
    if turn.state in WAITING:
        return f'Answer with: switchboard call {turn.agent}{options} --task {turn.task_id} "…"'
    return f'Continue with: switchboard call {turn.agent}{options} "…"'


def prompt_of(given: str | None) -> str:
    if given is not None and given != "-":
        text = _clean(given)
    elif given == "-" or not os.isatty(0):
        text = sys.stdin.buffer.read().decode("utf-8", "replace")
    else:
        raise UsageError("No prompt was given.", 'Write it after the agent\'s name: switchboard call NAME "…"')
    if not text.strip():
        raise UsageError("The prompt is empty.", 'Write it after the agent\'s name: switchboard call NAME "…"')
    return text


def _clean(text: str) -> str:
    """Bytes of the command line that are no UTF-8 come as lone surrogates, which no JSON may hold."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
