"""The report of `diptych detect`."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import pipelines
from runner.cli.commands.detect import render
from runner.errors import ModelNotFound, ModelNotSupported
from runner.inspect.detect import Component, detect
from runner.inspect.mode import ModelMode
from runner.units import show_count
from tests import ROOT
from tests.runner.checkpoints import image_files, safetensors, text_files, write


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(pipelines.PIPELINES, "Flux2KleinPipeline", "pipelines.flux2:Flux2KleinPipeline")


def test_a_language_model_is_reported(tmp_path: Path) -> None:
    report = detect(str(write(tmp_path, text_files())))
    assert (report.mode, report.type, report.supported, report.reason) == (
        ModelMode.TEXT,
        "qwen3",
        True,
        None,
    )
    assert (report.source, report.parameters, report.bytes) == ("folder", 136, 272)
    assert (report.quantization, report.context_length) == ("BF16", 4096)
    assert report.memory == 272 + 256 * 1024**2


def test_a_picture_model_is_reported_by_component(tmp_path: Path) -> None:
    report = detect(str(write(tmp_path, image_files())))
    assert (report.mode, report.type, report.supported) == (ModelMode.IMAGE, "Flux2KleinPipeline", True)
    assert report.components == (
        Component("text_encoder", "Qwen3ForCausalLM", 136, 272),
        Component("transformer", "Flux2Transformer2DModel", 16, 32),
        Component("vae", "AutoencoderKLFlux2", 4, 16),
    )
    assert (report.parameters, report.bytes, report.context_length) == (156, 320, None)


def test_a_class_without_a_pipeline_is_reported_and_not_supported(tmp_path: Path) -> None:
    report = detect(str(write(tmp_path, image_files("WanPipeline"))))
    assert not report.supported
    assert "no pipeline for 'WanPipeline'" in str(report.reason)
    assert "Flux2KleinPipeline" in str(report.reason)
    assert report.parameters == 156


@pytest.mark.parametrize(
    ("model_type", "supported"),
    [
        ("qwen3", True),
        ("mistral", True),
        ("kimi_k2", True),
        ("clip", False),
        ("../qwen3", False),
        ("phi-msft", True),
    ],
)
def test_a_language_model_is_supported_where_mlx_lm_has_it(
    tmp_path: Path, model_type: str, supported: bool
) -> None:
    report = detect(str(write(tmp_path, text_files() | {"config.json": {"model_type": model_type}})))
    assert report.supported is supported
    assert supported or "mlx-lm has no architecture" in str(report.reason)


def test_quantized_weights_are_reported_as_what_they_stand_for(tmp_path: Path) -> None:
    packed = {"a.weight": ("U32", (16, 8)), "a.scales": ("BF16", (16, 1)), "a.biases": ("BF16", (16, 1))}
    config = {"model_type": "qwen3", "quantization": {"bits": 4, "group_size": 64}}
    report = detect(str(write(tmp_path, text_files(packed) | {"config.json": config})))
    assert report.parameters == 16 * 64
    assert report.quantization == "4-bit (groups of 64)"


@pytest.mark.parametrize("content", [b"", b"\xff" * 100, safetensors({"a": ("F32", (9,))})[:-1]])
def test_weights_that_cannot_be_read_are_the_reason(tmp_path: Path, content: bytes) -> None:
    report = detect(str(write(tmp_path, text_files() | {"model.safetensors": content})))
    assert not report.supported
    assert "model.safetensors" in str(report.reason)
    assert (report.parameters, report.bytes, report.memory, report.components) == (None, None, None, ())


def test_what_is_no_model_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ModelNotSupported, match=r"model_index\.json"):
        detect(str(tmp_path))
    with pytest.raises(ModelNotFound):
        detect(str(tmp_path / "absent"))


def test_the_report_reads_well(tmp_path: Path) -> None:
    text = render(detect(str(write(tmp_path, image_files()))))
    assert text.splitlines()[0] == str(tmp_path)
    for part in (
        "pictures",
        "Flux2KleinPipeline",
        "supported",
        "transformer: Flux2Transformer2DModel",
        "320 bytes",
    ):
        assert part in text


def test_the_report_as_json_says_the_same(tmp_path: Path) -> None:
    report = detect(str(write(tmp_path, text_files())))
    as_json = json.loads(render(report, as_json=True))
    assert (as_json["mode"], as_json["type"], as_json["supported"], as_json["components"]) == (
        "text", "qwen3", True, [{"name": "", "type": "", "parameters": 136, "bytes": 272}],
    )  # fmt: skip
    assert set(as_json) >= {
        "quantization",
        "memory",
        "least_memory",
        "context_length",
        "reason",
        "source",
        "name",
    }


@pytest.mark.parametrize(
    "index",
    [
        {"_class_name": "X", "vae": [1, 2]},
        {"_class_name": "X", "vae": None},
        {"_class_name": "X", "transformer": "x"},
    ],
)
def test_odd_entries_in_an_index_are_no_components(tmp_path: Path, index: dict[str, object]) -> None:
    report = detect(str(write(tmp_path, image_files() | {"model_index.json": index})))
    assert render(report)
    assert not report.supported


@pytest.mark.parametrize(
    "config", [{"architectures": 7}, {"architectures": []}, {"architectures": [3]}, {"_class_name": 5}]
)
def test_odd_class_names_in_a_config_are_left_out(tmp_path: Path, config: dict[str, object]) -> None:
    files = image_files() | {
        "model_index.json": {"architecture": "Flux2KleinPipeline"},
        "vae/config.json": config,
    }
    report = {part.name: part.type for part in detect(str(write(tmp_path, files))).components}
    assert report["vae"] == ""


@pytest.mark.parametrize(
    ("count", "shown"), [(7, "7"), (4096, "4,096"), (137_000_000, "137 M"), (3_875_000_000, "3.88 B")]
)
def test_counts_are_shown_as_models_are_named(count: int, shown: str) -> None:
    assert show_count(count) == shown


def test_looking_imports_neither_mlx_nor_the_hubs_client(tmp_path: Path) -> None:
    write(tmp_path, text_files())
    heavy = ("mlx", "mlx_lm", "huggingface_hub", "httpx2", "transformers", "numpy", "asyncio", "msgspec")
    code = (
        "import sys; from runner.cli.commands.detect import render; from runner.inspect.detect import detect; render(detect(sys.argv[1]));"
        f"sys.exit(str([name for name in {heavy!r} if name in sys.modules]) if set({heavy!r}) & set(sys.modules) else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
