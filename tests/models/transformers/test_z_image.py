from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from models.config import ConfigError
from models.transformers.z_image import ZImageConfig, ZImageTransformer, caption_positions, picture_positions
from tests.models.transformers.families import Z_IMAGE
from tests.models.transformers.toys import TOYS, Z_IMAGE_A, run, stored_toy


def test_a_caption_in_longer_company_is_drawn_as_it_is_alone(tmp_path: Path) -> None:
    name = "z_image with captions of two lengths"
    network, toy = stored_toy(name, tmp_path), TOYS[name]
    inputs, both = toy.inputs(), run(toy, stored_toy(name, tmp_path))
    for index, caption in enumerate(inputs["captions"]):
        prepared = network.prepare([mx.array(caption)], *inputs["grid"])
        modulation = network.modulation([0.6181]).at(0)
        alone = network.step(mx.array(inputs["latents"][index : index + 1]), prepared, modulation)
        assert np.allclose(both[index], np.array(alone[0]), atol=1e-5)


def test_only_captions_that_differ_in_padded_length_are_told_apart(tmp_path: Path) -> None:
    network = stored_toy("z_image with captions of one length", tmp_path)
    alike, unlike = (
        network.prepare([mx.zeros((n, 33)) for n in lengths], 2, 2) for lengths in ((9, 20), (9, 40))
    )
    assert alike.lengths is None
    assert alike.table.shape[1] == 1
    assert unlike.lengths == (32 + 32, 32 + 64)
    assert unlike.table.shape[1] == 2


def test_a_picture_stands_behind_its_caption_and_fills_up_at_the_origin() -> None:
    assert caption_positions(3).tolist() == [[1, 0, 0], [2, 0, 0], [3, 0, 0]]
    positions = picture_positions(64, 2, 3)
    assert positions[:6].tolist() == [[65, row, column] for row in range(2) for column in range(3)]
    assert positions.shape == (32, 3)
    assert not positions[6:].any()


def test_the_learned_tokens_fill_up_caption_and_picture(tmp_path: Path) -> None:
    name = "z_image with a short caption"
    network, toy = stored_toy(name, tmp_path), TOYS[name]
    before = run(toy, network)
    for token in ("cap_pad_token", "x_pad_token"):
        network[token] = network[token] + 1
        after = run(toy, network)
        assert not np.allclose(before, after, atol=1e-3)
        before = after


def test_the_modulation_is_in_the_norms_weights(tmp_path: Path) -> None:
    network = stored_toy("z_image with a short caption", tmp_path)
    modulation = network.modulation([0.1, 0.9])
    assert [norms.shape for norms in modulation.layers] == [(2, 4, Z_IMAGE_A["dim"])] * Z_IMAGE_A["n_layers"]
    assert modulation.at(1).final.shape == (Z_IMAGE_A["dim"],)


def test_several_patch_sizes_may_be_trained_and_one_is_used() -> None:
    config = ZImageConfig.from_dict({**Z_IMAGE_A, "all_patch_size": (2, 1), "all_f_patch_size": (1, 1)})
    assert config.patches == {"2-1": 12, "1-1": 3}
    assert ZImageTransformer(config).patch == "2-1"
    assert Z_IMAGE.network(config, patch="1-1").patch == "1-1"


def test_rotary_axes_must_make_up_a_head() -> None:
    with pytest.raises(ConfigError, match=r"axes_dims \(4, 6, 8\) do not add up to 20"):
        ZImageConfig.from_dict({**Z_IMAGE_A, "axes_dims": (4, 6, 8)})


def test_a_network_for_picture_conditions_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match="siglip_feat_dim"):
        ZImageConfig.from_dict({**Z_IMAGE_A, "siglip_feat_dim": 8})
