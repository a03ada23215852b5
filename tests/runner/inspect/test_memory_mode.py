"""How a picture model is held: estimates from headers, and the choice between all at once and in turn."""

from pathlib import Path

import pytest

from models.checkpoint.quantization_formats import FORMATS
from models.checkpoint.quantize import Quantization
from runner.inspect.memory import IMAGE_ALLOWANCE, MemoryEstimate, estimate_memory
from runner.inspect.memory_mode import choose_loading, choose_memory, parse_memory
from runner.sources import ModelMode, find
from runner.units import GIB
from tests.runner.checkpoints import image_files, safetensors, write

MODEL = MemoryEstimate({"text_encoder": 8 * GIB, "transformer": 7 * GIB, "vae": GIB}, IMAGE_ALLOWANCE)
ALL, IN_TURN = 18 * GIB, 10 * GIB


@pytest.mark.parametrize("how", FORMATS)
def test_every_quantization_that_is_offered_exists(how: str) -> None:
    assert Quantization.parse(how).bits in (3, 4, 5, 6, 8)


def test_memory_is_a_word_or_a_size() -> None:
    assert [parse_memory(text) for text in ("auto", " Staged ", "resident", "8GB")] == [
        "auto",
        "staged",
        "resident",
        8 * 10**9,
    ]
    with pytest.raises(ValueError, match=r"'plenty' is not a size; .* auto, resident and staged"):
        parse_memory("plenty")


@pytest.mark.parametrize(
    ("setting", "device", "memory", "why"),
    [
        ("resident", GIB, "resident", "as requested"),
        ("staged", 100 * GIB, "staged", "as requested"),
        ("auto", 2 * ALL, "resident", "fit into"),
        ("auto", ALL, "staged", "in turn"),
        ("auto", GIB, "staged", "--quantize 4 would help"),
        (ALL, GIB, "resident", "the budget of 19.33 GB"),
        (ALL - 1, 100 * GIB, "staged", "in turn"),
        (IN_TURN - 1, 100 * GIB, "staged", "--quantize"),
    ],
)
def test_what_fits_is_held_at_once_and_nothing_is_refused(
    setting: str | int, device: int, memory: str, why: str
) -> None:
    choice = choose_memory(setting, MODEL, device)
    assert choice.memory == memory
    assert why in choice.why


def test_an_estimate_knows_what_loading_changes(tmp_path: Path) -> None:
    weights = {"block.weight": ("BF16", (64, 128)), "embed.weight": ("BF16", (8, 4)), "norm": ("F32", (4,))}
    files = image_files()
    for part in ("transformer/diffusion_pytorch_model", "vae/diffusion_pytorch_model", "text_encoder/model"):
        files[f"{part}.safetensors"] = safetensors(weights)
    model = find(str(write(tmp_path, files)))

    def sizes(float32: bool, quantize: str | None) -> dict[str, int]:
        return dict(estimate_memory(model, ModelMode.IMAGE, float32=float32, quantize=quantize).components)

    plain, wide = 64 * 128 * 2 + 64 + 16, 64 * 128 * 4 + 128 + 16
    assert sizes(False, None) == {"text_encoder": plain, "transformer": plain, "vae": plain}
    assert sizes(True, None) == {"text_encoder": wide, "transformer": wide, "vae": wide}
    four = int(64 * 128 * 4.5 / 8) + 64 + 16
    assert sizes(False, "4") == {"text_encoder": four, "transformer": four, "vae": plain}
    assert sizes(False, "mxfp8")["transformer"] == int(64 * 128 * 8.25 / 8) + 64 + 16


UNPACKED = MemoryEstimate({"text_encoder": 32 * GIB, "transformer": 28 * GIB, "vae": GIB}, IMAGE_ALLOWANCE)


@pytest.mark.parametrize(
    ("setting", "left", "memory", "unpacked"),
    [
        ("auto", 100 * GIB, "resident", True),
        ("auto", UNPACKED.staged, "staged", True),
        ("auto", UNPACKED.staged - 1, "resident", False),
        ("resident", UNPACKED.resident - 1, "resident", False),
        ("staged", UNPACKED.staged, "staged", True),
        (UNPACKED.resident, 0, "resident", True),
        (UNPACKED.staged - 1, 0, "resident", False),
    ],
)
def test_quantized_layers_are_unpacked_on_a_processor_where_there_is_room(
    setting: str | int, left: int, memory: str, unpacked: bool
) -> None:
    choice = choose_loading(setting, MODEL, UNPACKED, 1000 * GIB, left)
    assert (choice.memory, choice.unpacked) == (memory, unpacked)
    assert ("stay packed" in choice.why) is not unpacked
    assert choose_loading(setting, MODEL, None, 1000 * GIB, left) == choose_memory(setting, MODEL, 1000 * GIB)
