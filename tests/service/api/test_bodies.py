"""JSON and YAML bodies: what they mean, and everything that they may not be."""

import json

import pytest

from service.api.bodies import read_json, read_yaml
from service.api.errors import UnreadableBody
from service.specs.refusals import SpecRefused
from tests.specs.job_documents import a_job

YAML = {"content-type": "application/yaml"}
JSON = {"content-type": "application/json"}


def yaml_of(text):
    return read_yaml(text.encode("utf-8", "surrogatepass"))


# -- YAML's meaning ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),
        ("1E5", 1e5),
        ("-.5", -0.5),
        ("3.", 3.0),
        ("5e-5", 5e-5),
        ("10", 10),
        ("-3", -3),
        ("010", 10),
        ("0o17", 15),
        ("0xff", 255),
        ("1_000", "1_000"),
        ("9" * 30, float("9" * 30)),
        ("true", True),
        ("False", False),
        ("yes", "yes"),
        ("no", "no"),
        ("on", "on"),
        ("null", None),
        ("~", None),
        ("", None),
        ("2024-01-01", "2024-01-01"),
        ("12:30:00", "12:30:00"),
        ("1.2.3", "1.2.3"),
        ("'1e-4'", "1e-4"),
        ('"true"', "true"),
        ("!!str 12", "12"),
        ("! 12", "12"),
        ("|\n  two\n  lines\n", "two\nlines\n"),
        ("[1, two, 3.0]", [1, "two", 3.0]),
        ("{a: 1, 2: b}", {"a": 1, "2": "b"}),
        ("'naïve – ¿sí?'", "naïve – ¿sí?"),
    ],
)
def test_a_yaml_scalar_is_what_the_core_schema_says(text, value):
    read = yaml_of(f"key: {text}")["key"]
    assert read == value
    assert type(read) is type(value)


def test_an_anchor_that_nothing_refers_to_is_harmless():
    assert yaml_of("key: &name [1]") == {"key": [1]}


def test_nested_yaml_is_built_as_it_stands():
    assert yaml_of("a:\n  b:\n  - c: 1\n    d: [x, {y: z}]\n  - []\n  e: {}\n") == {
        "a": {"b": [{"c": 1, "d": ["x", {"y": "z"}]}, []], "e": {}}
    }


def test_a_document_of_comments_is_nothing():
    assert yaml_of("# a job, one day\n") is None


# -- what YAML may not be --------------------------------------------------------------------------------------------------

BOMB = "a: &a [x, x]\n" + "".join(f"{b}: &{b} [*{a}, *{a}]\n" for a, b in zip("abcdefghij", "bcdefghijk", strict=True))


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        ("a: [1, 2\n", 2, "not YAML"),
        ("a: 1\nb: {\n", 3, "not YAML"),
        ('a: "\\ud800"', 1, "not YAML"),
        ("a: 1\n\tb: 2", 2, "not YAML"),
        ("a: b: c", 1, "not YAML"),
        ("a: 1\nb: 2\na: 3", 3, "'a' comes twice"),
        ("x:\n  a: 1\n  a: 1", 3, "'a' comes twice"),
        (BOMB, 2, "aliases are not read"),
        ("a: &a [*a]", 1, "aliases are not read"),
        ("a: !!python/object/apply:os.system [ls]", 1, "tag"),
        ("a: !!int '3'", 1, "tag"),
        ("a: !custom {}", 1, "tag"),
        ("? [1, 2]\n: x", 1, "a key must be text"),
        ("a: 1\n---\nb: 2", 2, "second document"),
        ("a: \x01", 1, "not YAML"),
        ("a: 1\nb: \x00", 2, "not YAML"),
        ("%YAML 9.9\n---\na: 1", 1, "not YAML"),
    ],
)
def test_yaml_that_is_not_read_is_refused_with_its_place(text, line, what):
    with pytest.raises(UnreadableBody, match=r"line \d+, column \d+") as refused:
        yaml_of(text)
    assert what in str(refused.value)
    assert refused.value.members["line"] == line
    assert refused.value.members["column"] >= 1


# -- what neither may hold -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("read", "text", "pointer"),
    [
        (read_json, '{"a": ["x", {"b/c": "y\\u0000"}]}', "/a/1/b~1c"),
        (read_json, '{"a": {"b\\u0000": 1}}', "/a"),
        (read_yaml, 'a: ["x", "y\\0"]', "/a/1"),
        (read_yaml, '"a\\0": 1', ""),
        (read_yaml, "a: .nan", "/a"),
        (read_yaml, "a: [-.inf]", "/a/0"),
        (read_yaml, "a: 1e999", "/a"),
        (read_yaml, f"a: {'9' * 5000}", "/a"),
    ],
)
def test_what_no_job_can_hold_is_refused_at_its_place(read, text, pointer):
    with pytest.raises(SpecRefused) as refused:
        read(text.encode())
    assert [refusal.pointer for refusal in refused.value.refusals] == [pointer]


