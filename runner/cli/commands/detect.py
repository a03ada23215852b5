"""`diptych detect`: what a model is, without loading it."""

import argparse

from runner.inspect.detect import detect, render


def run(options: argparse.Namespace) -> int:
    found = detect(options.model)
    print(render(found, as_json=options.json))
    return 0 if found.supported else 1
