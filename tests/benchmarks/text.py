"""Diptych's runner against mlx_lm.server, in turns, on toy models made for the run: where a processor has to do.

    uv run python -m tests.benchmarks.text --quick        a minute: the smaller model, one round
    uv run python -m tests.benchmarks.text                both models, five rounds

`diptych bench` compares the same servers on real models; this also has sampled and seeded requests, a hundred at once,
processor time and memory. Both servers run the whole time, with the same BLAS preloaded, and a load generator in a
process of its own asks them in turns. Printed are medians over the rounds, with their range; `library` is mlx-lm called
directly.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from runner.bench.clients import LOAD, ask_together
from runner.bench.interleave import in_turn, running
from runner.bench.prompts import short_prompts
from runner.bench.servers import DIPTYCH, MLX_LM, Process, ServerKind, fast_blas
from runner.terminal import table
from tests.toys.families import SIZES
from tests.toys.text import make_text_model

Figures = dict[str, float]
SERVERS = (DIPTYCH, MLX_LM)


@dataclass(frozen=True)
class Scenario:
    """`clients` at once, each asking `each` times for `tokens` tokens."""

    name: str
    clients: int
    each: int
    tokens: int
    temperature: float = 0.0
    seeded: bool = False
    # The peer holds five connections that wait to be accepted; a few milliseconds apart, none waits for a resent SYN.
    stagger: float = 0.005
    timeout: float = 120.0
    prompt_words: int = 40

    def bodies(self, kind: ServerKind, round_number: int) -> list[dict[str, Any]]:
        return [
            kind.body(prompt, self.tokens, self.temperature, number + 1 if self.seeded else None)
            for number, prompt in enumerate(
                short_prompts(self.clients * self.each, round_number, self.prompt_words)
            )
        ]


SCENARIOS = (
    Scenario("one client", 1, 2, 256),
    Scenario("eight clients", 8, 2, 256),
    Scenario("eight sampled", 8, 1, 256, temperature=0.8),
    Scenario("eight seeded", 8, 1, 256, temperature=0.8, seeded=True),
    Scenario("a hundred at once", 100, 1, 32, stagger=0.0, timeout=30.0),
)
QUICK = tuple(replace(scenario, each=1, tokens=min(scenario.tokens, 64)) for scenario in SCENARIOS)
METRICS = (
    ("tokens_per_second", "tokens/s", 1.0, "{:.0f}"),
    ("first_token", "first token, ms", 1e3, "{:.1f}"),
    ("gap_median", "gap, median, ms", 1e3, "{:.2f}"),
    ("gap_p95", "gap, p95, ms", 1e3, "{:.2f}"),
    ("processor", "processor time a token, ms", 1e3, "{:.2f}"),
    ("memory", "resident, MB", 1e-6, "{:.0f}"),
    ("lost", "lost", 1.0, "{:.0f}"),
)


def measure(process: Process, scenario: Scenario, round_number: int) -> Figures:
    bodies = scenario.bodies(process.kind, round_number)
    before = process.processor_seconds()
    figures = ask_together(process, bodies, scenario.clients, scenario.stagger, scenario.timeout)
    figures["processor"] = (process.processor_seconds() - before) / max(figures["tokens"], 1)
    for failure in figures.pop("failures"):
        print(f"    {process.kind.name}, {scenario.name}: {failure}", file=sys.stderr)
    return figures | {"memory": process.memory()}


def library(model: Path, scenario: Scenario) -> float:
    texts = short_prompts(scenario.clients, 0, scenario.prompt_words)
    with running("mlx-lm") as engine:
        engine.ask("build", folder=str(model))
        engine.ask("write", prompts=texts, tokens=16)  # a warm-up
        return float(engine.ask("write", prompts=texts, tokens=scenario.tokens)["tokens_per_second"])


def start_times(model: Path, rounds: int) -> dict[str, list[Figures]]:
    times: dict[str, list[Figures]] = {kind.name: [] for kind in SERVERS}
    for number in range(rounds):
        for kind in in_turn(SERVERS, number):
            process = Process(kind, model)
            process.stop()
            times[kind.name].append({"healthy": process.healthy_after, "answers": process.answers_after})
    return times


def compare(model: Path, scenarios: tuple[Scenario, ...], rounds: int) -> dict[str, Any]:
    """All rounds of one model: figures[scenario][server] is a list, one entry a round."""
    starts = start_times(model, min(rounds, 3))
    figures: dict[str, dict[str, list[Any]]] = {
        scenario.name: {**{kind.name: [] for kind in SERVERS}, "library": []} for scenario in scenarios
    }
    processes = {kind: Process(kind, model) for kind in SERVERS}
    try:
        for process in processes.values():
            measure(process, QUICK[1], -1)  # a warm-up, not counted
        for number in range(rounds):
            for scenario in scenarios:
                for kind in in_turn(SERVERS, number):
                    figures[scenario.name][kind.name].append(measure(processes[kind], scenario, number))
                if scenario.clients in (1, 8) and not scenario.temperature:
                    figures[scenario.name]["library"].append(library(model, scenario))
            print(f"  round {number + 1} of {rounds} done", file=sys.stderr)
    finally:
        for process in processes.values():
            process.stop()
    return {"starts": starts, "figures": figures}


def spread(values: list[float], scale: float, form: str) -> str:
    if not values:
        return "–"
    median, least, most = (
        form.format(value * scale) for value in (statistics.median(values), min(values), max(values))
    )
    return median if len(values) == 1 else f"{median} ({least}–{most})"


def ratio(ours: list[float], peers: list[float]) -> str:
    """The median over the rounds of ours divided by the peer's: neighbours in time share the machine's noise."""
    pairs = [our / peer for our, peer in zip(ours, peers, strict=True) if peer]
    return f"{statistics.median(pairs):.2f}" if pairs else "–"


def row(title: str, label: str, entries: list[list[float]], scale: float, form: str) -> tuple[str, ...]:
    ours, peers, direct = entries
    cells = spread(ours, scale, form), spread(peers, scale, form), ratio(ours, peers)
    return title, label, *cells, spread(direct, scale, form) if direct else ""


def show(result: dict[str, Any]) -> str:
    rows = []
    for title, figures in result["figures"].items():
        for key, label, scale, form in METRICS:
            entries = [[entry[key] for entry in figures[kind.name]] for kind in SERVERS]
            if key != "lost" or any(map(any, entries)):
                direct = figures["library"] if key == "tokens_per_second" else []
                rows.append(row(title, label, [*entries, direct], scale, form))
                title = ""
    for key, label in (("healthy", "healthy after, s"), ("answers", "first answer after, s")):
        entries = [[entry[key] for entry in result["starts"][kind.name]] for kind in SERVERS]
        rows.append(row("start" if key == "healthy" else "", label, [*entries, []], 1, "{:.2f}"))
    return table(("", "", DIPTYCH.name, MLX_LM.name, "ratio", "library"), rows, width=200)


def generator_share(result: dict[str, Any]) -> float:
    """How much of one processor the load generator itself used, at most."""
    every = [e for servers in result["figures"].values() for entries in servers.values() for e in entries]
    return max(entry["own_cpu_share"] for entry in every if isinstance(entry, dict))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5, help="default: %(default)s")
    parser.add_argument("--quick", action="store_true", help="the smaller model, one round, shorter texts")
    parser.add_argument("--sizes", nargs="+", choices=sorted(SIZES), default=["nano", "tiny"])
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="write every figure of every round there too"
    )
    options = parser.parse_args()
    sizes, rounds, scenarios = (
        (["nano"], 1, QUICK) if options.quick else (options.sizes, options.rounds, SCENARIOS)
    )
    print(f"BLAS for all: {fast_blas() or 'as MLX brings it'}")
    own = subprocess.run(
        [sys.executable, str(LOAD), "--own-speed"], capture_output=True, text=True, check=True
    )
    print(f"Load generator alone: {json.loads(own.stdout)['events_per_second']:.0f} events/s")
    results = {}
    with tempfile.TemporaryDirectory(prefix="diptych-benchmark-") as scratch:
        for size in sizes:
            model = make_text_model(Path(scratch) / size, **SIZES[size])
            print(f"\n{size}: qwen3 in float32, {SIZES[size]}, {rounds} rounds")
            results[size] = compare(model, scenarios, rounds)
            print(show(results[size]))
            print(f"The load generator took at most {generator_share(results[size]):.0%} of a processor.")
            if options.json:
                options.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
