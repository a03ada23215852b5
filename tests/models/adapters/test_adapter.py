"""Adapter files that cannot be used, and what is said of them; forms that pictures against the reference do not have."""

import json
import struct
from collections.abc import Callable, Mapping
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest

from models.adapters.adapter import Adapter, read_adapter
from models.adapters.adapter_file import AdapterError
from models.adapters.layers import AdaptedLinear, attach
from models.adapters.names import LayerNames
from models.adapters.spellings import FLUX2
from models.transformers.flux2 import WEIGHTS, Flux2Config, Flux2Transformer
from tests.models.transformers.toys import FLUX2_A

PROJ = "diffusion_model.double_blocks.0.img_attn.proj"  # 60 x 60
PATH = "transformer_blocks.0.attn.to_out.0"
Read = Callable[..., Adapter]


@pytest.fixture(scope="module")
def network() -> Flux2Transformer:
    mx.random.seed(0)
    return Flux2Transformer(Flux2Config.from_dict(FLUX2_A))


@pytest.fixture
def read(network: Flux2Transformer, tmp_path: Path) -> Read:
    names = {"transformer": LayerNames(network, WEIGHTS, FLUX2)}

    def read(tensors: Mapping[str, mx.array], metadata: dict[str, str] | None = None) -> Adapter:
        path = tmp_path / "adapter.safetensors"
        mx.save_safetensors(str(path), dict(tensors), metadata or {})
        return read_adapter(path, "style", "FLUX.2 klein", names)

    return read


def lora(layer: str = PROJ, outputs: int = 60, inputs: int = 60, rank: int = 3) -> dict[str, mx.array]:
    return {
        f"{layer}.lora_A.weight": mx.random.normal((rank, inputs), key=mx.random.key(1)),
        f"{layer}.lora_B.weight": mx.random.normal((outputs, rank), key=mx.random.key(2)),
    }


def weight_of(adapter: Adapter, network: nn.Module, path: str = PATH, scale: float = 1.0) -> np.ndarray:
    """What the adapter adds to a layer's weight, by what it adds to the layer's products."""
    beside: dict[str, AdaptedLinear] = {}
    plain = dict(network.named_modules())[path]
    attach(network, [(adapter.changes["transformer"], scale)], beside)
    eye = mx.eye(plain.weight.shape[1])
    added = beside[path](eye) - plain(eye)
    attach(network, [], beside)
    return np.array(added).T


def test_an_alpha_is_divided_by_the_rank(read: Read, network: Flux2Transformer) -> None:
    tensors = lora()
    down, up = (np.array(value) for value in tensors.values())
    adapter = read({**tensors, f"{PROJ}.alpha": mx.array(1.5)})
    np.testing.assert_allclose(weight_of(adapter, network, scale=0.5), 0.25 * up @ down, atol=1e-4)


@pytest.mark.parametrize(
    ("settings", "alpha"),
    [
        ({"transformer.lora_alpha": 6}, 6),
        ({"transformer.lora_alpha": 6, "transformer.alpha_pattern": {"img_attn.proj": 9}}, 9),
        ({"transformer.lora_alpha": 6, "transformer.alpha_pattern": {"attn.proj": 9}}, 6),
        ({}, 3),
    ],
)
def test_an_alpha_may_stand_in_the_header(
    settings: dict[str, object], alpha: int, read: Read, network: Flux2Transformer
) -> None:
    tensors = lora()
    down, up = (np.array(value) for value in tensors.values())
    adapter = read(tensors, {"lora_adapter_metadata": json.dumps(settings)})
    np.testing.assert_allclose(weight_of(adapter, network), alpha / 3 * up @ down, atol=1e-4)


def test_a_bias_is_added(read: Read, network: Flux2Transformer) -> None:
    tensors = lora()
    bias = mx.arange(60).astype(mx.float32)
    adapter = read({**tensors, f"{PROJ}.lora_B.bias": bias})
    down, up = (np.array(value) for value in tensors.values())
    expected = up @ down + np.array(bias)[:, None]  # rows of the identity: each product has the bias
    np.testing.assert_allclose(weight_of(adapter, network), expected, atol=1e-4)


