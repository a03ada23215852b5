"""The nodes for ComfyUI in samples/comfyui, called as ComfyUI calls them."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.runner.gateway.live import Gateway

FOLDER = Path(__file__).parents[3] / "samples" / "comfyui"


@pytest.fixture(scope="module")
def nodes() -> ModuleType:
    """Loaded as ComfyUI loads a folder of custom_nodes."""
    pytest.importorskip("torch")
    spec = importlib.util.spec_from_file_location(
        "comfyui_sample", FOLDER / "__init__.py", submodule_search_locations=[str(FOLDER)]
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["comfyui_sample"] = module
    spec.loader.exec_module(module)
    return module


def test_the_nodes_write_draw_and_edit(nodes: ModuleType, gateway: Gateway) -> None:
    import torch

    kinds = {name: kind() for name, kind in nodes.NODE_CLASS_MAPPINGS.items()}
    assert kinds.keys() == nodes.NODE_DISPLAY_NAME_MAPPINGS.keys()
    for node in kinds.values():
        assert callable(getattr(node, node.FUNCTION))
        assert {"server", "model", "prompt", "seed"} <= node.INPUT_TYPES()["required"].keys()

    write, draw, edit = (kinds[name] for name in ("DiptychText", "DiptychPicture", "DiptychEdit"))
    (text,) = write.write(gateway.url, "toy", "The sea", 1, 8, 0.5, system="Be brief.")
    assert text == write.write(gateway.url, "toy", "The sea", 1, 8, 0.5, system="Be brief.")[0] != ""
    (pictures,) = draw.draw(gateway.url, "klein", "A boat", 7, 96, 64, 2, 2)
    assert (pictures.shape, pictures.dtype) == ((2, 64, 96, 3), torch.float32)
    assert 0 <= pictures.min() < pictures.max() <= 1
    assert not torch.equal(pictures[0], pictures[1])
    (edited,) = edit.edit(gateway.url, "klein", pictures[:1], "A red boat", 7, 2)
    assert edited.shape == (1, 64, 96, 3)
    mask = torch.zeros(64, 96)
    mask[:, 48:] = 1  # the right half is drawn anew
    (masked,) = edit.edit(gateway.url, "klein", pictures[:1], "A red boat", 7, 2, mask=mask)
    change = (masked[0] - pictures[0]).abs().mean(dim=-1)
    assert change[:, :32].max() < 2 / 255
    assert change[:, 64:].mean() > 2 / 255


def test_a_refusal_is_told_in_the_gateways_words(nodes: ModuleType, gateway: Gateway) -> None:
    draw = nodes.NODE_CLASS_MAPPINGS["DiptychPicture"]().draw
    with pytest.raises(RuntimeError, match=r"answers 404: .*nobody"):
        draw(gateway.url, "nobody", "A boat", 7, 64, 64, 0, 1)
    with pytest.raises(RuntimeError, match="answers 400: model: toy writes text"):
        draw(gateway.url, "toy", "A boat", 7, 64, 64, 0, 1)
    with pytest.raises(RuntimeError, match=r"http://127\.0\.0\.1:9 cannot be reached"):
        draw("http://127.0.0.1:9", "klein", "A boat", 7, 64, 64, 0, 1)
    with pytest.raises(ValueError, match="is no address"):
        draw("file:///etc/passwd", "klein", "A boat", 7, 64, 64, 0, 1)
