"""A hub on this machine: enough of the hub's HTTP protocol for the real client, and the ways in which it fails.

    with HubServer() as hub:
        hub.add("owner/name", {"config.json": b"{}", "model.safetensors": weights})
        os.environ["HF_ENDPOINT"] = hub.url

Files that end in .safetensors are large files: the hub redirects to its storage, which is another origin and gets no
token. `faults` says what goes wrong with a path: a number cuts the answer after so many bytes, once each.
`pause_after` lets a long answer stop flowing.
"""

import hashlib
import json
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

TOKEN = "hf_a_good_token"


@dataclass
class Repo:
    files: dict[str, bytes]
    commit: str
    gated: bool = False
    private: bool = False
    tags: list[str] = field(default_factory=list)
    task: str = ""
    revisions: set[str] = field(default_factory=lambda: {"main"})


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    headers: Mapping[str, str]

    @property
    def start(self) -> int | None:
        range_header = self.headers.get("range")
        return int(range_header.removeprefix("bytes=").split("-")[0]) if range_header else None


class HubServer:
    """`url` is the hub; `requests` what it was asked, in order; `faults` what to do wrong."""

    def __init__(self) -> None:
        self.repos: dict[str, Repo] = {}
        self.requests: list[Request] = []
        self.faults: dict[str, list[int]] = {}
        self.status: int | None = None
        self.ranges = True
        self.pause_after: int | None = None  # a large file stops flowing here, until this is None again
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{port}"
        # The same server by another name is another origin, as the hub's storage is.
        self.storage = f"http://localhost:{port}"

    def __enter__(self) -> "HubServer":
        threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        ).start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.pause_after = None
        self._server.shutdown()
        self._server.server_close()

    def add(self, name: str, files: Mapping[str, Any], **flags: Any) -> Repo:
        """A repo; what is not bytes becomes JSON."""
        content = {
            path: value if isinstance(value, bytes) else json.dumps(value).encode()
            for path, value in files.items()
        }
        commit = hashlib.sha1(repr((name, sorted(content.items()))).encode()).hexdigest()
        repo = self.repos[name] = Repo(content, commit, **flags)
        return repo

    def requests_for(self, method: str, ending: str) -> list[Request]:
        """The requests of that method whose path ends so."""
        return [
            request for request in self.requests if request.method == method and request.path.endswith(ending)
        ]

    def next_fault(self, path: str) -> int | None:
        with self._lock:
            waiting = self.faults.get(path)
            return waiting.pop(0) if waiting else None

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        hub = self

        class Handler(_Handler):
            server_state = hub

        return Handler


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_state: HubServer

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        hub, path = self.server_state, unquote(urlsplit(self.path).path)
        headers = {name.lower(): value for name, value in self.headers.items()}
        hub.requests.append(Request(self.command, path, headers))
        if hub.status is not None:
            self._send(hub.status, b"out of order")
        elif path == "/api/models":
            self._search(dict(parse_qsl(urlsplit(self.path).query)))
        elif path.startswith("/api/models/"):
            self._info(path.removeprefix("/api/models/"))
        elif path.startswith("/storage/"):
            self._file(path.removeprefix("/storage/"), {})
        else:
            name, _, rest = path.strip("/").partition("/resolve/")
            self._resolve(name, *rest.partition("/")[::2])

    def _search(self, query: dict[str, str]) -> None:
        text, task = query.get("search", "").lower(), query.get("pipeline_tag")
        found = [
            {
                "id": name,
                "tags": repo.tags,
                "pipeline_tag": repo.task,
                "downloads": 5,
                "likes": 1,
                "gated": repo.gated and "auto",
            }
            for name, repo in self.server_state.repos.items()
            if text in name.lower() and task in (None, repo.task)
        ]
        self._json(200, found[: int(query.get("limit", "100"))])

    def _info(self, rest: str) -> None:
        if "/tree/" in rest:
            self._tree(*rest.split("/tree/"))
            return
        name, _, revision = rest.partition("/revision/")
        repo = self._repo(name, revision or "main")
        if repo is None:
            return
        siblings = [self._sibling(path, content) for path, content in repo.files.items()]
        self._json(
            200,
            {"id": name, "modelId": name, "sha": repo.commit, "siblings": siblings, "private": repo.private},
        )

    def _tree(self, name: str, revision: str) -> None:
        repo = self._repo(name, revision)
        if repo is not None:
            siblings = [self._sibling(path, content) for path, content in repo.files.items()]
            renamed = [
                {"type": "file", "path": s.pop("rfilename"), "oid": s.pop("blobId"), **s} for s in siblings
            ]
            for entry in renamed:
                if "lfs" in entry:
                    entry["lfs"]["oid"] = entry["lfs"].pop("sha256")
            self._json(200, renamed)

    @staticmethod
    def _sibling(path: str, content: bytes) -> dict[str, Any]:
        entry: dict[str, Any] = {
            "rfilename": path,
            "size": len(content),
            "blobId": hashlib.sha1(content).hexdigest(),
        }
        if path.endswith(".safetensors"):
            digest = hashlib.sha256(content).hexdigest()
            entry["lfs"] = {"sha256": digest, "size": len(content), "pointerSize": 134}
        return entry

    def _resolve(self, name: str, revision: str, path: str) -> None:
        repo = self._repo(name, revision, read=True)
        if repo is None:
            return
        content = repo.files.get(path)
        if content is None:
            self._refuse(404, "EntryNotFound", "Entry not found", {"X-Repo-Commit": repo.commit})
        elif path.endswith(".safetensors"):
            digest = hashlib.sha256(content).hexdigest()
            location = f"{self.server_state.storage}/storage/{name}/{path}"
            linked = {
                "X-Linked-Etag": f'"{digest}"',
                "X-Linked-Size": str(len(content)),
                "Location": location,
            }
            self._send(302, b"elsewhere", linked | {"X-Repo-Commit": repo.commit, "ETag": f'"{repo.commit}"'})
        else:
            etag = f'"{hashlib.sha1(content).hexdigest()}"'
            self._file(f"{name}/{path}", {"ETag": etag, "X-Repo-Commit": repo.commit})

    def _repo(self, name: str, revision: str, read: bool = False) -> Repo | None:
        """The repo, or None after the hub's own kind of refusal."""
        token = self.headers.get("authorization", "").removeprefix("Bearer ")
        repo = self.server_state.repos.get(name)
        if token and token != TOKEN:
            self._refuse(401, "", "Invalid credentials in Authorization header")
        elif repo is None or (repo.private and not token):
            self._refuse(404 if token else 401, "RepoNotFound", "Repository not found")
        elif revision not in repo.revisions | {repo.commit}:
            self._refuse(404, "RevisionNotFound", "Invalid rev id")
        elif read and repo.gated and token:
            self._refuse(403, "GatedRepo", "Access to this model is restricted")
        elif read and repo.gated:
            self._refuse(401, "GatedRepo", "Access to this model is restricted, log in")
        else:
            return repo
        return None

    def _file(self, name_and_path: str, headers: dict[str, str]) -> None:
        owner, name, path = name_and_path.split("/", 2)
        content = self.server_state.repos[f"{owner}/{name}"].files[path]
        total, range_header = len(content), self.headers.get("range")
        status = 200
        if range_header and self.server_state.ranges:
            start, _, end = range_header.removeprefix("bytes=").partition("-")
            content = content[int(start) : int(end) + 1 if end else None]
            headers |= {"Content-Range": f"bytes {start}-{int(start) + len(content) - 1}/{total}"}
            status = 206
        cut = self.server_state.next_fault(path) if self.command == "GET" else None
        self._send(status, content, headers | {"Accept-Ranges": "bytes"}, cut)

    def _dawdle(self, content: bytes, pause: int) -> None:
        self.wfile.write(content[:pause])
        while self.server_state.pause_after is not None:
            time.sleep(0.02)
        self.close_connection = True

    def _refuse(self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> None:
        self._send(
            status, message.encode(), {"X-Error-Code": code, "X-Error-Message": message} | dict(headers or {})
        )

    def _json(self, status: int, content: Any) -> None:
        self._send(status, json.dumps(content).encode(), {"Content-Type": "application/json"})

    def _send(
        self, status: int, content: bytes, headers: Mapping[str, str] | None = None, cut: int | None = None
    ) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "HEAD":
            return
        pause = self.server_state.pause_after
        if pause is not None and len(content) > pause:
            self._dawdle(content, pause)
        elif cut is None:
            self.wfile.write(content)
        else:
            self.wfile.write(content[:cut])
            self.close_connection = True
