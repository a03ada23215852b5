"""What tests start ends with them, fails a test or not, is the session interrupted or killed."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests import ROOT
from tests.processes import ended
from tests.waiting import PATIENCE, wait_until

GATEWAY = """
import subprocess
from tests.processes import RUN
gateway = subprocess.Popen([*RUN, "serve", "--port", "0"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
gateway.stdout.readline()
print(gateway.pid, flush=True)
gateway.wait()
"""
FAILING = """
import subprocess
from pathlib import Path

def test_that_fails():
    Path("pid").write_text(str(subprocess.Popen(["sleep", "1000"]).pid))
    raise AssertionError
"""


def test_a_gateway_ends_with_the_tests_that_started_it() -> None:
    with subprocess.Popen([sys.executable, "-c", GATEWAY], cwd=ROOT, stdout=subprocess.PIPE) as tests:
        assert tests.stdout
        pid = int(tests.stdout.readline())
        assert not ended(pid)
        tests.kill()
    wait_until(lambda: ended(pid))


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nothing lists what a process has started")
def test_what_a_failed_test_leaves_is_ended(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(FAILING)
    command = [sys.executable, "-m", "pytest", "-p", "tests.conftest", "--rootdir", ".", "test_it.py"]
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, timeout=PATIENCE)
    assert done.returncode == 1, done
    pid = int((tmp_path / "pid").read_text())
    wait_until(lambda: ended(pid))


def test_ctrl_c_reaches_processes_where_a_shell_has_it_ignored() -> None:
    code = """
import signal
signal.signal(signal.SIGINT, signal.SIG_IGN)
import tests.conftest
import subprocess, sys
subprocess.run([sys.executable, "-c", "import signal; print(signal.getsignal(signal.SIGINT) is signal.SIG_IGN)"])
"""
    command = [sys.executable, "-c", code]
    assert subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout == "False\n"
