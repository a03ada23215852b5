"""Texts as vectors, equal to transformers' hidden states pooled by hand."""

import json
import shutil
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx_lm.utils import load_model
from numpy.typing import NDArray

from models.config import ConfigError
from models.embedding.sentence_transformers import MODES, EmbeddingError, read_head
from models.language.embedding.model import Embedder
from tests.models.language.references.make_embeddings import FAMILIES as REFERENCED
from tests.models.language.references.make_embeddings import FILE, TEXTS, pooled
from tests.toys import FAMILIES, toy_text

NEW = "sentence_transformers.sentence_transformer.modules.pooling.Pooling"
TYPES = {
    "transformer": "sentence_transformers.models.Transformer",
    "pooling": "sentence_transformers.models.Pooling",
    "dense": "sentence_transformers.models.Dense",
    "normalize": "sentence_transformers.models.Normalize",
}


class Spelling:
    """A tokenizer whose tokens are the letters, with an end token like Qwen3-Embedding's."""

    all_special_ids = (630,)

    def encode(self, text: str) -> list[int]:
        return [*(ord(char) % 600 for char in text), 630]


def unit(vector: NDArray[np.float32]) -> NDArray[np.float32]:
    return vector / np.linalg.norm(vector)


def checkpoint(folder: Path, *modules: tuple[str, dict[str, Any]], family: str = "llama") -> Path:
    """A toy that came out of sentence-transformers: after the transformer, each module with its config.json."""
    shutil.copytree(toy_text(family), folder, dirs_exist_ok=True)
    entries = [{"idx": 0, "name": "0", "path": "", "type": TYPES["transformer"]}]
    for index, (kind, config) in enumerate(modules, 1):
        path = f"{index}_{kind.rsplit('.', 1)[-1].capitalize()}"
        entries.append({"idx": index, "name": str(index), "path": path, "type": TYPES.get(kind, kind)})
        (folder / path).mkdir()
        (folder / path / "config.json").write_text(json.dumps(config))
    (folder / "modules.json").write_text(json.dumps(entries))
    return folder


def dense(folder: Path, sizes: tuple[int, int], **config: Any) -> dict[str, NDArray[np.float32]]:
    rng = np.random.default_rng(5)
    weights = {"linear.weight": rng.standard_normal((sizes[1], sizes[0]), dtype=np.float32)}
    if config.get("bias", True):
        weights["linear.bias"] = rng.standard_normal(sizes[1], dtype=np.float32)
    mx.save_safetensors(
        str(folder / "model.safetensors"), {key: mx.array(value) for key, value in weights.items()}
    )
    return weights


def embedder(folder: Path, **options: Any) -> Embedder:
    return Embedder(load_model(folder)[0], folder, Spelling(), **options)


def states(folder: Path, tokens: list[int]) -> NDArray[np.float32]:
    return np.array(load_model(folder)[0].model(mx.array([tokens])))[0]


