"""`diptych chat` on a real terminal, with a real runner of a toy model."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.runner.cli.commands.terminal import CTRL_C, CTRL_D, ROOT, Terminal, endless
from tests.toys import toy_text
from tests.waiting import wait_until

pytestmark = [pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")]

SHORT = ("--set", "num_predict=8", "--set", "temperature=0")


def children(pid: int) -> list[int]:
    listed = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    return [int(line.split()[0]) for line in listed.splitlines() if int(line.split()[1]) == pid]


@pytest.fixture
def folder(machine: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(machine / "state"))
    return toy_text("qwen3")


@pytest.fixture
def chat(folder: Path) -> Iterator[Terminal]:
    with Terminal("chat", str(folder), *SHORT) as terminal:
        terminal.until(">>> ")
        yield terminal


def test_a_question_is_answered_and_ctrl_d_ends_with_its_runner(chat: Terminal) -> None:
    (runner,) = children(chat.process.pid)
    chat.type("hello\n")
    chat.until(r"hello\r\n[^>]+\S[^>]*>>> ")
    chat.type(CTRL_D)
    assert chat.wait() == 0
    with pytest.raises(ProcessLookupError):
        os.kill(runner, 0)


@pytest.mark.usefixtures("folder")
def test_ctrl_c_stops_the_answer_and_not_the_program() -> None:
    with Terminal("chat", str(endless())) as chat:
        chat.until(">>> ")
        chat.type("hello\n")
        chat.until(r"hello\r\n(?s:.){60}")
        chat.type(CTRL_C)
        chat.until(">>> ")
        chat.type("/set num_predict 5\n")
        chat.until("num_predict = 5")
        chat.until(">>> ")
        chat.type("again\n")
        chat.until(r"again\r\n(?s:.)+>>> ")
        chat.type("/bye\n")
        assert chat.wait() == 0


def test_ctrl_c_at_the_prompt_ends_only_when_it_comes_twice(chat: Terminal) -> None:
    chat.type("half a line")
    chat.until("half a line")
    chat.interrupt_prompt()
    chat.until("Ctrl-C again")
    chat.until(">>> ")
    chat.type("/help\n")
    chat.until("/bye(?s:.)*>>> ")
    chat.interrupt_prompt()
    chat.until("Ctrl-C again(?s:.)*>>> ")
    chat.interrupt_prompt()
    assert chat.wait() == 0


def test_ctrl_c_while_it_loads_ends_it_and_its_runner(folder: Path) -> None:
    with Terminal("chat", str(folder)) as chat:
        runners = wait_until(lambda: children(chat.process.pid))
        chat.type(CTRL_C)
        assert chat.wait() == 130
        assert "Traceback" not in chat.seen
        for runner in runners:
            with pytest.raises(ProcessLookupError):
                os.kill(runner, 0)


def test_a_prompt_may_have_several_lines(chat: Terminal, machine: Path) -> None:
    chat.type('"""first\n')
    chat.until(r"\.\.\. ")
    chat.type('second"""\n')
    chat.until(">>> ")
    chat.type("one\\\n")
    chat.until(r"\.\.\. ")
    chat.type("two\n")
    chat.until(">>> ")
    chat.type(f"/save {machine}/talk.json\n")
    chat.until("saved 4 messages to")
    turns = json.loads((machine / "talk.json").read_text())["messages"]
    assert [turn["content"] for turn in turns if turn["role"] == "user"] == ["first\nsecond", "one\ntwo"]


def test_a_conversation_is_saved_and_loaded_with_its_options(chat: Terminal, machine: Path) -> None:
    for line, said in (
        ("/system be brief", "system: be brief"),
        ("/set seed 7", "seed = 7"),
        ("hello", ">>> "),
        (f"/save {machine}/talk.json", "saved 2 messages to"),
        ("/clear", "conversation cleared"),
        ("/set seed", "temperature = 0"),
        (f"/load {machine}/talk.json", "loaded 2 messages from"),
        ("/set", "seed = 7"),
        ("/system", "system: be brief"),
        ('/system ""', "system: (none)"),
    ):
        chat.type(line + "\n")
        chat.until(re.escape(said))
        if not said.startswith(">>>"):
            chat.until(">>> ")


