"""Lines and commands slipped into headers, logs and answers by what a client may call things."""

import logging
import re
from urllib.parse import quote

import httpx2
import pytest

from service import log
from service.store import jobs
from tests.attacks.family import Family, each
from tests.attacks.house import listening, opened, sent, status_of
from tests.service.api.test_audit import ROW, entries
from tests.specs.job_documents import a_job

FAMILY = Family(
    name="Headers and logs",
    tried="ends of lines, terminal escapes, null bytes, turned directions, pages, SQL and very long words as request ids, names "
    "of jobs, labels and files, paths, queries, forwarded addresses, tracing headers and methods; answers to other hosts",
    promise="no header, line of a log or entry of the audit log is made but by the service; answers name no host",
    found=(
        "A line of the log in text could be made of what a client sent, and show its query's credentials: lines are written so "
        "that nothing in them begins another, and with stars.",
    ),
)

NASTY = {
    "two lines": "a\r\nSet-Cookie: admin=1",
    "a line": "a\nWARNING root: all is well",
    "a carriage return": "a\rERROR",
    "a terminal's title": "\x1b]0;owned\x07",
    "a cleared screen": "\x1b[2J\x1b[H",
    "a C1 escape": "\x9b31m",
    "a null": "a\x00b",
    "the other direction": "\u202etxt.exe",
    "a line of Unicode": "a\u2028b\u2029c",
    "quotes": "a\"; filename=\"b",
    "a format": "%s%n{0}{}${jndi:ldap://127.0.0.1/a}",
    "a page": "<script>alert(1)</script>",
    "an entity": "&lt;img src=x&gt;",
    "a command": "$(reboot);`reboot`|reboot",
    "SQL": "'; DROP TABLE jobs; --",
    "very long": "x" * 100_000,
}  # fmt: skip


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    with opened(tmp_path_factory.mktemp("lines"), FAMILY, trusted_proxies="10.9.9.9") as house:
        house.door.headers = house.bob
        yield house


@pytest.fixture
def lines():
    """What the log would have, as the service writes it in text."""
    written = []

    class Handler(logging.Handler):
        def emit(self, record):
            written.append(self.format(record))

    handler = Handler()
    handler.setFormatter(log.Lines(logging.Formatter("%(levelname)s %(name)s: %(message)s")))
    loggers = [logging.getLogger(name) for name in ("service", "uvicorn.access", "uvicorn.error")]
    before = [(logger.level, logger.propagate) for logger in loggers]
    for logger in loggers:
        logger.addHandler(handler)
        logger.setLevel(logging.DEBUG)
    yield written
    for logger, (level, _) in zip(loggers, before, strict=True):
        logger.removeHandler(handler)
        logger.setLevel(level)


A_LINE = re.compile(r"(DEBUG|INFO|WARNING|ERROR) [\w.]+: [^\n\r\x00-\x08\x0b-\x1f\x7f-\x9f]*(\n    [^\n]*)*")


def ask(port, key, head, body=b""):
    raw = head + b"Authorization: %b\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % (key, len(body)) + body
    return sent(port, FAMILY, raw, seconds=3)


HEADERS = (
    b"X-Request-Id", b"X-Forwarded-For", b"X-Forwarded-Host", b"Forwarded", b"User-Agent", b"Traceparent", b"Referer",
    b"Idempotency-Key", b"If-Match", b"If-None-Match", b"Range", b"Last-Event-ID", b"Origin", b"Accept",
)  # fmt: skip


@pytest.mark.parametrize("name", each([name for name in NASTY if name != "very long"], short=4))
def test_nothing_in_a_request_makes_a_line_or_a_header(house, lines, name):
    key = house.bob["authorization"].encode()
    text = NASTY[name].encode()
    with listening(house.door.app) as port:
        for header in HEADERS:
            for answer in ask(port, key, b"GET /jobs HTTP/1.1\r\nHost: localhost\r\n%b: %b\r\n" % (header, text)):
                head = answer.partition(b"\r\n\r\n")[0].lower()
                assert b"set-cookie" not in head
                assert b"\x1b" not in head
                request_id = re.search(rb"x-request-id: (.*)", head)
                assert status_of(answer) == 400 or request_id, "our answers have an id, and it is one word"
                assert request_id is None or re.fullmatch(rb"[a-z0-9._:/-]+\r?", request_id[1])
        for head in (
            b"GET /jobs/%b HTTP/1.1\r\n",
            b"GET /jobs?label=%b HTTP/1.1\r\n",
            b"%b /jobs HTTP/1.1\r\n",
            b"GET /jobs HTTP/%b\r\n",
        ):
            for answer in ask(port, key, head % text + b"Host: localhost\r\n"):
                assert status_of(answer) < 500
                assert b"set-cookie" not in answer.partition(b"\r\n\r\n")[0].lower()
    assert all(A_LINE.fullmatch(line) for line in lines), [line for line in lines if not A_LINE.fullmatch(line)]