@pytest.mark.parametrize("family", REFERENCED)
@pytest.mark.parametrize("mode", ["mean", "lasttoken", "max"])
def test_vectors_are_those_of_transformers(family: str, mode: str, tmp_path: Path) -> None:
    """The stored ones belong to the toys as they are: when those change, make_embeddings writes new ones."""
    folder = (
        toy_text(family)
        if mode == "mean"
        else checkpoint(tmp_path, ("pooling", {"pooling_mode": mode}), family=family)
    )
    vectors = embedder(folder).embed(TEXTS)
    assert vectors.dtype == np.float32
    stored = np.load(FILE)
    for index, vector in enumerate(vectors):
        np.testing.assert_allclose(vector, unit(stored[f"{family}.{index}.{mode}"]), atol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_company_and_padding_change_nothing(family: str) -> None:
    alone = embedder(toy_text(family))
    together = alone.embed(TEXTS)
    for index, text in enumerate(TEXTS):
        np.testing.assert_allclose(alone.embed([text])[0], together[index], atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-6)


def test_batches_keep_the_order_and_the_budget() -> None:
    small, large = embedder(toy_text("qwen3"), token_budget=24), embedder(toy_text("qwen3"))
    seen, inner = [], small._hidden

    def watched(tokens: mx.array) -> mx.array:
        seen.append(tokens.shape)
        return inner(tokens)

    small._hidden = watched
    texts = [TEXTS[2], TEXTS[0], TEXTS[3], TEXTS[1], TEXTS[0]]
    np.testing.assert_allclose(small.embed(texts), large.embed(texts), atol=1e-5)
    # A text beyond the budget goes alone.
    assert seen == [(3, 4), (1, 12), (1, 70)]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("spelling", ["old", "new"])
def test_every_way_of_pooling_in_both_spellings(mode: str, spelling: str, tmp_path: Path) -> None:
    old = {"pooling_mode_cls_token": False, "pooling_mode_mean_tokens": False}
    suffix = {"cls": "cls_token", "lasttoken": "lasttoken"}.get(
        mode, mode if mode.endswith("tokens") else f"{mode}_tokens"
    )
    config = {"pooling_mode": mode} if spelling == "new" else {**old, f"pooling_mode_{suffix}": True}
    folder = checkpoint(
        tmp_path, (NEW if spelling == "new" else "pooling", {"embedding_dimension": 64, **config})
    )
    for text, vector in zip(TEXTS, embedder(folder).embed(TEXTS), strict=True):
        np.testing.assert_allclose(vector, unit(pooled(states(folder, text), mode)), atol=1e-5)


def test_several_ways_are_joined(tmp_path: Path) -> None:
    folder = checkpoint(
        tmp_path, ("pooling", {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True})
    )
    expected = np.concatenate([pooled(states(folder, TEXTS[0]), mode) for mode in ("cls", "mean")])
    np.testing.assert_allclose(embedder(folder).embed(TEXTS)[0], unit(expected), atol=1e-5)


@pytest.mark.parametrize("include", [True, False])
@pytest.mark.parametrize("mode", MODES)
def test_the_default_prompt_comes_first_and_counts_where_the_checkpoint_says(
    mode: str, include: bool, tmp_path: Path
) -> None:
    folder = checkpoint(tmp_path, ("pooling", {"pooling_mode": mode, "include_prompt": include}))
    prompts = {"prompts": {"query": "Find: ", "document": ""}, "default_prompt_name": "query"}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(prompts))
    made = embedder(folder)
    tokens = made.tokens("abc")
    assert tokens == Spelling().encode("Find: abc")
    hidden = states(folder, tokens)
    if mode == "weightedmean":
        # Weights count from the beginning, prompt or not.
        weights = (
            np.arange(1, len(hidden) + 1)[:, None]
            * (np.arange(len(hidden)) >= (0 if include else 6))[:, None]
        )
        expected = (hidden * weights).sum(axis=0)
    else:
        expected = pooled(hidden[0 if include else 6 :], mode)
    np.testing.assert_allclose(made.embed([tokens])[0], unit(expected), atol=1e-5)
    assert np.isfinite(made.embed([[5]])).all()


def test_projections_follow_in_the_order_of_the_checkpoint(tmp_path: Path) -> None:
    first = {
        "in_features": 64,
        "out_features": 24,
        "bias": False,
        "activation_function": "torch.nn.modules.linear.Identity",
    }
    second = {"in_features": 24, "out_features": 8, "module_output_name": "sentence_embedding"}
    modules = (("pooling", {"pooling_mode": "mean"}), ("dense", first), ("normalize", {}), ("dense", second))
    folder = checkpoint(tmp_path, *modules)
    one = dense(folder / "2_Dense", (64, 24), bias=False)
    two = dense(folder / "4_Dense", (24, 8))
    vector = unit(one["linear.weight"] @ pooled(states(folder, TEXTS[0]), "mean"))
    expected = np.tanh(two["linear.weight"] @ vector + two["linear.bias"])
    np.testing.assert_allclose(embedder(folder).embed(TEXTS)[0], unit(expected), atol=1e-5)


def test_lower_case_and_length_are_the_checkpoints(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path, ("pooling", {}))
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 512, "do_lower_case": true}')
    made = embedder(folder)
    assert made.max_tokens == 512
    assert made.tokens("ABC") == Spelling().encode("abc")
    assert embedder(toy_text("llama")).max_tokens is None


def test_quantized_models_give_vectors_near_the_originals() -> None:
    whole, small = embedder(toy_text("qwen3")).embed(TEXTS), embedder(toy_text("qwen3", bits=8)).embed(TEXTS)
    assert ((whole * small).sum(axis=1) > 0.99).all()


