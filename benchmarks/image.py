"""Pictures beside mflux: one true-width block of each kind, and how long packing takes, in one run, in turns.

    uv run python benchmarks/image.py --mflux-python PATH      PATH: an interpreter that has mflux 0.24 and MLX's backend
    uv run python benchmarks/image.py                          ours alone

mflux needs an environment of its own: it pins another MLX on Linux. On a processor both load OpenBLAS and compute in
float32. The ratio is our median over theirs: below 1 is faster.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

HERE = Path(__file__).parent
Times = dict[str, list[float]]


def run_blocks(python: str, engine: str, chosen: argparse.Namespace) -> Times:
    command = [python, str(HERE / "blocks.py"), engine, "--pixels", str(chosen.pixels)]
    command += ["--repeats", str(chosen.repeats), "--dtype", chosen.dtype, "--only", chosen.only]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{engine} failed:\n{done.stderr}")
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return {line["block"]: line["seconds"] for line in lines}


def pack_times(repeats: int) -> Times:
    """A megapixel with gradients and noise, so that it is neither trivial nor incompressible."""
    sys.path.insert(0, str(HERE.parent))
    import numpy as np

    from pipelines.packing import pack

    rows, columns = np.mgrid[0:1024, 0:1024]
    noise = np.random.default_rng(0).normal(0, 4, (1024, 1024, 3))
    pixels = (
        (np.stack([rows / 4, columns / 4, (rows + columns) / 8], -1) + noise).clip(0, 255).astype(np.uint8)
    )
    times: Times = {}
    for kind in ("png", "jpeg", "webp"):
        times[f"pack {kind}"] = []
        for _ in range(repeats):
            began = time.perf_counter()
            pack(pixels, kind)
            times[f"pack {kind}"].append(time.perf_counter() - began)
    return times


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--mflux-python", metavar="PATH", help="an interpreter with mflux")
    parser.add_argument("--pixels", type=int, default=256, help="side of the picture (default %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each engine (default %(default)s)")
    parser.add_argument("--repeats", type=int, default=3, help="measured steps a turn (default %(default)s)")
    parser.add_argument("--only", default="", metavar="TEXT", help="blocks whose name holds this")
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16", "float16"))
    chosen = parser.parse_args()
    engines = {"ours": sys.executable} | ({"mflux": chosen.mflux_python} if chosen.mflux_python else {})
    gathered: dict[str, Times] = {engine: defaultdict(list) for engine in engines}
    for number in range(chosen.rounds):
        for engine, python in engines.items():
            for block, seconds in run_blocks(python, engine, chosen).items():
                gathered[engine][block] += seconds
        print(f"round {number + 1} of {chosen.rounds} done", file=sys.stderr)
    gathered["ours"] |= pack_times(chosen.repeats * chosen.rounds)
    print(f"{'median, ms':16} {'ours':>9} {'mflux':>9} {'ratio':>7}   {chosen.pixels} px, {chosen.dtype}")
    for name, times in gathered["ours"].items():
        mine = statistics.median(times) * 1e3
        theirs = gathered.get("mflux", {}).get(name)
        other = statistics.median(theirs) * 1e3 if theirs else None
        columns = f"{other:9.1f} {mine / other:7.2f}" if other else ""
        print(f"{name:16} {mine:9.1f} {columns}")


if __name__ == "__main__":
    main()
