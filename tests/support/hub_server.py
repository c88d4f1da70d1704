"""A local server that speaks the hub's protocol, for tests with the real clients (huggingface_hub, datasets).

    with HubServer() as hub:
        commit = hub.add("someone/mimi", {"model.safetensors": b"..."})
        subprocess.run(..., env={**os.environ, **hub.environment(home)})

It serves repositories of models and data sets (`resolve`, `revision`, `tree`, `paths-info`), large files by a redirect
to another host as the hub does for LFS, and bare files by URL. With a token it takes new repositories and commits.
`hub.faults` makes it misbehave. `hub.requests` is what it was asked for.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

LARGE = (".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".th", ".onnx", ".parquet", ".tar", ".wav", ".flac")


@dataclass(frozen=True)
class Fault:
    """How the server fails, on paths that end as told.

    Attributes:
        status: answered instead of the file.
        delay: seconds before every answer.
        cut: the share of the body that is sent before the connection closes.
        size: what is claimed in the head, where that is not the truth.
    """

    status: int | None = None
    delay: float = 0.0
    cut: float | None = None
    size: int | None = None


@dataclass(frozen=True)
class Repository:
    """One repository: its files by commit, and which commit each branch stands at."""

    kind: str  # "models" or "datasets"
    name: str
    gated: bool
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)


class HubServer:
    """The server, in a thread of its own; a context."""

    def __init__(self) -> None:
        self.repositories: dict[tuple[str, str], Repository] = {}
        self.files: dict[str, bytes] = {}  # by the path of their URL
        self.faults: dict[str, Fault] = {}  # by the end of a path
        self.requests: list[tuple[str, str]] = []  # method and path
        self.stopped = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": self}))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self) -> HubServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopped.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    @property
    def large_file_url(self) -> str:
        """Where large files lie: another host, as far as a client can tell."""
        return f"http://localhost:{self._server.server_port}"

    def add(
        self,
        name: str,
        files: Mapping[str, bytes],
        *,
        kind: str = "models",
        branch: str = "main",
        gated: bool = False,
        commit: str | None = None,
    ) -> str:
        """Commit `files` as the whole content of a repository's branch; gives its `commit` (by default a new
        name)."""
        repository = self.repositories.setdefault((kind, name), Repository(kind, name, gated))
        commit = commit or hashlib.sha1(repr((sorted(files.items()), len(repository.commits))).encode()).hexdigest()
        repository.commits[commit] = dict(files)
        repository.branches[branch] = commit
        for path, content in files.items():
            if path.endswith(LARGE):
                self.files[f"/large/{hashlib.sha256(content).hexdigest()}"] = content
        return commit

    def environment(self, home: Path | str, **more: str) -> dict[str, str]:
        """Environment variables under which the clients use this server, and `home` as their cache."""
        return {
            "HF_ENDPOINT": self.url,
            "HF_HOME": str(home),
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "NO_PROXY": "127.0.0.1,localhost",
            "no_proxy": "127.0.0.1,localhost",
            **more,
        }

    @contextlib.contextmanager
    def failing(self, path: str, fault: Fault) -> Iterator[None]:
        """For the time of a block, `fault` on paths that end in `path`."""
        self.faults[path] = fault
        try:
            yield
        finally:
            del self.faults[path]


class _Handler(BaseHTTPRequestHandler):
    hub: HubServer
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: `hub.requests` holds it."""

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def _answer(self) -> None:
        target = urlsplit(self.path)
        path = unquote(target.path)
        self.hub.requests.append((self.command, path))
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fault = next((f for end, f in self.hub.faults.items() if path.endswith(end)), Fault())
        if fault.delay and self.hub.stopped.wait(fault.delay):
            self.close_connection = True
            return
        if fault.status is not None:
            self._error(fault.status, "", "it is meant to fail")
        elif path in self.hub.files:
            content = self.hub.files[path]
            self._file(content, {"ETag": f'"{hashlib.sha256(content).hexdigest()}"'}, fault)
        elif path.startswith("/api/"):
            self._api(path.removeprefix("/api/"), target.query, body)
        elif "/resolve/" in path:
            self._resolve(path, fault)
        else:
            self._error(404, "", "no such page")

    # -- files of repositories ------------------------------------------------------------------

    def _resolve(self, path: str, fault: Fault) -> None:
        kind = "datasets" if path.startswith("/datasets/") else "models"
        name, _, rest = path.lstrip("/").removeprefix("datasets/").partition("/resolve/")
        revision, _, file = rest.partition("/")
        found = self._find(kind, name, revision)
        if found is None:
            return
        commit, files = found
        if file not in files:
            self._error(404, "EntryNotFound", "Entry not found", {"X-Repo-Commit": commit})
            return
        content = files[file]
        if not file.endswith(LARGE):
            self._file(content, {"X-Repo-Commit": commit, "ETag": f'"{_git_hash(content)}"'}, fault)
            return
        digest = hashlib.sha256(content).hexdigest()
        self._send(
            302,
            b"",
            {
                "Location": f"{self.hub.large_file_url}/large/{digest}",
                "X-Repo-Commit": commit,
                "X-Linked-ETag": f'"{digest}"',
                "X-Linked-Size": str(len(content) if fault.size is None else fault.size),
            },
        )

    def _find(self, kind: str, name: str, revision: str) -> tuple[str, dict[str, bytes]] | None:
        """The commit and files of a revision; None once an error has been answered."""
        repository = self.hub.repositories.get((kind, name))
        if repository is None:
            self._error(401, "RepoNotFound", "Repository not found")
            return None
        if repository.gated and "Authorization" not in self.headers:
            self._error(401, "GatedRepo", f"Access to {name} is restricted")
            return None
        commit = repository.branches.get(revision, revision)
        if commit not in repository.commits:
            self._error(404, "RevisionNotFound", f"Invalid rev id: {revision}")
            return None
        return commit, repository.commits[commit]

    # -- what repositories hold -----------------------------------------------------------------

    def _api(self, path: str, query: str, body: bytes) -> None:
        if path in ("repos/create", "validate-yaml"):
            self._prepare(path, json.loads(body))
            return
        kind, _, rest = path.partition("/")
        name = next((n for k, n in self.hub.repositories if k == kind and f"{rest}/".startswith(f"{n}/")), None)
        if name is None:
            self._error(401 if kind in ("models", "datasets") else 404, "RepoNotFound", "Repository not found")
            return
        action, _, place = rest.removeprefix(name).strip("/").partition("/")
        revision, _, folder = place.partition("/")
        found = self._find(kind, name, revision or "main")
        if found is None:
            return
        commit, files = found
        if action in ("", "revision"):
            self._json(_description(name, commit, files))
        elif action == "tree":
            deep = parse_qs(query).get("recursive", ["false"])[0].lower() in ("true", "1")
            self._json(_tree(files, folder, deep), {"X-Repo-Commit": commit})
        elif action == "preupload":  # whole in the commit, whatever their size
            asked = json.loads(body)["files"]
            self._json({"files": [{"path": e["path"], "uploadMode": "regular", "shouldIgnore": False} for e in asked]})
        elif action == "commit":
            self._commit(kind, name, revision, files, body)
        elif action == "paths-info":
            wanted = json.loads(body) if body[:1] == b"{" else parse_qs(body.decode())
            everything = {entry["path"]: entry for entry in _tree(files, "", True)}
            self._json([everything[path] for path in wanted["paths"] if path in everything])
        else:
            self._error(404, "", "no such page")

    # -- what is written ------------------------------------------------------------------------

    def _prepare(self, path: str, asked: dict[str, Any]) -> None:
        if "Authorization" not in self.headers:
            self._error(401, "", "Invalid username or password.")
        elif path == "validate-yaml":
            self._json({"errors": [], "warnings": []})
        else:
            name = f"{asked['organization']}/{asked['name']}" if asked.get("organization") else asked["name"]
            if ("models", name) not in self.hub.repositories:
                self.hub.add(name, {})
            self._json({"url": f"{self.hub.url}/{name}", "id": name, "name": name})

    def _commit(self, kind: str, name: str, branch: str, files: Mapping[str, bytes], body: bytes) -> None:
        if "Authorization" not in self.headers:
            self._error(401, "", "Invalid username or password.")
            return
        lines = [json.loads(line) for line in body.splitlines()]
        added = {e["value"]["path"]: base64.b64decode(e["value"]["content"]) for e in lines if e["key"] == "file"}
        commit = self.hub.add(name, {**files, **added}, kind=kind, branch=branch)
        url = f"{self.hub.url}/{name}/commit/{commit}"
        self._json({"success": True, "commitOid": commit, "commitUrl": url})

    # -- sending --------------------------------------------------------------------------------

    def _file(self, content: bytes, headers: dict[str, str], fault: Fault) -> None:
        """A file, or the range of it that is asked for; cut off where a fault says so."""
        start, end = 0, len(content)
        status, headers = 200, {"Accept-Ranges": "bytes", **headers}
        asked = self.headers.get("Range")
        if asked is not None:
            first, _, last = asked.removeprefix("bytes=").partition("-")
            start, end = (int(first), int(last) + 1 if last else end) if first else (end - int(last), end)
            status, headers["Content-Range"] = 206, f"bytes {start}-{end - 1}/{len(content)}"
        limit = len(content) if fault.cut is None else int(fault.cut * len(content))
        self._send(status, content[start : min(end, limit)], headers, claimed=end - start)

    def _json(self, value: Any, headers: dict[str, str] | None = None) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json", **(headers or {})})

    def _error(self, status: int, code: str, message: str, headers: dict[str, str] | None = None) -> None:
        self._send(status, b"", {"X-Error-Code": code, "X-Error-Message": message, **(headers or {})})

    def _send(self, status: int, content: bytes, headers: dict[str, str], claimed: int | None = None) -> None:
        claimed = len(content) if claimed is None else claimed
        self.send_response(status)
        for name, value in {"Content-Length": str(claimed), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            with contextlib.suppress(ConnectionError):  # a client that waits no longer
                self.wfile.write(content)
            self.close_connection = len(content) < claimed


def _git_hash(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _description(name: str, commit: str, files: Mapping[str, bytes]) -> dict[str, Any]:
    return {
        "id": name,
        "sha": commit,
        "private": False,
        "gated": False,
        "disabled": False,
        "downloads": 0,
        "likes": 0,
        "tags": [],
        "lastModified": "2024-01-01T00:00:00.000Z",
        "createdAt": "2024-01-01T00:00:00.000Z",
        "siblings": [{"rfilename": path} for path in sorted(files)],
    }


def _tree(files: Mapping[str, bytes], folder: str, deep: bool) -> list[dict[str, Any]]:
    """The files and folders below `folder`."""
    entries: dict[str, dict[str, Any]] = {}
    for path, content in sorted(files.items()):
        if folder and not path.startswith(f"{folder}/"):
            continue
        parents = [str(p) for p in reversed(PurePosixPath(path).parents) if str(p) not in (".", folder)]
        parents = [parent for parent in parents if len(parent) > len(folder)]
        for parent in parents if deep else parents[:1]:
            entries[parent] = {"type": "directory", "path": parent, "oid": _git_hash(parent.encode()), "size": 0}
        if deep or not parents:
            entry = {"type": "file", "path": path, "oid": _git_hash(content), "size": len(content)}
            if path.endswith(LARGE):
                digest = hashlib.sha256(content).hexdigest()
                entry["lfs"] = {"oid": digest, "size": len(content), "pointerSize": 134}
            entries[path] = entry
    return list(entries.values())
