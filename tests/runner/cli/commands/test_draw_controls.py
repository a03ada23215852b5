"""ControlNets on the command line of `diptych draw`."""

import base64
from pathlib import Path
from typing import Any

import pytest

from pipelines.controls import Control
from pipelines.recipe import Recipe
from runner.cli.commands.draw import DrawOptions, follow, options_of, request_of
from runner.cli.main import _parser
from runner.errors import BadRequest


def options(*arguments: str) -> Any:
    return options_of(_parser().parse_args(["draw", "a boat", *arguments]))


def test_a_controlnet_is_named_with_a_picture_and_how_it_is_used(tmp_path: Path) -> None:
    file = tmp_path / "edges.png"
    file.write_bytes(b"edges")
    chosen = options("--control", f"canny={file}:0.8,end=0.5", "--control", f"owner/union={file},mode=2")
    image = base64.b64encode(b"edges").decode()
    assert request_of(chosen, "png").controls == (
        Control("canny", image, 0.8, 0.0, 0.5),
        Control("owner/union", image, mode=2),
    )


def test_what_is_wrong_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        options("--control", "canny")
    assert "NAME=PICTURE is needed, such as canny=edges.png:0.8" in capsys.readouterr().err
    with pytest.raises(BadRequest, match=r"cannot read .*gone.png"):
        request_of(options("--control", f"canny={tmp_path / 'gone.png'}"), "png")


def test_a_recipe_is_not_repeated_without_its_pictures() -> None:
    recipe = Recipe("a boat", seed=1, width=8, height=8, steps=1, controls=(Control("canny", scale=0.8),))
    with pytest.raises(BadRequest, match=r"give the same with --control: canny:0.8"):
        follow(DrawOptions({}, source=Path("a.png")), recipe)
