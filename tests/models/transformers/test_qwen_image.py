from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from models.checkpoint.quantize import Quantization, quantize
from models.config import ConfigError
from models.transformers.qwen_image import QwenImageConfig, picture_positions, text_positions
from tests.models.transformers.families import QWEN_IMAGE
from tests.models.transformers.toys import QWEN_IMAGE_A, TOYS, run, stored_toy


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"guidance_embeds": True}, "guidance_embeds is true"),
        ({"use_additional_t_cond": True}, "use_additional_t_cond is true"),
        ({"use_layer3d_rope": True}, "use_layer3d_rope is true"),
        ({"axes_dims_rope": [4, 6, 8]}, "do not add up to attention_head_dim, 20"),
        ({"axes_dims_rope": [4, 16]}, "axes_dims_rope"),
    ],
)
def test_a_config_that_cannot_be_run_says_why(changed, message):
    with pytest.raises(ConfigError, match=message):
        QwenImageConfig.from_dict({**QWEN_IMAGE_A, **changed})


def test_rows_and_columns_are_counted_from_the_middle_and_text_from_the_corner() -> None:
    grids = ((3, 2), (1, 4))
    assert picture_positions(grids)[:6].tolist() == [
        [0, -2, -1], [0, -2, 0], [0, -1, -1], [0, -1, 0], [0, 0, -1], [0, 0, 0],
    ]  # fmt: skip
    assert picture_positions(grids)[6:].tolist() == [[1, -1, column] for column in (-2, -1, 0, 1)]
    assert text_positions(2, grids).tolist() == [[2, 2, 2], [3, 3, 3]]


def test_a_shorter_text_of_a_batch_is_what_it_is_alone(tmp_path: Path) -> None:
    toy = TOYS["qwen_image with texts of two lengths"]
    network, inputs = stored_toy("qwen_image with texts of two lengths", tmp_path), toy.inputs()
    both = run(toy, network)
    for index, length in enumerate(inputs["texts"]):
        text, latents = (inputs[key][index : index + 1] for key in ("text", "latents"))
        alone = {**inputs, "text": text[:, :length], "texts": (length,)}
        prepared, modulation = QWEN_IMAGE.prepare(network, alone)
        one = network.step(mx.array(latents), prepared, modulation.at(1))
        assert np.allclose(both[index], np.array(one[0]), atol=1e-5)


def test_quantizing_reaches_the_blocks_and_spares_the_ends() -> None:
    wide = {**QWEN_IMAGE_A, "attention_head_dim": 64, "axes_dims_rope": (16, 24, 24), "num_layers": 1}
    wide |= {"in_channels": 64, "joint_attention_dim": 64}
    names = set(quantize(QWEN_IMAGE.network(QwenImageConfig.from_dict(wide)), Quantization.parse(4)))
    assert {name.removeprefix("transformer_blocks.0.") for name in names} == {
        "img_mod.1", "txt_mod.1", "attn.to_qkv", "attn.to_added_qkv", "attn.to_out.0", "attn.to_add_out",
        "img_mlp.net.0.proj", "img_mlp.net.2", "txt_mlp.net.0.proj", "txt_mlp.net.2",
    }  # fmt: skip
