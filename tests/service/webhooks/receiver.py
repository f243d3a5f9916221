"""A receiver of webhooks on loopback that answers as it is told to, and notes what it was sent."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from time import monotonic, sleep
from typing import Any

import orjson


@dataclass(frozen=True)
class Message:
    """What came, as it came."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def document(self) -> Any:
        return orjson.loads(self.body)


# (status, headers), or None to say nothing until the test ends.
Answer = tuple[int, dict[str, str]] | None

WELL: Answer = (200, {})


@dataclass
class Receiver:
    """`answers` are used up one a message, the last again and again. A function is asked with the message."""

    port: int = 0
    answers: list[Answer | Callable[[Message], Answer]] = field(default_factory=lambda: [WELL])
    came: list[Message] = field(default_factory=list)
    closing: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    def wait_for(self, n: int, seconds: float = 120) -> list[Message]:
        """The messages, once there are so many."""
        ends_at = monotonic() + seconds
        while len(self.came) < n:
            assert monotonic() < ends_at, f"{len(self.came)} messages came, not {n}"
            sleep(0.02)
        return self.came


@contextmanager
def receiving() -> Iterator[Receiver]:
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            message = Message(self.path, {name.lower(): value for name, value in self.headers.items()}, body)
            receiver.came.append(message)
            answer = receiver.answers.pop(0) if len(receiver.answers) > 1 else receiver.answers[0]
            said = answer(message) if callable(answer) else answer
            self.close_connection = True
            if said is None:
                receiver.closing.wait()
                return
            status, headers = said
            self.send_response(status)
            for name, value in {"Content-Length": "0", **headers}.items():
                self.send_header(name, value)
            self.end_headers()

        def log_message(self, format: str, *arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    receiver.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        receiver.closing.set()
        server.shutdown()
        server.server_close()
        thread.join()
