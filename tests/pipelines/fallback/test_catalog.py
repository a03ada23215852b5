"""What is known of diffusers without importing it."""

import subprocess
import sys
from typing import Any

import pytest

from pipelines.fallback import catalog

SDXL: dict[str, Any] = {
    "_class_name": "StableDiffusionXLPipeline",
    "_diffusers_version": "0.42.1",
    "unet": ["diffusers", "UNet2DConditionModel"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"],
    "image_encoder": [None, None],
    "force_zeros_for_empty_prompt": True,
}


def test_without_the_extra_the_reason_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog, "installed", lambda: False)
    assert "pip install 'diptych[torch]'" in str(catalog.refusal("StableDiffusionXLPipeline", SDXL))


def test_components_are_what_the_index_lists() -> None:
    assert [part for part, *_ in catalog.parts(SDXL)] == ["unet", "text_encoder", "safety_checker"]
    assert list(catalog.parts({"unet": [1, 2], "vae": "x", "a": ["diffusers"], "_b": ["c", "d"]})) == []


@pytest.mark.reference
class TestWithDiffusers:
    @pytest.fixture(autouse=True)
    def _installed(self) -> None:
        if not catalog.installed():
            pytest.skip("diffusers and torch are not installed")

    def test_a_model_of_its_own_classes_is_not_refused(self) -> None:
        assert catalog.refusal("StableDiffusionXLPipeline", SDXL) is None

    @pytest.mark.parametrize(
        ("name", "reason"),
        [
            ("WanPipeline", "makes videos"),
            ("StableAudioPipeline", "makes sound"),
            ("DDPMPipeline", "takes no prompt"),
            ("StableDiffusionXLInpaintPipeline", "inside a mask"),
            ("NoSuchPipeline", "has no 'NoSuchPipeline'"),
            ("DiffusionPipeline", "has no 'DiffusionPipeline'"),
            ("AutoPipelineForText2Image", "has no 'AutoPipelineForText2Image'"),
            ("os.system", "has no 'os.system'"),
            ("../Pipeline", "has no '../Pipeline'"),
        ],
    )
    def test_what_draws_nothing_from_a_prompt_is_refused_by_name(self, name: str, reason: str) -> None:
        assert reason in str(catalog.refusal(name, {"_class_name": name}))

    @pytest.mark.parametrize("library", ["my_unet", "os", "torch", "diffusers.hooks", "..", "", "pipelines"])
    def test_a_component_from_elsewhere_is_code_and_refused(self, library: str) -> None:
        reason = catalog.refusal(
            "StableDiffusionXLPipeline", {**SDXL, "unet": [library, "UNet2DConditionModel"]}
        )
        assert "its unet comes from" in str(reason)
        assert "never run" in str(reason)

    def test_a_class_that_is_no_name_is_refused(self) -> None:
        reason = catalog.refusal("StableDiffusionXLPipeline", {**SDXL, "unet": ["diffusers", "a.b"]})
        assert "not a valid class name" in str(reason)

    def test_another_class_than_the_index_states_is_refused(self) -> None:
        index = {**SDXL, "_class_name": ["pipeline", "MyPipeline"]}
        assert "_class_name" in str(catalog.refusal("StableDiffusionXLPipeline", index))

    def test_looking_imports_none_of_it(self) -> None:
        code = (
            "import sys; from pipelines.fallback import catalog; assert catalog.find('FluxPipeline').params;"
            "print(sorted({name.split('.')[0] for name in sys.modules} & {'torch', 'diffusers', 'transformers', 'numpy'}))"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert done.stdout.strip() == "[]", done.stderr
