"""The openai package for JavaScript, against the same gateway. Installed by `npm install --prefix tests/runner/api/node`."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.runner.gateway.live import Gateway
from tests.waiting import PATIENCE

NODE = Path(__file__).parents[1] / "node"


def installed() -> bool:
    return shutil.which("node") is not None and (NODE / "node_modules" / "openai").is_dir()


@pytest.mark.skipif(not installed(), reason="node, or its openai package, is not installed")
def test_the_javascript_client_gets_what_it_asks_for(gateway: Gateway) -> None:
    done = subprocess.run(
        ["node", "openai.mjs", f"{gateway.url}/v1"],
        cwd=NODE,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stderr
    actual = json.loads(done.stdout)
    assert set(actual["models"]) == {"toy", "plain", "klein"}
    assert actual["whole"] == actual["streamed"] != ""
    assert actual["tokens"] == 8
    assert actual["call"]["name"] == "wait"
    assert json.loads(actual["call"]["arguments"]) == {}
    assert actual["completion"]
    assert actual["embedding"] == 64
    assert actual["seed"] == 7
    assert actual["edited"] == "64x64"
    assert actual["events"] == ["image_generation.partial_image", "image_generation.completed"]
    assert actual["error"] == {
        "kind": "NotFoundError",
        "status": 404,
        "code": "model_not_found",
        "param": "model",
    }
