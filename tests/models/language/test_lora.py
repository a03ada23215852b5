"""LoRA of language models against PEFT, and adapters that do not belong to a model."""

import json
import shutil
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from models.checkpoint.quantize import Quantization
from models.files import LocalModel, LoraFile, Shard
from models.language.build import LoadError
from models.language.load import LanguageModel, load
from models.language.quantize import write_quantized
from runner.sources import ModelMode, find
from tests.gguf_files import write_gguf
from tests.toys import toy_text
from tests.toys.gguf import toy_gguf

LAYERS = {"self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "mlp.down_proj": "ffn_down"}
ROW = [3, 7, 1, 9, 12, 5]


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIPTYCH_CACHE", str(tmp_path / "cache"))


def opened(folder: Path, *loras: LoraFile) -> LanguageModel:
    local = LocalModel("toy", folder, lambda component: (Shard(folder / "model.safetensors"),))
    return load(local, float32=True, loras=loras)


def logits(model: LanguageModel) -> Any:
    return np.array(model.model(mx.array([ROW])).astype(mx.float32))


def matrices(model: LanguageModel, rank: int = 3) -> dict[str, tuple[Any, Any]]:
    """For some layers of both blocks at the ends: down and up."""
    chance = np.random.default_rng(4)
    found = {}
    modules = dict(model.model.named_modules())
    for block in (0, len(model.model.layers) - 1):
        for layer in LAYERS:
            outputs, inputs = modules[f"model.layers.{block}.{layer}"].weight.shape
            found[f"model.layers.{block}.{layer}"] = (
                chance.standard_normal((rank, inputs)).astype(np.float32) * 0.2,
                chance.standard_normal((outputs, rank)).astype(np.float32) * 0.2,
            )
    return found


def peft_folder(folder: Path, terms: dict[str, tuple[Any, Any]], **settings: Any) -> Path:
    folder.mkdir()
    tensors = {}
    for layer, (down, up) in terms.items():
        tensors[f"base_model.model.{layer}.lora_A.weight"] = mx.array(down)
        tensors[f"base_model.model.{layer}.lora_B.weight"] = mx.array(up)
    mx.save_safetensors(str(folder / "adapter_model.safetensors"), tensors)
    config = {"peft_type": "LORA", "r": 3, "lora_alpha": 6, "base_model_name_or_path": "some/base"}
    (folder / "adapter_config.json").write_text(json.dumps(config | settings))
    return folder


def pairs(up: Any, heads: int) -> Any:
    """As conversions to GGUF lay out the rows of llama's queries and keys."""
    return up.reshape(heads, 2, -1, up.shape[-1]).swapaxes(1, 2).reshape(up.shape)


def stored(matrix: Any) -> Any:
    return "F32", matrix.shape, matrix.astype(np.float32).tobytes()


def gguf_adapter(path: Path, model: LanguageModel, terms: dict[str, tuple[Any, Any]], **changes: Any) -> Path:
    tensors: dict[str, Any] = {}
    heads = {"attn_q": model.config["num_attention_heads"], "attn_k": model.config["num_key_value_heads"]}
    for layer, (down, up) in terms.items():
        _, _, block, name = layer.split(".", 3)
        key = f"blk.{block}.{LAYERS[name]}.weight"
        tensors[f"{key}.lora_a"] = down
        tensors[f"{key}.lora_b"] = pairs(up, heads[LAYERS[name]]) if LAYERS[name] in heads else up
    entries = {
        "general.type": "adapter",
        "adapter.type": "lora",
        "general.architecture": "llama",
        "adapter.lora.alpha": 6.0,
    }
    return write_gguf(path, {**entries, **changes}, {key: stored(each) for key, each in tensors.items()})


def test_it_is_added_beside_the_weights(tmp_path: Path) -> None:
    folder = toy_text("llama")
    plain = opened(folder)
    terms = matrices(plain)
    adapted = opened(folder, LoraFile(peft_folder(tmp_path / "a", terms), 0.5))
    modules = dict(plain.model.named_modules())
    for path, (down, up) in terms.items():
        modules[path].weight = modules[path].weight + 0.5 * (6 / 3) * mx.array(up @ down)
    np.testing.assert_allclose(logits(adapted), logits(plain), atol=1e-4)
    assert not np.allclose(logits(adapted), logits(opened(folder)), atol=1e-2)
    (note,) = (note for note in adapted.notes if "LoRA" in note)
    assert "times 0.5 beside 6 layers" in note


def test_a_gguf_adapter_is_the_same_one(tmp_path: Path) -> None:
    folder = toy_text("llama")
    plain = opened(folder)
    terms = matrices(plain)
    expected = logits(opened(folder, LoraFile(peft_folder(tmp_path / "a", terms))))
    adapter = gguf_adapter(tmp_path / "a.gguf", plain, terms)
    np.testing.assert_allclose(logits(opened(folder, LoraFile(adapter))), expected, atol=1e-4)
    gguf = find(str(toy_gguf(tmp_path / "toy.gguf"))).fetch(ModelMode.TEXT)
    np.testing.assert_allclose(
        logits(load(gguf, float32=True, loras=[LoraFile(adapter)])), expected, atol=1e-4
    )
    unscaled = gguf_adapter(tmp_path / "b.gguf", plain, terms, **{"adapter.lora.alpha": 0.0})
    assert not np.allclose(logits(opened(folder, LoraFile(unscaled))), expected, atol=1e-3)
    np.testing.assert_allclose(logits(opened(folder, LoraFile(unscaled, 2))), expected, atol=1e-4)


def test_several_are_added_and_quantized_layers_have_them_too(tmp_path: Path) -> None:
    folder = toy_text("llama")
    plain = opened(folder)
    lora = peft_folder(tmp_path / "a", matrices(plain))
    twice = opened(folder, LoraFile(lora, 0.25), LoraFile(lora, 0.75))
    np.testing.assert_allclose(logits(twice), logits(opened(folder, LoraFile(lora))), atol=1e-4)
    packed = Path(shutil.copytree(folder, tmp_path / "packed"))
    (packed / "model.safetensors").unlink()
    local = LocalModel("toy", folder, lambda component: (Shard(folder / "model.safetensors"),))
    write_quantized(local, Quantization.parse("8"), packed)
    assert any("Quantized" in type(layer).__name__ for layer in opened(packed).model.modules())
    before, after = logits(opened(packed)), logits(opened(packed, LoraFile(lora)))
    change = logits(opened(folder, LoraFile(lora))) - logits(plain)
    np.testing.assert_allclose(after - before, change, atol=0.1 * np.abs(change).max())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"peft_type": "IA3"}, "of the kind 'IA3'"),
        ({"use_dora": True}, "use_dora in its adapter_config.json is not supported"),
        ({"lora_alpha": "x"}, "a number is needed"),
        ({"alpha_pattern": {"(a+)+": 1}}, "alpha_pattern"),
    ],
)
def test_settings_that_are_not_supported_are_named(tmp_path: Path, settings: Any, message: str) -> None:
    folder = toy_text("llama")
    lora = peft_folder(tmp_path / "a", matrices(opened(folder)), **settings)
    with pytest.raises(LoadError, match=message):
        opened(folder, LoraFile(lora))


