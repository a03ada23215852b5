"""Second names in the Ollama store."""

from pathlib import Path

import pytest

from runner.errors import BadRequest, DiptychError, ModelNotFound
from runner.library.ollama import copy_manifest
from runner.sources.name import OllamaName, parse_ollama_name
from runner.sources.ollama_store import manifest_path
from tests.runner.ollama_store import layer, manifest

pytestmark = pytest.mark.usefixtures("machine")


def name(text: str) -> OllamaName:
    ollama_name = parse_ollama_name(text)
    assert ollama_name
    return ollama_name


@pytest.fixture
def first(machine: Path) -> OllamaName:
    root = machine / "store"
    manifest(root, "registry.ollama.ai/library/first/latest", [layer(root, "json", "config.json", {})])
    return name("first")


def test_a_copy_is_the_manifest_under_another_name(first: OllamaName) -> None:
    second = name("mine/second:v1")
    copy_manifest(first, second)
    copy_manifest(first, second)
    assert manifest_path(second).read_bytes() == manifest_path(first).read_bytes()


def test_nothing_is_replaced(first: OllamaName) -> None:
    target = manifest_path(name("second"))
    target.parent.mkdir(parents=True)
    target.write_bytes(b"another")
    with pytest.raises(BadRequest, match="second:latest exists and is another model"):
        copy_manifest(first, name("second"))
    assert target.read_bytes() == b"another"


def test_what_stands_in_the_way_is_named(first: OllamaName, machine: Path) -> None:
    with pytest.raises(ModelNotFound, match="no model absent:latest"):
        copy_manifest(name("absent"), name("second"))
    (machine / "store/manifests/registry.ollama.ai/taken").write_text("a file")
    with pytest.raises(DiptychError, match=r"taken.* cannot be written"):
        copy_manifest(first, name("taken/second"))
