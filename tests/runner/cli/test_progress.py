"""How far something is, said to a terminal, a log, or a program."""

import json
import threading

import pytest

from runner.cli.progress import Progress, Style


def told(style: Style, capsys: pytest.CaptureFixture[str]) -> tuple[str, str]:
    with Progress("model:", style) as progress:
        for done in range(0, 101, 10):
            progress(done * 10**6, 100 * 10**6)
    progress(0, 1)
    found = capsys.readouterr()
    return found.out, found.err


def test_a_bar_is_written_over_and_over_and_ends_full(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    out, err = told("bar", capsys)
    lines = err.split("\r")
    assert out == ""
    assert lines[1].startswith("model:   0% 0 bytes of 100 MB ▕")
    assert lines[-1].startswith("model: 100% 100 MB of 100 MB ▕█")
    assert lines[-1].endswith("█▏\n")
    assert all(len(line.rstrip("\n")) < 60 for line in lines)


def test_where_nobody_watches_it_is_a_line_now_and_then(capsys: pytest.CaptureFixture[str]) -> None:
    assert told("lines", capsys)[1].splitlines() == [
        "model:   0% 0 bytes of 100 MB",
        "model: 100% 100 MB of 100 MB",
    ]


def test_programs_get_json_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    lines = [json.loads(line) for line in told("json", capsys)[0].splitlines()]
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
