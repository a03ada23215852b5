"""What pulling would bring, and how it ends."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from runner.errors import BadRequest, DiptychError, HubUnreachable
from runner.library import installed
from runner.library.download import plan_download
from runner.sources import ModelMode
from tests.hub_server import HubServer
from tests.runner.checkpoints import text_files


@pytest.fixture
def hub(machine: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    monkeypatch.delenv("HF_HUB_OFFLINE")
    with HubServer() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server


def test_nothing_but_json_is_read_before_it_runs(hub: HubServer) -> None:
    repo = hub.add("owner/name", text_files())
    download = plan_download("hf:owner/name@main")
    assert (download.name, download.commit, download.mode) == ("owner/name", repo.commit, ModelMode.TEXT)
    assert download.fault is None
    assert not hub.requests_for("GET", ".safetensors")
    seen: list[tuple[int, int]] = []
    download.run(lambda done, total: seen.append((done, total)))
    assert seen[-1] == (download.bytes, download.bytes)
    assert [model.name for model in installed().models] == ["owner/name"]


def test_what_its_listener_raises_ends_it(hub: HubServer) -> None:
    hub.add("owner/name", text_files())

    def enough(done: int, total: int) -> None:
        raise DiptychError("enough")

    with pytest.raises(DiptychError, match="enough"):
        plan_download("owner/name").run(enough)


def test_a_network_client_learns_nothing_of_folders(machine: Path) -> None:
    with pytest.raises(BadRequest, match="is a folder, and already on this machine"):
        plan_download(str(machine))
    for name in (str(machine), str(machine / "nothing")):
        with pytest.raises(BadRequest, match="is not a hub repo"):
            plan_download(name, folders=False)


def test_without_the_hub_it_says_so(machine: Path) -> None:
    with pytest.raises(HubUnreachable, match="HF_HUB_OFFLINE"):
        plan_download("owner/name")
