"""Removing models: what goes, and what others share and so stays."""

from pathlib import Path

import pytest

from runner.errors import ModelNotFound, ModelNotSupported
from runner.library import installed
from runner.library.removal import plan_removal
from runner.sources.hub import cache_folder
from runner.sources.ollama_store import store_root
from tests.runner.checkpoints import WEIGHTS, safetensors, text_files, write
from tests.runner.hub_cache import add_repo
from tests.runner.ollama_store import layer, manifest

pytestmark = pytest.mark.usefixtures("machine")

NEWER = text_files({"model.embed_tokens.weight": ("BF16", (32, 8))})
COMMIT = "a" * 40


def names() -> set[str]:
    return {model.name for model in installed().models}


def remove(name: str) -> int:
    plan = plan_removal(name)
    plan.run()
    return plan.bytes


def blobs(root: Path) -> dict[str, int]:
    return {path.name: path.stat().st_size for path in (root / "blobs").iterdir()}


# The hub's cache


def test_the_last_commit_takes_its_repo_along() -> None:
    add_repo("owner/name", text_files())
    add_repo("owner/other", text_files())
    freed = remove("owner/name")
    assert freed == sum(blobs(cache_folder() / "models--owner--other").values())
    assert names() == {"owner/other"}
    assert not (cache_folder() / "models--owner--name").exists()


def test_nothing_is_removed_before_it_is_run() -> None:
    add_repo("owner/name", text_files())
    plan_removal("owner/name")
    assert names() == {"owner/name"}


def test_blobs_that_another_commit_links_to_stay() -> None:
    add_repo("owner/name", text_files(), refs=("v1",))
    add_repo("owner/name", NEWER)
    before = blobs(cache_folder() / "models--owner--name")
    freed = remove("owner/name@v1")
    after = blobs(cache_folder() / "models--owner--name")
    assert names() == {"owner/name"}
    assert freed == sum(before.values()) - sum(after.values()) == len(text_files()["model.safetensors"])
    assert installed().models[0].fault is None


def test_a_repo_under_two_names_keeps_the_other_one() -> None:
    add_repo("old/name", text_files(), commit=COMMIT)
    add_repo("new/name", text_files(), commit=COMMIT)
    remove("new/name")
    assert names() == {"old/name"}
    add_repo("new/name", text_files(), commit=COMMIT)
    remove("old/name")
    assert names() == {"new/name"}


def test_branches_of_the_same_commit_are_said_to_go_too() -> None:
    add_repo("owner/name", text_files(), refs=("main", "v1"))
    assert plan_removal("owner/name").also == ("owner/name@v1",)


def test_links_out_of_the_cache_are_not_followed_to_what_they_mean(machine: Path) -> None:
    precious = machine / "precious.json"
    precious.write_text("{}")
    snapshot = add_repo("owner/name", text_files(), refs=("v1",))
    add_repo("owner/name", NEWER)
    (snapshot / "precious.json").symlink_to(precious)
    with pytest.raises(ModelNotSupported, match="outside its folder"):
        plan_removal("owner/name@v1")
    assert precious.exists()


# The Ollama store


def add_ollama(tag: str, tensor: bytes) -> Path:
    root = store_root()
    layers = [layer(root, "json", name, text_files()[name]) for name in ("config.json", "tokenizer.json")]
    tensors = [layer(root, "tensor", "model.norm.weight", tensor)]
    return manifest(root, f"registry.ollama.ai/library/toy/{tag}", [*layers, *tensors])


ONE = safetensors(WEIGHTS)
TWO = safetensors({"model.norm.weight": ("F32", (8,))})


def test_the_last_model_takes_every_blob_and_its_folders_along() -> None:
    add_ollama("latest", ONE)
    size = sum(blobs(store_root()).values())
    assert remove("toy") == size
    assert blobs(store_root()) == {}
    assert list((store_root() / "manifests").iterdir()) == []


def test_blobs_that_another_manifest_names_stay() -> None:
    add_ollama("one", ONE)
    add_ollama("two", TWO)
    assert remove("toy:one") == len(ONE)
    assert names() == {"toy:two"}
    assert installed().models[0].fault is None


def test_a_copy_under_another_tag_keeps_everything() -> None:
    add_ollama("one", ONE)
    add_ollama("copy", ONE)
    assert remove("toy:one") == 0
    assert installed().models[0].fault is None


@pytest.mark.parametrize("content", [b"{", b"\xff", b"[" * 100_000])
def test_while_another_manifest_cannot_be_read_all_blobs_stay(content: bytes) -> None:
    add_ollama("one", ONE)
    add_ollama("two", TWO).write_bytes(content)
    before = blobs(store_root())
    plan = plan_removal("toy:one")
    assert "blobs are kept" in plan.notes[0]
    plan.run()
    assert blobs(store_root()) == before
    assert names() == {"toy:two"}


def test_a_broken_manifest_can_be_removed_itself() -> None:
    add_ollama("one", ONE).write_bytes(b"{")
    assert remove("toy:one") == 0
    assert names() == set()


def test_a_digest_in_another_manifests_config_counts_too() -> None:
    root = store_root()
    add_ollama("one", ONE)
    manifest(root, "registry.ollama.ai/library/odd/latest", [], config=layer(root, "config", "", ONE))
    assert remove("toy:one") < sum(blobs(root).values())
    assert len(ONE) in blobs(root).values()


# What is never removed


def test_folders_are_refused(machine: Path) -> None:
    folder = write(machine / "mine", text_files())
    for name in (str(folder), "mine", "./mine", "folder:mine"):
        with pytest.raises(ModelNotSupported, match="never removes"):
            plan_removal(name)
    assert (folder / "config.json").exists()


@pytest.mark.parametrize("name", ["owner/absent", "absent", "hf:owner/absent", "../../etc", "a" * 5000])
def test_what_is_not_here_is_not_found(name: str) -> None:
    with pytest.raises(ModelNotFound):
        plan_removal(name)
