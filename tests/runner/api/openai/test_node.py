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
    found = json.loads(done.stdout)
    assert set(found["models"]) == {"toy", "plain", "klein"}
    assert found["whole"] == found["streamed"] != ""
    assert found["tokens"] == 8
    assert found["call"]["name"] == "wait"
    assert json.loads(found["call"]["arguments"]) == {}
    assert found["completion"]
    assert found["embedding"] == 64
    assert found["seed"] == 7
    assert found["edited"] == "64x64"
    assert found["events"] == ["image_generation.partial_image", "image_generation.completed"]
    assert found["error"] == {
        "kind": "NotFoundError",
        "status": 404,
        "code": "model_not_found",
        "param": "model",
    }
