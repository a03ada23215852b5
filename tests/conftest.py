"""For every test: nothing is left in the user's own folders or running, and products are as quick as the runner's own."""

import os
import signal
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from runner.engine import device
from tests import processes

# Before any test imports MLX, which would otherwise multiply many times slower in this process.
device.prepare()
# On an NVIDIA card float32 is float32, as the references that it is compared with are.
os.environ.setdefault("MLX_ENABLE_TF32", "0")
# A shell starts what runs in the background with Ctrl-C ignored, which every process of a test would inherit.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Each holds models of its own, and its tests start processes besides.
MOST_WORKERS = 4
# Folders whose tests take longest: begun last, one would keep all other workers waiting at the end.
FIRST = ("weights", "samples")
_FAILED = pytest.StashKey[bool]()


@pytest.fixture(scope="session", autouse=True)
def state_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Gateways of tests say that they run where commands of the user do not look."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """The whole suite runs side by side, in one worker more than cores, since many tests wait for processes. Files that
    are named run in this process, as debuggers need it.

    `-n` says otherwise, `-n 0` for the whole suite in one process too.
    """
    option = config.option
    if hasattr(config, "workerinput"):
        return  # one of those
    whole = config.args_source is pytest.Config.ArgsSource.TESTPATHS
    alone = option.usepdb or option.collectonly or option.capture == "no"
    if whole and not alone and getattr(option, "numprocesses", 0) is None:
        option.numprocesses = min((os.cpu_count() or 1) + 1, MOST_WORKERS)
    if getattr(option, "numprocesses", 0):
        # A worker that has nothing left to do takes over tests of others; fixtures of modules are seldom made twice.
        option.dist = "worksteal" if option.dist == "no" else option.dist
        for variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
            os.environ.setdefault(variable, "1")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    first = [Path(__file__).parent / name for name in FIRST]
    items.sort(key=lambda item: not any(map(item.path.is_relative_to, first)))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed:
        item.stash[_FAILED] = True
    return report


@pytest.fixture(autouse=True)
def no_process_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """A test that fails ends no process of its own: they are ended for it."""
    before = processes.children()
    yield
    if request.node.stash.get(_FAILED, False):
        processes.end(processes.children() - before)
