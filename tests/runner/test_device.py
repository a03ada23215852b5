"""What MLX will compute with, as far as it is chosen before MLX is there."""

import sys

import pytest

from runner import device


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere MLX needs no BLAS of ours")
def test_a_blas_that_was_chosen_and_cannot_be_loaded_is_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("DIPTYCH_BLAS", "/nowhere/libfast.so")
    monkeypatch.setattr(device, "LIBRARIES", ())
    monkeypatch.setattr(device, "is_installed", lambda name: False)
    monkeypatch.delitem(sys.modules, "mlx.core", raising=False)
    assert "no BLAS was found" in device.prepare()
    assert "DIPTYCH_BLAS names /nowhere/libfast.so" in caplog.text
