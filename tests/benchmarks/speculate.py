"""How much speculative decoding gains where an answer repeats its prompt, and costs where it does not.

    uv run python -m tests.benchmarks.speculate MODEL                  lookup against none
    uv run python -m tests.benchmarks.speculate MODEL --draft SMALLER  a draft model against none

One client asks a runner in this process, in turns with and without drafts, and the two texts are compared. Tokens are
counted by the second and by the second of processor time, which a busy machine does not change.
"""

import argparse
import asyncio
import resource
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from runner.engine import device
from runner.sources import ModelMode, find
from runner.terminal import table

FILE = '''import csv
import sys
from collections import defaultdict


def read_orders(path):
    """Read all orders from a CSV file."""
    orders = []
    with open(path, newline="") as file:
        for row in csv.DictReader(file):
            orders.append({"customer": row["customer"], "amount": float(row["amount"]), "day": row["day"]})
    return orders


def total_by_customer(orders):
    """Add up the amounts of each customer."""
    totals = defaultdict(float)
    for order in orders:
        totals[order["customer"]] += order["amount"]
    return dict(totals)


def print_totals(totals):
    """Print one line for each customer, the largest first."""
    for customer, amount in sorted(totals.items(), key=lambda item: -item[1]):
        print(f"{customer:20} {amount:10.2f}")


def main():
    if len(sys.argv) != 2:
        print("usage: orders.py FILE")
        sys.exit(1)
    orders = read_orders(sys.argv[1])
    print_totals(total_by_customer(orders))


if __name__ == "__main__":
    main()
'''
TASKS = {
    "edit a file": f"Rename the function total_by_customer to sum_by_customer in this file. Write the whole file.\n\n```python\n{FILE}```",
    "write a story": "Write a story about a lighthouse keeper who finds a message in a bottle.",
}


def seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


async def ask(client: Any, task: str, tokens: int, speculate: Any) -> dict[str, Any]:
    body = {"messages": [{"role": "user", "content": task}], "stream": False, "speculate": speculate}
    began, used = time.perf_counter(), seconds()
    answer = await client.post("/completion", json={**body, "options": {"num_predict": tokens}}, timeout=600)
    answer.raise_for_status()
    return {**answer.json(), "wall": time.perf_counter() - began, "used": seconds() - used}


async def measure(arguments: argparse.Namespace) -> list[list[str]]:
    print(device.prepare())  # loads the BLAS, before MLX
    from runner.engine.text.worker import TextSettings
    from tests.runner.live import in_process

    draft = None if arguments.draft is None else find(arguments.draft).fetch(ModelMode.TEXT)
    settings = TextSettings(
        lookup=draft is None, draft=draft, drafted=arguments.tokens, float32=arguments.float32
    )
    rows = []
    async with in_process(Path(arguments.model), settings) as client:
        for name, task in TASKS.items():
            found: dict[bool, list[dict[str, Any]]] = {True: [], False: []}
            await ask(client, task, 8, "off")  # reads the prompt, whose keys and values stay
            for _ in range(arguments.rounds):
                for drafts in (False, True):
                    answer = await ask(client, task, arguments.length, None if drafts else "off")
                    found[drafts].append(answer)
            same = all(answer["tokens"] == found[False][0]["tokens"] for answer in found[False] + found[True])
            rows += [row(name, drafts, found[drafts], found[False], same) for drafts in (False, True)]
    return rows


def row(
    name: str, drafts: bool, answers: Sequence[dict[str, Any]], plain: Sequence[dict[str, Any]], same: bool
) -> list[str]:
    def rate(which: Sequence[dict[str, Any]], what: str) -> float:
        return statistics.median(answer["eval_count"] / answer[what] for answer in which)

    last = answers[-1]
    return [
        name,
        "drafts" if drafts else "none",
        str(last["eval_count"]),
        f"{rate(answers, 'wall'):.1f}",
        f"{rate(answers, 'used'):.1f}",
        f"{rate(answers, 'used') / rate(plain, 'used'):.2f}",
        f"{last['accepted']}/{last['drafted']}",
        "yes" if same else "NO",
    ]


HEAD = [
    "task",
    "",
    "tokens",
    "tokens/s",
    "tokens/s of processor time",
    "ratio",
    "accepted/drafted",
    "same text",
]


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.speculate",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", help="a folder or a name")
    parser.add_argument(
        "--draft", help="a model of the same tokenizer that drafts; without, tokens are looked up"
    )
    parser.add_argument("--tokens", type=int, default=16, help="drafted at a time, at most")
    parser.add_argument("--length", type=int, default=300, help="tokens of an answer")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--float32", action="store_true", help="as the runner does on a processor")
    arguments = parser.parse_args()
    print(table(HEAD, asyncio.run(measure(arguments))))


if __name__ == "__main__":
    main()
