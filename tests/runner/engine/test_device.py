"""What MLX will compute with, as far as it is chosen before MLX is there."""

import subprocess
import sys
from pathlib import Path

import pytest

from runner.engine import device
from runner.engine.device import BACKEND_ADVICE, explain_import_error
from runner.engine.image.load import ImageSettings, load_image_worker
from runner.engine.text.worker import TextSettings, load_text_worker
from runner.inspect.image_backend import ImageEngine
from runner.inspect.mode import detect_model_type
from runner.inspect.sample import sample
from runner.sources import ModelMode, find
from tests.runner.live import ROOT
from tests.toys import toy_text

NO_LIBRARY = "libmlx.so: cannot open shared object file: No such file or directory"
# As transformers says it, from the middle of its own import.
TOO_NEW = "huggingface-hub>=1.3.0,<2.0 is required for a normal functioning of this module, but found 2.4.0"


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


@pytest.fixture
def without_mlx(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "mlx.core", raising=False)


@pytest.mark.usefixtures("without_mlx")
@pytest.mark.parametrize(
    "error",
    [ImportError(NO_LIBRARY, name="mlx.core"), ModuleNotFoundError("No module named 'mlx'", name="mlx")],
    ids=["no library", "no mlx"],
)
def test_an_mlx_without_a_backend_is_told_how_to_get_one(
    error: ImportError, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device, "is_installed", lambda name: False)
    text = explain_import_error(error)
    assert text.startswith(BACKEND_ADVICE)
    assert str(error) in text


@pytest.mark.usefixtures("without_mlx")
def test_a_backend_that_is_installed_and_cannot_be_loaded_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "is_installed", lambda name: name == "mlx-cuda-13")
    text = explain_import_error(ImportError("libcublas.so.13: cannot open", name="mlx.core"))
    assert text == "MLX's backend mlx-cuda-13 is installed and cannot be loaded: libcublas.so.13: cannot open"


@pytest.mark.parametrize(
    ("error", "package"),
    [
        (ModuleNotFoundError("No module named 'sentencepiece'", name="sentencepiece"), "sentencepiece"),
        (ImportError("cannot import name 'x' from 'huggingface_hub.utils'", name="huggingface_hub.utils"), "huggingface_hub"),
    ],
    ids=["missing", "another version"],
)  # fmt: skip
def test_another_package_that_fails_is_named_with_its_words(error: ImportError, package: str) -> None:
    text = explain_import_error(error)
    assert text.startswith(f"{package} cannot be imported: {error}")
    assert BACKEND_ADVICE not in text


def test_a_name_that_this_mlx_lacks_is_no_missing_backend() -> None:
    import mlx.core  # noqa: F401 - it is there

    text = explain_import_error(ImportError("cannot import name 'new' from 'mlx.core'", name="mlx.core"))
    assert text.startswith("mlx cannot be imported: cannot import name 'new'")


def test_a_runner_names_the_package_that_failed_under_mlx_lm(tmp_path: Path) -> None:
    package = tmp_path / "transformers"
    package.mkdir()
    (package / "__init__.py").write_text(f"raise ImportError({TOO_NEW!r})")
    start = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from runner.cli.main import main; main(sys.argv[1:])"
    command = [sys.executable, "-c", start, "runner", "--model", str(toy_text()), "--port", "0"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert f"transformers cannot be imported: {TOO_NEW}" in last
    assert "no backend" not in last


# -- memory that macOS keeps wired

RECOMMENDED = 48 * 1024**3


@pytest.fixture
def wired(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The limits that are set, on what looks like a Mac."""
    import mlx.core as mx

    limits: list[int] = []
    monkeypatch.setattr(mx, "default_device", lambda: mx.gpu)
    monkeypatch.setattr(mx.metal, "is_available", lambda: True)
    monkeypatch.setattr(mx, "device_info", lambda: {"max_recommended_working_set_size": RECOMMENDED})
    monkeypatch.setattr(mx, "set_wired_limit", lambda limit: limits.append(limit) or 0)
    return limits


def test_on_metal_the_recommended_size_is_kept_wired(wired: list[int]) -> None:
    assert device.keep_wired() == RECOMMENDED
    assert wired == [RECOMMENDED]


@pytest.mark.parametrize("elsewhere", ["a processor", "another GPU", "a device that recommends nothing"])
def test_elsewhere_no_limit_is_touched(
    wired: list[int], elsewhere: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlx.core as mx

    if elsewhere == "a processor":
        monkeypatch.setattr(mx, "default_device", lambda: mx.cpu)
    elif elsewhere == "another GPU":
        monkeypatch.setattr(mx.metal, "is_available", lambda: False)
    else:
        monkeypatch.setattr(mx, "device_info", dict)
    assert device.keep_wired() is None
    assert wired == []


def test_a_limit_that_macos_refuses_is_a_warning(
    wired: list[int], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import mlx.core as mx

    def refused(limit: int) -> int:
        raise ValueError("larger than the system's")

    monkeypatch.setattr(mx, "set_wired_limit", refused)
    assert device.keep_wired() is None
    assert "the wired limit cannot be set: larger than the system's" in caplog.text


@pytest.mark.parametrize(("gpu", "limits"), [(True, [device.MOST_UNUSED]), (False, [])])
def test_what_a_gpu_keeps_of_freed_memory_is_bounded(
    gpu: bool, limits: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlx.core as mx

    set_to: list[int] = []
    monkeypatch.setattr(device, "has_gpu", lambda: gpu)
    monkeypatch.setattr(mx, "set_cache_limit", set_to.append)
    device.limit_unused()
    assert set_to == limits


def test_both_kinds_of_model_ask_for_it_before_they_are_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    class Reached(Exception):
        pass

    def keep_wired() -> int | None:
        raise Reached

    monkeypatch.setattr(device, "keep_wired", keep_wired)
    files = find(str(toy_text()))
    with pytest.raises(Reached):
        load_text_worker(files.fetch(ModelMode.TEXT), TextSettings(), lambda done: None)
    picture = find(sample(ModelMode.IMAGE))
    with pytest.raises(Reached):
        load_image_worker(
            picture,
            picture.fetch(ModelMode.IMAGE),
            detect_model_type(picture),
            ImageEngine.MLX,
            ImageSettings(),
            lambda done: None,
        )


def test_a_runner_that_makes_text_imports_no_torch_where_it_is_installed(tmp_path: Path) -> None:
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text('raise SystemExit("torch was imported")\n')
    (tmp_path / "torch-2.13.0.dist-info").mkdir()
    (tmp_path / "torch-2.13.0.dist-info" / "METADATA").write_text("Name: torch\nVersion: 2.13.0\n")
    code = f"""
import sys
sys.path.insert(0, {str(tmp_path)!r})
from runner.server import main
process = object.__new__(main._Process)
process._settings = main.RunnerSettings({str(toy_text())!r}, 0)
print(process._load(lambda done: None).model.name)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, str(toy_text())), done.stderr