def test_one_of_another_model_is_refused_by_name(tmp_path: Path) -> None:
    folder = toy_text("llama")
    plain = opened(folder)
    terms = matrices(plain)
    wide = {name: (np.pad(down, ((0, 0), (0, 8))), up) for name, (down, up) in terms.items()}
    with pytest.raises(
        LoadError, match=r"does not belong to toy: 6 of 6 layers .* has down of .* made for 'some/base'"
    ):
        opened(folder, LoraFile(peft_folder(tmp_path / "wide", wide)))
    with pytest.raises(LoadError, match=r"model.layers.99.self_attn.q_proj is not a layer of it"):
        opened(
            folder,
            LoraFile(
                peft_folder(
                    tmp_path / "deep",
                    {"model.layers.99.self_attn.q_proj": terms["model.layers.0.self_attn.q_proj"]},
                )
            ),
        )
    endless = {name: (down * np.inf, up) for name, (down, up) in terms.items()}
    with pytest.raises(LoadError, match="NaN or infinity"):
        opened(folder, LoraFile(gguf_adapter(tmp_path / "nan.gguf", plain, endless)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"general.type": "model"}, "is 'model' of the type 'lora'"),
        ({"general.architecture": "qwen3"}, "is for qwen3, and the model is llama"),
        ({"general.architecture": "foo"}, "architecture 'foo'"),
        ({"adapter.lora.alpha": "x"}, "adapter.lora.alpha is 'x'"),
    ],
)
def test_a_gguf_that_is_no_adapter_of_the_model_is_refused(
    tmp_path: Path, changes: Any, message: str
) -> None:
    folder = toy_text("llama")
    plain = opened(folder)
    adapter = gguf_adapter(tmp_path / "a.gguf", plain, matrices(plain), **changes)
    with pytest.raises(LoadError, match=message):
        opened(folder, LoraFile(adapter))


def test_tensors_that_are_not_lora_s_are_named(tmp_path: Path) -> None:
    folder = toy_text("llama")
    values = {"general.type": "adapter", "adapter.type": "lora", "general.architecture": "llama"}
    matrix = stored(np.zeros((4, 4)))
    for tensors, message in (
        ({"blk.0.attn_q.weight": matrix}, "blk.0.attn_q.weight'"),
        ({"blk.0.attn_q.weight.lora_a": matrix}, "one of the two matrices"),
        (
            {"foo.weight.lora_a": matrix, "foo.weight.lora_b": matrix},
            "layers that cannot have one: foo.weight",
        ),
    ):
        with pytest.raises(LoadError, match=message):
            opened(folder, LoraFile(write_gguf(tmp_path / "a.gguf", values, tensors)))
    (tmp_path / "a.gguf").write_bytes((tmp_path / "a.gguf").read_bytes()[:60])
    with pytest.raises(LoadError, match="adapter"):
        opened(folder, LoraFile(tmp_path / "a.gguf"))
    with pytest.raises(LoadError, match="is not an adapter"):
        opened(folder, LoraFile(tmp_path))


@pytest.mark.reference
def test_logits_are_peft_s(tmp_path: Path) -> None:
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=96, hidden_size=48, intermediate_size=80, num_hidden_layers=2, num_attention_heads=6,
        num_key_value_heads=2, head_dim=12, rope_theta=5000.0, tie_word_embeddings=False,
    )  # fmt: skip
    base = LlamaForCausalLM(config).float().eval()
    base.save_pretrained(tmp_path / "base")
    for file in toy_text("llama").glob("token*"):
        (tmp_path / "base" / file.name).write_bytes(file.read_bytes())
    settings = LoraConfig(
        r=5, lora_alpha=7, use_rslora=True, target_modules=["q_proj", "v_proj", "o_proj", "up_proj", "lm_head"],
        alpha_pattern={"v_proj": 3}, rank_pattern={"o_proj": 2}, init_lora_weights=False,
    )  # fmt: skip
    adapted = get_peft_model(base, settings).eval()
    adapted.save_pretrained(tmp_path / "lora", save_embedding_layers=False)
    with torch.no_grad():
        expected = adapted(torch.tensor([ROW])).logits.numpy()
    found = logits(opened(tmp_path / "base", LoraFile(tmp_path / "lora")))
    np.testing.assert_allclose(found, expected, atol=1e-4)
