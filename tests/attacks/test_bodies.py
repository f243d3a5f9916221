"""Bodies that are not what they say, and bodies that cost more to read than to send, at every operation that reads one."""

import gzip
import json
import time

import pytest

from tests.attacks.family import Family, each
from tests.attacks.house import listening, opened, sent, status_of
from tests.attacks.test_owners import state_of
from tests.service.api import test_audit as things
from tests.specs.job_documents import a_job

FAMILY = Family(
    name="Bodies that pass for others",
    tried="JSON as text, as a form, as multipart, without a type, in UTF-16 and compressed; keys twice; numbers without end; "
    "deep nesting; YAML bombs, tags, merges; forms without an end or with a thousand parts; requests hidden in others",
    promise="400, 413, 415 or 422 with the place; nothing is changed, and nothing is read twice in two ways",
    found=(
        "Of a key that stood twice in a JSON body the last counted, where what stands before the service may look at the first: "
        "such a body is refused.",
        "A field of a form was kept in memory however long it was, up to FINEBITS_MAX_FILE_BYTES, and parts were not counted; a "
        "form without an end was taken. Forms are read part by part now, with bounds.",
        "A request with both Content-Length and Transfer-Encoding left the connection open for what stood behind it; it is "
        "refused, and the connection closed.",
        "POST /datasets/{name}/inspect, .../generate and .../drain read JSON whatever type it was sent as; they ask for it now.",
    ),
)


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    with opened(tmp_path_factory.mktemp("bodies"), FAMILY) as house:
        house.door.headers = house.admin
        yield house


# By operation: the method, the address with what is made beforehand, and a body that it takes.
OPERATIONS = {
    "create_job": ("POST", things._nothing, "/jobs", a_job()),
    "create_key": ("POST", things._nothing, "/keys", {"owner": "bob"}),
    "change_job": ("PATCH", lambda door: door.submit(), "/jobs/{}", {"priority": 3}),
    "inspect_dataset": ("POST", lambda door: "letters", "/datasets/{}/inspect", {"model": "tiny", "template": "alpaca"}),
    "change_owner": ("PATCH", lambda door: "bob", "/owners/{}", {"queued": 3}),
    "create_sending": ("POST", things._nothing, "/datasets/mine/uploads", {"file_name": "mine.jsonl", "size": 10}),
    "create_webhook": ("POST", things._nothing, "/webhooks", {"url": "https://hooks.example.com/a"}),
    "change_webhook": ("PATCH", things.a_webhook, "/webhooks/{}", {"description": "mine"}),
    "create_upload": (
        "POST", things._nothing, "/v1/uploads", {"purpose": "assistants", "filename": "a", "mime_type": "text/plain", "bytes": 2}
    ),
    "complete_upload": ("POST", things.an_upload, "/v1/uploads/{}/complete", {"part_ids": ["part-1"]}),
    "create_fine_tuning_job": ("POST", things._nothing, "/v1/fine_tuning/jobs", {"model": "tiny", "training_file": "file-1"}),
}  # fmt: skip


@pytest.fixture(scope="module")
def addresses(house):
    return {name: path.format(prepare(house.door)) for name, (_, prepare, path, _) in OPERATIONS.items()}


def attack(house, addresses, name, content, kind="application/json", **headers):
    """Its status; whatever it is, it changes nothing."""
    before = state_of(house)
    headers = {key.replace("_", "-"): value for key, value in headers.items()} | ({"content-type": kind} if kind else {})
    response = house.door.request(OPERATIONS[name][0], addresses[name], content=content, headers=headers)
    if kind is None:
        assert "content-type" not in response.request.headers
    assert state_of(house) == before, (name, kind, content[:60])
    return response


KINDS = {
    "text": "text/plain",
    "a form": "application/x-www-form-urlencoded",
    "multipart": "multipart/form-data; boundary=x",
    "nothing": None,
    "text that is JSON": "text/json",
    "a script": "application/javascript",
    "bytes": "application/octet-stream",
    "XML": "application/xml",
    "two kinds": "text/plain, application/json",
    "a kind behind a kind": "text/plain;application/json",
    "a kind with JSON in its name": "application/jsonp",
}


@pytest.mark.parametrize("name", each(OPERATIONS, short=2))
def test_json_under_another_name_is_not_read(house, addresses, name):
    body = json.dumps(OPERATIONS[name][3]).encode()
    for kind in KINDS.values():
        assert attack(house, addresses, name, body, kind).status_code in (415, 422), kind


def deep(opening, closing, n):
    return opening * n + b"1" + closing * n