@pytest.mark.parametrize("rank", [2, 9])
def test_loha_is_a_product_of_two_products(rank: int, read: Read, network: Flux2Transformer) -> None:
    """Beyond the layer's own rank its product is held."""
    keys = [mx.random.key(index) for index in range(4)]
    tensors = {
        f"{PROJ}.hada_w1_a": mx.random.normal((60, rank), key=keys[0]),
        f"{PROJ}.hada_w1_b": mx.random.normal((rank, 60), key=keys[1]),
        f"{PROJ}.hada_w2_a": mx.random.normal((60, rank), key=keys[2]),
        f"{PROJ}.hada_w2_b": mx.random.normal((rank, 60), key=keys[3]),
    }
    a, b, c, d = (np.array(value) for value in tensors.values())
    adapter = read({**tensors, f"{PROJ}.alpha": mx.array(1.5)})
    np.testing.assert_allclose(weight_of(adapter, network), 1.5 / rank * (a @ b) * (c @ d), atol=1e-3)


@pytest.mark.parametrize("whole", [True, False])
def test_lokr_is_a_kronecker_product(whole: bool, read: Read, network: Flux2Transformer) -> None:
    """Of a part of a fused layer: the middle third of its rows. Without a rank, alpha has no meaning."""
    layer = "transformer.transformer_blocks.0.attn.to_k"
    first, rank = mx.random.normal((4, 6), key=mx.random.key(1)), 2
    up, down = (
        mx.random.normal((15, rank), key=mx.random.key(2)),
        mx.random.normal((rank, 10), key=mx.random.key(3)),
    )
    factors = {"lokr_w2": up @ down} if whole else {"lokr_w2_a": up, "lokr_w2_b": down}
    tensors = {f"{layer}.lokr_w1": first, **{f"{layer}.{name}": value for name, value in factors.items()}}
    adapter = read({**tensors, f"{layer}.alpha": mx.array(5.0)})
    expected = np.zeros((180, 60), np.float32)
    scale = 1 if whole else 5 / rank
    expected[60:120] = scale * np.kron(np.array(first), np.array(up @ down))
    actual = weight_of(adapter, network, "transformer_blocks.0.attn.to_qkv")
    np.testing.assert_allclose(actual, expected, atol=1e-3)


def test_the_halves_of_the_last_modulation_are_exchanged(read: Read, network: Flux2Transformer) -> None:
    """BFL's network has the shift first, diffusers' the scale."""
    tensors = lora("diffusion_model.final_layer.adaLN_modulation.1", outputs=120)
    down, up = (np.array(value) for value in tensors.values())
    expected = np.roll(up @ down, 60, axis=0)
    np.testing.assert_allclose(weight_of(read(tensors), network, "norm_out.linear"), expected, atol=1e-4)


def test_layers_without_an_effect_may_be_unknown(read: Read) -> None:
    zeros = {key: mx.zeros_like(value) for key, value in lora("lora_te1_text_model_encoder").items()}
    assert list(read({**lora(), **zeros}).changes) == ["transformer"]


def test_half_precision_is_kept_as_it_is(read: Read) -> None:
    adapter = read({key: value.astype(mx.bfloat16) for key, value in lora().items()})
    assert adapter.nbytes == 2 * (3 * 60 + 60 * 3)


