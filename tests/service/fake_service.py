"""A service on a real socket whose answers a test writes down. It keeps what it was asked."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

PROBLEM = "application/problem+json"


@dataclass
class Asked:
    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Answer:
    """`breaks_after`: the connection ends after so many bytes of the body; −1 ends it before anything is said."""

    status: int = 200
    body: Any = None
    content_type: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)
    breaks_after: int | None = None

    def raw(self) -> bytes:
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()


DROPPED = Answer(breaks_after=-1)


def problem(status: int, **document: Any) -> Answer:
    return Answer(status, {"status": status, **document}, PROBLEM)


class FakeService:
    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self._answers: dict[tuple[str, str], list[Answer | Callable[[Asked], Answer]]] = {}

    def answers(self, method: str, path: str, *answers: Any) -> None:
        """One after the other; the last stays. A plain document is a 200 with it."""
        ready = [answer if isinstance(answer, Answer) or callable(answer) else Answer(body=answer) for answer in answers]
        self._answers[method, path] = ready

    def answer(self, asked: Asked) -> Answer:
        self.asked.append(asked)
        left = self._answers.get((asked.method, asked.path))
        if left is None:
            return problem(404, title="Not found", detail=f"There is no {asked.path}.", code="not_found")
        answer = left.pop(0) if len(left) > 1 else left[0]
        return answer(asked) if callable(answer) else answer


@contextmanager
def fake_service() -> Iterator[tuple[FakeService, str]]:
    """The service, and its address."""
    service = FakeService()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path, _, query = self.path.partition("?")
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            self._say(service.answer(Asked(self.command, path, query, headers, body)))

        do_POST = do_PATCH = do_DELETE = do_GET

        def _say(self, answer: Answer) -> None:
            self.close_connection = True
            if answer.breaks_after == -1:
                return
            raw = answer.raw()
            self.send_response(answer.status)
            for name, value in {"content-type": answer.content_type, "content-length": str(len(raw)), **answer.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(raw[: answer.breaks_after])

        def log_message(self, *arguments: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield service, f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def a_job(**fields: Any) -> dict[str, Any]:
    """A job as the service shows it, queued."""
    times = {"created_at": "2026-11-24T10:00:00Z", "started_at": None, "finished_at": None}
    return (
        {"id": "job-1", "name": None, "labels": {}, "state": "queued", "reason": None, "sentence": None, "progress": None}
        | times
        | fields
    )


def an_event(number: int, kind: str = "notice", message: str = "", **data: Any) -> dict[str, Any]:
    at = f"2026-11-24T10:00:{number:02}Z"
    return {"number": number, "at": at, "attempt": 1, "kind": kind, "message": message or f"event {number}", "data": data}
