"""A body that is too large is refused without being read whole."""

import asyncio
import json
import socket
import threading
import time

import pytest
import uvicorn

MEGABYTE = bytes(1_000_000)
JOBS = {"type": "http", "method": "POST", "path": "/jobs", "query_string": b"", "http_version": "1.1", "scheme": "http"}


def answer_to(app, headers, chunks):
    """(status, headers, body) of a request whose body comes in chunks as it is asked for; and how many were."""
    asked, sent = [], []

    async def receive():
        asked.append(1)
        chunk = next(chunks, None)
        return {"type": "http.request", "body": chunk or b"", "more_body": chunk is not None}

    async def send(message):
        sent.append(message)

    scope = JOBS | {"headers": [(b"content-type", b"application/json"), *headers], "server": ("test", 80), "client": None}
    asyncio.run(app(scope, receive, send))
    body = b"".join(message.get("body", b"") for message in sent)
    return sent[0]["status"], dict(sent[0]["headers"]), json.loads(body), len(asked)


def two_hundred_megabytes():
    yield from (MEGABYTE for _ in range(200))


def test_an_announced_body_is_refused_unread(plain_door):
    headers = [(b"content-length", b"200000000")]
    status, answered, problem, asked = answer_to(plain_door.app, headers, two_hundred_megabytes())
    assert (status, problem["code"], asked) == (413, "body_too_large", 0)
    assert answered[b"x-request-id"].decode() == problem["request_id"]
    assert answered[b"content-type"] == b"application/problem+json"


def test_a_chunked_body_is_refused_at_the_limit(plain_door):
    status, _, problem, asked = answer_to(plain_door.app, [(b"host", b"localhost")], two_hundred_megabytes())
    assert (status, problem["code"]) == (413, "body_too_large")
    assert asked == 11  # ten megabytes may come


@pytest.mark.parametrize("announced", [b"9" * 30, b"10000001"])
def test_the_limit_is_exact(plain_door, announced):
    assert answer_to(plain_door.app, [(b"content-length", announced)], iter(()))[0] == 413
    response = plain_door.post("/jobs", content=b" " * 10_000_000, headers={"content-type": "application/json"})
    assert response.status_code == 400


def test_an_action_has_the_limit_too(plain_door):
    job_id = plain_door.submit()
    assert plain_door.post(f"/jobs/{job_id}/cancel", content=b" " * 10_000_001).status_code == 413


@pytest.fixture
def served(plain_door):
    """The port of the service behind a real server."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(plain_door.app, log_config=None, lifespan="off"))
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        while not server.started:
            time.sleep(0.01)
        yield listener.getsockname()[1]
        server.should_exit = True
        thread.join()


@pytest.mark.parametrize("framing", [b"Content-Length: 200000000", b"Transfer-Encoding: chunked"])
def test_a_real_server_refuses_before_the_body_has_come(served, framing):
    with socket.create_connection(("127.0.0.1", served), timeout=60) as client:
        client.sendall(b"POST /jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n" + framing + b"\r\n\r\n")
        sent = 0
        try:
            for _ in range(200):
                client.sendall((b"f4240\r\n" + MEGABYTE + b"\r\n") if b"chunked" in framing else MEGABYTE)
                sent += 1
        except OSError:
            pass  # the server has hung up
        assert sent < 100
    # and it is still there
    with socket.create_connection(("127.0.0.1", served), timeout=60) as client:
        client.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert b"200 OK" in client.recv(1000)