@pytest.mark.parametrize(
    ("modules", "message"),
    [
        ([("sentence_transformers.models.WeightedLayerPooling", {})], r"WeightedLayerPooling; supported are Transformer"),
        ([("custom_code.Pooling", {})], r"the module custom_code\.Pooling"),
        ([("dense", {}), ("pooling", {})], "lists Transformer, Dense, Pooling"),
        ([], "lists Transformer; supported"),
        ([("pooling", {"pooling_mode": "median"})], "pooling_mode 'median' is not supported; it can be cls"),
        ([("pooling", {}), ("dense", {"in_features": 64, "out_features": 8, "activation_function": "os.system"})], r"os\.system"),
        ([("pooling", {}), ("dense", {"in_features": 64, "out_features": 8, "use_residual": True})], "with a residual"),
        ([("pooling", {}), ("dense", {"in_features": 64, "out_features": 8})], r"model\.safetensors is missing"),
    ],
)  # fmt: skip
def test_modules_that_cannot_be_done_are_named(modules: Any, message: str, tmp_path: Path) -> None:
    folder = checkpoint(tmp_path, *modules)
    with pytest.raises(EmbeddingError, match=message):
        read_head(folder)


@pytest.mark.parametrize("path", ["../elsewhere", "/etc", "", "a/b", "..", 3])
def test_a_module_cannot_lie_outside_of_the_checkpoint(path: Any, tmp_path: Path) -> None:
    folder = checkpoint(tmp_path, ("pooling", {}))
    entries = json.loads((folder / "modules.json").read_text())
    entries[1]["path"] = path
    (folder / "modules.json").write_text(json.dumps(entries))
    with pytest.raises((EmbeddingError, ConfigError)):
        read_head(folder)


@pytest.mark.parametrize("text", ["{", "{}", "[3]", "\xff"])
def test_a_broken_list_of_modules_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "modules.json").write_text(text, encoding="latin-1")
    with pytest.raises(EmbeddingError, match=r"modules\.json"):
        read_head(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"use_bidirectional_attention": True},
        {"text_config": {"use_bidirectional_attention": "all"}},
        {"is_causal": False},
        {"architectures": ["LlamaBidirectionalModel"]},
    ],
)
def test_a_model_that_looks_both_ways_is_refused(change: dict[str, Any], tmp_path: Path) -> None:
    model = load_model(toy_text("llama"))[0]
    config = json.loads((toy_text("llama") / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | change))
    with pytest.raises(EmbeddingError, match="needs bidirectional attention"):
        Embedder(model, tmp_path, Spelling())


def test_a_model_whose_hidden_states_cannot_be_reached_is_refused() -> None:
    model = load_model(toy_text("llama"))[0]

    class Closed(nn.Module):
        args = model.args

    with pytest.raises(EmbeddingError, match="not accessible"):
        Embedder(Closed(), toy_text("llama"), Spelling())

    class Head(Closed):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

    with pytest.raises(EmbeddingError, match=r"have the shape \(1, 2, 640\), expected \(1, 2, 64\)"):
        Embedder(Head(), toy_text("llama"), Spelling())


def test_a_text_inside_a_larger_model_is_found() -> None:
    class Pictures(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.language_model = load_model(toy_text("llama"))[0]

    vectors = Embedder(Pictures(), toy_text("llama"), Spelling()).embed(TEXTS)
    np.testing.assert_allclose(vectors, embedder(toy_text("llama")).embed(TEXTS), atol=1e-6)


@pytest.mark.parametrize("tokens", [[], [640], [-1]])
def test_tokens_that_cannot_be_read_are_refused_before_any_work(tokens: list[int]) -> None:
    with pytest.raises(EmbeddingError, match="text 1 has"):
        embedder(toy_text("llama")).embed([[3], tokens])


@pytest.mark.reference
@pytest.mark.parametrize("family", ["llama", "qwen3", "gemma3_text"])
def test_live_models_of_transformers_give_the_same_vectors(family: str, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    sizes = {
        "vocab_size": 128, "hidden_size": 48, "num_hidden_layers": 4, "intermediate_size": 64, "head_dim": 16,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 256, "pad_token_id": 0,
    }  # fmt: skip
    if family == "gemma3_text":
        # mlx-lm takes every sixth layer as the global one, as all released checkpoints have it.
        # It also rounds the square root of the width to bfloat16, which 64 survives.
        sizes |= {"sliding_window": 8, "query_pre_attn_scalar": 16, "num_hidden_layers": 6, "hidden_size": 64}
    torch.manual_seed(1)
    config = transformers.AutoConfig.for_model(family, **sizes)
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * 0.1)
    model.save_pretrained(tmp_path)
    base = transformers.AutoModel.from_pretrained(tmp_path, dtype=torch.float32).eval()
    texts = [[token % 128 for token in text] for text in TEXTS]
    vectors = embedder(tmp_path).embed(texts)
    for text, vector in zip(texts, vectors, strict=True):
        with torch.no_grad():
            expected = base(torch.tensor([text])).last_hidden_state[0].numpy()
        np.testing.assert_allclose(vector, unit(pooled(expected, "mean")), atol=1e-4)
