"""`diptych quantize`: a smaller copy of a model, in the same layout."""

import argparse
import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from models.files import LocalModel
from runner.engine import device
from runner.errors import BadRequest, ModelNotSupported
from runner.inspect.mode import ModelMode, ModelType, detect_model_mode
from runner.sources import ModelFiles, find
from runner.sources.required_files import TEXTS, required_files
from runner.terminal import print_json
from runner.units import show_size

TERMS = ("license", "notice", "readme")  # files that a copy must or should include


def run(options: argparse.Namespace) -> int:
    return quantize(options.model, options.folder, options.bits, options.json)


def quantize(model: str, folder: Path, bits: str, as_json: bool = False) -> int:
    files = find(model)
    mode = detect_model_mode(files, "mlx")  # only MLX models can be quantized
    if files.adapters():
        raise ModelNotSupported(
            f"{model} has a LoRA adapter, which a quantized copy would lose; quantize the model without it"
        )
    with _appearing(folder) as partial:
        device.prepare()
        local = files.fetch(mode.mode)
        _copy_texts(files, local, mode.mode, partial)
        try:
            _write_weights(local, mode, bits, partial)
        except ValueError as error:  # the weights or the config do not allow it
            raise ModelNotSupported(str(error)) from None
        size = _bytes(partial)
    before = sum(files.listing().values())
    if as_json:
        print_json({"path": str(folder), "bytes": size, "model": model, "model_bytes": before})
    else:
        print(f"{folder}  {show_size(size)} ({model}: {show_size(before)})")
    return 0


def _write_weights(local: LocalModel, mode: ModelType, bits: str, folder: Path) -> None:
    from models.checkpoint.quantize import Quantization

    quantization = Quantization.parse(bits)
    if mode.mode is ModelMode.TEXT:
        from models.language.quantize import write_quantized as write_text

        write_text(local, quantization, folder)
        return
    from pipelines.quantize import write_quantized as write_pictures

    write_pictures(
        local, mode.pipeline, quantization, folder, lambda part: print(f"writing {part}", file=sys.stderr)
    )


def _copy_texts(files: ModelFiles, local: LocalModel, mode: ModelMode, folder: Path) -> None:
    """Copy configs, tokenizers and the licence. Shard indexes are written anew, with the weights."""
    texts = [path for path in required_files(files, mode) if path.endswith(TEXTS)]
    terms = [path for path in files.listing() if path.lower().startswith(TERMS) and "/" not in path]
    for path in (*texts, *terms):
        source = local.folder / path
        if source.is_file() and not path.endswith(".safetensors.index.json"):
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, folder / path)


@contextlib.contextmanager
def _appearing(folder: Path) -> Iterator[Path]:
    """A temporary folder beside it, renamed on success and removed on failure."""
    if folder.exists():
        raise BadRequest(f"{folder} already exists; choose a new folder")
    if not folder.parent.is_dir():
        raise BadRequest(f"cannot write {folder}: {folder.parent} is not a folder")
    partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        yield partial
        partial.chmod(0o755)
        os.rename(partial, folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
