"""Checkpoints that diffusers is not to be given, and those that are broken."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("diffusers")

import diffusers
import safetensors.torch
import torch

from models.checkpoint.safetensors import WeightsError
from models.files import LocalModel
from pipelines.base import ImageRequest, PipelineError
from pipelines.fallback.loading import FallbackError
from pipelines.fallback.pipeline import TorchPipeline
from tests.pipelines.fallback.checkpoints import toy
from tests.pipelines.pictures import drawn, painted
from tests.pipelines.toys import local

pytestmark = pytest.mark.reference

SDXL = "StableDiffusionXLPipeline"
UNET = "unet/diffusion_pytorch_model.safetensors"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(toy("sdxl").folder, tmp_path / "toy"))


def load(folder: Path) -> TorchPipeline:
    return TorchPipeline.load(local(folder), SDXL)


def change(folder: Path, path: str, edit: Callable[[dict[str, object]], object]) -> None:
    content = json.loads((folder / path).read_text())
    edit(content)
    (folder / path).write_text(json.dumps(content))


def test_progress_is_told_by_bytes() -> None:
    heard: list[float] = []
    TorchPipeline.load(toy("sdxl"), SDXL, progress=heard.append)
    assert heard == sorted(heard)
    assert heard[-1] == 1.0


@pytest.mark.parametrize("cut", [0, 5, 200, -1])
def test_weights_that_are_cut_short_name_the_file(folder: Path, cut: int) -> None:
    (folder / UNET).write_bytes((folder / UNET).read_bytes()[:cut])
    with pytest.raises((FallbackError, WeightsError), match=r"unet.*diffusion_pytorch_model\.safetensors"):
        load(folder)


def test_weights_that_are_missing_are_never_made_up(folder: Path) -> None:
    weights = safetensors.torch.load_file(folder / UNET)
    del weights["conv_in.weight"]
    safetensors.torch.save_file(weights, folder / UNET, {"format": "pt"})
    with pytest.raises(FallbackError, match=r"unet lacks conv_in\.weight"):
        load(folder)


def test_weights_of_another_shape_are_named(folder: Path) -> None:
    weights = safetensors.torch.load_file(folder / UNET)
    weights["conv_in.weight"] = torch.zeros(3, 3, 3, 3)
    safetensors.torch.save_file(weights, folder / UNET, {"format": "pt"})
    with pytest.raises(FallbackError, match=r"unet .*conv_in\.weight"):
        load(folder)


@pytest.mark.parametrize("part", ["vae", "tokenizer_2", "scheduler"])
def test_a_component_that_is_not_there_is_named(folder: Path, part: str) -> None:
    shutil.rmtree(folder / part)
    with pytest.raises(FallbackError, match=f"lists {part}, but .* has no folder {part}"):
        load(folder)


def test_a_component_that_is_not_listed_is_named(folder: Path) -> None:
    change(folder, "model_index.json", lambda index: index.pop("vae"))
    with pytest.raises(FallbackError, match=r"cannot be put together.*vae"):
        load(folder)


def test_other_models_are_not_loaded_on_the_way(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diffusers.StableDiffusionXLPipeline, "_load_connected_pipes", True)
    with pytest.raises(FallbackError, match="put together of several models"):
        load(folder)


def test_pickles_are_never_read(folder: Path) -> None:
    weights = safetensors.torch.load_file(folder / UNET)
    torch.save(weights, folder / "unet" / "diffusion_pytorch_model.bin")
    (folder / UNET).unlink()
    with pytest.raises(FallbackError, match="unet"):
        load(folder)


def test_code_beside_a_model_is_never_run(folder: Path) -> None:
    code = "raise SystemExit('it was run')"
    for name in ("None.py", "pipeline.py", "unet/diffusers.py", "unet/unet.py", "tokenizer/transformers.py"):
        (folder / name).write_text(code)
    change(
        folder,
        "tokenizer/tokenizer_config.json",
        lambda config: config.update(auto_map={"AutoTokenizer": "unet.T"}),
    )
    with pytest.raises(FallbackError, match="trust_remote_code"):
        load(folder)
    (folder / "None.py").unlink()
    load(folder)


@pytest.mark.parametrize(
    "unet",
    [
        ["my_unet", "UNet2DConditionModel"],
        ["diffusers", "NoSuchModel"],
        ["diffusers", "__version__"],
        ["diffusers", "AutoModel"],
        ["diffusers", "OnnxRuntimeModel"],
        ["diffusers", "StableDiffusionPipeline"],
        ["transformers", "AutoModel"],
        ["transformers", "RagRetriever"],
        ["transformers", "TrainingArguments"],
    ],
)
def test_classes_of_elsewhere_are_not_made(folder: Path, unet: list[str]) -> None:
    (folder / "unet" / "my_unet.py").write_text("raise SystemExit('it was run')")
    change(folder, "model_index.json", lambda index: index.update(unet=unet))
    with pytest.raises(FallbackError, match=f"{unet[0]}"):
        load(folder)


def test_a_component_that_was_left_out_is_none(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(toy("sd3").folder, tmp_path / "toy"))
    none = [None, None]
    change(folder, "model_index.json", lambda index: index.update(text_encoder_3=none, tokenizer_3=none))
    shutil.rmtree(folder / "text_encoder_3")
    pipeline = TorchPipeline.load(local(folder), "StableDiffusion3Pipeline")
    assert drawn(pipeline.generate(ImageRequest("a", 1, width=32, height=32, steps=1)))[0].shape == (
        32,
        32,
        3,
    )


def test_a_model_that_begins_with_a_picture_asks_for_one(folder: Path) -> None:
    name = "StableDiffusionXLImg2ImgPipeline"
    change(folder, "model_index.json", lambda index: index.update(_class_name=name))
    pipeline = TorchPipeline.load(local(folder), name)
    with pytest.raises(PipelineError, match="images: a picture is needed"):
        pipeline.plan(ImageRequest("a", 1))
    request = ImageRequest("a", 1, steps=4, images=(painted(40, 32),))
    assert drawn(pipeline.generate(request))[0].shape == (32, 40, 3)


def test_weights_under_a_variants_name_are_found(folder: Path) -> None:
    (folder / UNET).rename(folder / "unet" / "diffusion_pytorch_model.fp16.safetensors")
    assert load(folder).call.pipeline.unet is not None


def test_a_model_is_what_its_files_say(folder: Path) -> None:
    model = LocalModel("m", folder, local(folder).shards)
    assert TorchPipeline.load(model, SDXL).context == 77
