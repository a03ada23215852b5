"""Checkpoints in every shape that they come in, and broken ones."""

import json
import shutil
import subprocess
import sys

import mlx.core as mx
import numpy as np
import pytest

from models.checkpoint.quantize import Quantization
from models.checkpoint.weights import WeightsError
from models.config import ConfigError
from models.files import LocalModel, Shard
from models.tokenizers.chat_template import TemplateMissing
from models.tokenizers.tokenizer import TokenizerError
from pipelines.base import ImageRequest
from pipelines.quantize import write_quantized
from pipelines.sampling import ScheduleError
from pipelines.settings import Settings
from tests.pipelines import toys
from tests.pipelines.families import pipeline_class
from tests.pipelines.pictures import drawn

FAMILIES = ["klein", "z-image-turbo", "flux dev", "qwen-image"]
PARTS = {"klein": "text_encoder", "z-image-turbo": "vae", "flux dev": "text_encoder_2", "qwen-image": "vae"}
# Its noise is a multiple of 16 numbers for every toy: the last of others are drawn differently in half precision.
REQUEST = ImageRequest("a red circle", 3, width=32, height=64, steps=2)


def draw(name, local, **settings):
    return drawn(pipeline_class(name).load(local, Settings(**settings)).generate(REQUEST))[0]


def similarity(one, other):
    """Peak signal to noise, in dB."""
    apart = np.mean((one.astype(float) - other.astype(float)) ** 2)
    return 10 * np.log10(255**2 / max(apart, 1e-9))


@pytest.fixture
def copied(toy, tmp_path):
    def copy(name):
        return toys.local(shutil.copytree(toy(name).folder, tmp_path / "copy"), name)

    return copy


def edit(path, **values):
    config = json.loads(path.read_text())
    path.write_text(
        json.dumps({key: value for key, value in {**config, **values}.items() if value is not None})
    )


@pytest.mark.parametrize("name", FAMILIES)
def test_a_component_in_several_files_loads(toy, copied, name):
    local = copied(name)
    path = next((local.folder / "transformer").glob("*.safetensors"))
    tensors = list(mx.load(str(path)).items())
    for index in range(3):
        mx.save_safetensors(str(path.with_name(f"part-{index}.safetensors")), dict(tensors[index::3]))
    path.unlink()
    assert (draw(name, local) == draw(name, toy(name))).all()


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_draws_the_same_picture_to_the_eye(toy, copied, name, dtype):
    local = copied(name)
    for path in local.folder.rglob("*.safetensors"):
        halves = {key: value.astype(getattr(mx, dtype)) for key, value in mx.load(str(path)).items()}
        mx.save_safetensors(str(path), halves)
    whole = draw(name, local, dtype="float32")
    assert similarity(whole, draw(name, toy(name))) > 40
    assert similarity(draw(name, local), whole) > 30


@pytest.mark.parametrize("name", FAMILIES)
def test_weights_under_other_names_one_a_file_load(toy, tmp_path, name):
    """As Ollama's store has them: a blob a tensor, its name in the manifest."""

    def shards(part):
        for whole in toy(name).shards(part):
            for index, (key, value) in enumerate(mx.load(str(whole.path)).items()):
                path = tmp_path / f"{part}-{index}"
                mx.save_safetensors(f"{path}.safetensors", {"data": value})
                (tmp_path / f"{path.name}.safetensors").rename(path)
                yield Shard(path, {"data": key})

    local = LocalModel(name, toy(name).folder, lambda part: tuple(shards(part)))
    assert (draw(name, local) == draw(name, toy(name))).all()


@pytest.mark.parametrize("name", ["klein heavy"])
@pytest.mark.slow
def test_eight_bits_stay_close_at_load_and_from_a_folder_written_so(toy, tmp_path, name):
    quantization = Quantization.parse("8")
    whole = draw(name, toy(name))
    at_load = draw(name, toy(name), quantization=quantization)
    assert similarity(at_load, whole) > 30
    target = tmp_path / "smaller"
    write_quantized(toy(name), toys.TOYS[name].pipeline, quantization, target, lambda part: None)
    shutil.copytree(
        toy(name).folder,
        target,
        ignore=shutil.ignore_patterns("*.safetensors", "config.json"),
        dirs_exist_ok=True,
    )
    for config in toy(name).folder.glob("*/config.json"):
        if not (target / config.parent.name / "config.json").exists():
            shutil.copy(config, target / config.parent.name)
    assert similarity(draw(name, toys.local(target, name)), at_load) > 40


