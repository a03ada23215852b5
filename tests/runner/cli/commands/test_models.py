"""`diptych list`, `show`, `rm` and `config` on made stores."""

import io
import json
import sys
from pathlib import Path

import pytest

from runner.sources.hub import cache_folder
from tests.runner.checkpoints import safetensors, text_files, write
from tests.runner.cli.commands.run import Diptych
from tests.runner.hub_cache import add_repo

LONG = "some-organisation-with-a-long-name/Some-Model-With-A-Very-Long-Name-4bit-instruct"


def configure(machine: Path, text: str) -> None:
    write(machine / "config" / "diptych", {"config.toml": text.encode()})


def answer(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stdin", Terminal(text))


# list


def test_list_is_a_table_of_at_most_80_columns_with_whole_names(diptych: Diptych) -> None:
    add_repo("owner/name", text_files())
    add_repo(LONG, text_files())
    done = diptych("list")
    lines = done.out.splitlines()
    assert lines[0].split() == ["NAME", "MAKES", "TYPE", "SIZE", "MODIFIED"]
    assert (
        lines[1].split() == ["owner/name", "text", "qwen3", "625", "bytes", "just", "now"]
        or "text" in lines[1]
    )
    assert LONG in lines
    assert all(len(line) <= 80 for line in lines if line != LONG)
    assert done.code == 0


def test_list_counts_what_cannot_be_run_and_says_why_when_asked(diptych: Diptych) -> None:
    add_repo("owner/name", text_files())
    add_repo("owner/broken", {"README.md": b"words"})
    assert "owner/broken" not in diptych("list").out
    assert "1 more model cannot be run" in diptych("list").out
    shown = diptych("list", "--all").out
    assert "owner/broken: not complete" in " ".join(shown.split())


def test_list_as_json_has_everything(diptych: Diptych, machine: Path) -> None:
    configure(machine, "[aliases]\nsmall = 'owner/name'")
    add_repo("owner/name", text_files())
    add_repo("owner/broken", {"README.md": b"words"})
    broken, actual = diptych("list", "--json").json["models"]
    assert (actual["name"], actual["mode"], actual["type"], actual["source"]) == (
        "owner/name",
        "text",
        "qwen3",
        "hub",
    )
    assert actual["aliases"] == ["small"]
    assert actual["modified"].endswith("Z")
    assert actual["fault"] is None
    assert broken["fault"]


def test_list_on_an_empty_machine_says_how_models_come(diptych: Diptych) -> None:
    assert "diptych pull" in diptych("list").out
    assert diptych("list", "--json").json == {"models": [], "warnings": []}


# show


def test_list_of_adapters_has_the_folders_and_the_hubs(diptych: Diptych, machine: Path) -> None:
    adapter = safetensors({"transformer_blocks.0.ff.linear_in.lora_A.weight": ("F32", (2, 4))})
    assert "there are no adapters" in diptych("list", "--loras").out
    write(machine / "loras", {"ink.safetensors": adapter, "broken.safetensors": b"broken"})
    configure(machine, f"[serve]\nloras = '{machine / 'loras'}'")
    add_repo("owner/wash", {"wash.safetensors": adapter})
    done = diptych("list", "--loras")
    lines = [line.split()[:2] for line in done.out.splitlines()]
    assert lines == [["NAME", "FOR"], ["ink", "FLUX.2"], ["owner/wash", "FLUX.2"]]
    assert "broken: " in done.err
    names = [one["name"] for one in json.loads(diptych("list", "--loras", "--json").out)["loras"]]
    assert names == ["broken", "ink", "owner/wash"]


def test_show_says_what_a_model_is_and_how_it_is_set_up(diptych: Diptych, machine: Path) -> None:
    configure(machine, "[aliases]\nsmall = 'owner/name'\n[models.small]\ncontext = 100")
    snapshot = add_repo("owner/name", text_files())
    done = diptych("show", "small")
    for part in ("owner/name\n", "qwen3", str(snapshot), "just now", "aliases", "small", "context = 100"):
        assert part in done.out
    actual = diptych("show", "small", "--json").json
    assert actual["local"]["path"] == str(snapshot)
    assert actual["settings"] == {"context": 100}
    assert actual["aliases"] == ["small"]


def test_show_takes_folders_too(diptych: Diptych, machine: Path) -> None:
    folder = write(machine / "mine", text_files())
    assert str(folder) in diptych("show", "./mine").out
    assert diptych("show", "./absent").code == 3


# rm


def test_rm_asks_and_takes_no_for_an_answer(diptych: Diptych, monkeypatch: pytest.MonkeyPatch) -> None:
    add_repo("owner/name", text_files())
    for said in ("n\n", "\n", "", "perhaps\n"):
        answer(monkeypatch, said)
        done = diptych("rm", "owner/name")
        assert done.code == 1
        assert "remove owner/name, " in done.err
        assert (cache_folder() / "models--owner--name").exists()
    answer(monkeypatch, "y\n")
    done = diptych("rm", "owner/name")
    assert done.code == 0
    assert "removed owner/name" in done.out
    assert not (cache_folder() / "models--owner--name").exists()


def test_rm_without_a_terminal_needs_a_yes(diptych: Diptych) -> None:
    add_repo("owner/name", text_files())
    done = diptych("rm", "owner/name")
    assert (done.code, "-y" in done.err) == (1, True)
    actual = diptych("rm", "-y", "--json", "owner/name").json["removed"]
    assert [entry["name"] for entry in actual] == ["owner/name"]
    assert not (cache_folder() / "models--owner--name").exists()


def test_rm_of_several_removes_none_when_one_is_not_there(diptych: Diptych) -> None:
    add_repo("owner/name", text_files())
    done = diptych("rm", "-y", "owner/name", "owner/absent")
    assert done.code == 3
    assert "owner/absent" in done.err
    assert (cache_folder() / "models--owner--name").exists()


def test_rm_takes_an_alias_and_refuses_a_folder(diptych: Diptych, machine: Path) -> None:
    configure(machine, f"[aliases]\nsmall = 'owner/name'\nmine = '{machine}/mine'")
    add_repo("owner/name", text_files())
    write(machine / "mine", text_files())
    assert diptych("rm", "-y", "small").code == 0
    assert diptych("rm", "-y", "mine").code == 1
    assert (machine / "mine" / "config.json").exists()


# config, and aliases everywhere


def test_config_says_where_each_value_came_from(
    diptych: Diptych, machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DIPTYCH_PORT")
    configure(machine, "[serve]\nport = 7\n[aliases]\nsmall = 'owner/name'\n[models.small]\ncontext = 100")
    monkeypatch.setenv("DIPTYCH_HOST", "localhost")
    done = diptych("config")
    lines = [line.split() for line in done.out.splitlines()]
    assert ["port", "=", "7", "#", "file"] in lines
    assert ["host", "=", '"localhost"', "#", "DIPTYCH_HOST"] in lines
    assert ["small", "=", '"owner/name"'] in lines
    assert ["context", "=", "100"] in lines
    actual = diptych("config", "--json").json
    assert actual["serve"]["port"] == {"value": 7, "origin": actual["file"]}
    assert actual["aliases"] == {"small": "owner/name"}


def test_config_prints_what_is_a_configuration_again(
    diptych: Diptych, machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DIPTYCH_PORT")
    configure(machine, "[aliases]\na = 'b/c'\n[models.'b/c']\ncontext = 100\n[models.'*']\nbatch = 2")
    lines = [line for line in diptych("config").out.splitlines()[2:] if "(not set)" not in line]
    first = diptych("config", "--json").json
    configure(machine, "\n".join(lines))
    again = diptych("config", "--json").json
    assert (again["aliases"], again["models"]) == (first["aliases"], first["models"])
    assert {name: entry["value"] for name, entry in again["serve"].items()} == {
        name: entry["value"] for name, entry in first["serve"].items()
    }


def test_a_broken_configuration_ends_every_command_as_wrong_usage(diptych: Diptych, machine: Path) -> None:
    configure(machine, "[serve]\nport = 'x'")
    for command in (["list"], ["config"], ["detect", "x"], ["rm", "-y", "x"]):
        done = diptych(*command)
        assert done.code == 2
        assert "serve.port = 'x' is not allowed" in done.err


def test_the_file_is_named_before_or_after_the_command(
    diptych: Diptych, machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DIPTYCH_PORT")
    write(machine, {"other.toml": b"[serve]\nport = 9"})
    for arguments in (["--config", "other.toml", "config"], ["config", "--config", "other.toml"]):
        assert diptych(*arguments, "--json").json["serve"]["port"]["value"] == 9


def test_detect_takes_an_alias(diptych: Diptych, machine: Path) -> None:
    configure(machine, "[aliases]\nsmall = 'owner/name'")
    add_repo("owner/name", text_files())
    assert json.loads(diptych("detect", "small", "--json").out)["name"] == "owner/name"


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("--allow-origin", "chat.example.org"),
        ("--allow-host", "http://box"),
        ("--memory", "0"),
        ("--stall", "0"),
        ("--grace", "nan"),
        ("--port", "1e30"),
        ("--max-loaded", "-1"),
        ("--api-key", " "),
    ],
)
def test_a_flag_of_serve_that_means_nothing_is_wrong_usage(diptych: Diptych, flag: str, value: str) -> None:
    done = diptych("serve", f"{flag}={value}")
    assert (done.code, done.out) == (2, "")
    assert f"diptych serve: {flag}: {value!r} is not allowed; " in done.err
