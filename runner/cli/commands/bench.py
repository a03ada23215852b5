"""`diptych bench`: figures for this machine, on the terminal and where they are kept."""

import argparse
import sys

from runner.bench.options import Options
from runner.bench.records import Report, read_reports
from runner.bench.run import run as measure
from runner.bench.table import quoted, show
from runner.errors import BadRequest
from runner.inspect.sample import sample
from runner.sources import ModelMode
from runner.terminal import warn


def run(options: argparse.Namespace) -> int:
    reports = read_reports(options.add)
    earlier_alone = options.add and not options.names and options.model is None
    measured = None if earlier_alone else _measured(options)
    reports += [measured] if measured is not None else []
    if options.plot is not None:
        from runner.bench.plot import plot

        plot(reports, options.plot)
    if options.markdown is not None:
        from runner.bench.report import keep

        keep(reports, options.markdown)
    return 1 if measured is not None and measured.failed else 0


def _measured(options: argparse.Namespace) -> Report:
    for path in (options.json_file, options.plot, options.markdown):
        if path is not None and not path.parent.is_dir():
            raise BadRequest(f"{path.parent} is no folder to write {path.name} to")
    models = [*options.names, *([options.model] if options.model else [])] or [sample(ModelMode.IMAGE)]
    chosen = Options(
        engines=options.engines,
        parts=options.parts,
        sizes=options.sizes,
        counts=options.counts,
        steps=options.steps,
        clients=options.clients,
        tokens=options.tokens,
        tensor_parallel=options.tensor_parallel,
        quantize=options.quantize,
        memory=options.memory,
        dtype=options.dtype,
        layers=options.layers,
        rounds=options.rounds,
        scratch=options.scratch,
        mflux=options.mflux,
    )
    report = measure(models, chosen, quoted(["diptych", *sys.argv[1:]]))
    if options.json_file is not None:
        report.write(options.json_file)
    print(show(report))
    for what in report.failed:
        warn(f"not measured: {what}")
    return report