@pytest.mark.parametrize("name", FAMILIES)
def test_a_missing_component_is_named(copied, name):
    local = copied(name)
    shutil.rmtree(local.folder / PARTS[name])
    with pytest.raises(ConfigError, match=f"{PARTS[name]}.config.json is missing"):
        pipeline_class(name).load(local)


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("memory", ["resident", "staged"])
def test_a_component_without_weights_is_an_error_at_once(copied, name, memory):
    local = copied(name)
    for path in (local.folder / "transformer").glob("*.safetensors"):
        path.unlink()
    with pytest.raises(WeightsError, match="Transformer: the model has no weights for it"):
        pipeline_class(name).load(local, Settings(memory=memory))


def test_a_missing_tokenizer_is_an_error(copied):
    local = copied("flux dev")
    shutil.rmtree(local.folder / "tokenizer_2")
    with pytest.raises(TokenizerError, match="tokenizer_2"):
        pipeline_class("flux dev").load(local)


@pytest.mark.parametrize("name", ["klein", "z-image-turbo"])
def test_a_missing_chat_template_is_an_error_at_once(copied, name):
    local = copied(name)
    edit(local.folder / "tokenizer" / "tokenizer_config.json", chat_template=None)
    with pytest.raises(TemplateMissing, match="no chat template"):
        pipeline_class(name).load(local)


@pytest.mark.parametrize(
    ("name", "file", "values", "said"),
    [
        ("klein", "text_encoder/config.json", {"hidden_size": 30}, "joint_attention_dim is 66, but .* is 90"),
        ("klein", "vae/config.json", {"latent_channels": 4}, "in_channels is 12, but .* is 16"),
        ("z-image-turbo", "transformer/config.json", {"cap_feat_dim": 20}, "cap_feat_dim is 20, but .* is 22"),
        ("flux dev", "transformer/config.json", {"pooled_projection_dim": 9}, "pooled_projection_dim is 9"),
        ("flux dev", "transformer/config.json", {"joint_attention_dim": 9}, "joint_attention_dim is 9"),
        ("flux dev", "text_encoder/config.json", {"vocab_size": 700}, "token ids up to 723, .* vocab_size is 700"),
        ("klein", "model_index.json", {"is_distilled": "yes"}, "is_distilled in model_index.json is 'yes'"),
        ("klein", "transformer/config.json", {"num_layers": None}, "num_layers is missing"),
    ],
)  # fmt: skip
def test_parts_that_do_not_belong_together_are_an_error(copied, name, file, values, said):
    local = copied(name)
    edit(local.folder / file, **values)
    with pytest.raises(ConfigError, match=said):
        pipeline_class(name).load(local)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_config_that_contradicts_the_weights_lists_them(copied, name):
    local = copied(name)
    key = {"z-image-turbo": "n_layers", "qwen-image": "num_layers"}.get(name, "num_single_layers")
    edit(local.folder / "transformer" / "config.json", **{key: 5})
    with pytest.raises(WeightsError, match=r"do not belong to its config: \d+ missing: "):
        pipeline_class(name).load(local)


def test_another_scheduler_is_an_error(copied):
    local = copied("klein")
    edit(local.folder / "scheduler" / "scheduler_config.json", _class_name="DDIMScheduler")
    with pytest.raises(ScheduleError, match="DDIMScheduler"):
        pipeline_class("klein").load(local)


@pytest.mark.parametrize("name", FAMILIES)
def test_progress_grows_to_the_whole(toy, name):
    heard = []
    pipeline_class(name).load(toy(name), Settings(), heard.append)
    assert heard == sorted(heard)
    assert heard[-1] == pytest.approx(1)


def test_drawing_imports_neither_transformers_nor_mlx_lm():
    script = (
        "import sys; import pipelines; [pipelines.pipeline_class(name) for name in pipelines.PIPELINES]; "
        "print(sorted({'transformers', 'mlx_lm', 'torch', 'diffusers'} & set(sys.modules)))"
    )
    assert subprocess.check_output([sys.executable, "-c", script], text=True).strip() == "[]"


def test_looking_a_class_up_imports_no_mlx():
    script = "import sys, pipelines.base, pipelines.planning, pipelines.settings; print('mlx' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", script], text=True).strip() == "False"


def test_what_a_family_and_its_variant_can_do_is_known_without_mlx(toy):
    script = (
        "import sys, pathlib, pipelines; from models.files import LocalModel; family = pipelines.PIPELINES['FluxPipeline'];"
        "variant = family.variant(LocalModel('toy', pathlib.Path(sys.argv[1]), lambda part: ()));"
        "print(variant.steps, variant.distilled, *sorted(family.supported_params), {'mlx', 'numpy'} & set(sys.modules))"
    )
    printed = subprocess.check_output([sys.executable, "-c", script, str(toy("flux dev").folder)], text=True)
    supported = ["controls", "decode", "guidance_until", "lora_tags", "loras", "step_cache", "true_cfg_scale"]
    assert printed.split() == ["28", "False", *supported, "set()"]
