"""Progress, reported to a terminal, a log, or a program."""

import io
import json
import threading

import pytest

from runner.cli.progress import Progress, Steps, Style


def reported(style: Style, capsys: pytest.CaptureFixture[str]) -> tuple[str, str]:
    with Progress("model:", style) as progress:
        for done in range(0, 101, 10):
            progress(done * 10**6, 100 * 10**6)
    progress(0, 1)
    output = capsys.readouterr()
    return output.out, output.err


def test_a_bar_is_written_over_and_over_and_ends_full(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    out, err = reported("bar", capsys)
    lines = err.split("\r")
    assert out == ""
    assert lines[1].startswith("model:   0% 0 bytes of 100 MB ▕")
    assert lines[-1].startswith("model: 100% 100 MB of 100 MB ▕█")
    assert lines[-1].endswith("█▏\n")
    assert all(len(line.rstrip("\n")) < 60 for line in lines)


def test_without_a_terminal_it_is_a_line_now_and_then(capsys: pytest.CaptureFixture[str]) -> None:
    assert reported("lines", capsys)[1].splitlines() == [
        "model:   0% 0 bytes of 100 MB",
        "model: 100% 100 MB of 100 MB",
    ]


def test_programs_get_json_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    lines = [json.loads(line) for line in reported("json", capsys)[0].splitlines()]
    assert lines[0] == {"done": 0, "total": 10**8}
    assert lines[-1] == {"done": 10**8, "total": 10**8}


def test_what_never_began_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("model:", "bar"):
        pass
    assert capsys.readouterr() == ("", "")


def test_threads_that_go_on_after_the_end_write_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress("model:", "lines")
    progress.close()
    thread = threading.Thread(target=progress, args=(1, 2))
    thread.start()
    thread.join()
    assert capsys.readouterr() == ("", "")


# the line of a picture


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_picture_shows_the_step_and_the_time_left_by_the_steps_after_the_first() -> None:
    out, moments = Terminal(), iter([0.0, 50.0, 52.0, 54.0])
    steps = Steps(out, lambda: next(moments))
    steps.loading(0.42)
    for done in range(4):
        steps.step(done, 120)
    *_, loading, before, first, second, third = out.getvalue().split("\r\x1b[K")
    assert loading.endswith("42%")
    assert before.startswith("step 0 of 120")
    assert "left" not in before + first, "the first step says little about the others"
    assert second.endswith(", 3 min 56 s left")
    assert third.endswith(", 3 min 54 s left")


def test_a_picture_reports_nothing_without_a_terminal() -> None:
    out = io.StringIO()
    steps = Steps(out)
    steps.loading(0.5)
    steps.step(1, 2)
    steps.clear()
    assert out.getvalue() == ""
