"""One run of the bench: some models, their parts, one report."""

import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from pipelines import PIPELINES
from runner.bench import packing, pictures, serving, texts
from runner.bench.cases import check_cases
from runner.bench.interleave import running, why_missing
from runner.bench.machine import machine, versions
from runner.bench.options import PARTS, PICTURE_ENGINES, PICTURE_PARTS, TEXT_ENGINES, TEXT_PARTS, Options
from runner.bench.records import Report
from runner.bench.specs import SPECS, Spec, write_texts
from runner.errors import BadRequest, RunnerFailed
from runner.inspect.mode import detect_model_mode
from runner.process.child import RUNNER
from runner.process.environment import environment
from runner.sources import ModelMode, find
from runner.units import show_size

SIDE = 1024  # for models whose files state no size


def run(models: Sequence[str], options: Options, command: str) -> Report:
    """Measure all of `models`, which are names in SPECS or checkpoints."""
    specs = [spec_of(model).cut(options.layers) for model in models]
    _check(specs, options)
    report = Report(
        date=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        command=command,
        machine=machine(),
        versions=versions(),
    )
    for spec in specs:
        with tempfile.TemporaryDirectory(prefix="diptych-bench-", dir=options.scratch) as scratch:
            try:
                (_pictures if spec.draws else _texts)(spec, Path(scratch), options, report)
            except RunnerFailed as error:  # the records so far stay
                report.failed.append(f"{spec.name}: {error.message}")
            except KeyboardInterrupt:
                report.failed.append(f"{spec.name}: interrupted")
                return report
    if options.wants("pack") and any(spec.draws for spec in specs):
        for width, height in options.sizes or ((SIDE, SIDE),):
            report.records += packing.measure(width, height, options.rounds)
    return report


def spec_of(model: str) -> Spec:
    if model in SPECS:
        return SPECS[model]
    files = find(model)
    mode = detect_model_mode(files)
    local = files.fetch(mode.mode)
    if mode.mode is ModelMode.TEXT:
        config = files.read_json("config.json") or {}
        return Spec(_short(files.name), "", {"": config}, {}, {}, checkpoint=str(local.folder))
    parts = {
        part: files.read_json(f"{part}/config.json")
        for part in ("transformer", "vae", "text_encoder", "text_encoder_2")
    }
    configs = {part: config for part, config in parts.items() if config is not None}
    return Spec(_short(files.name), mode.pipeline, configs, {}, {}, checkpoint=model)


def _short(name: str) -> str:
    """A folder's own name, not its path."""
    return Path(name).name if Path(name).is_absolute() else name


def _check(specs: Sequence[Spec], options: Options) -> None:
    """Refuse what cannot be measured before anything is built."""
    names = ", ".join(spec.name for spec in specs)
    for engine in options.engines or ():
        if not any(engine in (PICTURE_ENGINES if spec.draws else TEXT_ENGINES) for spec in specs):
            raise BadRequest(f"--engines {engine}: {names} cannot be measured with it")
        able = [spec for spec in specs if engine in (PICTURE_ENGINES if spec.draws else TEXT_ENGINES)]
        if missing := why_missing(engine, options.mflux, any(spec.draws for spec in able)):
            raise BadRequest(f"--engines {engine}: {missing}")
    for part in options.parts if options.parts != PARTS else ():
        if not any(part in (PICTURE_PARTS if spec.draws else TEXT_PARTS) for spec in specs):
            raise BadRequest(f"--parts {part}: {names} cannot be measured in this part")
    texts_only = {
        "--tensor-parallel": options.tensor_parallel > 1,
        "--prompt-tokens": options.prompt_tokens,
        "--long": options.long,
        "--long-share": options.long_share,
        "--edit": options.edit,
        "--kv-memory": options.kv_memory,
    }
    for option in [name for name, value in texts_only.items() if value]:
        if all(spec.draws for spec in specs):
            raise BadRequest(f"{option} is for language models; {names} makes pictures")
    for spec in specs:
        if not spec.draws:
            check_cases(spec.parts[""], options)


def _pictures(spec: Spec, scratch: Path, options: Options, report: Report) -> None:
    if spec.checkpoint is None:
        write_texts(spec, scratch)
    folder = spec.checkpoint or str(scratch)
    size = _own_size(spec)
    in_process = options.wants("encode", "step", "picture", "decode", "strips")
    if in_process and spec.pipeline not in PIPELINES:
        log(f"{spec.name} runs on diffusers ({spec.pipeline}): it is measured over HTTP only")
    elif in_process:
        pictures.measure(spec, folder, size, options, report, log)
    over_http = options.wants("http") or (not in_process and options.wants("load", "first"))
    if over_http and (options.engines is None or "mlx" in options.engines):
        written = write_weights(spec, scratch, options) if spec.checkpoint is None else ""
        report.records += serving.measure(spec, folder, size, options, written, log)


def _texts(spec: Spec, scratch: Path, options: Options, report: Report) -> None:
    folder = spec.checkpoint or str(scratch)
    if spec.checkpoint is None:
        write_texts(spec, scratch)
        write_weights(spec, scratch, options)
        if options.quantize:
            folder = str(scratch / "quantized")
            command = [*RUNNER, "quantize", str(scratch), folder, "--bits", options.quantize]
            done = subprocess.run(command, capture_output=True, text=True, env=environment())
            if done.returncode:
                raise RunnerFailed(f"quantizing failed: {done.stderr.strip().splitlines()[-1:]}")
    texts.measure(spec, folder, options, report, log)


def _own_size(spec: Spec) -> tuple[int, int]:
    """The size that the model's files state, or SIDE."""
    if spec.checkpoint is None:
        return SIDE, SIDE
    side = spec.parts.get("vae", {}).get("sample_size")
    return (side, side) if isinstance(side, int) else (SIDE, SIDE)


def write_weights(spec: Spec, folder: Path, options: Options) -> str:
    """Write a checkpoint of random weights, in a process that returns its memory when it ends; returns their type."""
    began = time.perf_counter()
    with running("mlx") as engine:
        built = engine.ask(
            "build", folder=str(folder), pipeline=spec.pipeline, write=True, dtype=options.dtype,
            quantize=options.quantize if spec.draws else None,
        )  # fmt: skip
    size = sum(path.stat().st_size for path in folder.rglob("*.safetensors"))
    log(f"{spec.name}: {show_size(size)} of random weights written in {time.perf_counter() - began:.0f} s")
    return str(built["dtype"])


def log(message: str) -> None:
    print(f"bench: {message}", file=sys.stderr, flush=True)
