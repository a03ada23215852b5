"""`diptych bench`: measurements of this machine, on the terminal and in files."""

import argparse
import shlex
import sys

from runner.bench.options import Options
from runner.bench.records import Report, read_reports
from runner.bench.run import run as measure
from runner.bench.table import show
from runner.errors import BadRequest
from runner.inspect.sample import sample
from runner.sources import ModelMode
from runner.terminal import warn


def run(options: argparse.Namespace) -> int:
    reports = read_reports(options.add)
    earlier_only = options.add and not options.names and options.model is None
    report = None if earlier_only else _measure(options)
    reports += [report] if report is not None else []
    if options.plot is not None:
        from runner.bench.plot import plot

        plot(reports, options.plot)
    if options.markdown is not None:
        from runner.bench.report import keep

        keep(reports, options.markdown)
    return 1 if report is not None and report.failed else 0


def _measure(options: argparse.Namespace) -> Report:
    for path in (options.json_file, options.plot, options.markdown):
        if path is not None and not path.parent.is_dir():
            raise BadRequest(f"cannot write {path}: {path.parent} is not a folder")
    models = [*options.names, *([options.model] if options.model else [])] or [sample(ModelMode.IMAGE)]
    settings = Options(
        engines=options.engines,
        parts=options.parts,
        sizes=options.sizes,
        counts=options.counts,
        steps=options.steps,
        clients=options.clients,
        tokens=options.tokens,
        prompt_tokens=options.prompt_tokens,
        long=options.long,
        long_share=options.long_share,
        edit=options.edit,
        kv_memory=options.kv_memory,
        seed=options.seed,
        tensor_parallel=options.tensor_parallel,
        quantize=options.quantize,
        memory=options.memory,
        dtype=options.dtype,
        layers=options.layers,
        rounds=options.rounds,
        scratch=options.scratch,
        mflux=options.mflux,
    )
    report = measure(models, settings, shlex.join(["diptych", *sys.argv[1:]]))
    if options.json_file is not None:
        report.write(options.json_file)
    print(show(report))
    for failure in report.failed:
        warn(f"not measured: {failure}")
    return report
