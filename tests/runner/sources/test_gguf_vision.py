"""Models that see out of GGUF files: found with their projector, described, loaded, refused with the reason."""

import json
import os
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten

from models.checkpoint.weights import WeightsError
from models.language.build import LoadError
from models.language.load import LanguageModel, load
from runner.errors import ModelNotSupported
from runner.inspect.capabilities import text_capabilities
from runner.inspect.detect import check_runnable, detect
from runner.inspect.memory import estimate_memory
from runner.inspect.sight import why_blind
from runner.library import installed
from runner.sources import ModelMode, find
from runner.sources.gguf_projector import projector_of
from tests import ROOT
from tests.gguf_files import stored, write_gguf
from tests.models.language.gguf.vision_files import GGUF_CASES, projector_metadata, write_pair, write_whole
from tests.models.vision.vision_cases import CASES, picture
from tests.runner.ollama_store import layer, manifest
from tests.runner.sources.test_gguf import rewritten
from tests.toys.gguf import toy_gguf

DESCRIBED = json.loads((ROOT / "tests" / "models" / "references" / "vision.json").read_text())
NAME = "registry.ollama.ai/library/toy/latest"


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIPTYCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("OLLAMA_MODELS", str(tmp_path / "store"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def pair(folder: Path, name: str = "qwen2.5-vl", described: Any = None, **options: Any) -> Path:
    case = {**CASES, **GGUF_CASES}[name]
    return write_pair(folder, case, described or DESCRIBED[name], **options)


def loaded(name: str | Path, **options: Any) -> LanguageModel:
    return load(find(str(name)).fetch(ModelMode.TEXT), **options)


def test_a_projector_is_found_beside_the_model_and_the_model_sees(tmp_path: Path) -> None:
    path = pair(tmp_path / "toy", kind="F16")
    for name in (path, path.parent):
        files = find(str(name))
        assert set(files.sizes()) == {"toy.gguf", "mmproj-toy.gguf"}  # type: ignore[attr-defined]
        detection = detect(files)
        assert (detection.type, detection.supported, detection.sees) == ("qwen2_5_vl", True, True)
        assert text_capabilities(files) == ["completion", "vision"]
        assert why_blind(files) == ""
    model = loaded(path)
    assert model.vision is not None
    weights = [value for _, value in tree_flatten(model.vision.network.parameters())]
    assert {value.dtype for value in weights} == {mx.bfloat16}  # as the text network, whatever is in the file
    text = sum(value.nbytes for _, value in tree_flatten(model.model.parameters()))
    assert sum(value.nbytes for value in weights) + text == detection.bytes
    assert model.vision.features(model.vision.look(picture((40, 50)))).rows.shape[-1] == 48


def test_a_file_with_both_sees_as_the_pair_does(tmp_path: Path) -> None:
    case, described = GGUF_CASES["gemma3-gguf"], DESCRIBED["gemma3-gguf"]
    write_pair(tmp_path / "pair", case, described)
    write_whole(tmp_path / "whole.gguf", case, described)
    models = [loaded(tmp_path / name, float32=True) for name in ("pair", "whole.gguf")]
    rows = []
    for model in models:
        assert model.vision is not None
        rows.append(np.array(model.vision.features(model.vision.look(picture((40, 50)))).rows))
        # The token of a picture's rows, which the file leaves out, is read as one.
        assert model.tokenizer.encode("<image_soft_token>", add_special_tokens=False) == [
            model.vision.placeholder
        ]
    np.testing.assert_array_equal(*rows)


def quantizable() -> Any:
    """The toy with rows that blocks of 32 fit into."""
    described = deepcopy(DESCRIBED["qwen2.5-vl"])
    sizes = {48: 64, 40: 32, 120: 96, 160: 128}
    described["shapes"] = {
        name: [sizes.get(size, size) for size in shape] for name, shape in described["shapes"].items()
    }
    described["config"]["text_config"] |= {
        "hidden_size": 64,
        "num_attention_heads": 4,
        "intermediate_size": 32,
    }
    described["config"]["vision_config"] |= {"hidden_size": 32, "out_hidden_size": 64}
    return described


def test_a_quantized_text_network_stays_so_and_its_tower_is_unpacked(tmp_path: Path) -> None:
    exact = pair(tmp_path / "exact", described=quantizable())
    path = tmp_path / "toy" / "toy.gguf"
    path.parent.mkdir()
    rewritten(exact, path)
    (path.parent / "mmproj-x.gguf").write_bytes((exact.parent / "mmproj-toy.gguf").read_bytes())
    files = find(str(path))
    detection = detect(files)
    assert detection.quantization == "BF16, 8-bit (groups of 32), 4-bit (groups of 32) (declared: Q4_0, Q8_0)"
    model, unpacked = loaded(path), loaded(path, room=2**30)
    layers = model.model.layers
    assert (layers[0].mlp.down_proj.bits, layers[1].mlp.down_proj.bits) == (8, 4)
    assert "mlx.core.float32" in str(unpacked.model.layers[0].mlp.down_proj.weight.dtype)
    prompt = mx.array([[3, 1, 4, 1, 5]])
    ours, theirs = (np.array(each.model(prompt).astype(mx.float32)) for each in (model, unpacked))
    assert 0 < np.abs(ours - theirs).max() / np.abs(theirs).max() < 0.1
    assert unpacked.notes
    assert estimate_memory(files).weights == detection.bytes


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"clip.projector_type": "mlp"}, "of the kind 'mlp', which does not run here; these do: gemma3, idefics3, pixtral, "),
        ({"clip.projector_type": None}, "of the kind 'unnamed'"),
        ({"clip.projector_type": "gemma3"}, "belongs to a text network of gemma3, not of 'qwen2vl'"),
        ({"clip.vision.projection_dim": 50}, "makes rows of 50, but its text network takes rows of 48"),
    ],
)  # fmt: skip
def test_with_a_projector_that_does_not_fit_a_model_reads_text_and_says_why(
    tmp_path: Path, changes: dict[str, Any], reason: str
) -> None:
    files = find(str(pair(tmp_path / "toy", **changes)))
    assert check_runnable(files).mode is ModelMode.TEXT
    assert (detect(files).sees, detect(files).type) == (False, "qwen2")
    assert reason in why_blind(files)
    assert load(files.fetch(ModelMode.TEXT)).vision is None


