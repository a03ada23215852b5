"""The script for a shell, tried in the shells that are here."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.runner.checkpoints import text_files
from tests.runner.cli.commands.run import Diptych
from tests.runner.hub_cache import add_repo

TRY = (
    """source ./script; COMP_WORDS=({words}); COMP_CWORD={last}; _shtab_diptych; echo "${{COMPREPLY[@]}}" """
)


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        (("diptych", "dr"), "draw"),
        (("diptych", "draw", "--neg"), "--negative"),
        (("diptych", "draw", "--format", "w"), "webp"),
        (("diptych", "show", "own"), "owner/name"),
        (("diptych", "chat", "shapes-"), "shapes-chat"),
    ],
)
def test_bash_completes_commands_options_and_models(
    diptych: Diptych, machine: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], completed: str
) -> None:
    add_repo("owner/name", text_files())
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=":")
    Path("script").write_text(diptych("completion", "bash").out)
    lines = TRY.format(words=" ".join(words), last=len(words) - 1)
    done = subprocess.run(["bash", "-c", lines], capture_output=True, text=True, timeout=120)
    assert done.stdout.split() == [completed], done.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_there_is_a_script_for_each_shell(diptych: Diptych, shell: str) -> None:
    done = diptych("completion", shell)
    assert done.code == 0
    assert all(word in done.out for word in ("quantize", "guidance"))
    if shutil.which(shell):
        Path("script").write_text(done.out)
        assert subprocess.run([shell, "-n", "script"], timeout=60).returncode == 0
