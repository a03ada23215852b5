"""The ollama package for JavaScript, against the same gateways. Installed by `npm install --prefix tests/runner/api/node`."""

import json
import shutil
import subprocess

import pytest

from tests.runner.api.openai.test_node import NODE
from tests.runner.gateway.live import Gateway
from tests.waiting import PATIENCE

INSTALLED = shutil.which("node") is not None and (NODE / "node_modules" / "ollama").is_dir()
CALLS = [
    {"index": 0, "name": "look", "arguments": {"at": "sea", "far": True}},
    {"index": 1, "name": "wait", "arguments": {}},
]


@pytest.mark.skipif(not INSTALLED, reason="node, or its ollama package, is not installed")
def test_the_javascript_client_gets_what_it_asks_for(gateway: Gateway, calling: Gateway) -> None:
    command = ["node", "ollama.mjs", gateway.url, calling.url]
    done = subprocess.run(command, cwd=NODE, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    actual = json.loads(done.stdout)
    assert set(actual["models"]) == {"toy", "plain", "klein"}
    assert actual["capabilities"] == ["completion", "tools", "thinking"]
    assert actual["whole"] == actual["streamed"] != ""
    assert actual["response"] == actual["lines"] != ""
    assert actual["tokens"] == 8
    assert actual["json"] == 17
    assert actual["picture"] == "PNG"
    assert actual["steps"][-1] == [2, 2]
    assert actual["embedding"] == [64, 64]
    assert {"toy", "klein"} <= set(actual["loaded"])
    assert actual["unloaded"] == "unload"
    assert actual["calls"] == actual["later"] == CALLS
    assert actual["thinking"] == "The sea, then."
    assert actual["aborted"] == "AbortError"
    statuses = {name: status for name, (status, _) in actual["errors"].items()}
    assert statuses == {"missing": 404, "pull": 400, "create": 404, "push": 400, "copy": 400, "delete": 400}
    assert "owner/name" in actual["errors"]["pull"][1]
