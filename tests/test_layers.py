"""The arrows of the architecture: runner → pipelines → models, never back, and no MLX where none belongs."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests import ROOT

FORBIDDEN = {
    "models": {"runner", "pipelines"},
    "pipelines": {"runner"},
    "runner": set(),
}
# The only places that may touch MLX in the serving layer, and mlx-lm anywhere.
MLX_IN_RUNNER = {"text.py", "image_loading.py", "device.py", "trials.py"}
REFERENCE = {"torch", "diffusers", "transformers"}
# The classes that say what a language model's config.json means; mlx-lm brings transformers for its tokenizers anyway.
CONFIGURATIONS = ROOT / "models" / "language" / "config" / "standard.py"
# What the bench compares with, each in a process of its own.
ENGINES = ROOT / "runner" / "bench" / "engines"
# Where they run models that Diptych has no pipeline for: imported when that is chosen, and not before.
FALLBACK = ROOT / "pipelines" / "fallback"


def imports(file: Path) -> set[str]:
    """The top-level names that a file imports, wherever in it the import stands."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module)
    return found


def tops(file: Path) -> set[str]:
    return {name.split(".")[0] for name in imports(file)}


@pytest.mark.parametrize("package", FORBIDDEN)
def test_a_layer_never_imports_the_layers_above_it(package: str) -> None:
    for file in sorted((ROOT / package).rglob("*.py")):
        assert not tops(file) & FORBIDDEN[package], f"{file} imports upwards"


def test_a_plain_run_never_imports_the_references() -> None:
    for package in FORBIDDEN:
        for file in sorted((ROOT / package).rglob("*.py")):
            running = file.is_relative_to(FALLBACK) and file.name not in ("__init__.py", "catalog.py")
            if not running and not file.is_relative_to(ENGINES):
                allowed = {"transformers"} if file == CONFIGURATIONS else set()
                assert not tops(file) & REFERENCE - allowed, f"{file} imports a reference"


def test_the_fallback_is_imported_by_what_loads_it_alone() -> None:
    for package in FORBIDDEN:
        for file in sorted((ROOT / package).rglob("*.py")):
            used = {name for name in imports(file) if name.startswith("pipelines.fallback.")}
            if used - {"pipelines.fallback.catalog"} and not file.is_relative_to(FALLBACK):
                assert file.name == "image_loading.py", f"{file} imports the fallback"


def test_mlx_lm_is_touched_by_its_adapter_alone() -> None:
    for package in FORBIDDEN:
        for file in sorted((ROOT / package).rglob("*.py")):
            if "mlx_lm" in tops(file) and not file.is_relative_to(ENGINES):
                assert file.is_relative_to(ROOT / "models" / "language"), f"{file} imports mlx_lm"


def test_serving_touches_mlx_in_its_workers_alone() -> None:
    for file in sorted((ROOT / "runner").rglob("*.py")):
        if "mlx" in tops(file) and not file.is_relative_to(ENGINES):
            assert file.name in MLX_IN_RUNNER, f"{file} imports mlx"


@pytest.mark.parametrize(
    "module",
    [
        "runner.cli.main",
        "runner.server.app",
        "runner.engine.engine",
        "runner.inspect.mode",
        "runner.sources",
        "runner.inspect.memory",
        "runner.library",
        "runner.config",
        "runner.cli.commands.chat",
        "runner.process.supervisor",
        "runner.gateway.native",
        "runner.api.openai.routes",
        "runner.api.ollama.routes",
        "runner.api.page",
        "runner.cli.commands.serve",
        "runner.cli.commands.bench",
        "runner.cli.commands.doctor",
        "runner.doctor.trials",
    ],
)
def test_importing_the_server_brings_no_mlx(module: str) -> None:
    code = f"import sys, {module}; sys.exit(any(n.split('.')[0] in ('mlx', 'mlx_lm') for n in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr or f"{module} imports MLX"


def test_a_gateway_stays_small() -> None:
    """What it imports is what it weighs: these are for runners."""
    heavy = {"mlx", "mlx_lm", "numpy", "transformers", "llguidance", "PIL", "huggingface_hub", "httpx2"}
    code = "import sys, runner.gateway.native, runner.gateway.serve, runner.api.openai.routes, runner.api.ollama.routes; print(*{n.split('.')[0] for n in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not heavy & set(done.stdout.split())