@pytest.mark.parametrize("depth", [65, 1000, 1023, 1025, 100_000])
@pytest.mark.parametrize(
    ("read", "opening", "closing"), [(read_json, "[", "]"), (read_yaml, "[", "]"), (read_json, '{"a":', "}")]
)
def test_nesting_too_deep_is_refused_and_no_crash(read, opening, closing, depth):
    body = opening * depth + "1" + closing * depth
    with pytest.raises(SpecRefused, match="deeper"):
        read(body.encode())


def test_nesting_of_a_block_too_deep_is_refused_too():
    with pytest.raises(SpecRefused, match="deeper"):
        read_yaml(b"- " * 500 + b"x")


def test_nesting_that_is_deep_enough_for_anyone_is_read():
    assert read_json(b"[" * 64 + b"]" * 64) == read_yaml(b"[" * 64 + b"]" * 64)


@pytest.mark.parametrize(
    "text", ['{"a": NaN}', '{"a": Infinity}', '{"a": 1e999}', '{"a": "\\ud800"}', "{'a': 1}", '{"a": 1,}', "{"]
)
def test_json_that_is_none_is_refused_with_its_place(text):
    with pytest.raises(UnreadableBody, match=r"line 1, column \d+"):
        read_json(text.encode())


# -- over HTTP -------------------------------------------------------------------------------------------------------------


def test_invalid_utf8_is_refused_with_its_place(plain_door):
    for headers in (JSON, YAML):
        response = plain_door.post("/jobs", content=b'{"a":\n "\xc3\xa4\xff"}', headers=headers)
        assert response.status_code == 400
        problem = response.json()
        assert (problem["code"], problem["line"], problem["column"]) == ("malformed_body", 2, 4)
        assert "0xff" in problem["detail"]


@pytest.mark.parametrize("headers", [JSON, YAML])
@pytest.mark.parametrize("body", [b"", b" \n", b"\xef\xbb\xbf "])
def test_an_empty_body_is_refused(plain_door, headers, body):
    response = plain_door.post("/jobs", content=body, headers=headers)
    assert (response.status_code, response.json()["code"]) == (400, "malformed_body")


def test_malformed_bodies_say_line_and_column(plain_door):
    response = plain_door.post("/jobs", content=b'{\n "a": oops}', headers=JSON)
    assert (response.status_code, response.json()["line"], response.json()["column"]) == (400, 2, 7)
    response = plain_door.post("/jobs", content=b"a: 1\nb: [", headers=YAML)
    assert (response.status_code, response.json()["code"]) == (400, "malformed_body")


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"content-type": "application/x-www-form-urlencoded"},
        {"content-type": "text/plain"},
        {"content-type": "multipart/form-data; boundary=x"},
        {"content-type": "application/json", "content-encoding": "gzip"},
    ],
)
def test_a_body_of_another_kind_is_refused(plain_door, headers):
    response = plain_door.post("/jobs", content=b"{}", headers=headers)
    assert (response.status_code, response.json()["code"]) == (415, "unsupported_media_type")
    assert "application/json" in response.json()["detail"] or "encoded" in response.json()["detail"]


@pytest.mark.parametrize(
    "kind",
    ["application/json; charset=utf-8", "Application/JSON", "application/vnd.finebits+json", "application/x-yaml", "text/yaml"],
)
def test_the_kinds_that_are_read(plain_door, kind):
    response = plain_door.post("/jobs", content=json.dumps(a_job()), headers={"content-type": kind})
    assert response.status_code == 201


def test_a_bomb_over_http_is_a_quick_no(plain_door):
    response = plain_door.post("/jobs", content=BOMB, headers=YAML)
    assert (response.status_code, response.json()["line"]) == (400, 2)


def test_a_megabyte_of_yaml_is_too_much(plain_door):
    response = plain_door.post("/jobs", content=b"#" * 1_000_001, headers=YAML)
    assert (response.status_code, response.json()["code"]) == (413, "body_too_large")


def test_deep_json_over_http_is_a_quick_no(plain_door):
    response = plain_door.post("/jobs", content=b"[" * 1_000_000, headers=JSON)
    assert (response.status_code, response.json()["code"]) == (422, "invalid_job")
