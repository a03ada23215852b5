"""What the command line says about wrong usage, and what its help shows."""

import pytest

from runner.cli.main import main
from runner.cli.parser import GROUPS


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[object, str, str]:
    with pytest.raises(SystemExit) as exit:
        main(arguments)
    output = capsys.readouterr()
    return exit.value.code, output.out, output.err


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--config x", "diptych: missing: COMMAND"),
        ("draw boat --size 64", "diptych draw: --size: '64' is not a size such as 1024x768"),
        ("drwa boat", "diptych: 'drwa' is not a command; did you mean draw?"),
        ("xyzzy", "diptych: 'xyzzy' is not a command"),
        ("draw boat --widht 3", "diptych draw: unknown option --widht; did you mean --width?"),
        ("draw boat --widht=3", "diptych draw: unknown option --widht; did you mean --width?"),
        ("list --quick", "diptych list: unknown option --quick"),
        ("--quick list", "diptych: unknown option --quick"),
        ("draw boat harbour", "diptych draw: unexpected argument harbour"),
        ("draw boat --width", "diptych draw: --width needs a value"),
        ("draw boat --width wide", "diptych draw: --width: 'wide' is not a positive whole number"),
        (
            "draw boat --format tiff",
            "diptych draw: --format: 'tiff' is not allowed; choose from png, jpeg, webp",
        ),
        ("runner --model m --port 1 --kv-bits 5", "--kv-bits: '5' is not allowed; choose from 2, 3, 4, 6, 8"),
        (
            "draw boat --cfg 3",
            "--cfg is ambiguous: it could mean --cfg-normalization, --cfg-truncation",
        ),
        ("list --all=3", "diptych list: --all takes no value, but was given '3'"),
        ("quantize model", "diptych quantize: missing: DST, --bits"),
        ("bench --add", "diptych bench: --add needs at least one value"),
    ],
)
def test_wrong_usage_is_explained_in_a_sentence(
    capsys: pytest.CaptureFixture[str], line: str, message: str
) -> None:
    code, out, error = run(capsys, *line.split())
    usage, explanation, advice = error.removesuffix("\n").rsplit("\n", 2)
    assert (code, out) == (2, "")
    assert usage.startswith("usage: diptych")
    assert explanation == message if message.startswith("diptych") else explanation.endswith(message)
    command = explanation.partition(":")[0]
    assert advice == f"See `{command} --help`."


@pytest.mark.parametrize("command", [name for names in GROUPS.values() for name in names])
def test_the_help_of_every_command_is_complete(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    code, out, error = run(capsys, command, "--help")
    assert (code, error) == (0, "")
    assert out.startswith(f"usage: diptych {command}")
    assert "None" not in out
    for line in out.partition("\nexamples:\n")[2].splitlines():
        assert line.startswith(f"  diptych {command}")


def test_the_help_of_the_program_keeps_its_lines_at_any_width(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    code, out, _ = run(capsys, "--help")
    assert code == 0
    assert '  diptych draw "a red circle above a blue square"\n  diptych chat' in out
    assert max(map(len, out.splitlines())) <= 60
