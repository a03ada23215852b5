"""The configuration: what wins over what, and what is said of a mistake."""

import contextlib
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runner.config import Config, load, model_arguments
from runner.config.file import checked
from runner.config.options import SERVE
from runner.errors import ConfigInvalid


def write(folder: Path, text: str | bytes) -> Path:
    path = folder / "config.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def configured(folder: Path, text: str, **variables: str) -> Config:
    return load(str(write(folder, text)), variables)


def failure(folder: Path, text: str | bytes, **variables: str) -> str:
    path = write(folder, text)
    with pytest.raises(ConfigInvalid) as raised:
        load(str(path), variables)
    return raised.value.message.replace(str(path), "FILE")


def test_without_a_file_the_defaults_are_in_force(tmp_path: Path) -> None:
    config = load(None, {"XDG_CONFIG_HOME": str(tmp_path)})
    assert config.path == tmp_path / "diptych" / "config.toml"
    assert {name: setting.value for name, setting in config.serve.items()} == {
        name: option.default for name, option in SERVE.items()
    }
    assert {setting.origin for setting in config.serve.values()} == {"default"}


def test_flags_win_over_variables_over_the_file_over_defaults(tmp_path: Path) -> None:
    path = write(tmp_path, "[serve]\nport = 1\nhost = 'a'")
    variables = {"DIPTYCH_PORT": "2", "DIPTYCH_CONFIG": str(path)}

    def port(flags: dict[str, object], variables: dict[str, str]) -> tuple[object, str]:
        setting = load(None, variables, flags).serve["port"]
        return setting.value, setting.origin

    assert port({"port": 3}, variables) == (3, "--port")
    assert port({"port": None}, variables) == (2, "DIPTYCH_PORT")
    assert port({}, {"DIPTYCH_CONFIG": str(path)}) == (1, str(path))
    assert load(None, variables).serve["host"].value == "a"


def test_the_file_is_named_by_a_flag_a_variable_or_the_users_folder(tmp_path: Path) -> None:
    (tmp_path / "diptych").mkdir()
    write(tmp_path / "diptych", "[serve]\nport = 1")
    other = write(tmp_path, "[serve]\nport = 2")
    variables = {"XDG_CONFIG_HOME": str(tmp_path)}
    assert load(None, variables).serve["port"].value == 1
    assert load(None, variables | {"DIPTYCH_CONFIG": str(other)}).serve["port"].value == 2
    assert load(str(other), variables).serve["port"].value == 2
    assert load(None, {"HOME": os.environ["HOME"]}).path == Path.home() / ".config/diptych/config.toml"


def test_an_alias_means_its_model_and_may_mean_another_alias(tmp_path: Path) -> None:
    config = configured(tmp_path, '[aliases]\nklein = "black-forest-labs/FLUX.2-klein-4B"\nk = "klein"')
    assert config.resolve("k") == config.resolve("klein") == "black-forest-labs/FLUX.2-klein-4B"
    assert config.resolve("other") == "other"
    assert config.aliases["k"] == "black-forest-labs/FLUX.2-klein-4B"


