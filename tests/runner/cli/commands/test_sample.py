"""The sample models go by their names in every command, and give way to what is installed."""

from pathlib import Path
from shutil import copytree

import pytest

from runner.cli.commands.serve import _given
from runner.config import load
from runner.inspect.sample import PATHS
from tests.runner.checkpoints import text_files, write
from tests.runner.cli.commands.run import Diptych
from tests.runner.hub_cache import add_repo


def test_the_samples_are_listed_where_there_is_nothing_else(diptych: Diptych) -> None:
    done = diptych("list")
    names = [line.split()[0] for line in done.out.splitlines()[1:3]]
    assert names == list(PATHS)
    assert "these are Diptych's samples; `diptych pull owner/name` downloads a model" in done.out
    add_repo("owner/name", text_files())
    assert not any(name in diptych("list").out for name in PATHS)


@pytest.mark.parametrize("name", PATHS)
def test_a_sample_is_shown_by_its_name(diptych: Diptych, name: str) -> None:
    assert diptych("show", name, "--json").json["local"]["path"] == PATHS[name]
    assert diptych("detect", name).code == 0


def test_an_alias_of_that_name_comes_first(diptych: Diptych, machine: Path) -> None:
    add_repo("owner/name", text_files())
    write(machine / "config/diptych", {"config.toml": b'[aliases]\nshapes = "owner/name"'})
    assert diptych("show", "shapes", "--json").json["aliases"] == ["shapes"]


def test_a_sample_is_served_by_its_name_unless_an_alias_has_it(machine: Path) -> None:
    assert [_given(name, load(None)) for name in PATHS] == list(PATHS)
    write(machine / "config/diptych", {"config.toml": b'[aliases]\nshapes = "owner/name"'})
    assert _given("shapes", load(None)) == "owner/name"


def test_draw_takes_the_only_picture_model_and_asks_between_two(diptych: Diptych, machine: Path) -> None:
    copy = copytree(PATHS["shapes"], machine / "copy")
    config = f'[aliases]\none = "{PATHS["shapes"]}"\ntwo = "{copy}"'
    write(machine / "config/diptych", {"config.toml": config.encode()})
    done = diptych("draw", "a circle")
    assert (done.code, "no model was given; choose one of" in done.err) == (1, True)
    assert all(name in done.err for name in ("one", "two"))


def test_a_value_that_is_missing_is_asked_for(diptych: Diptych) -> None:
    done = diptych("chat", "shapes-chat", "--set", "temperature")
    assert (done.code, done.err) == (
        1,
        "diptych: --set temperature: a value is missing; write --set temperature=VALUE\n",
    )