def test_prompts_with_pictures_need_their_tokens(tmp_path: Path) -> None:
    toy_gguf(tmp_path / "toy.gguf", "gemma3")
    case, described = GGUF_CASES["gemma3-gguf"], deepcopy(DESCRIBED["gemma3-gguf"])
    write_pair(tmp_path / "other", case, described, **{"clip.vision.projection_dim": 64})
    (tmp_path / "other" / "mmproj-toy.gguf").rename(tmp_path / "mmproj-toy.gguf")
    assert "its vocabulary has no token '<image_soft_token>'" in why_blind(find(str(tmp_path / "toy.gguf")))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"general.architecture": "llama"}, "its projector has the architecture 'llama'; 'clip' is needed"),
        ({"clip.vision.block_count": None}, "clip.vision.block_count is missing"),
        ({"clip.vision.block_count": 10**9}, "clip.vision.block_count is 1000000000, but there are "),
        ({"clip.vision.patch_size": 0}, "clip.vision.patch_size is '0'; 1 or more is needed"),
        ({"clip.vision.patch_size": 2**40}, "clip.vision.patch_size"),
        ({"clip.vision.image_mean": "grey"}, "clip.vision.image_mean is 'grey'; a list of 3 numbers is needed"),
        ({"clip.vision.image_std": [float("nan")] * 3}, "clip.vision.image_std"),
        ({"clip.vision.embedding_length": "40"}, "clip.vision.embedding_length is '40'"),
    ],
)  # fmt: skip
def test_a_projector_with_impossible_metadata_is_refused(
    tmp_path: Path, changes: dict[str, Any], reason: str
) -> None:
    path = pair(tmp_path / "toy", **changes)
    with pytest.raises(ModelNotSupported) as error:
        detect(str(path))
    assert reason in str(error.value)


