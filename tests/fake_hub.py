"""A hub on loopback: the few endpoints of huggingface.co that `datasets` and huggingface_hub ask when they fetch a data set, and
those that huggingface_hub asks when it pushes a model: as a hub without Xet has them, with LFS.
"""

import base64
import hashlib
import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

COMMIT = "c0ffee" * 6 + "c0ff"


@dataclass
class FakeHub:
    """Repositories by "owner/name", each with its files. `asked` is (method, path, token) of every request.

    What is pushed: `writer` is the token that may. `private` are repositories, `stored` large files by their hash, `commits`
    (repository, message, names of what is added and taken away). `cuts` is how many uploads break off in the middle, and
    `answers` are statuses that are given in a request's place, by the end of its path.
    """

    url: str = ""
    repositories: dict[str, dict[str, bytes]] = field(default_factory=dict)
    asked: list[tuple[str, str, str | None]] = field(default_factory=list)
    writer: str = "hf_writer"
    private: set[str] = field(default_factory=set)
    stored: dict[str, bytes] = field(default_factory=dict)
    commits: list[tuple[str, str, list[str]]] = field(default_factory=list)
    cuts: int = 0
    answers: dict[str, int] = field(default_factory=dict)

    def add(self, name: str, **files: str) -> None:
        self.repositories[name] = {file.replace("__", "."): content.encode() for file, content in files.items()}

    @property
    def uploads(self) -> list[str]:
        """The hashes of the large files that were sent to their end, in order."""
        return [path.rpartition("/")[2] for method, path, _ in self.asked if method == "PUT" and not path.startswith("cut ")]