def test_a_models_settings_stand_under_any_of_its_names(tmp_path: Path) -> None:
    config = configured(
        tmp_path,
        """
        [aliases]
        small = "owner/name"
        [models."*"]
        context = 4096
        batch = 8
        [models.small]
        context = 8192
        [models."owner/name"]
        kv_bits = 4
        cache_bytes = "2GB"
        kv_disk = "10GB"
        [models."owner/pictures"]
        quantize = 4
        memory = "staged"
        """,
    )
    expected = {
        "context": 8192, "batch": 8, "kv_bits": 4, "cache_bytes": 2 * 10**9, "kv_disk": 10**10
    }  # fmt: skip
    assert config.model("small") == config.model("owner/name") == expected
    assert config.model("owner/other") == {"context": 4096, "batch": 8}
    assert config.model("owner/pictures")["quantize"] == "4"
    assert model_arguments({"kv_bits": 4, "memory": "staged"}) == ["--kv-bits", "4", "--memory", "staged"]
    assert model_arguments({"kv_disk": 10**10}) == ["--kv-disk", "10000000000"]
    assert model_arguments({"warm_up": False}) == ["--no-warm-up"]
    assert model_arguments({"lora": ("a:0.5", "b")}) == ["--lora", "a:0.5", "--lora", "b"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "[serve]\nport = 'x'",
            "FILE: serve.port = 'x' is not allowed; it must be a whole number from 0 to 65535",
        ),
        (
            "[serve]\nport = 65536",
            "FILE: serve.port = 65536 is not allowed; it must be a whole number from 0 to 65535",
        ),
        ("[serve]\nport = true", "serve.port = true is not allowed"),
        (
            "[serve]\nallow_origin = ['chat.example.org']",
            "it must be a list, each item an origin such as https://chat.example.org",
        ),
        (
            "[serve]\nallow_origin = ['https://a.b/c']",
            'serve.allow_origin = ["https://a.b/c"] is not allowed',
        ),
        ("[serve]\nallow_host = ['box:80']", "each item a host name such as box.example.org, without a port"),
        ("[serve]\nallow_host = 'box'", "serve.allow_host = 'box' is not allowed"),
        ("[serve]\nkeep_alive = nan", "serve.keep_alive = NaN is not allowed; it must be a duration such as"),
        (
            "[serve]\ngrace = -1",
            "serve.grace = -1 is not allowed; it must be a duration of at least 0 s, such as 90s",
        ),
        ("[serve]\nstall = 0.5", "serve.stall = 0.5 is not allowed; it must be a duration of at least 1 s"),
        ("[serve]\nmemory = 0", "serve.memory = 0 is not allowed; it must be a size such as 8GB"),
        ("[serve]\nmemory = 1e30", "serve.memory = 1e+30 is not allowed"),
        ("[serve]\nmemory = '9999999999TB'", "is not allowed; it must be a size such as 8GB"),
        ("[serve]\nport = 2026-01-01", 'serve.port = "2026-01-01" is not allowed'),
        ("[serve]\nhost = ''", "FILE: serve.host = '' is not allowed; it must be a non-empty string"),
        (
            "[serve]\nprot = 1",
            "FILE: serve.prot is not a known key; did you mean port? The keys are host, port",
        ),
        ("[server]\nport = 1", "FILE: server is not a known key; did you mean serve?"),
        ("serve = 1", "FILE: serve = 1 is not allowed; it must be a table, [serve]"),
        ("[models]\nx = 1", "FILE: models.x = 1 is not allowed; it must be a table, [models.x]"),
        (
            "[models.x]\nkv_disk = 'much'",
            "FILE: models.x.kv_disk = 'much' is not allowed; it must be a size such as 8GB, 512MiB or 1.5g",
        ),
        (
            "[models.x]\nkv_bits = 5",
            "FILE: models.x.kv_bits = 5 is not allowed; it must be one of 2, 3, 4, 6, 8",
        ),
        ("[models.x]\ncache_bytes = '2 apples'", "a size such as 8GB"),
        ("[models.x]\nmemory = 'much'", "auto, resident, staged or a size such as 8GB"),
        ("[models.x]\nquantize = 7", "one of 3, 4, 5, 6, 8, mxfp4"),
        ("[models.'*']\nmemory = 'staged'", "models.*.memory is not a known key"),
        ("[models.x]\ncontext = 0", "a whole number from 1"),
        (
            "[models.x]\nspeculate = 'mtp'",
            "models.x.speculate = 'mtp' is not allowed; it must be one of lookup, off",
        ),
        ("[models.x]\nspeculate_tokens = 33", "it must be a whole number from 1 to 32"),
        (
            "[serve]\nspeculate = 'always'",
            "serve.speculate = 'always' is not allowed; it must be one of lookup, off",
        ),
        ("[models.'*']\ndraft = 'x'", "models.*.draft is not a known key"),
        ("[aliases]\n'a/b' = 'c'", "'a/b' cannot be an alias"),
        ("[aliases]\na = 1", "aliases.a = 1 is not allowed; it must be the name of a model"),
        ("[aliases]\na = 'b'\nb = 'a'", "the aliases a → b → a form a circle"),
        ("[aliases]\na = 'a'", "the aliases a → a form a circle"),
        ("[serve", "FILE is not valid TOML"),
        ("a = " + "[" * 10_000, "FILE is not valid TOML: it is nested too deeply"),
        (b"\xff", "FILE is not UTF-8 text (byte 0)"),
        (b"#" * (1024**2 + 1), "FILE is too large for a configuration file; the limit is 1,048,576 bytes"),
    ],
)
def test_a_mistake_in_the_file_is_named_with_what_is_allowed(
    tmp_path: Path, text: str | bytes, said: str
) -> None:
    assert said in failure(tmp_path, text)


