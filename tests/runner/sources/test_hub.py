"""Models on the hub: the real hub client against a server that speaks the hub's protocol."""

import errno
import hashlib
import io
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from models.files import LocalModel
from runner.errors import (
    Busy,
    DiptychError,
    HubUnreachable,
    ModelNotFound,
    ModelNotSupported,
    NotAllowed,
    NotEnoughDisk,
)
from runner.inspect.mode import ModelMode, detect_model_type
from runner.sources import find, hub_api, hub_download
from runner.sources.hub import cache_folder
from runner.sources.name import HubName, parse_hub_name
from tests import ROOT
from tests.hub_server import TOKEN, HubServer
from tests.runner.checkpoints import WEIGHTS, image_files, safetensors, text_files
from tests.waiting import PATIENCE

BIG = safetensors({"model.embed_tokens.weight": ("F32", (1000, 300))})


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    for variable in (
        "HF_TOKEN",
        "HF_HUB_OFFLINE",
        "HF_HUB_CACHE",
        "HUGGINGFACE_HUB_CACHE",
        "TRANSFORMERS_OFFLINE",
    ):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_HUB_DISABLE_IMPLICIT_TOKEN", "0")
    monkeypatch.setenv("OLLAMA_MODELS", str(tmp_path / "store"))
    monkeypatch.setattr(hub_download, "PAUSE", 0.001)
    monkeypatch.setattr(hub_api, "LARGE", 1000)
    monkeypatch.chdir(tmp_path)
    with HubServer() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server


def fetched(model: LocalModel) -> dict[str, bytes]:
    files = [path for path in model.folder.rglob("*") if path.is_file()]
    return {path.relative_to(model.folder).as_posix(): path.read_bytes() for path in files}


def blobs(repo: str) -> list[Path]:
    return sorted((cache_folder() / f"models--{repo.replace('/', '--')}" / "blobs").iterdir())


# Names


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("owner/name", HubName("owner/name", "main")),
        ("owner/name@v1.0", HubName("owner/name", "v1.0")),
        ("owner/name@refs/pr/3", HubName("owner/name", "refs/pr/3")),
        ("black-forest-labs/FLUX.2-klein-4B", HubName("black-forest-labs/FLUX.2-klein-4B", "main")),
    ],
)
def test_a_hub_name_is_owner_and_name_and_perhaps_a_revision(name: str, meant: HubName) -> None:
    assert parse_hub_name(name) == meant


@pytest.mark.parametrize(
    "name",
    [
        "", "/", "name", "a/b/c", "a/b/c/d", "../name", "owner/..", "owner/.name", "owner/name.", "-owner/name", "owner/-",
        "owner/na--me", "ow..ner/name", "owner/name.git", "owner/na me", "owner/näme", "owner/name@", "owner/name@../x",
        "owner/name@a..b", "owner/name@/x", "owner/name@x/", "owner/name@a//b", "owner/name@x y", "owner/name:tag",
        "owner\\name", "owner/" + "x" * 97, "owner/name@" + "x" * 200, "owner/name@main@main", "https://x/owner/name",
    ],
)  # fmt: skip
def test_anything_else_is_no_hub_name(name: str) -> None:
    assert parse_hub_name(name) is None
    if name != "name":
        with pytest.raises(ModelNotFound, match="after hf: comes owner/name"):
            find(f"hf:{name}")


def test_a_name_that_cannot_be_a_repo_asks_the_hub_nothing(hub: HubServer) -> None:
    for name in ("name", "a/b/c/d", "../../etc", "owner/name:tag", "owner/na--me"):
        with pytest.raises(ModelNotFound):
            find(name)
    assert hub.requests == []


# Downloading


