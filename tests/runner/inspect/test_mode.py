"""What a model's files make."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

import pipelines
from runner.errors import ModelNotFound, ModelNotSupported
from runner.inspect.mode import ModelMode, detect_model_mode, detect_model_type
from runner.sources import find
from runner.sources.required_files import components, required_files
from tests.runner.checkpoints import image_files, text_files, write


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(pipelines.PIPELINES, "Flux2KleinPipeline", "pipelines.flux2:Flux2KleinPipeline")


def index(folder: Path, content: Any) -> str:
    return str(write(folder, image_files() | {"model_index.json": content}))


def test_a_model_index_means_pictures(tmp_path: Path) -> None:
    assert detect_model_mode(str(write(tmp_path, image_files())))[:2] == (
        ModelMode.IMAGE,
        "Flux2KleinPipeline",
    )


def test_a_config_alone_means_text(tmp_path: Path) -> None:
    folder = str(write(tmp_path, text_files()))
    assert detect_model_mode(folder).mode == "text"
    assert detect_model_type(folder) == "qwen3"


def test_ollamas_architecture_comes_before_diffusers_class_name(tmp_path: Path) -> None:
    folder = index(tmp_path, {"architecture": "Flux2KleinPipeline", "_class_name": "Another"})
    assert detect_model_type(folder) == "Flux2KleinPipeline"
    assert detect_model_mode(folder).pipeline == "Flux2KleinPipeline"


def test_an_empty_architecture_leaves_the_class_name(tmp_path: Path) -> None:
    assert (
        detect_model_type(index(tmp_path, {"architecture": "", "_class_name": "FluxPipeline"}))
        == "FluxPipeline"
    )


def test_an_unregistered_class_is_named_with_the_supported_ones(tmp_path: Path) -> None:
    folder = index(tmp_path, {"_class_name": "WanPipeline"})
    assert detect_model_type(folder) == "WanPipeline"
    with pytest.raises(
        ModelNotSupported, match=r"'WanPipeline'.*picture models it runs:.*Flux2KleinPipeline"
    ):
        detect_model_mode(folder)


def test_a_folder_that_is_no_model_says_what_was_looked_for_and_where(tmp_path: Path) -> None:
    write(tmp_path, {"notes.md": b"x"})
    with pytest.raises(ModelNotSupported) as raised:
        detect_model_mode(str(tmp_path))
    for part in (str(tmp_path), "model_index.json", "config.json", "notes.md"):
        assert part in raised.value.message


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"[]", "not a JSON object but a list"),
        (b'"FluxPipeline"', "not a JSON object but a string"),
        (b"null", "not a JSON object but null"),
        (b"7", "not a JSON object but a number"),
        (b"", "not valid JSON"),
        (b"{", "not valid JSON"),
        (b'{"_class_name": "Flux', "not valid JSON"),
        (b'{"_class_name": \xff\xfe}', "not UTF-8 text"),
        (b"PK\x03\x04\x80", "not UTF-8 text"),
        (b'{"a":' * 200_000, "nested too deeply"),
        (b'{"n": ' + b"9" * 10_000 + b"}", "not valid JSON"),
        (b"{}", "names no class"),
        (b'{"_class_name": null}', "names no class"),
        (b'{"_class_name": 7}', "_class_name must be a string"),
        (b'{"architecture": ["a", "b"]}', "architecture must be a string"),
    ],
)
def test_a_broken_model_index_is_an_error_that_names_it(tmp_path: Path, content: bytes, reason: str) -> None:
    with pytest.raises(ModelNotSupported, match=reason) as raised:
        detect_model_mode(index(tmp_path, content))
    assert "model_index.json" in raised.value.message
    assert str(tmp_path) in raised.value.message


def test_a_huge_model_index_is_refused_unread(tmp_path: Path) -> None:
    folder = write(tmp_path, image_files())
    os.truncate(folder / "model_index.json", 100 * 1024**2)
    with pytest.raises(ModelNotSupported, match=r"model_index\.json .*too large.*104,857,600"):
        detect_model_mode(str(folder))


def test_a_huge_class_name_does_not_fill_the_message(tmp_path: Path) -> None:
    with pytest.raises(ModelNotSupported) as raised:
        detect_model_mode(index(tmp_path, {"_class_name": "P" * 1_000_000}))
    assert len(raised.value.message) < 1000


def test_a_model_index_that_is_a_folder_is_not_a_regular_file(tmp_path: Path) -> None:
    (tmp_path / "model_index.json").mkdir()
    with pytest.raises(ModelNotSupported, match=r"model_index\.json .*not a regular file"):
        detect_model_mode(str(tmp_path))


def test_a_model_index_that_is_a_pipe_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "model_index.json")
    with pytest.raises(ModelNotSupported, match="not a regular file"):
        detect_model_mode(str(tmp_path))


@pytest.mark.parametrize("target", ["/dev/zero", "/nowhere/at/all", "model_index.json"])
def test_a_model_index_that_links_elsewhere_is_an_error(tmp_path: Path, target: str) -> None:
    (tmp_path / "model_index.json").symlink_to(target)
    with pytest.raises(ModelNotSupported, match=r"model_index\.json .*cannot be read"):
        detect_model_mode(str(tmp_path))


def test_a_model_index_that_may_not_be_read_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write(tmp_path, image_files())
    (folder / "model_index.json").chmod(0)

    opened = os.open

    def refuse(
        path: Any, *arguments: Any, **options: Any
    ) -> int:  # root may read anything, so the refusal is made
        if Path(path).name == "model_index.json":
            raise PermissionError(13, "Permission denied", str(path))
        return opened(path, *arguments, **options)

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(ModelNotSupported, match=r"model_index\.json .*cannot be read: Permission denied"):
        detect_model_mode(str(folder))


@pytest.mark.parametrize("config", [{}, {"model_type": None}, {"model_type": 3}, {"model_type": ""}])
def test_a_config_without_a_model_type_is_an_error(tmp_path: Path, config: dict[str, Any]) -> None:
    folder = write(tmp_path, text_files() | {"config.json": config})
    with pytest.raises(ModelNotSupported, match=r"config\.json .*model_type must be a string"):
        detect_model_mode(str(folder))


def test_a_byte_order_mark_is_refused_here_since_loading_would_refuse_it(tmp_path: Path) -> None:
    content = b"\xef\xbb\xbf" + json.dumps({"_class_name": "Flux2KleinPipeline"}).encode()
    with pytest.raises(ModelNotSupported, match="byte order mark"):
        detect_model_mode(index(tmp_path, content))


def test_a_model_that_is_nowhere_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match="no model folder"):
        detect_model_mode(str(tmp_path / "absent"))


MODULAR = {
    "_class_name": "Flux2KleinPipeline",
    "_blocks_class_name": "SomeBlocks",
    "transformer": ["diffusers", "Flux2Transformer2DModel", {"subfolder": "transformer"}],
    "vae": [None, None, {"subfolder": "vae", "type_hint": ["diffusers", "AutoencoderKLFlux2"]}],
    "prompt_upsampler": [None, None, {"pretrained_model_name_or_path": "somebody/else", "subfolder": ""}],
}


def modular(folder: Path, **more: Any) -> str:
    files = image_files()
    del files["model_index.json"]
    return str(write(folder, files | {"modular_model_index.json": MODULAR} | more))


def test_a_modular_index_means_pictures_too(tmp_path: Path) -> None:
    folder = modular(tmp_path)
    assert detect_model_mode(folder)[:2] == (ModelMode.IMAGE, "Flux2KleinPipeline")
    paths = required_files(find(folder), ModelMode.IMAGE)
    assert paths[0] == "modular_model_index.json"
    assert "transformer/config.json" in paths


def test_parts_of_another_repo_are_not_looked_for(tmp_path: Path) -> None:
    listed = components(find(modular(tmp_path)))
    assert "transformer" in listed
    assert "prompt_upsampler" not in listed


def test_a_plain_index_comes_before_a_modular_one(tmp_path: Path) -> None:
    folder = modular(tmp_path, **{"model_index.json": {"_class_name": "WanPipeline"}})
    assert detect_model_type(folder) == "WanPipeline"


def test_an_error_names_the_index_that_is_there(tmp_path: Path) -> None:
    with pytest.raises(ModelNotSupported, match=r"modular_model_index\.json in .* names no class"):
        detect_model_type(modular(tmp_path, **{"modular_model_index.json": {"vae": [None, None, {}]}}))