def test_a_mistake_in_a_variable_is_named(tmp_path: Path) -> None:
    assert "DIPTYCH_PORT = 'x' is not allowed; it must be a whole number" in failure(
        tmp_path, "", DIPTYCH_PORT="x"
    )


def test_a_file_that_was_named_has_to_be_there(tmp_path: Path) -> None:
    for path, said in ((tmp_path / "absent", "does not exist"), (tmp_path, "is not a file")):
        with pytest.raises(ConfigInvalid, match=said):
            load(str(path), {})


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser reads everything")
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    path = write(tmp_path, "")
    path.chmod(0)
    with pytest.raises(ConfigInvalid, match=r"cannot read the configuration file .*: Permission denied"):
        load(str(path), {})


@given(content=st.one_of(st.binary(max_size=200), st.text(max_size=200).map(str.encode)))
@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_the_file_holds_it_is_a_configuration_or_a_clear_error(
    tmp_path: Path, content: bytes
) -> None:
    with contextlib.suppress(ConfigInvalid):
        load(str(write(tmp_path, content)), {})


WORDS = st.one_of(
    st.text(max_size=20), st.integers(), st.floats(), st.booleans(), st.lists(st.integers(), max_size=2)
)


@given(
    name=st.sampled_from(sorted(SERVE)),
    value=WORDS,
    text=st.text(st.characters(exclude_characters="\0"), max_size=20),
)
@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_an_option_is_set_to_it_is_taken_or_a_clear_error(
    tmp_path: Path, name: str, value: object, text: str
) -> None:
    with contextlib.suppress(ConfigInvalid):
        checked(value, SERVE[name].kind, name)
    with contextlib.suppress(ConfigInvalid):
        load(None, {"XDG_CONFIG_HOME": str(tmp_path), f"DIPTYCH_{name.upper()}": text})


def test_a_models_keep_alive_is_the_gateways_and_no_flag_of_its_runner(tmp_path: Path) -> None:
    config = configured(tmp_path, "[aliases]\ns = 'o/small'\n[models.s]\nkeep_alive = '1h'\nbatch = 2")
    assert config.model("o/small") == {"keep_alive": 3600, "batch": 2}
    assert model_arguments(config.model("o/small")) == ["--batch", "2"]
    assert "keep_alive = 'soon' is not allowed; it must be a duration" in failure(
        tmp_path, "[models.s]\nkeep_alive = 'soon'"
    )
    assert "keep_alive is not a known key" in failure(tmp_path, "[models.'*']\nkeep_alive = 3")


@pytest.mark.parametrize("name", ["hf:o/small", "o/small", "o/small:latest", "ollama:o/small"])
def test_settings_hold_however_a_models_name_is_written(tmp_path: Path, name: str) -> None:
    config = configured(tmp_path, "[models.'o/small']\nbatch = 2")
    assert config.model(name) == {"batch": 2}


@pytest.mark.parametrize(
    "origin",
    [
        "*",
        "null",
        "https://a.b",
        "http://[::1]:8080",
        "http://localhost:3000/",
        "chrome-extension://abcd",
        "http://*.box:*",
    ],
)
def test_origins_are_written_as_browsers_write_them(tmp_path: Path, origin: str) -> None:
    config = configured(tmp_path, f"[serve]\nallow_origin = ['{origin}']\nallow_host = ['*', 'box.lan']")
    assert config.serve["allow_origin"].value == (origin,)
    assert config.serve["allow_host"].value == ("*", "box.lan")