def test_a_language_model_comes_with_what_it_needs_and_nothing_else(hub: HubServer) -> None:
    files = text_files()
    repo = hub.add("owner/name", files | {"model.fp16.safetensors": b"x", "onnx/model.onnx": b"x"})
    model = find("owner/name").fetch(ModelMode.TEXT)
    assert set(fetched(model)) == {
        "config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "model.safetensors",
    }  # fmt: skip
    assert [shard.path.read_bytes() for shard in model.shards("")] == [repo.files["model.safetensors"]]
    assert model.name == "owner/name"


def test_a_picture_model_comes_with_its_components_alone(hub: HubServer) -> None:
    repo = hub.add("owner/pictures", image_files())
    model = find("hf:owner/pictures").fetch(ModelMode.IMAGE)
    skipped = {
        "flux-2-klein.safetensors",
        "assets/picture.png",
        "transformer/diffusion_pytorch_model.fp16.safetensors",
    }
    assert fetched(model) == {path: content for path, content in repo.files.items() if path not in skipped}


def test_looking_downloads_json_alone(hub: HubServer) -> None:
    hub.add("owner/pictures", image_files())
    files = find("owner/pictures")
    assert files.source == "hub"
    assert detect_model_type(files) == "Flux2KleinPipeline"
    assert not hub.requests_for("GET", ".safetensors")


def test_headers_are_read_where_they_are(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_api, "HEADER_GUESS", 16)
    hub.add("owner/name", text_files() | {"model.safetensors": BIG})
    tensors = find("owner/name").tensors("")
    assert {name: info.shape for name, info in tensors.items()} == {"model.embed_tokens.weight": (1000, 300)}
    assert all(
        request.headers["range"]
        for request in hub.requests_for("GET", "storage/owner/name/model.safetensors")
    )


@pytest.mark.parametrize("content", [b"", b"\xff" * 2000, b"\x02\0\0\0\0\0\0\0[]", b"\x10\0\0\0\0\0\0\0{}"])
def test_a_broken_header_on_the_hub_is_named(hub: HubServer, content: bytes) -> None:
    hub.add("owner/name", text_files() | {"model.safetensors": content})
    with pytest.raises(ModelNotSupported, match=r"model\.safetensors in hub repo owner/name"):
        find("owner/name").tensors("")


def test_progress_counts_every_byte_up_to_the_total(hub: HubServer) -> None:
    hub.add("owner/name", text_files() | {"model.safetensors": BIG})
    seen: list[tuple[int, int]] = []
    find("owner/name").fetch(ModelMode.TEXT, lambda done, total: seen.append((done, total)))
    done = [part for part, _ in seen]
    assert {total for _, total in seen} == {done[-1]}
    assert done == sorted(done)
    assert len(seen) > 5


