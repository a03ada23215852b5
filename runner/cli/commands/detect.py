"""`diptych detect`: what a model is, without loading it."""

import argparse

from runner.inspect.detect import detect, render


def run(options: argparse.Namespace) -> int:
    detection = detect(options.model)
    print(render(detection, as_json=options.json))
    return 0 if detection.supported else 1
