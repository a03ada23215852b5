"""Where a tiny autoencoder is found."""

from pathlib import Path

import pytest

from runner.errors import ModelNotFound, ModelNotSupported
from runner.sources.tiny_vae import find_tiny_vae
from tests.pipelines import control_toys, tiny_toys

USUAL = "madebyollin/taef1"


def test_a_chosen_folder_is_taken(tmp_path: Path) -> None:
    tiny_toys.write("flux dev", tmp_path / "taef1")
    found = find_tiny_vae(str(tmp_path / "taef1"), USUAL)
    assert found is not None
    assert found.folder == tmp_path / "taef1"


def test_the_usual_one_is_taken_out_of_the_cache_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    assert find_tiny_vae(None, USUAL) is None
    repo, commit = tmp_path / "models--madebyollin--taef1", "a" * 40
    (repo / "refs").mkdir(parents=True)
    (repo / "refs" / "main").write_text(commit)
    (repo / "snapshots" / commit).mkdir(parents=True)
    assert find_tiny_vae(None, USUAL) is None  # unfinished
    tiny_toys.write("flux dev", repo / "snapshots" / commit)
    found = find_tiny_vae(None, USUAL)
    assert found is not None
    assert found.folder == repo / "snapshots" / commit
    assert find_tiny_vae(None, "") is None


def test_what_is_not_one_is_refused(tmp_path: Path) -> None:
    control_toys.write("flux dev", tmp_path / "net")
    with pytest.raises(ModelNotSupported, match=r"tiny_vae: .* is no AutoencoderTiny"):
        find_tiny_vae(str(tmp_path / "net"), USUAL)
    with pytest.raises(ModelNotFound, match="no model folder"):
        find_tiny_vae(str(tmp_path / "gone"), USUAL)
