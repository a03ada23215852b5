"""Which engine runs a picture model."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from pipelines.fallback import catalog
from runner.cli.commands.detect import render
from runner.errors import ModelNotSupported
from runner.gateway.resolver import ModelResolver, ResolvedModel
from runner.gateway.settings import Settings
from runner.inspect.detect import detect
from runner.inspect.image_backend import ImageEngine, choose_engine
from runner.inspect.mode import ModelMode, detect_model_mode
from runner.sources import ModelFiles, find
from tests.runner.checkpoints import image_files, write

OTHERS = "StableDiffusionXLPipeline"


@pytest.fixture
def ours(tmp_path: Path) -> ModelFiles:
    return find(str(write(tmp_path / "ours", image_files())))


@pytest.fixture
def others(tmp_path: Path) -> ModelFiles:
    return find(str(write(tmp_path / "others", image_files(OTHERS))))


@pytest.fixture
def extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the extra were installed, and knew one pipeline."""
    listed = catalog.DiffusersPipeline(OTHERS, frozenset({"prompt"}))
    monkeypatch.setattr(catalog, "installed", lambda: True)
    monkeypatch.setattr(catalog, "find", lambda name: listed if name == OTHERS else None)


@pytest.fixture
def no_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog, "installed", lambda: False)


@pytest.mark.usefixtures("extra")
def test_our_own_pipeline_comes_first_and_diffusers_where_there_is_none(
    ours: ModelFiles, others: ModelFiles
) -> None:
    assert choose_engine(ours, "Flux2KleinPipeline") is ImageEngine.MLX
    assert choose_engine(others, OTHERS) is ImageEngine.TORCH
    assert detect_model_mode(others) == (ModelMode.IMAGE, OTHERS, ImageEngine.TORCH)
    assert (detect(ours).engine, detect(others).engine) == ("mlx", "torch")
    assert "torch, by diffusers" in render(detect(others))
    assert detect(others).least_memory == detect(others).memory


@pytest.mark.usefixtures("no_extra")
def test_without_the_extra_the_error_says_that_it_would_help(ours: ModelFiles, others: ModelFiles) -> None:
    for choice in ("auto", "torch"):
        with pytest.raises(ModelNotSupported, match=r"pip install 'diptych\[torch\]'"):
            choose_engine(others, OTHERS, choice)
    with pytest.raises(ModelNotSupported, match=r"pip install 'diptych\[torch\]'"):
        choose_engine(ours, "Flux2KleinPipeline", "torch")
    report = detect(others)
    assert (report.supported, report.engine) == (False, None)
    assert "pip install 'diptych[torch]'" in str(report.reason)


@pytest.mark.usefixtures("extra")
def test_the_engine_that_is_asked_for_is_taken_or_refused(ours: ModelFiles, others: ModelFiles) -> None:
    assert choose_engine(others, OTHERS, "torch") is ImageEngine.TORCH
    assert choose_engine(ours, "Flux2KleinPipeline", "mlx") is ImageEngine.MLX
    with pytest.raises(ModelNotSupported, match=f"'{OTHERS}'.*picture models it runs.*--engine torch"):
        choose_engine(others, OTHERS, "mlx")
    with pytest.raises(ModelNotSupported, match="cannot be run by the torch engine"):
        choose_engine(ours, "Flux2KleinPipeline", "torch")


@pytest.mark.usefixtures("extra")
@pytest.mark.parametrize(
    ("index", "reason"),
    [
        ({"unet": ["my_unet", "Net"]}, "its unet comes from 'my_unet'"),
        ({"architecture": OTHERS, "_class_name": "Another"}, "_class_name"),
    ],
)
def test_a_models_own_code_is_refused_before_anything_is_loaded(
    tmp_path: Path, index: dict[str, Any], reason: str
) -> None:
    content = image_files(OTHERS)
    content["model_index.json"] |= index
    files = find(str(write(tmp_path, content)))
    with pytest.raises(ModelNotSupported, match=reason):
        detect_model_mode(files)
    assert reason in str(detect(files).reason)


@pytest.mark.usefixtures("extra")
def test_a_class_that_is_a_list_names_a_models_own_code(tmp_path: Path) -> None:
    content = image_files(OTHERS)
    content["model_index.json"]["_class_name"] = ["pipeline", "MyPipeline"]
    with pytest.raises(ModelNotSupported, match="_class_name must be a string"):
        detect_model_mode(str(write(tmp_path, content)))


@pytest.mark.usefixtures("extra")
def test_the_gateway_knows_that_the_torch_engine_holds_everything_at_once(
    ours: ModelFiles, others: ModelFiles
) -> None:
    def options(model: str) -> list[str]:
        return ["--engine", "torch"] if model == "forced" else []

    resolver = ModelResolver(Settings(models=(others.name, ours.name), options=options))

    async def look() -> tuple[ResolvedModel, ResolvedModel]:
        return await resolver.resolve(others.name), await resolver.resolve(ours.name)

    by_torch, by_mlx = asyncio.run(look())
    assert (by_torch.engine, by_mlx.engine) == (ImageEngine.TORCH, ImageEngine.MLX)
    assert by_torch.need.resident == by_torch.need.staged == by_torch.need.smallest
    assert by_mlx.chooses_memory_mode
    assert not by_torch.chooses_memory_mode
