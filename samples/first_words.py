"""Starts a runner, asks it over HTTP, and prints the answer as it is generated: `uv run python samples/first_words.py`.

Uses Diptych's sample language model, which only knows coloured shapes; --model takes any other.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import httpx2

SAMPLE = Path(__file__).parent / "shapes" / "text_encoder"


def serve(model: str) -> tuple[subprocess.Popen[str], str]:
    """A runner on a free port, and its address once the model is loaded."""
    process = subprocess.Popen(
        [sys.executable, "-m", "runner", "--model", model, "--port", "0"], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout
    address = f"http://127.0.0.1:{process.stdout.readline().strip()}"
    while process.poll() is None:
        health = httpx2.get(f"{address}/health")
        if health.status_code == 200:
            return process, address
        if health.status_code == 500:
            break
        time.sleep(0.1)
    raise SystemExit("the runner could not load the model; its last line above says why")


def chat(address: str, prompt: str) -> None:
    """Print an answer token by token, then its speed."""
    body = {"messages": [{"role": "user", "content": prompt}], "options": {"num_predict": 64, "seed": 1}}
    with httpx2.stream("POST", f"{address}/completion", json=body, timeout=None) as response:
        for line in response.iter_lines():
            event = json.loads(line)
            if event.get("error"):
                raise SystemExit(event["error"])
            print(event.get("content", ""), end="", flush=True)
    seconds = event["eval_duration"] / 1e9
    print(f"\n\n{event['eval_count']} tokens, {event['eval_count'] / max(seconds, 1e-9):.0f} tokens/s")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("prompt", nargs="?", default="a green star")
    parser.add_argument(
        "--model",
        default=str(SAMPLE),
        help="a folder, a Hugging Face repository or an Ollama name (default: the sample)",
    )
    options = parser.parse_args()
    process, address = serve(options.model)
    try:
        chat(address, options.prompt)
    finally:
        process.terminate()
        process.wait(10)


if __name__ == "__main__":
    main()
