"""Compiled kernels are kept where only their user writes, for one MLX and one kind of card."""

import os
import stat
from pathlib import Path

import pytest

from runner.engine import device, kernel_cache


@pytest.fixture(autouse=True)
def card(machine: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with an NVIDIA card; the folder that caches go to."""
    monkeypatch.setattr(kernel_cache, "is_installed", lambda name: name == "mlx-cuda-13")
    monkeypatch.setattr(kernel_cache, "card_architecture", lambda: "sm_90")
    monkeypatch.setattr(kernel_cache.metadata, "version", lambda name: "0.32.4")
    monkeypatch.setenv(kernel_cache.CACHE_VARIABLE, "")
    monkeypatch.delenv(kernel_cache.CACHE_VARIABLE)
    return machine / "made"


def test_they_go_to_a_folder_of_the_users_own(card: Path) -> None:
    kernel_cache.keep_kernels()
    folder = Path(os.environ["MLX_PTX_CACHE_DIR"])
    assert folder == card / "kernels/mlx-cuda-13-0.32.4-sm_90"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    kernel_cache.keep_kernels()


def test_a_folder_that_the_user_named_is_left_alone(card: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLX_PTX_CACHE_DIR", "/elsewhere")
    kernel_cache.keep_kernels()
    assert os.environ["MLX_PTX_CACHE_DIR"] == "/elsewhere"
    assert not card.exists()


@pytest.mark.parametrize("missing", ["is_installed", "card_architecture"])
def test_without_a_card_nothing_is_made(card: Path, monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    monkeypatch.setattr(kernel_cache, missing, lambda *_: None)
    kernel_cache.keep_kernels()
    assert not card.exists()
    assert os.environ["MLX_PTX_CACHE_DIR"] == ""


def test_a_folder_that_cannot_be_made_costs_no_start(card: Path, caplog: pytest.LogCaptureFixture) -> None:
    card.write_text("a file stands there")
    kernel_cache.keep_kernels()
    # Named nothing, MLX keeps them nowhere: its own choice would be the temporary folder.
    assert os.environ["MLX_PTX_CACHE_DIR"] == ""
    assert "compiled again" in caplog.text


def test_a_folder_that_others_may_write_to_is_not_used(card: Path, caplog: pytest.LogCaptureFixture) -> None:
    kernel_cache.keep_kernels()
    del os.environ["MLX_PTX_CACHE_DIR"]
    (card / "kernels").chmod(0o777)
    kernel_cache.keep_kernels()
    assert os.environ["MLX_PTX_CACHE_DIR"] == ""
    assert "can be written by other users" in caplog.text


def test_whoever_prepares_a_card_keeps_its_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device.sys, "platform", "linux")
    monkeypatch.setattr(device, "is_installed", lambda name: name == "mlx-cuda-13")
    monkeypatch.setattr(device, "has_gpu", lambda: True)
    monkeypatch.setenv("MLX_ENABLE_CACHE_THRASHING_CHECK", "")
    monkeypatch.delenv("MLX_ENABLE_CACHE_THRASHING_CHECK")
    assert device.prepare() == "computing on CUDA"
    assert "MLX_PTX_CACHE_DIR" in os.environ
    assert os.environ["MLX_ENABLE_CACHE_THRASHING_CHECK"] == "0"