@pytest.mark.parametrize(
    "changes",
    [
        {"clip.vision.block_count": 2},
        {"clip.vision.attention.head_count": 7},
        {"clip.vision.image_std": [0.0, 1.0, 1.0]},
        {"clip.vision.feed_forward_length": 29},
    ],
)
def test_a_projector_that_is_not_as_it_says_cannot_be_loaded(tmp_path: Path, changes: dict[str, Any]) -> None:
    with pytest.raises((LoadError, WeightsError)):
        loaded(pair(tmp_path / "toy", **changes))


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-4000])


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _strange(path: Path) -> None:
    metadata = projector_metadata(CASES["qwen2.5-vl"], DESCRIBED["qwen2.5-vl"]["config"])
    write_gguf(path, metadata, {f"v.blk.{number}.lock": stored(np.ones(3)) for number in range(3)})


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (_cut, "mmproj-toy.gguf"),
        (_empty, "mmproj-toy.gguf"),
        (_pipe, "mmproj-toy.gguf cannot be read"),
        (
            _strange,
            "has tensors that one of the kind 'qwen2.5vl_merger' does not have: v.blk.0.lock, v.blk.1.lock",
        ),
    ],
)
def test_a_damaged_projector_is_named(tmp_path: Path, damage: Callable[[Path], None], reason: str) -> None:
    path = pair(tmp_path / "toy")
    damage(path.parent / "mmproj-toy.gguf")
    with pytest.raises(ModelNotSupported) as error:
        detect(str(path))
    assert reason in str(error.value)


def test_a_projector_is_no_model(tmp_path: Path) -> None:
    pair(tmp_path / "toy")
    with pytest.raises(
        ModelNotSupported, match="it is what a model sees pictures with, not a model; name the model's file"
    ):
        detect(str(tmp_path / "toy" / "mmproj-toy.gguf"))


def test_of_several_projectors_one_is_chosen() -> None:
    listing = [
        "mmproj-F32.gguf",
        "mmproj-BF16.gguf",
        "mmproj-F16.gguf",
        "mmproj-Q4_0.gguf",
        "toy-4b-Q4_K_M.gguf",
    ]
    assert projector_of("toy-4b-Q4_K_M.gguf", listing) == "mmproj-F16.gguf"
    assert projector_of("Q8/toy-4b-Q8_0.gguf", listing) == "mmproj-F16.gguf"
    assert projector_of("toy-4b.gguf", [*listing, "toy-4b-it-mmproj-f32.gguf"]) == "toy-4b-it-mmproj-f32.gguf"
    assert projector_of("Q8/toy.gguf", [*listing, "Q8/mmproj-x.gguf"]) == "Q8/mmproj-x.gguf"
    assert projector_of("toy.gguf", ["toy.gguf", "other/mmproj.gguf", "mmproj.txt"]) is None


def test_in_an_ollama_store_the_projector_is_a_layer_or_inside(tmp_path: Path) -> None:
    store = tmp_path / "store"
    path = pair(tmp_path / "toy")
    layers = [layer(store, "model", "", path.read_bytes())]
    manifest(store, NAME, layers)
    assert not detect("toy:latest").sees
    projector = layer(store, "projector", "", (path.parent / "mmproj-toy.gguf").read_bytes())
    manifest(store, NAME, [*layers, projector])
    assert detect("toy:latest").sees
    assert loaded("toy:latest").vision is not None
    manifest(store, NAME, [*layers, projector, projector])
    with pytest.raises(ModelNotSupported, match="has 2 projectors"):
        find("toy:latest")
    whole = write_whole(tmp_path / "whole.gguf", CASES["qwen3-vl"], DESCRIBED["qwen3-vl"])
    manifest(store, NAME, [layer(store, "model", "", whole.read_bytes())])
    (model,) = installed().models
    assert (model.type, model.fault, detect("toy:latest").sees) == ("qwen3_vl", None, True)
