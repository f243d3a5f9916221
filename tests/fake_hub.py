"""A hub on loopback: the few endpoints of huggingface.co that `datasets` and huggingface_hub ask when they fetch a data set."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

COMMIT = "c0ffee" * 6 + "c0ff"


@dataclass
class FakeHub:
    """Repositories by "owner/name", each with its files. `asked` is (method, path, token) of every request."""

    url: str = ""
    repositories: dict[str, dict[str, bytes]] = field(default_factory=dict)
    asked: list[tuple[str, str, str | None]] = field(default_factory=list)

    def add(self, name: str, **files: str) -> None:
        self.repositories[name] = {file.replace("__", "."): content.encode() for file, content in files.items()}


@contextmanager
def fake_hub() -> Iterator[FakeHub]:
    hub = FakeHub()

    class Handler(_Handler):
        repositories = hub.repositories
        asked = hub.asked

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
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer(self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode())

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