@contextmanager
def fake_hub() -> Iterator[FakeHub]:
    hub = FakeHub()

    class Handler(_Handler):
        repositories = hub.repositories
        asked = hub.asked
        pushed_to = hub

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    repositories: dict[str, dict[str, bytes]]
    asked: list[tuple[str, str, str | None]]
    pushed_to: FakeHub
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        parts = unquote(urlsplit(self.path).path).strip("/").split("/")
        push = self._push(parts)
        if push is None:
            self._answer(body)
            return
        self.asked.append(("POST", self.path, self.headers.get("Authorization")))
        status = next((status for end, status in self.pushed_to.answers.items() if self.path.endswith(end)), None)
        if status is not None:
            self._send(status, b'{"error": "so it was told"}')
        elif self.headers.get("Authorization") != f"Bearer {self.pushed_to.writer}":
            self._send(401, b'{"error": "Invalid username or password."}')
        else:
            push(parts, body)

    def do_PUT(self) -> None:
        """One large file, which only the right to upload it is needed for."""
        oid, size = self.path.rpartition("/")[2], int(self.headers["Content-Length"])
        if self.pushed_to.cuts:
            self.pushed_to.cuts -= 1
            self.rfile.read(size // 2)
            self.asked.append(("PUT", f"cut {self.path}", None))
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
            return
        content = self.rfile.read(size)
        self.asked.append(("PUT", self.path, self.headers.get("Authorization")))
        assert hashlib.sha256(content).hexdigest() == oid, "the client said another hash"
        self.pushed_to.stored[oid] = content
        self._send(200, b"")

    def log_message(self, format: str, *arguments: object) -> None:
        pass

    def _answer(self, body: str = "") -> None:
        self.asked.append((self.command, self.path, self.headers.get("Authorization")))
        parts = unquote(urlsplit(self.path).path).strip("/").split("/")
        if parts[0] == "api":
            self._api(parts[2:], body)
        elif parts[0] == "datasets" and len(parts) > 4 and parts[3] == "resolve":
            self._file("/".join(parts[1:3]), "/".join(parts[5:]))
        else:
            self._send(404, b"{}")

    def _api(self, parts: list[str], body: str) -> None:
        name, rest = "/".join(parts[:2]), parts[2:]
        files = self.repositories.get(name)
        if files is None:
            self._send(401, b'{"error": "Invalid username or password."}', {"X-Error-Code": "RepoNotFound"})
        elif not rest or rest[0] == "revision":
            siblings = [{"rfilename": file} for file in files]
            self._json({"id": name, "sha": COMMIT, "siblings": siblings, "private": False, "tags": [], "downloads": 0})
        elif rest[0] == "paths-info":
            wanted = parse_qs(body).get("paths") or json.loads(body)["paths"] if body else []
            self._json([entry for path in wanted for entry in _at(files, path)])
        elif rest[0] == "tree":
            self._json(_listing(files, "/".join(rest[2:]), "recursive=True" in self.path))
        else:
            self._send(404, b"{}")

    def _push(self, parts: list[str]) -> Callable[[list[str], str], None] | None:
        if parts == ["api", "repos", "create"]:
            return self._create
        if parts == ["api", "validate-yaml"]:
            return lambda parts, body: self._json({"errors": [], "warnings": []})
        if parts[-2:] == ["objects", "batch"]:
            return self._batch
        return {"preupload": self._preupload, "commit": self._commit}.get(parts[4] if len(parts) == 6 else "")

    def _create(self, parts: list[str], body: str) -> None:
        asked = json.loads(body)
        name = f"{asked['organization']}/{asked['name']}"
        url = {"url": f"{self.pushed_to.url}/{name}"}
        if name in self.repositories:
            self._send(409, json.dumps(url | {"error": "You already created this model repo"}).encode())
            return
        self.repositories[name] = {}
        if asked.get("visibility") == "private":
            self.pushed_to.private.add(name)
        self._json(url)

    def _preupload(self, parts: list[str], body: str) -> None:
        there = self.repositories["/".join(parts[2:4])]
        told = []
        for file in json.loads(body)["files"]:
            mode = "lfs" if file["path"].endswith((".safetensors", ".bin")) else "regular"
            oid = _oid(there[file["path"]], mode) if file["path"] in there else None
            told.append({"path": file["path"], "uploadMode": mode, "shouldIgnore": False, "oid": oid})
        self._json({"files": told})

    def _batch(self, parts: list[str], body: str) -> None:
        told = []
        for one in json.loads(body)["objects"]:
            upload = {"upload": {"href": f"{self.pushed_to.url}/lfs/{one['oid']}"}}
            told.append({**one, **({} if one["oid"] in self.pushed_to.stored else {"actions": upload})})
        self._json({"objects": told, "transfer": "basic"})

    def _commit(self, parts: list[str], body: str) -> None:
        name, message, changed = "/".join(parts[2:4]), "", []
        files = self.repositories[name]
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "header":
                message = value["summary"]
                continue
            changed.append(value["path"])
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.pushed_to.stored[value["oid"]]
            else:
                changed[-1] = f"-{value['path']}"
                del files[value["path"]]
        self.pushed_to.commits.append((name, message, sorted(changed)))
        self._json({"commitUrl": f"{self.pushed_to.url}/{name}/commit/{COMMIT}", "commitOid": COMMIT})

    def _file(self, name: str, path: str) -> None:
        content = self.repositories.get(name, {}).get(path)
        if content is None:
            self._send(404, b"", {"X-Error-Code": "EntryNotFound"})
            return
        headers = {"ETag": f'"{hashlib.sha1(content).hexdigest()}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
        asked = self.headers.get("Range")
        if not asked:
            self._send(200, content, headers)
            return
        start, _, stop = asked.removeprefix("bytes=").partition("-")
        part = content[int(start) : int(stop) + 1 if stop else None]
        headers["Content-Range"] = f"bytes {start}-{int(start) + len(part) - 1}/{len(content)}"
        self._send(206, part, headers)

    def _json(self, document: object) -> None:
        self._send(200, json.dumps(document).encode(), {"Content-Type": "application/json"})

    def _send(self, status: int, content: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


def _oid(content: bytes, mode: str) -> str:
    """What the hub's git has of a file: LFS files by their own hash, others by git's."""
    if mode == "lfs":
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(b"blob %d\x00" % len(content) + content).hexdigest()


def _entry(path: str, content: bytes) -> dict[str, object]:
    return {"type": "file", "path": path, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}


def _at(files: dict[str, bytes], path: str) -> list[dict[str, object]]:
    if path in files:
        return [_entry(path, files[path])]
    return [_folder(path)] if any(file.startswith(f"{path}/") for file in files) else []


def _listing(files: dict[str, bytes], folder: str, recursive: bool) -> list[dict[str, object]]:
    prefix = f"{folder}/" if folder else ""
    inside = [path.removeprefix(prefix) for path in files if path.startswith(prefix)]
    folders = {path.split("/")[0] for path in inside if "/" in path}
    entries = [_entry(prefix + path, files[prefix + path]) for path in inside if recursive or "/" not in path]
    return [*map(_folder, sorted(prefix + name for name in folders)), *entries]


def _folder(path: str) -> dict[str, object]:
    return {"type": "directory", "path": path, "size": 0, "oid": hashlib.sha1(path.encode()).hexdigest()}
