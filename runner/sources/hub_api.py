"""A hub repo that is not on this machine yet: its listing, its JSON, and its download."""

import shutil
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ClassVar

import httpx2
from huggingface_hub import HfApi, get_session, hf_hub_download, hf_hub_url
from huggingface_hub.utils import build_hf_headers, disable_progress_bars, hf_raise_for_status

from models.checkpoint.safetensors import TensorInfo, WeightsError, header_length, parse_header
from models.files import LocalModel, read_regular
from runner.errors import HubUnreachable, ModelNotSupported, NotEnoughDisk
from runner.sources import hub_download
from runner.sources.base import JSON_LIMIT, ModelFiles, ModelMode, Progress, is_plain_path
from runner.sources.hub import SnapshotFiles, cache_folder, offline, offline_error, repo_folder
from runner.sources.hub_errors import endpoint, explained
from runner.sources.name import HubName, Source
from runner.sources.required_files import required_files, weight_files

TIMEOUT = 10.0
WORKERS = 4
# Files of at least this size are resumed where they stopped.
LARGE = 8 * 1024**2
# Most safetensors headers are smaller than this.
HEADER_GUESS = 128 * 1024
WEIGHTS = (".safetensors", ".gguf")
# Bytes left free on the disk.
SPARE = 256 * 1024**2


class RemoteFiles(ModelFiles):
    """One commit of a hub repo, through the hub's API. A file is downloaded when it is read."""

    source: ClassVar[Source] = "hub"

    def __init__(self, hub: HubName) -> None:
        super().__init__(str(hub))
        self.hub = hub
        self.commit, self._sizes = _look_up(hub)
        self._weights: dict[str, tuple[str, ...]] = {}

    @property
    def place(self) -> str:
        return f"hub repo {self.name}"

    @property
    def snapshot(self) -> Path:
        return repo_folder(self.hub) / "snapshots" / self.commit

    def listing(self) -> Mapping[str, int]:
        return self._sizes

    def _read(self, path: str) -> bytes:
        with explained(self.hub):
            self._download(path)
        return read_regular(self.snapshot / path, JSON_LIMIT)

    def weights(self, component: str) -> tuple[str, ...]:
        if component not in self._weights:
            self._weights[component] = weight_files(self, component)
        return self._weights[component]

    def tensors(self, component: str) -> dict[str, TensorInfo]:
        tensors: dict[str, TensorInfo] = {}
        with explained(self.hub), ThreadPoolExecutor(WORKERS) as pool:
            for in_file in pool.map(self._header, self.weights(component)):
                tensors |= in_file
        return tensors

    def _header(self, path: str) -> Mapping[str, TensorInfo]:
        """A safetensors header by range requests, without downloading the file."""
        size, label = self._sizes[path], f"{path} in {self.place}"
        raw = self.read_range(path, 0, min(HEADER_GUESS, size))
        try:
            end = 8 + header_length(raw[:8], size, label)
            if end > len(raw):
                raw = self.read_range(path, 0, end)
            return parse_header(raw[8:end], size - end, label).tensors
        except WeightsError as error:
            raise ModelNotSupported(str(error)) from error

    def read_range(self, path: str, start: int, end: int) -> bytes:
        """Bytes of a file, fewer if it ends before."""
        headers = build_hf_headers() | {"Range": f"bytes={start}-{end - 1}", "Accept-Encoding": "identity"}
        raw = b""
        with get_session().stream(
            "GET", self._url(path), headers=headers, timeout=TIMEOUT, follow_redirects=True
        ) as response:
            hf_raise_for_status(response)
            skipped = (
                0 if response.status_code == 206 else start
            )  # a server that ignores ranges sends the whole file
            for chunk in response.iter_raw():
                raw += chunk
                if len(raw) >= skipped + end - start:
                    break
        return raw[skipped : skipped + end - start]

    def fetch(self, mode: ModelMode, progress: Progress | None = None) -> LocalModel:
        self.download(required_files(self, mode), progress)
        return SnapshotFiles(self.hub, self.snapshot).fetch(mode)

    def download(self, paths: tuple[str, ...], progress: Progress | None = None) -> None:
        meter = _Meter(sum(self._sizes[path] for path in paths), progress)
        self._check_disk(paths)
        texts = [path for path in paths if not path.endswith(WEIGHTS)]
        # Weights last: then a copy that has them has everything, wherever a download was cut.
        with explained(self.hub):
            self._download_all(texts, meter)
            self._download_all([path for path in paths if path not in set(texts)], meter)
            self._write_ref()

    def _check_disk(self, paths: tuple[str, ...]) -> None:
        missing = sum(self._sizes[path] for path in paths if not (self.snapshot / path).exists())
        if not missing:
            return
        with explained(self.hub):
            cache_folder().mkdir(parents=True, exist_ok=True)
            free = shutil.disk_usage(cache_folder()).free
        partial = sum(
            file.stat().st_size for file in repo_folder(self.hub).glob("blobs/*.diptych.incomplete")
        )
        if missing - partial + SPARE > free:
            raise NotEnoughDisk(
                f"{self.name} needs {missing - partial:,} more bytes in {cache_folder()}, where {free:,} are free; "
                "make room, or set HF_HOME to another disk"
            )

    def _download_all(self, paths: list[str], meter: "_Meter") -> None:
        """A few files at a time; the first failure stops the others at their next bytes. The threads are daemons, so that
        a process can exit without waiting for gigabytes."""
        queue = deque(paths)
        failures: list[Exception] = []

        def work() -> None:
            while not failures:
                try:
                    self._download_one(queue.popleft(), meter)
                except IndexError:
                    return  # the queue is empty
                except Exception as error:
                    failures.append(error)
                    meter.stop()

        threads = [threading.Thread(target=work, name="download", daemon=True) for _ in paths[:WORKERS]]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if failures:
            raise failures[0]

    def _download_one(self, path: str, meter: "_Meter") -> None:
        counter = meter.file(self._sizes[path])
        if not (self.snapshot / path).exists():
            if self._sizes[path] >= LARGE:
                hub_download.download_blob(self._url(path), repo_folder(self.hub), counter.add)
            self._download(path)
        counter.finish()

    def _download(self, path: str) -> None:
        """With the hub client, which links the file into its cache. Retried here, because the client does not retry a
        connection that was reset."""
        if offline():
            raise offline_error(self.hub)
        disable_progress_bars()
        for failures in range(hub_download.TRIES):
            try:
                hf_hub_download(
                    self.hub.repo, path, revision=self.commit, cache_dir=cache_folder(), endpoint=endpoint()
                )
                return
            except httpx2.TransportError:
                if failures + 1 == hub_download.TRIES:
                    raise
                time.sleep(hub_download.PAUSE * 2**failures)

    def _url(self, path: str) -> str:
        return hf_hub_url(self.hub.repo, path, revision=self.commit, endpoint=endpoint())

    def _write_ref(self) -> None:
        """Record the commit of the branch or tag. Written last, so that the commit is complete."""
        if self.hub.revision == self.commit:
            return
        ref = repo_folder(self.hub) / "refs" / self.hub.revision
        ref.parent.mkdir(parents=True, exist_ok=True)
        fresh = ref.with_name(f"{ref.name}.{threading.get_ident()}.tmp")
        fresh.write_text(self.commit)
        fresh.replace(ref)


