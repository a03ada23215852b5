"""The arrows of the architecture: runner → pipelines → models, between their rooms downwards only, and no MLX where none
belongs."""

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
# The rooms of runner and models from top to bottom: a room imports those below it. Rooms on one line know nothing of each
# other. A file that stands in no room is a room of its own, below all others where it is not named here.
ROOMS = {
    "runner": (
        ("__main__",),
        ("cli",),
        ("bench", "doctor"),
        ("api.registry",),
        ("api.responses", "api.rerank", "api.automatic1111", "api.gallery", "api.hub"),
        ("api.openai", "api.ollama", "api.anthropic"),
        ("api",),
        ("gateway", "server"),
        ("distributed",),
        ("engine.text", "engine.image"),
        ("engine",),
        ("gallery",),
        ("process", "store"),
        ("http",),
        ("config",),
        ("library",),
        ("inspect",),
        ("sources",),
        ("protocol",),
    ),
    "models": (
        ("kernel_checks",),
        ("language.worker_loop",),
        ("language.speculate",),
        ("language.load", "language.quantize"),
        ("language.build", "language.unpack"),
        ("language.batch", "language.embedding"),
        ("language.paged",),
        ("language.pictures",),
        ("language.distributed",),
        ("language.decode",),
        ("language.networks",),
        ("language.cache",),
        ("language.corrections",),
        ("language.config",),
        ("language",),
        ("encoders",),
        ("embedding", "text_encoders", "tokenizers", "transformers", "vae"),
        ("vision",),
        ("adapters",),
        ("checkpoint",),
        ("layers",),
        ("kernels",),
    ),
}
# The only places that may touch MLX in the serving layer, and mlx-lm anywhere.
MLX_IN_RUNNER = {
    "engine/text/worker.py",
    "engine/text/encoder_worker.py",
    "engine/image/load.py",
    "engine/device.py",
    "doctor/trials.py",
}
REFERENCE = {"torch", "diffusers", "transformers"}
# The classes that say what a language model's config.json means; mlx-lm brings transformers for its tokenizers anyway.
CONFIGURATIONS = ROOT / "models" / "language" / "config" / "standard.py"
# What the bench compares with, each in a process of its own.
ENGINES = ROOT / "runner" / "bench" / "engines"
# Where they run models that Diptych has no pipeline for: imported when that is chosen, and not before.
FALLBACK = ROOT / "pipelines" / "fallback"
LOADING = ROOT / "runner" / "engine" / "image" / "load.py"


def imports(file: Path) -> set[str]:
    """The top-level names that a file imports, wherever in it the import stands."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module)
    return found


def modules(file: Path) -> set[str]:
    """The modules of ours that a file imports, those after `from package import` too."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            for name in (f"{node.module}.{alias.name}" for alias in node.names):
                is_module = (ROOT / name.replace(".", "/")).with_suffix(".py").is_file()
                found.add(name if is_module else node.module)
    return {name for name in found if name.split(".")[0] in ROOMS}


def room(module: str) -> tuple[str, int]:
    """The room that a module stands in, and how far down that is."""
    package, _, name = module.partition(".")
    levels = [(r, depth) for depth, rooms in enumerate(ROOMS[package]) for r in rooms]
    inside = [(r, depth) for r, depth in levels if f"{name}.".startswith(f"{r}.")]
    return max(inside, key=lambda each: len(each[0]), default=(name, len(ROOMS[package])))


@pytest.mark.parametrize("package", ROOMS)
def test_a_room_imports_the_rooms_below_it(package: str) -> None:
    for file in sorted((ROOT / package).rglob("*.py")):
        own = ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        here, depth = room(own)
        for module in sorted(name for name in modules(file) if name.split(".")[0] == package):
            there, below = room(module)
            loose = below == len(ROOMS[package])
            assert here == there or loose or below > depth, (
                f"{own} imports {module}, and {here} is not above {there}: what both need belongs in a room below both, "
                f"{' or '.join(r for rooms in ROOMS[package][max(depth, below) + 1 :] for r in rooms) or 'a file of its own'}"
            )


@pytest.mark.parametrize("package", ROOMS)
def test_every_folder_is_a_room(package: str) -> None:
    rooms = {name.partition(".")[0] for level in ROOMS[package] for name in level}
    folders = {file.parent.name for file in (ROOT / package).glob("*/__init__.py")}
    assert folders <= rooms


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
                assert file == LOADING, f"{file} imports the fallback"


def test_mlx_lm_is_touched_by_its_adapter_alone() -> None:
    for package in FORBIDDEN:
        for file in sorted((ROOT / package).rglob("*.py")):
            if "mlx_lm" in tops(file) and not file.is_relative_to(ENGINES):
                assert file.is_relative_to(ROOT / "models" / "language"), f"{file} imports mlx_lm"


def test_serving_touches_mlx_in_its_workers_alone() -> None:
    for file in sorted((ROOT / "runner").rglob("*.py")):
        if "mlx" in tops(file) and not file.is_relative_to(ENGINES):
            place = file.relative_to(ROOT / "runner").as_posix()
            assert place in MLX_IN_RUNNER, f"{file} imports mlx"


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
        "runner.api.responses.routes",
        "runner.api.automatic1111.routes",
        "runner.api.ollama.routes",
        "runner.api.anthropic.routes",
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
    code = "import sys, runner.gateway.serve, runner.api.registry; print(*{n.split('.')[0] for n in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not heavy & set(done.stdout.split())