BODIES = {
    "100,000 lists deep": deep(b"[", b"]", 100_000),
    "100,000 objects deep": deep(b'{"model":', b"}", 100_000),
    "900 lists deep": deep(b"[", b"]", 900),
    "10,000 lists, never closed": b"[" * 10_000,
    "deep within an argument": b'{"model":' + deep(b"[", b"]", 500) + b"}",
    "a key twice": b'{"model": 1, "model": 2}',
    "a key twice, escaped": b'{"model": 1, "mod\\u0065l": 2}',
    "a number of 100,000 digits": b'{"model": ' + b"9" * 100_000 + b"}",
    "a number beyond floats": b'{"model": 1e99999}',
    "no number": b'{"model": NaN}',
    "infinity": b'{"model": -Infinity}',
    "a null character": b'{"model": "a\\u0000b"}',
    "half a pair": b'{"model": "\\ud800"}',
    "bytes that are no UTF-8": b'{"model": "\xff\xfe"}',
    "overlong UTF-8": b'{"model": "\xc0\xaf"}',
    "UTF-16": '{"model": 1}'.encode("utf-16"),
    "UTF-32": '{"model": 1}'.encode("utf-32"),
    "nothing": b"",
    "spaces": b" \n" * 1000,
    "null": b"null",
    "a list": b"[]",
    "a number": b"0",
    "a text": b'"model"',
    "cut off": b'{"model": "ti',
    "two documents": b'{"model": 1}{"model": 2}',
    "a comma too many": b'{"model": 1,}',
    "a comment": b'{"model": 1 /* or 2 */}',
    "a prototype": b'{"__proto__": {"model": 1}, "constructor": {"prototype": {}}}',
    "5,000 keys": json.dumps({f"key{n}": n for n in range(5000)}).encode(),
}


@pytest.mark.parametrize("name", each(OPERATIONS, short=2))
@pytest.mark.parametrize("body", BODIES)
def test_a_body_that_is_no_such_document_is_refused(house, addresses, name, body):
    began = time.process_time()
    response = attack(house, addresses, name, BODIES[body])
    assert response.status_code in (400, 413, 415, 422), response.text
    assert len(response.content) < 100_000
    assert time.process_time() - began < 20, "it costs far more to read than to send"


@pytest.mark.parametrize("name", each(OPERATIONS, short=2))
def test_a_body_s_own_keys_may_not_come_twice(house, addresses, name):
    """The one that it takes, with its first argument again, behind."""
    document = OPERATIONS[name][3]
    key = next(iter(document))
    body = json.dumps(document)[:-1] + f", {json.dumps(key)}: {json.dumps(document[key])}}}"
    response = attack(house, addresses, name, body.encode())
    assert response.status_code in (400, 422), response.text
    assert "twice" in response.text


TOO_LARGE = ("9223372036854775808", "18446744073709551616", "1" + "0" * 400, "-9223372036854775809", "1e300", "1.5")
ODD = ("-1", "true", '"3"', "0", "2147483648")


@pytest.mark.parametrize("name", each(OPERATIONS, short=2))
def test_numbers_that_no_column_holds_are_refused(house, addresses, name):
    method, _, _, document = OPERATIONS[name]
    for field in [key for key, value in document.items() if isinstance(value, int)]:
        for number in (*TOO_LARGE, *ODD):
            body = json.dumps(document | {field: "@"}).replace('"@"', number)
            response = house.door.request(method, addresses[name], content=body, headers={"content-type": "application/json"})
            assert response.status_code in (400, 422) or number in ODD, (field, number, response.text)


def test_what_is_compressed_is_not_unpacked(house, addresses):
    bomb = gzip.compress(b" " * 10_000_000)
    for encoding in ("gzip", "deflate", "br", "gzip, identity", "x"):
        assert attack(house, addresses, "create_job", bomb, content_encoding=encoding).status_code == 415
    for name in OPERATIONS:
        assert attack(house, addresses, name, bomb, content_encoding="gzip").status_code in (400, 415, 422)


YAML = {
    "a bomb": "a: &a [x, x, x]\n" + "".join(
        f"{b}: &{b} [*{a}, *{a}, *{a}]\n" for a, b in zip("abcdefghijklmno", "bcdefghijklmnop", strict=True)
    ),
    "itself": "a: &a [*a]",
    "a merge": "a: &a {model: tiny}\nb:\n  <<: *a",
    "a call": "model: !!python/object/apply:os.system ['touch pwned']",
    "an object": "model: !!python/object:subprocess.Popen {}",
    "a module": "model: !!python/module:os",
    "a name": "model: !!python/name:os.system",
    "a new object": "model: !!python/object/new:os.system ['touch pwned']",
    "a tag of one's own": "%TAG ! tag:yaml.org,2002:python/\n---\nmodel: !name:os.system",
    "binary": "model: !!binary aGVsbG8=",
    "a set": "model: !!set {a, b}",
    "a key twice": "model: tiny\nmodel: other",
    "a key that is a list": "? [model]\n: tiny",
    "two documents": "model: tiny\n---\nmodel: other",
    "deep, in flow": "model: " + "[" * 20_000,
    "deep, in blocks": "".join(" " * n + "a:\n" for n in range(1200)),
    "an endless anchor": "&" + "a" * 900_000 + " x",
    "a control character": "model: \x07",
    "a null": "model: \x00",
    "too long": "a: " + "x" * 1_100_000,
}  # fmt: skip


@pytest.mark.parametrize("name", each(["create_job", "create_webhook", "create_fine_tuning_job"], short=1))
@pytest.mark.parametrize("text", YAML)
def test_yaml_is_read_as_plain_data_or_refused(house, addresses, name, text):
    response = attack(house, addresses, name, YAML[text].encode(), "application/yaml")
    assert response.status_code in (400, 413, 422), response.text
    assert not (house.root / "pwned").exists()


