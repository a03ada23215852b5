"""Checkpoints that cannot be loaded: each is an error that says what is wrong, and none is waited for."""

import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import mlx.core as mx
import pytest

from models.files import LocalModel, Shard
from models.language.architectures import LONGEST, max_context
from models.language.build import LoadError
from models.language.load import LanguageModel, load
from tests.toys import toy_text


def opened(folder: Path) -> LanguageModel:
    return load(LocalModel("toy", folder, lambda component: (Shard(folder / "model.safetensors"),)))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(toy_text("llama"), tmp_path / "toy"))


def configured(folder: Path, **changes: object) -> Path:
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    return folder


def reweighted(folder: Path, change: Callable[[dict[str, mx.array]], dict[str, mx.array]]) -> Path:
    weights = mx.load(str(folder / "model.safetensors"))
    assert isinstance(weights, dict)
    changed = weights | change(weights)
    mx.eval(list(changed.values()))
    mx.save_safetensors(str(folder / "model.safetensors"), changed, {"format": "mlx"})
    return folder


NORM = "model.layers.1.input_layernorm.weight"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        # It would broadcast, so nothing else would notice.
        (
            lambda weights: {NORM: weights[NORM][:1]},
            r"of the wrong shape: .*input_layernorm.*\[1\], should be \[64\]",
        ),
        (lambda weights: {NORM: weights[NORM].astype(mx.int32)}, "not floating point: .*input_layernorm"),
        (lambda weights: {"model.layers.9.extra": mx.zeros((3,))}, "unexpected: model.layers.9.extra"),
    ],
)
def test_weights_that_do_not_fit_are_named(
    folder: Path, change: Callable[[dict[str, mx.array]], dict[str, mx.array]], message: str
) -> None:
    with pytest.raises(LoadError, match=message):
        opened(reweighted(folder, change))


@pytest.mark.parametrize("family", ["gemma3", "lfm2"])
def test_a_network_that_computes_its_head_by_the_embedding_is_given_none(family: str) -> None:
    """gemma3's gives its head up only when it sees that the files have no weights for one."""
    opened(toy_text(family))


def test_weights_in_half_precision_and_quantized_ones_do_fit(folder: Path) -> None:
    opened(reweighted(folder, lambda weights: {NORM: weights[NORM].astype(mx.bfloat16)}))
    opened(toy_text("llama", bits=4))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_hidden_layers": 10**9}, "has 1000000000 layers"),
        ({"num_attention_heads": 0}, "config.json cannot be used"),
        ({"hidden_size": 10**12}, "config.json cannot be used"),
        ({"model_type": "cache"}, "config.json cannot be used"),
        ({"model_file": "evil.py"}, "custom module"),
    ],
)
def test_a_config_that_describes_no_network_is_an_error(
    folder: Path, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(LoadError, match=message):
        opened(configured(folder, **changes))


@pytest.mark.parametrize("name", ["tokenizer.json", "generation_config.json", "tokenizer_config.json"])
def test_a_pipe_and_a_file_without_end_are_not_read(folder: Path, name: str) -> None:
    (folder / name).unlink()
    os.mkfifo(folder / name)
    with pytest.raises(LoadError, match=f"{name} cannot be read: it is not a regular file"):
        opened(folder)
    (folder / name).unlink()
    (folder / name).touch()
    os.truncate(folder / name, 10 * 2**30)  # sparse: it takes no room
    with pytest.raises(LoadError, match=f"{name} is too large"):
        opened(folder)


@pytest.mark.parametrize("content", ["", "{", "[]", "null", "[" * 100_000])
def test_a_broken_generation_config_is_named(folder: Path, content: str) -> None:
    (folder / "generation_config.json").write_text(content)
    with pytest.raises(LoadError, match=r"generation_config\.json"):
        opened(folder)


def test_a_context_that_only_means_no_limit_is_a_number_that_fits() -> None:
    assert max_context({"max_position_embeddings": 10**30}) == LONGEST


def test_a_tokenizer_that_cannot_be_read_ends_the_load_before_the_weights_are_read(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "tokenizer.json").write_text("{")
    read = []

    def evaluate(model: object, progress: Callable[[float], None]) -> None:
        for part in range(1000):
            progress(part / 1000)
            read.append(part)
            time.sleep(0.1)

    monkeypatch.setattr("models.language.load.evaluate", evaluate)
    with pytest.raises(LoadError, match=r"the tokenizer in .* cannot be loaded"):
        opened(folder)
    assert len(read) < 1000
