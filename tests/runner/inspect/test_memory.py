"""What a model takes and what the machine has."""

import json
import os
from pathlib import Path

import pytest

import pipelines
from models.vision.working_memory import TowerWork
from runner import hardware, units
from runner.errors import ModelNotSupported
from runner.hardware import device_memory
from runner.inspect import memory
from runner.inspect.memory import (
    MemoryEstimate,
    cache_bytes_per_token,
    estimate_memory,
    estimated_vram,
    weights_bytes,
)
from runner.sources import find
from runner.units import parse_size
from tests.runner.checkpoints import image_files, text_files, write
from tests.toys import toy_vision


def test_a_language_models_weights_are_the_bytes_that_its_tensors_declare(tmp_path: Path) -> None:
    files = find(str(write(tmp_path, text_files())))
    assert weights_bytes(files) == estimated_vram(files) == 16 * 8 * 2 + 8 * 2


def test_a_picture_models_weights_are_those_of_its_components_alone(tmp_path: Path) -> None:
    assert weights_bytes(find(str(write(tmp_path, image_files())))) == 272 + 4 * 4 * 2 + 2 * 2 * 4


def test_an_estimate_adds_its_stated_allowance(tmp_path: Path) -> None:
    config = {
        "model_type": "qwen3",
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
    }
    write(tmp_path, text_files() | {"config.json": config | {"head_dim": 16}})
    estimate = estimate_memory(str(tmp_path))
    assert estimate == MemoryEstimate({"": 272}, 256 * 1024**2 + 4096 * 2 * 2 * 2 * 2 * 16)
    assert estimate.resident == 272 + estimate.allowance


def test_a_model_that_sees_has_room_for_the_work_of_its_tower() -> None:
    folder = toy_vision()
    config = json.loads((folder / "config.json").read_text())
    work = TowerWork.of(config)
    assert work is not None
    text = {key: value for key, value in config.items() if key != "vision_config"}
    cache = 4096 * cache_bytes_per_token(text)
    for wide in (False, True):
        needed = work.bytes(2**20, 4 if wide else 2)
        assert estimate_memory(str(folder), float32=wide).allowance == 256 * 1024**2 + cache + needed


def test_a_picture_model_can_do_without_its_encoder_and_the_rest_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(pipelines.PIPELINES, "Flux2KleinPipeline", "pipelines.flux2:Flux2KleinPipeline")
    estimate = estimate_memory(str(write(tmp_path, image_files())))
    assert estimate.components == {"text_encoder": 272, "transformer": 32, "vae": 16}
    assert estimate.resident == 320 + 2 * 1024**3
    assert estimate.staged == 272 + 2 * 1024**3


@pytest.mark.parametrize(
    ("vae", "mebibytes"),
    [
        ({"sample_size": 1024, "block_out_channels": [128, 256, 512, 512]}, 2048),  # what real models state
        ({"sample_size": 512, "block_out_channels": [128, 256, 512, 512]}, 512),
        (
            {"sample_size": 1024, "block_out_channels": [64, 64], "decoder_block_out_channels": [96, 192]},
            1536,
        ),
        ({"sample_size": 128, "block_out_channels": [32, 64, 64]}, 128),
        ({"sample_size": 10**6, "block_out_channels": [8, 10**6]}, 2048),
        ({"sample_size": "128", "block_out_channels": [32, 64]}, 2048),
        ({"sample_size": 128, "block_out_channels": [32, "64"]}, 2048),
        ({"sample_size": 128, "block_out_channels": [32]}, 2048),
        ({}, 2048),
    ],
)
def test_the_work_on_a_picture_grows_with_its_pixels_and_the_decoders_width(
    tmp_path: Path, vae: dict[str, object], mebibytes: int
) -> None:
    files = image_files() | {"vae/config.json": vae}
    assert estimate_memory(str(write(tmp_path, files))).allowance == mebibytes * 1024**2


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"num_hidden_layers": "2"},
        {"num_hidden_layers": True},
        {"num_attention_heads": 0, "hidden_size": 8},
    ],
)
def test_a_config_that_says_nothing_of_a_cache_counts_none(config: dict[str, object]) -> None:
    assert memory.cache_bytes_per_token(config) == 0


def test_a_cache_is_counted_from_the_text_part_of_a_config() -> None:
    text = {"num_hidden_layers": 3, "num_attention_heads": 4, "hidden_size": 32}
    assert memory.cache_bytes_per_token({"text_config": text}) == 2 * 2 * 3 * 4 * 8


@pytest.mark.parametrize("broken", [b"", b"\xff" * 8, b"\x10\0\0\0\0\0\0\0{}"])
def test_files_that_cannot_be_read_are_taken_for_8_gib(tmp_path: Path, broken: bytes) -> None:
    files = find(str(write(tmp_path, text_files() | {"model.safetensors": broken})))
    assert weights_bytes(files) is None
    assert estimated_vram(files) == 8589934592
    with pytest.raises(ModelNotSupported, match=r"model\.safetensors"):
        estimate_memory(files)


def test_a_folder_without_weights_is_taken_for_8_gib(tmp_path: Path) -> None:
    assert estimated_vram(find(str(tmp_path))) == memory.UNREADABLE_VRAM == 8 * 1024**3


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("8GB", 8 * 10**9),
        ("512MiB", 512 * 1024**2),
        ("1.5g", 3 * 1024**3 // 2),
        ("16 GiB", 16 * 1024**3),
        ("2T", 2 * 1024**4),
        ("100kb", 100_000),
        ("4096", 4096),
        ("7b", 7),
    ],
)
def test_sizes_are_written_as_people_write_them(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text", ["", "GB", "-1GB", "8XB", "8 G B", "1e9", "0", "0.0g", "١GB", "nan", "9" * 400, "1.g"]
)
def test_what_is_no_size_says_what_would_be(text: str) -> None:
    with pytest.raises(ValueError, match="is not a size"):
        parse_size(text)


@pytest.mark.parametrize(
    ("size", "shown"), [(0, "0 bytes"), (999, "999 bytes"), (271_000, "271 kB"), (8_044_936_192, "8.04 GB")]
)
def test_sizes_are_shown_short(size: int, shown: str) -> None:
    assert units.show_size(size) == shown


def test_the_machine_says_how_much_memory_it_has() -> None:
    size = device_memory()
    assert size is not None
    assert 2**26 < size <= os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


@pytest.mark.parametrize(
    ("files", "limit"),
    [
        ({"memory.max": b"1048576\n"}, 1048576),
        ({"memory.max": b"max\n"}, None),
        ({"memory/memory.limit_in_bytes": b"2097152"}, 2097152),
        ({}, None),
    ],
)
def test_a_containers_limit_counts(tmp_path: Path, files: dict[str, bytes], limit: int | None) -> None:
    assert hardware._container_limit(write(tmp_path, files)) == limit


def test_a_machine_that_does_not_say_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str) -> int:
        raise ValueError(name)

    monkeypatch.setattr(os, "sysconf", refuse)
    monkeypatch.setattr(hardware, "_container_limit", lambda: None)
    assert device_memory() is None
