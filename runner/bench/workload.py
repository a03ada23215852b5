"""One engine's process: jobs as JSON lines on stdin, answers as JSON lines on stdout. Standard library only.

python -m runner.bench.workload with_mlx
{"do": "build", …}                                          → {"seconds": 1.2, …}
{"do": "run", "width": 1024, "height": 1024, "steps": 4}    → {"encode": [0.01], "step": [0.06, …], …}
"""

import importlib
import json
import os
import sys
from typing import Any

ENGINES = {
    "mlx": "with_mlx",
    "torch": "with_torch",
    "torch-compile": "with_torch",
    "torch-compile-text": "with_torch_text",
    "mflux": "with_mflux",
    "mlx-lm": "with_mlx_lm",
}


def main() -> None:
    name = sys.argv[1]
    module = importlib.import_module(f"runner.bench.engines.{ENGINES[name]}")
    # What libraries print goes to stderr, so that stdout has answers only.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    engine: Any = None
    for line in sys.stdin:
        job = json.loads(line)
        do = job.pop("do")
        try:
            if do == "build":
                engine = module.Engine(name, job)
                answer = engine.built
            else:
                answer = getattr(engine, do)(**job)
        except Exception as error:  # whatever an engine raises belongs in the report, and the process goes on
            answer = {"error": f"{type(error).__name__}: {' '.join(str(error).split())[:500]}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