def test_a_complete_copy_needs_no_network(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add("owner/name", text_files())
    first = find("owner/name").fetch(ModelMode.TEXT)
    hub.requests.clear()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    files = find("owner/name")
    assert (files.source, files.name) == ("hub", "owner/name")
    assert files.fetch(ModelMode.TEXT).folder == first.folder
    assert hub.requests == []


def test_a_copy_that_the_hubs_own_client_made_is_used(
    hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import snapshot_download

    hub.add("owner/pictures", image_files())
    folder = snapshot_download("owner/pictures", endpoint=hub.url, cache_dir=cache_folder())
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    assert find("owner/pictures").fetch(ModelMode.IMAGE).folder == Path(folder)


def test_a_copy_that_diptych_made_is_used_by_the_hubs_own_client(hub: HubServer) -> None:
    from huggingface_hub import hf_hub_download

    hub.add("owner/name", text_files() | {"model.safetensors": BIG})
    model = find("owner/name").fetch(ModelMode.TEXT)
    path = hf_hub_download("owner/name", "model.safetensors", cache_dir=cache_folder(), local_files_only=True)
    assert Path(path) == model.folder / "model.safetensors"


def test_a_copy_without_a_part_that_may_not_be_needed_is_used_when_the_hub_is_away(
    hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add("owner/pictures", image_files())
    folder = find("owner/pictures").fetch(ModelMode.IMAGE).folder
    shutil.rmtree(folder / "scheduler")
    assert (find("owner/pictures").fetch(ModelMode.IMAGE).folder / "scheduler").exists()
    shutil.rmtree(folder / "scheduler")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert find("owner/pictures").fetch(ModelMode.IMAGE).folder == folder


@pytest.mark.parametrize("gone", ["tokenizer.json", "model.safetensors", "config.json"])
def test_what_an_incomplete_copy_lacks_is_downloaded(hub: HubServer, gone: str) -> None:
    repo = hub.add("owner/name", {k: v for k, v in text_files().items() if k != "tokenizer_config.json"})
    (find("owner/name").fetch(ModelMode.TEXT).folder / gone).unlink()
    hub.requests.clear()
    assert fetched(find("owner/name").fetch(ModelMode.TEXT))[gone] == repo.files[gone]


def test_a_revision_is_its_own_copy(hub: HubServer) -> None:
    repo = hub.add("owner/name", text_files(), revisions={"main", "v1", "refs/pr/1"})
    for revision in ("v1", "refs/pr/1", repo.commit):
        model = find(f"owner/name@{revision}").fetch(ModelMode.TEXT)
        assert model.name == f"owner/name@{revision}"
        hub.requests.clear()
        assert find(f"owner/name@{revision}").fetch(ModelMode.TEXT).folder == model.folder
        assert hub.requests == []


def test_paths_that_leave_the_repo_are_no_part_of_it(hub: HubServer, tmp_path: Path) -> None:
    hostile = (
        "../evil.json",
        "/etc/evil.json",
        "a/../../evil.json",
        "C:/evil.json",
        "..\\evil.json",
        "a//evil.json",
    )
    hub.add("owner/name", text_files() | dict.fromkeys(hostile, b"{}"))
    files = find("owner/name")
    assert not [path for path in files.listing() if "evil" in path]
    files.fetch(ModelMode.TEXT)
    assert not list(tmp_path.rglob("*evil*"))


def test_the_token_goes_to_the_hub_and_not_to_its_storage(
    hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    hub.add("owner/name", text_files() | {"model.safetensors": BIG}, private=True)
    files = find("owner/name")
    files.tensors("")
    files.fetch(ModelMode.TEXT)
    for request in hub.requests:
        assert ("authorization" in request.headers) == (not request.path.startswith("/storage/")), request


# Cut connections


def test_a_cut_in_mid_file_is_continued_where_it_was(hub: HubServer) -> None:
    hub.add("owner/name", text_files() | {"model.safetensors": BIG})
    hub.faults["model.safetensors"] = [500_000, 400_000]
    seen: list[int] = []
    model = find("owner/name").fetch(ModelMode.TEXT, lambda done, total: seen.append(done))
    assert model.shards("")[0].path.read_bytes() == BIG
    starts = [request.start for request in hub.requests_for("GET", "/storage/owner/name/model.safetensors")]
    assert starts == [None, 500_000, 900_000]
    assert seen == sorted(seen)


def test_a_download_that_gave_up_is_continued_by_the_next_run(hub: HubServer) -> None:
    hub.add("owner/name", text_files() | {"model.safetensors": BIG})
    hub.faults["model.safetensors"] = [600_000] + [0] * 100
    with pytest.raises(HubUnreachable, match="resumes where it stopped"):
        find("owner/name").fetch(ModelMode.TEXT)
    hub.faults.clear()
    hub.requests.clear()
    seen: list[tuple[int, int]] = []
    model = find("owner/name").fetch(ModelMode.TEXT, lambda done, total: seen.append((done, total)))
    assert model.shards("")[0].path.read_bytes() == BIG
    assert [r.start for r in hub.requests_for("GET", "/storage/owner/name/model.safetensors")] == [600_000]
    assert seen[-1][0] == seen[-1][1]
    assert not [path for path in blobs("owner/name") if "diptych" in path.name]


def test_two_that_download_the_same_model_download_it_once(hub: HubServer) -> None:
    hub.add("owner/name", text_files() | {"model.safetensors": BIG})
    both = [find("owner/name"), find("owner/name")]
    with ThreadPoolExecutor(2) as pool:
        models = list(pool.map(lambda files: files.fetch(ModelMode.TEXT), both))
    assert [model.shards("")[0].path.read_bytes() for model in models] == [BIG, BIG]
    assert len(hub.requests_for("GET", "/storage/owner/name/model.safetensors")) == 1


def test_a_process_that_is_killed_leaves_its_bytes_to_the_next(hub: HubServer) -> None:
    hub.add("owner/name", text_files() | {"model.safetensors": BIG})
    hub.pause_after = 700_000
    code = (
        "from runner.sources import find, ModelMode, hub_api; hub_api.LARGE = 1000;"
        "find('owner/name').fetch(ModelMode.TEXT, lambda done, total: print(done, flush=True))"
    )
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if int(line) > 600_000:
            break
    process.kill()
    process.wait()
    process.stdout.close()
    hub.pause_after = None
    assert find("owner/name").fetch(ModelMode.TEXT).shards("")[0].path.read_bytes() == BIG
    assert (hub.requests_for("GET", "/storage/owner/name/model.safetensors")[-1].start or 0) > 600_000


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_process_that_is_asked_to_end_does_not_wait_for_its_download(hub: HubServer, number: int) -> None:
    hub.add("owner/name", text_files() | {"model.safetensors": BIG})
    hub.pause_after = 700_000
    code = (
        "import sys, threading; from runner.sources import find, ModelMode, hub_api; hub_api.LARGE = 1000;"
        "fetch = lambda: find('owner/name').fetch(ModelMode.TEXT, lambda done, total: print(done, flush=True));"
        "threading.Thread(target=fetch, daemon=True).start();"
        "import signal; signal.signal(signal.SIGTERM, lambda *_: sys.exit(0)); signal.pause()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert process.stdout is not None
    for line in process.stdout:
        if int(line) > 600_000:
            break
    process.send_signal(number)
    process.wait(timeout=PATIENCE)
    process.stdout.close()


def test_a_runner_that_is_asked_to_end_while_it_downloads_ends_well(hub: HubServer, tmp_path: Path) -> None:
    hub.add("owner/name", text_files() | {"model.safetensors": BIG})
    hub.pause_after = 10_000
    command = [sys.executable, "-m", "runner", "--model", "owner/name", "--port", "0"]
    with open(tmp_path / "log", "wb") as log:
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=log)
    while not hub.requests_for("GET", "/storage/owner/name/model.safetensors"):
        assert process.poll() is None
        time.sleep(0.05)
    process.terminate()
    process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    assert "Traceback" not in (tmp_path / "log").read_text()


def test_a_small_file_that_is_cut_comes_whole(hub: HubServer) -> None:
    repo = hub.add("owner/name", text_files())
    hub.faults["config.json"] = [10]
    hub.faults["tokenizer.json"] = [0]
    assert fetched(find("owner/name").fetch(ModelMode.TEXT))["config.json"] == repo.files["config.json"]


def test_a_storage_that_knows_no_ranges_starts_again(hub: HubServer) -> None:
    hub.ranges = False
    hub.add("owner/name", text_files() | {"model.safetensors": BIG})
    hub.faults["model.safetensors"] = [500_000]
    seen: list[tuple[int, int]] = []
    model = find("owner/name").fetch(ModelMode.TEXT, lambda done, total: seen.append((done, total)))
    assert model.shards("")[0].path.read_bytes() == BIG
    assert seen[-1][0] == seen[-1][1]


@pytest.mark.parametrize("extra", [b"", b"too long"])
def test_a_damaged_beginning_is_found_by_its_checksum(hub: HubServer, extra: bytes) -> None:
    hub.add("owner/name", text_files() | {"model.safetensors": BIG})
    folder = cache_folder() / "models--owner--name" / "blobs"
    folder.mkdir(parents=True)
    partial = folder / f"{hashlib.sha256(BIG).hexdigest()}.diptych.incomplete"
    partial.write_bytes(b"\xff" * 1000 if not extra else BIG + extra)
    if extra:  # longer than the file can be: it is started again at once
        assert find("owner/name").fetch(ModelMode.TEXT).shards("")[0].path.read_bytes() == BIG
        return
    with pytest.raises(HubUnreachable, match="arrived damaged"):
        find("owner/name").fetch(ModelMode.TEXT)
    assert find("owner/name").fetch(ModelMode.TEXT).shards("")[0].path.read_bytes() == BIG


# What goes wrong


def failure(name: str, mode: ModelMode = ModelMode.TEXT) -> DiptychError:
    with pytest.raises(DiptychError) as raised:
        find(name).fetch(mode)
    assert len(raised.value.message) < 1200
    return raised.value


def test_a_repo_that_does_not_exist_says_what_to_check(
    hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = failure("owner/absent")
    assert isinstance(error, ModelNotFound)
    assert "owner/absent" in error.message
    assert "hf auth login" in error.message
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert "ask its owner for access" in failure("owner/absent").message


def test_a_revision_that_does_not_exist_is_named(hub: HubServer) -> None:
    hub.add("owner/name", text_files())
    error = failure("owner/name@v9")
    assert isinstance(error, ModelNotFound)
    assert "no revision 'v9'" in error.message


def test_a_gated_repo_says_where_to_accept_its_terms(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add("owner/gated", text_files(), gated=True)
    error = failure("owner/gated")
    assert isinstance(error, NotAllowed)
    assert f"{hub.url}/owner/gated" in error.message
    assert "hf auth login" in error.message
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert "granted access" in failure("owner/gated").message


def test_a_gated_repo_is_gated_for_a_large_file_too(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    repo = hub.add("owner/name", text_files() | {"model.safetensors": BIG})
    shutil.rmtree(find("owner/name").fetch(ModelMode.TEXT).folder.parents[1] / "blobs")
    repo.gated = True
    hub.requests.clear()
    assert isinstance(failure("owner/name"), NotAllowed)
    assert len(hub.requests_for("HEAD", ".safetensors")) <= 1


def test_a_bad_token_is_said_to_be_bad(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_expired")
    hub.add("owner/name", text_files())
    error = failure("owner/name")
    assert isinstance(error, NotAllowed)
    assert "invalid, expired" in error.message
    assert "hf_expired" not in error.message


def test_offline_says_which_variable_forbids_the_network(
    hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add("owner/name", text_files())
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert "HF_HUB_OFFLINE" in failure("owner/name").message
    assert "HF_HUB_OFFLINE" in failure("hf:owner/name").message
    assert hub.requests == []


def test_an_incomplete_copy_offline_says_what_it_lacks(
    hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add("owner/pictures", image_files())
    folder = find("owner/pictures").fetch(ModelMode.IMAGE).folder
    (folder / "vae" / "diffusion_pytorch_model.safetensors").unlink()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert "no weights in vae" in failure("owner/pictures").message


def test_a_hub_that_cannot_be_reached_is_named(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{unused.getsockname()[1]}"
    monkeypatch.setenv("HF_ENDPOINT", address)
    error = failure("owner/name")
    assert isinstance(error, HubUnreachable)
    assert address in error.message
    assert "Errno" not in error.message


@pytest.mark.parametrize("address", ["not a url", "ftp://x", "http://", "http://[::1", "file:///etc"])
def test_an_endpoint_that_is_no_address_is_an_error(
    hub: HubServer, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", address)
    assert isinstance(failure("owner/name"), HubUnreachable)


@pytest.mark.parametrize(
    ("status", "kind"), [(500, HubUnreachable), (503, HubUnreachable), (429, Busy), (200, HubUnreachable)]
)
def test_a_hub_in_trouble_is_to_be_tried_later(hub: HubServer, status: int, kind: type[DiptychError]) -> None:
    hub.status = status
    assert isinstance(failure("owner/name"), kind)


def test_a_disk_that_is_too_small_is_said_before_anything_is_downloaded(
    hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add("owner/name", text_files())
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    error = failure("owner/name")
    assert isinstance(error, NotEnoughDisk)
    assert "1,000 are free" in error.message
    assert not hub.requests_for("GET", "model.safetensors")


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOSPC, NotEnoughDisk),
        (errno.EDQUOT, NotEnoughDisk),
        (errno.EFBIG, ModelNotSupported),
        (errno.EROFS, ModelNotSupported),
    ],
)
def test_a_disk_that_takes_no_more_on_the_way_says_so(
    hub: HubServer, monkeypatch: pytest.MonkeyPatch, number: int, kind: type[DiptychError]
) -> None:
    hub.add("owner/name", text_files() | {"model.safetensors": BIG})

    class Full(io.BytesIO):
        def write(self, data: Any) -> int:
            raise OSError(number, os.strerror(number))

    monkeypatch.setattr(hub_download, "open", lambda path, mode: Full(), raising=False)
    error = failure("owner/name")
    assert isinstance(error, kind)
    assert str(cache_folder()) in error.message
    assert "cannot be reached" not in error.message
    assert "Errno" not in error.message


def test_a_cache_that_cannot_be_written_is_named(
    hub: HubServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    hub.add("owner/name", text_files())
    (tmp_path / "a file").write_bytes(b"")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "a file"))
    error = failure("owner/name")
    assert isinstance(error, ModelNotSupported)
    assert "set HF_HOME" in error.message


def test_a_repo_of_pickles_is_refused_before_the_download(hub: HubServer) -> None:
    files = text_files()
    del files["model.safetensors"]
    hub.add("owner/name", files)
    assert "can carry code" in failure("owner/name").message
    assert not hub.requests_for("GET", ".bin")


def test_an_index_that_names_a_shard_the_repo_lacks_is_refused_before_the_download(hub: HubServer) -> None:
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    extra = {"model.safetensors.index.json": index, "model-00001-of-00002.safetensors": safetensors(WEIGHTS)}
    hub.add("owner/name", text_files() | extra)
    assert "model-00002-of-00002.safetensors" in failure("owner/name").message
    assert not hub.requests_for("GET", ".safetensors")


@pytest.mark.parametrize("content", ["", "not a commit", "../../../etc", "a" * 39, "\0", "A" * 40])
def test_a_damaged_ref_in_the_cache_is_no_copy(hub: HubServer, content: str) -> None:
    repo = hub.add("owner/name", text_files())
    find("owner/name").fetch(ModelMode.TEXT)
    ref = cache_folder() / "models--owner--name" / "refs" / "main"
    ref.write_text(content)
    find("owner/name").fetch(ModelMode.TEXT)
    assert ref.read_text() == repo.commit


@pytest.mark.parametrize(
    ("variables", "folder"),
    [
        ({"HF_HUB_CACHE": "/a", "HF_HOME": "/b"}, "/a"),
        ({"HF_HUB_CACHE": "", "HF_HOME": "/b"}, "/b/hub"),
        ({"HUGGINGFACE_HUB_CACHE": "/c", "HF_HOME": "/b"}, "/c"),
        ({"HF_HOME": "$HOME/x"}, "/h/x/hub"),
        ({"XDG_CACHE_HOME": "/x"}, "/x/huggingface/hub"),
        ({}, "/h/.cache/huggingface/hub"),
    ],
)
def test_the_cache_is_where_the_hubs_client_has_it(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], folder: str
) -> None:
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in ({"HOME": "/h"} | variables).items():
        monkeypatch.setenv(name, value)
    assert cache_folder() == Path(folder)
