"""`diptych run`, whichever its model does, and `diptych` alone."""

import io
import sys
from pathlib import Path

import pytest
from PIL import Image

from runner.cli.commands import welcome
from runner.units import GIB
from tests.runner.checkpoints import text_files
from tests.runner.cli.commands.run import Diptych
from tests.runner.hub_cache import add_repo


def test_it_draws_and_it_chats(diptych: Diptych, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = diptych("run", "shapes", "a", "red", "circle")
    assert drawn.code == 0, drawn.err
    name, _, seed = drawn.out.strip().partition("  seed ")
    assert (name.startswith("a-red-circle-"), seed.isdigit()) == (True, True)
    assert Image.open(name).info["parameters"].startswith("a red circle")
    written = diptych("run", "shapes-chat", "Draw a circle.")
    assert (written.code, "circle" in written.out) == (0, True)


def test_without_a_prompt_it_says_so(diptych: Diptych, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b" "), "utf-8"))
    done = diptych("run", "shapes")
    assert (done.code, "the prompt is empty" in done.err) == (1, True)


def test_a_size_is_two_numbers_in_one(diptych: Diptych) -> None:
    done = diptych("draw", "a circle", "--size", "64x48", "--steps", "1", "-o", "x.png")
    assert done.code == 0, done.err
    assert Image.open("x.png").size == (64, 48)
    both = diptych("draw", "a circle", "--size", "64x48", "--width", "64")
    assert (both.code, both.err) == (1, "diptych: --size cannot be combined with --width or --height\n")


@pytest.mark.parametrize(
    ("memory", "draws", "chats"),
    [
        (4 * GIB, None, "Qwen3-0.6B"),
        (16 * GIB, "--quantize 4 --memory staged", "Qwen3-4B"),
        (64 * GIB, "klein-4B", "Qwen3-4B"),
    ],
)
def test_alone_it_says_what_fits(
    diptych: Diptych, monkeypatch: pytest.MonkeyPatch, memory: int, draws: str | None, chats: str
) -> None:
    monkeypatch.setattr(welcome, "device_memory", lambda: memory)
    done = diptych()
    assert done.code == 0
    model = next((line for line in done.out.splitlines() if "--model" in line), None)
    assert (draws is None and model is None) or (draws is not None and model is not None and draws in model)
    assert f"diptych chat Qwen/{chats}" in done.out


def test_alone_with_a_model_it_names_that(diptych: Diptych, machine: Path) -> None:
    add_repo("owner/name", text_files())
    assert "diptych run owner/name" in diptych().out
