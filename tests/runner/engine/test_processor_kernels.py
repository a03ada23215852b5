"""On a processor MLX compiles nothing: no compiler is run, and no library is loaded from the temporary folder."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from runner import paths
from runner.engine import device
from runner.inspect.sample import sample
from runner.paths import make_private
from runner.sources import ModelMode
from tests.runner.live import ROOT

pytestmark = pytest.mark.skipif(device.has_gpu(), reason="where a GPU computes, kernels are the GPU's")

FUSED = """
from runner.engine import device
{before}
device.prepare()
import mlx.core as mx, mlx.nn as nn
from models.vae.group_norm import _scaled_silu
from models.kernels.flops import count_flops
x = mx.arange(12, dtype=mx.float32).reshape(3, 4)
assert count_flops(nn.Linear(4, 4), x)  # which counts without compiling, and then compiles again where it did
mx.eval(nn.gelu(x), _scaled_silu(x, x, x), mx.compile(lambda x: mx.exp(x) * mx.sqrt(x) + 1)(x))
"""


def run(
    *arguments: str, temporary: Path, path: str | None = None, cache: Path | None = None, stdin: str = ""
) -> subprocess.CompletedProcess[str]:
    """Python in a machine whose temporary folder is this one, and whose programs are those on `path`."""
    environment = {name: value for name, value in os.environ.items() if name != "MLX_DISABLE_COMPILE"}
    environment |= {"TMPDIR": str(temporary), "XDG_STATE_HOME": str(temporary.parent / "state")}
    environment |= {"PATH": path} if path is not None else {}
    environment |= {"DIPTYCH_CACHE": str(cache)} if cache is not None else {}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT, env=environment, input=stdin, capture_output=True, text=True, timeout=300,
    )  # fmt: skip


@pytest.mark.parametrize("before", ["", "import mlx.core"], ids=["before MLX", "after MLX"])
def test_nothing_is_compiled_or_loaded_from_the_temporary_folder(tmp_path: Path, before: str) -> None:
    (tmp_path / "tmp").mkdir()
    done = run("-c", FUSED.format(before=before), temporary=tmp_path / "tmp")
    assert done.returncode == 0, done.stderr
    assert list((tmp_path / "tmp").iterdir()) == []


def test_the_sample_draws_without_a_temporary_folder_or_a_cache(tmp_path: Path) -> None:
    picture = tmp_path / "picture.png"
    done = run(
        *("-m", "runner", "draw", "a red circle", "--model", sample(ModelMode.IMAGE), "--memory", "resident"),
        *("--seed", "1", "-o", str(picture)),
        temporary=tmp_path / "gone",
        cache=tmp_path / "cache",
    )
    assert done.returncode == 0, done.stderr
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_the_sample_talks_without_a_compiler_and_a_temporary_folder(tmp_path: Path) -> None:
    done = run(
        *("-m", "runner", "chat", sample(ModelMode.TEXT)),
        stdin="Hello!",
        temporary=tmp_path / "gone",
        path="",
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_a_cuda_backend_without_a_card_compiles_nothing_either(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device.sys, "platform", "linux")
    monkeypatch.setattr(device, "is_installed", lambda name: name == "mlx-cuda-13")
    monkeypatch.setenv("MLX_DISABLE_COMPILE", "")
    monkeypatch.delenv("MLX_DISABLE_COMPILE")
    assert "finds no NVIDIA card" in device.prepare()
    assert os.environ["MLX_DISABLE_COMPILE"] == "1"


# -- the folder that code is kept in, where there is a GPU

posix = pytest.mark.skipif(sys.platform == "win32", reason="modes say nothing there")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DIPTYCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@posix
def test_a_private_folder_is_private_at_each_level_whatever_the_umask(cache: Path) -> None:
    before = os.umask(0o002)
    try:
        make_private(cache / "kernels" / "card")
    finally:
        os.umask(before)
    for place in (cache, cache / "kernels", cache / "kernels" / "card"):
        assert stat.S_IMODE(place.stat().st_mode) == 0o700
    make_private(cache / "kernels" / "card")


@posix
@pytest.mark.parametrize("level", ["", "kernels", "kernels/card"])
def test_a_folder_that_others_may_write_to_is_refused(cache: Path, level: str) -> None:
    make_private(cache / "kernels" / "card")
    (cache / level).chmod(0o777)
    with pytest.raises(OSError, match=r"can be written by other users \(mode 777\); remove it"):
        make_private(cache / "kernels" / "card")


@posix
@pytest.mark.parametrize("level", ["kernels", "kernels/card"])
def test_a_link_in_place_of_a_folder_is_refused(cache: Path, tmp_path: Path, level: str) -> None:
    (tmp_path / "elsewhere" / "card").mkdir(parents=True)
    (cache / level).parent.mkdir(parents=True, mode=0o700)
    (cache / level).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="is a link"):
        make_private(cache / "kernels" / "card")


@posix
def test_a_folder_of_another_user_is_refused(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_private(cache / "kernels")
    other = os.getuid() + 1
    monkeypatch.setattr(paths.os, "getuid", lambda: other)
    with pytest.raises(OSError, match="belongs to another user"):
        make_private(cache / "kernels")