PART = b'--x\r\nContent-Disposition: form-data; name="%b"%b\r\n\r\n%b\r\n'

FORMS = {
    "no end": PART % (b"purpose", b"", b"fine-tune"),
    "no boundary": b"purpose=fine-tune",
    "a boundary within": PART % (b"purpose", b"", b"--x--\r\nfine-tune") + b"--x--\r\n",
    "a thousand parts": PART % (b"a", b"", b"1") * 1000 + b"--x--\r\n",
    "a long field": PART % (b"purpose", b"", b"a" * 1_000_000) + b"--x--\r\n",
    "a long header": PART % (b"a" * 500_000, b"", b"1") + b"--x--\r\n",
    "a null in a name": PART % (b"file", b'; filename="a\0.jsonl"', b"{}") + b"--x--\r\n",
    "a line in a name": PART % (b"file", b'; filename="a\r\nX: y"', b"{}") + b"--x--\r\n",
    "a charset": PART % (b"purpose", b"\r\nContent-Type: text/plain; charset=utf-7", b"+AGYAaQBuAGU-") + b"--x--\r\n",
    "an encoding": PART % (b"purpose", b"\r\nContent-Transfer-Encoding: base64", b"ZmluZS10dW5l") + b"--x--\r\n",
    "nothing": b"",
}


@pytest.mark.parametrize("form", FORMS)
def test_a_form_that_is_none_is_refused(house, form):
    before = state_of(house)
    for kind in (
        "multipart/form-data; boundary=x",
        "multipart/form-data",
        "multipart/mixed; boundary=x",
        "multipart/form-data; boundary=",
    ):
        response = house.door.post("/v1/files", content=FORMS[form], headers={"content-type": kind})
        assert response.status_code in (400, 413, 415, 422), (kind, response.text)
    assert state_of(house) == before
    left = [path for path in (house.settings.artifacts_root / ".incoming").rglob("*")]
    assert left == [], "what came is left behind"


# Where two servers in a row could see two requests, or one; each with how many this one may answer.
SMUGGLED = {
    "a length and chunks": b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "two lengths": b"Content-Length: 0\r\nContent-Length: 40\r\n\r\n",
    "two lengths in one": b"Content-Length: 0, 40\r\n\r\n",
    "a length with a sign": b"Content-Length: +5\r\n\r\nhello",
    "a negative length": b"Content-Length: -1\r\n\r\n",
    "a length in hexadecimal": b"Content-Length: 0x5\r\n\r\nhello",
    "a length with a space before the colon": b"Content-Length : 5\r\n\r\nhello",
    "chunks of another name": b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "chunks twice": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
    "chunks behind a tab": b"Transfer-Encoding:\tchunked, identity\r\n\r\n0\r\n\r\n",
    "a chunk's size with a sign": b"Transfer-Encoding: chunked\r\n\r\n+5\r\nhello\r\n0\r\n\r\n",
    "a chunk's size that is none": b"Transfer-Encoding: chunked\r\n\r\nzz\r\nhello\r\n0\r\n\r\n",
    "a chunk's size beyond measure": b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffffffff\r\nhello\r\n0\r\n\r\n",
    "a line without a colon": b"Content-Length\r\n\r\n",
    "two hosts": b"Host: attacker.example\r\n\r\n",
}
BEHIND = b"DELETE /jobs/%b HTTP/1.1\r\nHost: localhost\r\nAuthorization: %b\r\nConnection: close\r\n\r\n"


@pytest.mark.parametrize("name", SMUGGLED)
def test_a_request_is_not_hidden_in_another(house, name):
    """The first is refused, or ends where both would say that it does; what is behind it is no request that was not asked."""
    job_id = house.door.submit()
    house.door.post(f"/jobs/{job_id}/cancel")
    key = house.admin["authorization"].encode()
    head = b"POST /jobs HTTP/1.1\r\nHost: localhost\r\nAuthorization: %b\r\nContent-Type: application/json\r\n" % key
    with listening(house.door.app) as port:
        answers = sent(port, FAMILY, head + SMUGGLED[name] + BEHIND % (job_id.encode(), key), seconds=1.0)
    assert all(status_of(answer) in (400, 404, 415, 422, 501) for answer in answers), answers
    assert house.door.get(f"/jobs/{job_id}").status_code == 200, "what was hidden was done"


def test_a_body_of_a_request_that_takes_none_is_no_request(house):
    """A GET with a body, whose bytes are a request."""
    job_id = house.door.submit()
    house.door.post(f"/jobs/{job_id}/cancel")
    key = house.admin["authorization"].encode()
    behind = BEHIND % (job_id.encode(), key)
    head = b"GET /livez HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(behind)
    with listening(house.door.app) as port:
        answers = sent(port, FAMILY, head + behind, seconds=60)
    assert [status_of(answer) for answer in answers] == [200]
    assert house.door.get(f"/jobs/{job_id}").status_code == 200
