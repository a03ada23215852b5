"""A runner and a text from it, with nothing downloaded: `uv run python samples/first_words.py`.

Makes a toy language model (random weights: it babbles), serves it, and prints the answer as it is written.
With --model it serves a real one.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx2
from toy_text import make_text_model


def serve(model: str) -> tuple[subprocess.Popen[str], str]:
    """A runner on a free port, and its address once it is healthy."""
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


def write(address: str, prompt: str) -> None:
    """Print an answer token by token."""
    body = {"prompt": prompt, "options": {"num_predict": 64, "temperature": 0.8, "seed": 1}}
    with httpx2.stream("POST", f"{address}/completion", json=body, timeout=None) as response:
        for line in response.iter_lines():
            event = json.loads(line)
            if event.get("error"):
                raise SystemExit(event["error"])
            print(event.get("content", ""), end="", flush=True)
    seconds = event["eval_duration"] / 1e9
    print(f"\n\n{event['eval_count']} tokens, {event['eval_count'] / max(seconds, 1e-9):.0f} a second")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("prompt", nargs="?", default="Once upon a time")
    parser.add_argument("--model", help="a folder, a hub repo or an Ollama name (default: a toy)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        model = options.model
        if model is None:
            model = str(Path(scratch) / "toy")
            make_text_model(Path(model), size="nano")
        process, address = serve(model)
        try:
            write(address, options.prompt)
        finally:
            process.terminate()
            process.wait(10)


if __name__ == "__main__":
    main()