def double(layer: str) -> str:
    return layer.replace("blocks.0", "blocks.7")


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        (lora(double(PROJ)), "style does not belong to this model (FLUX.2 klein): 1 of 1 layers are not in it: "
         "diffusion_model.double_blocks.7.img_attn.proj; its names are those of FLUX"),
        (lora(outputs=48), "1 have another shape: diffusion_model.double_blocks.0.img_attn.proj has up of [48, 3]; "
         "[60, 3] is needed"),
        (lora(inputs=48), "has down of [3, 48]; [3, 60] is needed"),
        (lora("lora_unet_down_blocks_0_attentions_0_proj_in"), "its names are those of Stable Diffusion"),
        (lora("transformer.layers.0.attention.to_q"), "its names are those of Z-Image"),
        (lora("transformer.single_transformer_blocks.0.proj_mlp"), "its names are those of FLUX.1"),
        ({**lora(), f"{PROJ}.dora_scale": mx.ones((60, 1))}, "style: 1 of its tensors are of a kind that is not supported "
         f"(DoRA): {PROJ}.dora_scale; LoRA, LoHa and LoKr are supported"),
        ({**lora(), "query_norm.scale": mx.ones((60,))}, "(a control adapter, which replaces norms)"),
        ({**lora(), f"{PROJ}.diff_b": mx.ones((60,))}, "(differences of biases)"),
        ({**lora(), "something.else": mx.ones((60,))}, "1 of its tensors are of a kind that is not supported: something.else"),
        ({f"{PROJ}.lora_A.weight": mx.ones((3, 60))}, "holds down, which make up no LoRA, LoHa or LoKr"),
        ({f"{PROJ}.alpha": mx.ones((1,))}, "holds an alpha alone"),
        ({**lora(), f"{PROJ}.alpha": mx.ones((2,))}, "has an alpha of [2]; one number is needed"),
        ({**lora(), f"{PROJ}.lora_down.weight": mx.ones((3, 60))}, "are the same tensor, stored twice"),
        ({f"{PROJ}.lora_A.weight": mx.ones((3,)), f"{PROJ}.lora_B.weight": mx.ones((60, 3))}, "has down of [3]; a matrix is "
         "needed"),
        ({f"{PROJ}.lokr_w1": mx.ones((4, 4)), f"{PROJ}.lokr_w2": mx.ones((4, 4))}, "has Kronecker factors of [4 x 4, 4 x 4]; "
         "[60, 60] is needed"),
        ({f"{PROJ}.lokr_w1": mx.ones((4, 4))}, "has no lokr_w2"),
        ({f"{PROJ}.lora_A.weight": mx.full((3, 60), float("nan")), f"{PROJ}.lora_B.weight": mx.ones((60, 3))}, "style: 1 of its "
         "tensors hold NaN or infinity"),
        ({key: value.astype(mx.int8) for key, value in lora().items()}, "is I8; F32, F16, BF16 are supported"),
        ({f"{PROJ}.lora_A.weight": mx.zeros((0, 60)), f"{PROJ}.lora_B.weight": mx.zeros((60, 0))}, "is empty"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_an_adapter_is_said(
    tensors: dict[str, mx.array], message: str, read: Read
) -> None:
    with pytest.raises(AdapterError) as error:
        read(tensors)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"lora_adapter_metadata": "{"}, "lora_adapter_metadata in its header is not JSON"),
        ({"lora_adapter_metadata": "[]"}, "lora_adapter_metadata in its header is not a JSON object"),
        (
            {"lora_adapter_metadata": '{"transformer.use_dora": true}'},
            "transformer.use_dora is set in its header",
        ),
    ],
)
def test_what_is_wrong_with_a_header_is_said(metadata: dict[str, str], message: str, read: Read) -> None:
    with pytest.raises(AdapterError, match=message):
        read(lora(), metadata)


def test_the_model_that_a_header_names_is_said(read: Read) -> None:
    with pytest.raises(AdapterError, match=r"the file says that it is for 'Flux\.1-dev/lora'"):
        read(lora(outputs=48), {"modelspec.architecture": "Flux.1-dev/lora"})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not a safetensors file: it has 0 bytes"),
        (b"<html>not found</html>", "is cut short or damaged"),
        (struct.pack("<Q", 2**60), "is cut short or damaged"),
        (struct.pack("<Q", 2) + b"{}", "there are no tensors of an adapter"),
    ],
)
def test_a_damaged_file_is_an_error_with_its_name(
    content: bytes, message: str, network: Flux2Transformer, tmp_path: Path
) -> None:
    path = tmp_path / "adapter.safetensors"
    path.write_bytes(content)
    with pytest.raises(AdapterError, match=message):
        read_adapter(path, "style", "FLUX.2 klein", {})


def test_a_file_that_is_cut_short_is_an_error(read: Read, tmp_path: Path) -> None:
    read(lora())
    path = tmp_path / "adapter.safetensors"
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(AdapterError, match="is cut short"):
        read_adapter(path, "style", "FLUX.2 klein", {})


def test_a_huge_file_is_refused_before_it_is_read(tmp_path: Path) -> None:
    """A sparse one: its header alone takes room on the disk."""
    size = 9 * 2**30
    header = json.dumps(
        {"a.lora_A.weight": {"dtype": "F32", "shape": [size // 4], "data_offsets": [0, size]}}
    ).encode()
    path = tmp_path / "adapter.safetensors"
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(header)) + header)
        file.truncate(8 + len(header) + size)
    with pytest.raises(AdapterError, match="style is too large for an adapter: 9,663,676,416 bytes"):
        read_adapter(path, "style", "FLUX.2 klein", {})