@pytest.mark.parametrize("name", ["two lines", "a line", "a carriage return", "a cleared screen"])
def test_an_error_that_repeats_what_a_client_sent_makes_no_line(house, lines, monkeypatch, name):
    """A fault of ours, whose traceback has the name that was asked for: it stands in the log, and begins no line of it."""

    def fail(session, owner, job_id):
        raise RuntimeError(job_id)

    monkeypatch.setattr(jobs, "version", fail)
    with listening(house.door.app) as port:
        answer = httpx2.get(f"http://127.0.0.1:{port}/jobs/{quote(NASTY[name])}", headers=house.bob, timeout=60)
    assert answer.status_code == 500
    told = "\n".join(lines)
    assert "RuntimeError: a" in told or "RuntimeError: \\x1b" in told, "what was sent is not in the log at all"
    assert all(A_LINE.fullmatch(line) for line in lines), [line for line in lines if not A_LINE.fullmatch(line)]


@pytest.mark.parametrize("name", each(NASTY, short=6))
def test_a_name_goes_back_as_data_and_never_as_a_header(house, lines, name):
    text = NASTY[name]
    job = house.door.post("/jobs", json=a_job(name=text, labels={"a": text}))
    assert job.status_code in (201, 422)
    assert (job.status_code == 422) == (name in ("a null", "very long"))
    uploads = [
        house.door.post("/v1/files", data={"purpose": "assistants"}, files={"file": (text, b"a")}),
        house.door.put("/datasets/mine", params={"file_name": f"{text[:150]}.jsonl"}, content=ROW),
    ]
    for made in uploads:
        assert made.status_code in (200, 201, 400, 422)
        if not made.is_success:
            continue
        of = made.json()
        answer = house.door.get(
            f"/v1/files/{of['id']}/content" if "filename" in of else f"/datasets/mine@{of['version']}/content"
        )
        assert answer.status_code == 200
        disposition = answer.headers.get("content-disposition", "")
        assert disposition.isascii()
        assert disposition.isprintable()
        assert disposition.count("filename") <= 2
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "html" not in answer.headers["content-type"]
    assert all(A_LINE.fullmatch(line) for line in lines)


def test_what_the_audit_log_says_of_who_asked_is_ours(house):
    """A client's own words stand in it as an address only behind a proxy that is trusted, and as an id only if they are one."""
    for text in NASTY.values():
        clean = text.replace("\r", "").replace("\n", "").replace("\x00", "")[:1000]
        headers = {"x-request-id": clean.encode(), "x-forwarded-for": clean.encode(), "user-agent": clean.encode()}
        response = house.door.post("/jobs", json=a_job(), headers=house.bob | headers)
        assert response.status_code == 201
        entry = entries(house.door)[0]
        assert (entry.client, entry.owner) == ("127.0.0.1", "bob")
        assert re.fullmatch(r"[A-Za-z0-9._:/-]{1,128}", entry.request_id)


def test_a_credential_in_an_address_is_stars_in_the_log(house, lines):
    key = house.bob["authorization"].encode()
    token = b"hf_" + b"aB3" * 12
    with listening(house.door.app) as port:
        for query in (b"token=%b" % token, b"api_key=verysecretword", b"x=%b" % token, b"url=http://ann:verysecretword@host/"):
            ask(port, key, b"GET /jobs?%b HTTP/1.1\r\nHost: localhost\r\n" % query)
    text = "\n".join(lines)
    assert text.count("GET /jobs") >= 4
    assert token.decode() not in text
    assert "verysecretword" not in text


@pytest.mark.parametrize("host", [b"attacker.example", b"localhost@attacker.example", b"localhost\t", b"", b"a" * 5000])
def test_an_answer_leads_to_no_other_host(house, host):
    """Addresses in answers have no host, so a Host header poisons none."""
    key = house.bob["authorization"].encode()
    body = b'{"model": {"model_name_or_path": "tiny"}, "data": {"dataset": "letters", "template": "alpaca"}}'
    with listening(house.door.app) as port:
        head = (
            b"POST /jobs HTTP/1.1\r\nHost: %b\r\nX-Forwarded-Host: attacker.example\r\nContent-Type: application/json\r\n" % host
        )
        for answer in ask(port, key, head, body):
            assert status_of(answer) in (201, 400)
            assert b"attacker.example" not in answer