def test_a_mistake_is_said_and_the_conversation_goes_on(chat: Terminal) -> None:
    for line, said in (
        ("/nonsense", "unknown command /nonsense; /help"),
        ("/set temperature hot", 'temperature: "hot" is not allowed'),
        ("/set colour blue", "colour is not an option; the options are think"),
        ("/load /no/such/file", "does not exist"),
        ("/load .", "is not a file"),
        ("/load ~nobody-here/x", "does not exist"),
        ("/save " + "x" * 300, "cannot write"),
        ("/save", "no file was given"),
        ("/save README.md", "README.md is not a saved conversation: it is not JSON"),
    ):
        chat.type(line + "\n")
        chat.until(re.escape(said))
        chat.until(">>> ")
    chat.type("hello\n")
    chat.until(r"hello\r\n[^>]+\S[^>]*>>> ")


def test_prompts_are_remembered_for_the_next_time(folder: Path, machine: Path) -> None:
    with Terminal("chat", str(folder), *SHORT) as first:
        first.until(">>> ")
        first.type("a memorable question\n")
        first.until(r"\n>>> ")
        first.type(CTRL_D)
        assert first.wait() == 0
    history = machine / "state" / "diptych" / "history"
    assert "a memorable question" in history.read_text()
    assert history.stat().st_mode & 0o077 == 0


@pytest.mark.usefixtures("folder")
def test_a_runner_that_dies_ends_the_conversation_with_its_last_words() -> None:
    with Terminal("chat", str(endless())) as chat:
        chat.until(">>> ")
        (runner,) = children(chat.process.pid)
        chat.type("hello\n")
        chat.until(r"hello\r\n(?s:.){20}")
        os.kill(runner, 9)
        chat.until("killed by SIGKILL")
        assert chat.wait() == 1


# Without a terminal


def plain(*arguments: str, said: bytes) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "runner", "chat", *arguments], cwd=ROOT, input=said, capture_output=True
    )


def test_without_a_terminal_stdin_is_the_prompt_and_the_answer_all_that_is_printed(folder: Path) -> None:
    first = plain(str(folder), *SHORT, said=b"hello\n")
    assert (first.returncode, first.stderr) == (0, b"")
    assert first.stdout.strip()
    assert plain(str(folder), *SHORT, said=b"hello\n").stdout == first.stdout


def test_programs_get_the_answer_with_its_numbers(folder: Path) -> None:
    actual = json.loads(plain(str(folder), *SHORT, "--json", said=b"hello").stdout)
    assert actual["answer"] == plain(str(folder), *SHORT, said=b"hello").stdout.decode().removesuffix("\n")
    assert (actual["model"], actual["eval_count"], actual["stop_reason"]) == (str(folder), 8, "length")


@pytest.mark.parametrize(
    ("arguments", "said", "code", "error"),
    [
        (("./absent",), b"hello", 3, b"no model folder './absent'"),
        (("TOY",), b"", 1, b"the prompt is empty"),
        (("TOY", "--set", "temperature=hot"), b"hello", 1, b"temperature"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_a_code(
    folder: Path, arguments: tuple[str, ...], said: bytes, code: int, error: bytes
) -> None:
    done = plain(*(str(folder) if part == "TOY" else part for part in arguments), said=said)
    assert (done.returncode, done.stdout) == (code, b"")
    assert error in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_bytes_that_are_no_text_are_asked_as_well_as_they_can_be(folder: Path) -> None:
    assert plain(str(folder), *SHORT, said=b"caf\xe9 \xff").returncode == 0
