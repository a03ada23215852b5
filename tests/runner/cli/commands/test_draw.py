"""`diptych draw` and `diptych recipe`, with a toy model and a real runner."""

import signal
import subprocess
import sys
from pathlib import Path
from shutil import copytree

import numpy as np
import pytest
from PIL import Image

from pipelines.packing import pack, read_recipe
from pipelines.recipe import Recipe
from tests.pipelines import toys
from tests.processes import ended
from tests.runner.checkpoints import write
from tests.runner.cli.commands.run import Diptych
from tests.runner.fake_pipeline import noise
from tests.waiting import PATIENCE, wait_until

SMALL = ("--width", "64", "--height", "48", "--steps", "2")


@pytest.fixture(scope="module")
def klein(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(toys.write("klein", tmp_path_factory.mktemp("klein") / "toy").folder)


def packed(path: Path, **fields: object) -> Path:
    """A picture that carries such a recipe."""
    from pipelines.base import ImageRequest

    values = {"prompt": "a boat", "width": 64, "height": 48, "steps": 2, "seed": 9, **fields}
    recipe = Recipe(**values)  # type: ignore[arg-type]
    path.write_bytes(pack(noise(ImageRequest("x", 1), 64, 48, 0), "png", recipe))
    return path


def test_a_picture_is_drawn_its_recipe_printed_and_repeated(diptych: Diptych, klein: str) -> None:
    drawn = diptych("draw", "a red circle", "--model", klein, *SMALL)
    assert drawn.code == 0, drawn.err
    assert drawn.err == "", "stderr is no terminal"
    name, seed = drawn.out.strip().split("  seed ")
    assert name.startswith("a-red-circle-")
    assert Image.open(name).size == (64, 48)
    recipe = diptych("recipe", name)
    assert f"seed    {seed}" in recipe.out
    assert diptych("recipe", name, "--json").json["prompt"] == "a red circle"
    again = diptych("draw", "--from", name, "-o", "again.png", "--json").json
    assert (again["paths"], again["seed"]) == (["again.png"], int(seed))
    assert (again["width"], again["height"], "image" in again) == (64, 48, False)
    assert Path("again.png").read_bytes() == Path(name).read_bytes()


def test_a_picture_names_no_path_and_its_model_is_found_where_it_was_moved(
    diptych: Diptych, klein: str, machine: Path
) -> None:
    folder = copytree(klein, machine / "secret" / "boats")
    assert diptych("draw", "a boat", "--model", str(folder), *SMALL, "-o", "one.png").code == 0
    assert b"secret" not in Path("one.png").read_bytes()
    assert read_recipe("one.png").model == "boats"
    moved = folder.rename(machine / "elsewhere")
    lost = diptych("draw", "--from", "one.png")
    assert (lost.code, "made with the model 'boats', which is not found" in lost.err) == (3, True)
    write(machine / "config/diptych", {"config.toml": f'[aliases]\nships = "{moved}"'.encode()})
    assert diptych("draw", "--from", "one.png", "-o", "two.png").code == 0
    assert list(Image.open("one.png").getdata()) == list(Image.open("two.png").getdata())


def test_each_seed_and_variation_is_drawn_as_alone_and_all_are_a_grid(diptych: Diptych, klein: str) -> None:
    series = ("--seeds", "5,6", "--variation", "7:0.2", "--variation", "7:0.6")
    several = diptych("draw", "boats", "--model", klein, *SMALL, *series, "--grid", "-o", "x.png")
    assert several.code == 0, several.err
    assert several.out == (
        "x-1.png  seed 5\nx-2.png  seed 5\nx-3.png  seed 6\nx-4.png  seed 6\nx-grid.png  all of them\n"
    )
    alone = diptych("draw", "--from", "x-3.png", "-o", "alone.png")
    assert alone.out == "alone.png  seed 6\n"
    assert Path("alone.png").read_bytes() == Path("x-3.png").read_bytes()
    assert "7:0.2" in diptych("recipe", "x-3.png").out
    grid, third = (np.asarray(Image.open(name)) for name in ("x-grid.png", "x-3.png"))
    assert grid.shape == (2 * 48 + 4, 2 * 64 + 4, 3)
    assert (grid[52:, :64] == third).all()
    labelled = ("--grid-labels", "--json", "--from", "x-1.png", "--seeds", "1,2,3", "-o", "y.png")
    report = diptych("draw", *labelled).json
    assert (report["grid"], report["seeds"]) == ("y-grid.png", [1, 2, 3])
    assert Image.open("y-grid.png").height > 2 * 48 + 4 + 10
    assert "cannot be combined" in diptych("draw", "x", "--model", klein, "--seeds", "1,2", "--n", "2").err
    assert "7:0.2" in diptych("draw", "x", "--model", klein, "--variation", "7").err


def test_one_of_several_is_repeated_alone_and_what_is_given_comes_first(diptych: Diptych, klein: str) -> None:
    several = diptych(
        "draw", "two boats", "--model", klein, *SMALL, "--n", "2", "--seed", "5", "-o", "x.webp"
    )
    assert several.out == "x-1.webp  seed 5\nx-2.webp  seed 5\n"
    alone = diptych("draw", "--from", "x-2.webp", "-o", "alone.webp", "--preview")
    assert alone.code == 0, alone.err
    assert Path("alone.webp").read_bytes() == Path("x-2.webp").read_bytes()
    assert sorted(path.name for path in Path().glob("*.webp")) == ["alone.webp", "x-1.webp", "x-2.webp"]
    other = diptych("draw", "a ship", "--from", "x-2.webp", "--n", "1", "--steps", "1", "-o", "ship.png")
    assert other.code == 0, other.err
    recipe = read_recipe("ship.png")
    assert (recipe.prompt, recipe.seed, recipe.steps, recipe.n) == ("a ship", 5, 1, 1)


def test_a_masked_picture_keeps_its_size_and_the_rest_of_it(diptych: Diptych, klein: str) -> None:
    rows, columns = np.mgrid[:37, :50]
    picture = np.stack([rows * 6, columns * 5, rows + columns], axis=-1).astype(np.uint8)
    Image.fromarray(picture).save("sea.png")
    Image.fromarray(np.where(columns < 25, np.uint8(255), np.uint8(0))).save("where.png")
    done = diptych(
        "draw", "a boat", "--model", klein, "--image", "sea.png", "--mask", "where.png", "--seed", "5", "-o", "boat.png"
    )  # fmt: skip
    assert done.code == 0, done.err
    made = np.asarray(Image.open("boat.png"))
    assert (made[:, 25:] == picture[:, 25:]).all()
    assert (made[:, :25] != picture[:, :25]).mean() > 0.5
    recipe = read_recipe("boat.png")
    assert (recipe.masked, recipe.width, recipe.height, recipe.strength) == (True, 50, 37, 1.0)


def test_previews_are_written_on_the_way_and_removed(klein: str, tmp_path: Path) -> None:
    process = _start(klein, tmp_path, "--preview", "--steps", "1000")
    wait_until(lambda: (tmp_path / "x.preview.png").exists())
    with Image.open(tmp_path / "x.preview.png") as preview:
        assert max(preview.size) <= 256
    process.send_signal(signal.SIGINT)
    assert process.wait(PATIENCE) == 130
    assert not list(tmp_path.glob("*.png"))


def test_ctrl_c_stops_the_picture_and_the_runner(klein: str, tmp_path: Path) -> None:
    process = _start(klein, tmp_path, "--steps", "1000", "--verbose")
    runner = 0

    def drawing() -> bool:
        nonlocal runner
        runner = runner or _child_of(process.pid)
        return "listening on" in (tmp_path / "log").read_text()

    wait_until(drawing)
    process.send_signal(signal.SIGINT)
    assert process.wait(PATIENCE) == 130
    assert runner
    wait_until(lambda: ended(runner))


def _start(klein: str, folder: Path, *arguments: str) -> "subprocess.Popen[bytes]":
    command = [
        sys.executable,
        "-m",
        "runner",
        "draw",
        "a boat",
        "--model",
        klein,
        "-o",
        str(folder / "x.png"),
    ]
    with (folder / "log").open("wb") as log:
        return subprocess.Popen(
            [*command, "--width", "256", "--height", "256", *arguments], stdout=log, stderr=log
        )


def _child_of(pid: int) -> int:
    actual = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True).stdout
    return int(actual.split()[0]) if actual.split() else 0


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["draw"], 1, "no prompt was given"),
        (["draw", "a boat", "--model", "./nowhere"], 3, "no model folder"),
        (["draw", "a boat", "--model", "./m", "-o", "nowhere/x.png"], 1, "nowhere: it is not a folder"),
        (["draw", "a boat", "--model", "./m", "-o", "x.gif"], 1, "cannot write .gif files"),
        (["draw", "a boat", "--model", "./m", "--image", "cat.png"], 1, "cannot read cat.png"),
        (["draw", "a boat", "--model", "./m", "--mask", "cat.png"], 1, "cannot read cat.png"),
        (["draw", "--from", "cat.png", "--model", "./m"], 1, "cannot read cat.png"),
        (["draw", "a boat", "--width", "0"], 2, "not a positive whole number"),
        (["draw", "a boat", "--memory", "plenty"], 2, "auto, resident and staged"),
        (["draw", "a boat", "--quantize", "7"], 2, "--quantize: '7' is not allowed; choose from 3, 4"),
        (["recipe", "cat.png"], 1, "cannot read cat.png"),
    ],
)
def test_what_cannot_be_done_is_said_before_a_runner_is_started(
    diptych: Diptych, arguments: list[str], code: int, words: str
) -> None:
    done = diptych(*arguments)
    assert done.code == code
    assert words in done.err
    assert done.out == ""


