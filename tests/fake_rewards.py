"""A reward API on loopback that answers as it is told to: a score is the share of the letter e, unless a test says otherwise."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

# What a server may do with a request: (status, headers, body), or None to never answer.
Answer = Callable[[dict[str, Any]], tuple[int, dict[str, str], bytes] | None]


def scores(values: Any) -> tuple[int, dict[str, str], bytes]:
    return 200, {}, json.dumps({"scores": values}).encode()


def by_letter(asked: dict[str, Any]) -> tuple[int, dict[str, str], bytes]:
    return scores([text.count("e") / max(1, len(text)) for text in asked["messages"]])


@dataclass
class FakeRewards:
    """`answers` are used up one a request, the last again and again; `asked` is the document of each request."""

    url: str = ""
    answers: list[Answer] = field(default_factory=lambda: [by_letter])
    asked: list[dict[str, Any]] = field(default_factory=list)
    authorized: list[str | None] = field(default_factory=list)  # the header of each
    closing: threading.Event = field(default_factory=threading.Event)

    @property
    def host(self) -> str:
        return self.url.split("/")[2]


@contextmanager
def fake_rewards() -> Iterator[FakeRewards]:
    rewards = FakeRewards()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            rewards.asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            rewards.authorized.append(self.headers["Authorization"])
            answer = rewards.answers.pop(0) if len(rewards.answers) > 1 else rewards.answers[0]
            said = answer(rewards.asked[-1])
            if said is None:
                rewards.closing.wait()
                self.close_connection = True
                return
            status, headers, body = said
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    rewards.url = f"http://127.0.0.1:{server.server_port}/score"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield rewards
    finally:
        rewards.closing.set()
        server.shutdown()
        server.server_close()
        thread.join()
