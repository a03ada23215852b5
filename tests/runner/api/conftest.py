"""A gateway over toy models, which the real clients ask."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.pipelines import toys
from tests.pipelines.adapter_files import FORMATS
from tests.runner.gateway.live import Gateway
from tests.saying import make_saying_model
from tests.toys import toy_text


@pytest.fixture(scope="session")
def drawing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toys.write("klein", tmp_path_factory.mktemp("klein") / "toy").folder


@pytest.fixture(scope="session")
def gateway(drawing: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """Models of nobody's but ours: `toy` writes (nonsense), `plain` knows no tools, `klein` draws, also with the adapter `ink`."""
    patch = pytest.MonkeyPatch()
    home = tmp_path_factory.mktemp("home")
    patch.setenv("HF_HOME", str(home))
    patch.setenv("HF_HUB_OFFLINE", "1")
    patch.setenv("OLLAMA_MODELS", str(home / "store"))
    folders = {"toy": toy_text(), "plain": toy_text("gemma3"), "klein": drawing}
    loras = tmp_path_factory.mktemp("loras")
    FORMATS["klein, kohya"].write(loras / "ink.safetensors")
    settings: dict[str, Any] = {"memory": 64 * 1024**3, "force": True, "loras": str(loras)}
    try:
        with Gateway(folders, pretend=False, **settings) as gateway:
            yield gateway
    finally:
        patch.undo()


@pytest.fixture(scope="session")
def calling(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """Models that say the same whatever they are asked. `caller` thinks, says something and calls two tools; `told` has a
    chat template without tools, and calls one."""
    pieces = (
        "<think>", "The sea, then.", "</think>", "I look.",
        "<tool_call>", '{"name": "look", "arguments": {"at": "sea", "far": true}}', "</tool_call>",
        '\n<tool_call>\n{"name": "wait", "arguments": {}}\n</tool_call>',
    )  # fmt: skip
    folder = make_saying_model(tmp_path_factory.mktemp("caller") / "toy", *pieces)
    call = (
        "I look.",
        "<tool_call>",
        '{"name": "look", "arguments": ',
        '{"at": "sea',
        '", "far": ',
        "true}}",
        "</tool_call>",
    )
    told = make_saying_model(tmp_path_factory.mktemp("told") / "toy", *call)
    config = json.loads((told / "tokenizer_config.json").read_text())
    config["chat_template"] = (
        "{% for message in messages %}{{ '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}"
        "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    )
    (told / "tokenizer_config.json").write_text(json.dumps(config))
    folders = {"caller": folder, "told": told}
    with Gateway(folders, pretend=False, memory=64 * 1024**3, force=True) as gateway:
        yield gateway