def test_what_the_model_refuses_is_said_in_its_words(diptych: Diptych, klein: str) -> None:
    done = diptych("draw", "a boat", "--model", klein, "--width", "8", "-o", "x.png")
    assert done.code == 1
    assert done.err.startswith("diptych: width: 8")
    assert not Path("x.png").exists()


def test_a_recipe_of_an_edited_picture_asks_for_its_pictures(diptych: Diptych, tmp_path: Path) -> None:
    packed(tmp_path / "edited.png", images=2, model="./m")
    done = diptych("draw", "--from", "edited.png")
    assert done.code == 1
    assert "made from 2 input pictures" in done.err
    assert "2 other pictures" in diptych("recipe", "edited.png").out


def test_a_recipe_of_a_masked_picture_asks_for_its_mask(diptych: Diptych, tmp_path: Path) -> None:
    packed(tmp_path / "masked.png", images=1, masked=True, model="./m")
    done = diptych("draw", "--from", "masked.png", "--image", "masked.png")
    assert done.code == 1
    assert "made with a mask, which it does not contain; give the same with --mask" in done.err
    assert "mask       one, not in this file" in diptych("recipe", "masked.png").out


def test_a_picture_without_a_recipe_and_what_is_no_picture_are_said(diptych: Diptych, tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "plain.png")
    (tmp_path / "text.png").write_text("hello")
    assert "carries no recipe" in diptych("recipe", "plain.png").err
    assert "not a PNG, JPEG or WebP" in diptych("recipe", "text.png").err


def test_a_recipe_cannot_steer_the_terminal(diptych: Diptych, tmp_path: Path) -> None:
    packed(tmp_path / "evil.png", prompt="first\nsecond\x1b[2J\x07", negative_prompt="fog", model="m")
    out = diptych("recipe", "evil.png").out
    assert "\x1b" not in out
    assert out.splitlines()[:2] == ["prompt    first", "          second�[2J�"]
    assert "negative  fog" in out
