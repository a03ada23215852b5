"""All measurements on a GPU, each a run of `diptych bench`: docs/measurements.md is made of them.

    python -m tests.benchmarks.gpu --plan small --out out            a few minutes: does everything run here?
    python -m tests.benchmarks.gpu --plan full --out out             all of it
    python -m tests.benchmarks.gpu --plan full --only klein,text     runs whose name contains one of these words
    python -m tests.benchmarks.gpu --plan full --list                print the commands and leave
    python -m tests.benchmarks.gpu --plan two-cards --out out        a text model over two cards beside one

A run writes OUT/NAME.json when it ends, and is not repeated if that file exists, so a plan can be done in pieces. At the
end OUT/measurements.md and OUT/performance.png are made from all of them. Peers take part where they are installed.
"""

import argparse
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path

from tests import ROOT

PARTS = "--parts first,encode,step,decode,strips,picture"
HTTP = "--engines mlx --parts load,first,http"
BOTH = "--memory resident,staged"
SIZES = "512x512,768x768,1024x1024,1536x1536,2048x2048"

SMALL = {
    "klein-parts": f"klein-4b {PARTS} --size 1024x1024 --rounds 2",
    "pack": "klein-4b --parts pack --rounds 5",
    "klein-http": f"klein-4b {HTTP} --rounds 3",
    "text": "qwen3-0.6b --clients 1,8 --rounds 1 --tokens 128",
}
QUICK, LARGE = ("klein-4b", "z-image"), ("flux1-schnell", "klein-9b")
FAMILIES = (*QUICK, *LARGE)


def _full() -> dict[str, str]:
    """The most useful first; the large checkpoints, which take longest to write, last."""
    runs = {
        f"{name}-parts": f"{name} {PARTS} --size 1024x1024 --rounds 5" for name in (*QUICK, "flux1-schnell")
    }
    runs |= {"pack": "klein-4b --parts pack --rounds 9"}
    runs |= {f"{name}-http": f"{name} {HTTP} --rounds 5 {BOTH}" for name in QUICK}
    runs |= {"qwen3-4b-text": "qwen3-4b --clients 1,8,32 --rounds 5"}
    runs |= {"qwen3-4b-text-4bit": "qwen3-4b --clients 1,8,32 --rounds 5 --quantize 4"}
    served = "qwen3-4b --engines mlx,mlx_lm.server --parts load,first,http"
    ours = "qwen3-4b --engines mlx --parts http"
    runs |= {
        "qwen3-4b-lengths": f"{served} --clients 32 --prompt-tokens 30-300 --rounds 3",
        "qwen3-4b-long": f"{ours} --clients 32 --long 16000 --tokens 1200 --rounds 3",
        "qwen3-4b-mix": f"{ours} --clients 64 --long 8000 --long-share 0.33 --kv-memory 8GB --rounds 2",
        "qwen3-4b-by-clients": f"{ours} --clients 1,2,4,8,16,32,64,128 --rounds 2",
        "qwen3-4b-by-length": f"{ours} --clients 1 --prompt-tokens 1000,2000,4000,8000,16000,32000 --rounds 2",
    }
    runs |= {
        "klein-4b-sizes": f"klein-4b --engines mlx --parts first,step,picture,decode,strips --size {SIZES} --rounds 3"
    }
    runs |= {"klein-4b-numbers": "klein-4b --engines mlx --parts step,picture --n 1,2,4,8 --rounds 3"}
    small = "--engines mlx --parts encode,step,picture --quantize 4 --rounds 3"
    runs |= {f"{name}-4bit-parts": f"{name} {small}" for name in FAMILIES}
    small = f"--engines mlx --parts http --quantize 4 --rounds 2 {BOTH}"
    runs |= {f"{name}-4bit-http": f"{name} {small}" for name in FAMILIES}
    runs |= {"klein-9b-parts": f"klein-9b {PARTS} --size 1024x1024 --rounds 5"}
    return runs | {f"{name}-http": f"{name} {HTTP} --rounds 5 {BOTH}" for name in LARGE}


TWO_CARDS = {
    "qwen3-4b-two-cards": f"qwen3-4b {HTTP} --clients 1,8,32 --rounds 2 --tensor-parallel 2",
}
PLANS = {"small": SMALL, "full": _full(), "two-cards": TWO_CARDS}


def bench(arguments: list[str]) -> int:
    paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    command = [sys.executable, "-m", "runner", "bench", *arguments]
    process = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": paths})
    try:
        return process.wait()
    except KeyboardInterrupt:  # the bench gets the signal too, and writes what it has measured
        process.wait()
        raise


def run_plan(runs: dict[str, str], options: argparse.Namespace) -> list[str]:
    """The names of the runs that failed or were not started."""
    began, failed = time.monotonic(), []
    for name, arguments in runs.items():
        path, partial = options.out / f"{name}.json", options.out / f"{name}.failed.json"
        if path.exists() and not options.again:
            continue
        if time.monotonic() - began > options.seconds:
            failed.append(f"{name} (no time left)")
            continue
        print(f"== {name}, after {time.monotonic() - began:.0f} s", flush=True)
        partial.unlink(missing_ok=True)
        if bench([*shlex.split(arguments), *options.more, "--json", str(path)]):
            failed.append(name)
            if path.exists():  # keep what was measured, and repeat the run next time
                path.rename(partial)
    return failed


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--plan", choices=PLANS, default="small", help="default: %(default)s")
    add("--only", metavar="WORD,…", default="", help="runs whose name contains one of these")
    add("--list", action="store_true", help="print the commands and leave")
    add("--out", type=Path, default=Path("out"), help="folder for the results (default: %(default)s)")
    add("--seconds", type=float, default=1e9, help="start no further run after this long")
    add("--again", action="store_true", help="repeat runs whose results exist")
    add("more", nargs="*", metavar="OPTION", help="after --: for every run, such as --scratch FOLDER")
    options = parser.parse_args()
    words = options.only.split(",")
    runs = {name: run for name, run in PLANS[options.plan].items() if any(word in name for word in words)}
    if options.list:
        print("\n".join(f"{name}: diptych bench {run}" for name, run in runs.items()))
        return
    options.out.mkdir(parents=True, exist_ok=True)
    failed = run_plan(runs, options)
    if results := sorted(map(str, options.out.glob("*.json"))):
        plot, page = options.out / "performance.png", options.out / "measurements.md"
        bench(["--add", *results, "--plot", str(plot), "--markdown", str(page)])
    raise SystemExit(f"not measured: {', '.join(failed)}" if failed else 0)


if __name__ == "__main__":
    main()
