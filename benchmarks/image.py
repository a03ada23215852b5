"""Pictures beside mflux in one run, in turns: encode, step, decode, pack at real dimensions with random weights.

    uv run python benchmarks/image.py --mflux-python PATH      PATH: an interpreter that has mflux 0.24 and MLX's backend
    uv run python benchmarks/image.py klein-4b --layers 1      ours alone, cut in depth: for small machines
    uv run python benchmarks/image.py --blocks --mflux-python PATH      one true-width block of each kind alone

It is `diptych bench` but for the blocks. mflux needs an environment of its own: it pins another MLX on Linux. On a
processor both load OpenBLAS and compute in float32. The ratio of blocks is our median over theirs: below 1 is faster.
"""

import argparse
import json
import statistics
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

HERE = Path(__file__).resolve().parent
FAMILIES = ("klein-4b", "z-image", "flux1-schnell")
Times = dict[str, list[float]]


def run_blocks(python: str, engine: str, chosen: argparse.Namespace) -> Times:
    command = [python, str(HERE / "blocks.py"), engine, "--pixels", str(chosen.pixels)]
    command += ["--repeats", str(chosen.repeats), "--dtype", chosen.dtype, "--only", chosen.only]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{engine} failed:\n{done.stderr}")
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return {line["block"]: line["seconds"] for line in lines}


def blocks(chosen: argparse.Namespace) -> None:
    engines = {"ours": sys.executable} | ({"mflux": chosen.mflux_python} if chosen.mflux_python else {})
    gathered: dict[str, Times] = {engine: defaultdict(list) for engine in engines}
    for number in range(chosen.rounds):
        for engine, python in engines.items():
            for block, seconds in run_blocks(python, engine, chosen).items():
                gathered[engine][block] += seconds
        print(f"round {number + 1} of {chosen.rounds} done", file=sys.stderr)
    print(f"{'median, ms':16} {'ours':>9} {'mflux':>9} {'ratio':>7}   {chosen.pixels} px, {chosen.dtype}")
    for name, times in gathered["ours"].items():
        mine = statistics.median(times) * 1e3
        theirs = gathered.get("mflux", {}).get(name)
        other = statistics.median(theirs) * 1e3 if theirs else None
        columns = f"{other:9.1f} {mine / other:7.2f}" if other else ""
        print(f"{name:16} {mine:9.1f} {columns}")


def parts(chosen: argparse.Namespace) -> int:
    """The bench, with what is compared here."""
    command = [sys.executable, "-m", "runner", "bench", *chosen.models, "--rounds", str(chosen.rounds)]
    command += ["--parts", "encode,step,decode,pack", "--size", f"{chosen.pixels}x{chosen.pixels}"]
    command += ["--engines", "mlx,mflux", "--mflux", chosen.mflux_python] if chosen.mflux_python else []
    command += ["--dtype", chosen.dtype, *(["--layers", str(chosen.layers)] if chosen.layers else [])]
    return subprocess.run(command, cwd=HERE.parent).returncode


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "models",
        nargs="*",
        default=list(FAMILIES),
        help=f"by the bench's names (default: {' '.join(FAMILIES)})",
    )
    parser.add_argument("--mflux-python", metavar="PATH", help="an interpreter with mflux")
    parser.add_argument("--pixels", type=int, default=256, help="side of the picture (default %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each engine (default %(default)s)")
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16", "float16"))
    parser.add_argument("--layers", type=int, metavar="N", help="so many blocks of each kind, at true width")
    parser.add_argument(
        "--blocks", action="store_true", help="one block of each kind alone, compiled in both"
    )
    parser.add_argument("--repeats", type=int, default=3, help="of a block in a turn (default %(default)s)")
    parser.add_argument("--only", default="", metavar="TEXT", help="blocks whose name holds this")
    chosen = parser.parse_args()
    if chosen.blocks:
        blocks(chosen)
    else:
        raise SystemExit(parts(chosen))


if __name__ == "__main__":
    main()
