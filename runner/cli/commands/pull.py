"""`diptych pull`: download a model from Hugging Face; an interrupted download resumes."""

import argparse
import json
import sys

from runner.cli.progress import Progress, Style
from runner.errors import ModelNotSupported
from runner.library.download import plan_download
from runner.terminal import warn
from runner.units import show_size


def run(options: argparse.Namespace) -> int:
    download = plan_download(options.model)
    if download.fault and not options.force:
        raise ModelNotSupported(
            f"{download.files.place} cannot be run: {download.fault}; --force downloads it anyway"
        )
    style: Style = "json" if options.json else "bar" if sys.stderr.isatty() else "lines"
    try:
        with Progress(f"{download.name}:", style) as progress:
            local = download.run(progress)
    except KeyboardInterrupt:
        warn(f"stopped; `diptych pull {options.model}` resumes the download")
        raise
    if options.json:
        result = {"name": download.name, "bytes": download.bytes, "path": str(local.folder)}
        print(json.dumps(result | {"fault": download.fault}))
    else:
        print(f"{download.name} is on this machine, {show_size(download.bytes)}: {local.folder}")
    if download.fault:
        warn(f"{download.name} cannot be run: {download.fault}")
    return 0
