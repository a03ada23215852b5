"""The whole set of measurements on a GPU, a run of `diptych bench` each: docs/performance.md is made of them.

    python benchmarks/gpu.py --plan small --out out            a few minutes: does everything run here?
    python benchmarks/gpu.py --plan full --out out             all of it
    python benchmarks/gpu.py --plan full --only klein,text     runs whose name holds one of these words
    python benchmarks/gpu.py --plan full --list                what would be run
    python benchmarks/gpu.py --plan two-cards --out out        a text model over two cards beside one

Each run writes OUT/NAME.json as it ends; those that are there already are kept, so a plan can be done in pieces. At the end
OUT/performance.md and OUT/performance.png are made of all of them. Peers take part where they are installed.
"""

import argparse
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
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
    """What is asked for most comes first; the large checkpoints, which take longest to write, last."""
    runs = {
        f"{name}-parts": f"{name} {PARTS} --size 1024x1024 --rounds 5" for name in (*QUICK, "flux1-schnell")
    }
    runs |= {"pack": "klein-4b --parts pack --rounds 9"}
    runs |= {f"{name}-http": f"{name} {HTTP} --rounds 5 {BOTH}" for name in QUICK}
    runs |= {"qwen3-4b-text": "qwen3-4b --clients 1,8,32 --rounds 5"}
    runs |= {"qwen3-4b-text-4bit": "qwen3-4b --clients 1,8,32 --rounds 5 --quantize 4"}
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


def bench(arguments: list[str], python: str) -> int:
    paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    command = [python, "-m", "runner", "bench", *arguments]
    process = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": paths})
    try:
        return process.wait()
    except KeyboardInterrupt:  # it hears that too, and writes down what it has measured
        process.wait()
        raise


def chosen_runs(plan: str, only: str | None) -> dict[str, str]:
    words = only.split(",") if only else [""]
    return {name: run for name, run in PLANS[plan].items() if any(word in name for word in words)}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--plan", choices=PLANS, default="small", help="default: %(default)s")
    parser.add_argument("--only", metavar="WORD,…", help="runs whose name holds one of these")
    parser.add_argument("--list", action="store_true", help="say what would be run")
    parser.add_argument("--out", type=Path, default=Path("out"), help="folder of the figures (default: out)")
    parser.add_argument("--seconds", type=float, default=1e9, help="start no further run after so many")
    parser.add_argument("--again", action="store_true", help="also runs whose figures are there")
    parser.add_argument(
        "more", nargs="*", metavar="OPTION", help="after --: for every run, such as --scratch FOLDER"
    )
    chosen = parser.parse_args()
    runs = chosen_runs(chosen.plan, chosen.only)
    if chosen.list:
        print("\n".join(f"{name}: diptych bench {run}" for name, run in runs.items()))
        return
    chosen.out.mkdir(parents=True, exist_ok=True)
    began, failed = time.monotonic(), []
    for name, run in runs.items():
        kept = chosen.out / f"{name}.json"
        if kept.exists() and not chosen.again:
            continue
        if time.monotonic() - began > chosen.seconds:
            failed.append(f"{name} (no time left)")
            continue
        print(f"== {name}, {time.monotonic() - began:.0f} s in", flush=True)
        partial = chosen.out / f"{name}.failed.json"
        partial.unlink(missing_ok=True)
        if bench([*shlex.split(run), *chosen.more, "--json", str(kept)], sys.executable):
            failed.append(name)
            if kept.exists():  # what was measured before counts, and the run is made again next time
                kept.rename(partial)
    found = sorted(map(str, chosen.out.glob("*.json")))
    if found:
        made = [
            "--plot",
            str(chosen.out / "performance.png"),
            "--markdown",
            str(chosen.out / "performance.md"),
        ]
        bench(["--add", *found, *made], sys.executable)
    raise SystemExit(f"not measured: {', '.join(failed)}" if failed else 0)


if __name__ == "__main__":
    main()