def _look_up(hub: HubName) -> tuple[str, dict[str, int]]:
    """The current commit of the revision, and its files."""
    if offline():
        raise offline_error(hub)
    with explained(hub):
        try:
            info = HfApi(endpoint=endpoint()).model_info(
                hub.repo, revision=hub.revision, files_metadata=True, timeout=TIMEOUT
            )
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            if isinstance(error, OSError | httpx2.HTTPError):
                raise  # some of the client's own errors are ValueErrors
            raise HubUnreachable(f"{endpoint()} does not respond like a hub for {hub}: {error}") from error
    files = {file.rfilename: file.size or 0 for file in info.siblings or () if is_plain_path(file.rfilename)}
    if not info.sha:
        raise HubUnreachable(f"{endpoint()} does not respond like a hub for {hub}: it names no commit")
    return info.sha, files


class _Meter:
    """Bytes done of the total, counted by several threads."""

    def __init__(self, total: int, progress: Progress | None) -> None:
        self.total = total
        self.done = 0
        self._progress: Callable[[int, int], None] = progress or (lambda done, total: None)
        self._lock = threading.Lock()
        self._stopped = False

    def add(self, count: int) -> None:
        with self._lock:
            if self._stopped:
                raise HubUnreachable("the download was stopped because another file failed")
            self.done += count
            self._progress(self.done, self.total)

    def stop(self) -> None:
        self._stopped = True

    def file(self, size: int) -> "_FileMeter":
        return _FileMeter(self, size)


class _FileMeter:
    """One file's part of the meter."""

    def __init__(self, meter: _Meter, size: int) -> None:
        self.meter = meter
        self.size = size
        self.done = 0

    def add(self, count: int) -> None:
        self.done += count
        self.meter.add(count)

    def finish(self) -> None:
        """Count the bytes that were on this machine already, or that the hub client downloaded."""
        self.add(self.size - self.done)
