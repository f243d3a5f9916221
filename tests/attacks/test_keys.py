"""Guesses at keys: by what the answers say, by how long they take, and by every other way to hand one over."""

import ast
import base64
import secrets
from pathlib import Path

import pytest
from pydantic import SecretStr

from service.api import access
from service.store import keys as stored
from tests.attacks.family import Family
from tests.attacks.house import listening, opened, sent, status_of

FAMILY = Family(
    name="Guesses at keys",
    tried="keys that are wrong in one place, in all, in length, in case, of an id that there is and of none; keys in cookies, "
    "queries and other headers, twice, with what parsers strip; what each guess is compared with, and how",
    promise="401 in the same words for every guess; compared as digests of one length in a time that does not depend on them",
    found=("Of two Authorization headers the first counted: a request that has several has none.",),
)

OPERATORS = "the-operators-own-key-1"


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    with opened(tmp_path_factory.mktemp("keys"), FAMILY, api_key=SecretStr(OPERATORS)) as house:
        yield house


def guesses(key):
    """Around a key that there is, each as the whole header."""
    prefix, visible, hidden = key.split("_")
    other = {"a": "b"}.get(hidden[0], "a")
    return {
        "wrong at its beginning": f"Bearer {prefix}_{visible}_{other}{hidden[1:]}",
        "wrong at its end": f"Bearer {key[:-1]}{'a' if key[-1] != 'a' else 'b'}",
        "of another id": f"Bearer {prefix}_aaaaaaaa_{hidden}",
        "of no id": f"Bearer {prefix}__{hidden}",
        "short": f"Bearer {key[:-1]}",
        "long": f"Bearer {key}a",
        "only its id": f"Bearer {prefix}_{visible}_",
        "in capitals": f"Bearer {key.upper()}",
        "with a wildcard": f"Bearer {prefix}_{visible}_{'%' * 32}",
        "with a wildcard for an id": f"Bearer {prefix}_________{hidden}",
        "SQL": f"Bearer {prefix}_{visible}_' OR '1'='1",
        "a hash": f"Bearer {stored._sha256(key)}",
        "half of the operator's": f"Bearer {OPERATORS[:-1]}",
        "the operator's and more": f"Bearer {OPERATORS}x",
        "stars": "Bearer **********",
    }


def test_every_guess_is_answered_in_the_same_words(house):
    key = house.ann["authorization"].removeprefix("Bearer ")
    said = set()
    for guess in guesses(key).values():
        answer = house.door.get("/jobs", headers={"authorization": guess})
        document = answer.json()
        said.add((answer.status_code, document["detail"], document["code"], answer.headers["www-authenticate"]))
        assert key not in answer.text
        assert OPERATORS not in answer.text
    assert len(said) == 1, said


def test_a_guess_is_compared_as_a_digest_and_in_constant_time(house, monkeypatch):
    compared = []

    def compare(ours, theirs):
        compared.append((len(ours), len(theirs)))
        return secrets.compare_digest(ours, theirs)

    for module in (access, stored):
        monkeypatch.setattr(module, "secrets", type("Spied", (), {**vars(secrets), "compare_digest": staticmethod(compare)}))
    key = house.ann["authorization"].removeprefix("Bearer ")
    for name in ("wrong at its beginning", "wrong at its end", "half of the operator's", "short"):
        compared.clear()
        assert house.door.get("/jobs", headers={"authorization": guesses(key)[name]}).status_code == 401
        assert compared[0] == (32, 32), "the operator's key is compared first, as SHA-256"
        assert all(ours == theirs for ours, theirs in compared), "never by length"


def test_no_secret_is_compared_with_an_operator():
    """== gives away by its time how far two texts agree."""
    root = Path(__file__).parents[2] / "service"
    for file in ("api/access.py", "store/keys.py", "webhooks/message.py"):
        for node in ast.walk(ast.parse((root / file).read_text(encoding="utf-8"))):
            if isinstance(node, ast.Compare) and isinstance(node.ops[0], ast.Eq | ast.NotEq | ast.In):
                names = ast.unparse(node)
                assert not any(word in names for word in ("sha256", "api_key", "signature", "secret")), f"{file}: {names}"


def elsewhere(key):
    basic = base64.b64encode(f"{key}:".encode()).decode()
    return {
        "a query": ("?api_key=" + key, {}),
        "a query of another name": ("?access_token=" + key, {}),
        "a cookie": ("", {"cookie": f"authorization=Bearer {key}; api_key={key}"}),
        "another header": ("", {"x-api-key": key, "api-key": key, "proxy-authorization": f"Bearer {key}"}),
        "a password": ("", {"authorization": f"Basic {basic}"}),
        "no scheme": ("", {"authorization": key}),
        "another scheme": ("", {"authorization": f"Token {key}"}),
        "two keys": ("", {"authorization": f"Bearer {key}, Bearer {key}"}),
        "quotes": ("", {"authorization": f'Bearer "{key}"'}),
        "two spaces": ("", {"authorization": f"Bearer  {key}"}),
        "behind a tab": ("", {"authorization": f"Bearer\t{key}"}),
        "in an override": ("", {"x-http-method-override": "GET", "x-original-authorization": f"Bearer {key}"}),
    }


def test_a_key_is_taken_in_one_place_and_form_alone(house):
    key = house.ann["authorization"].removeprefix("Bearer ")
    for name, (query, headers) in elsewhere(key).items():
        assert house.door.get(f"/jobs{query}", headers=headers).status_code == 401, name
    assert house.door.get("/jobs", headers={"authorization": f"bearer {key}"}).status_code == 200, "a scheme has no case"


def test_of_two_headers_neither_counts(house):
    good = house.ann["authorization"].encode()
    with listening(house.door.app) as port:
        for one, two in ((good, b"Bearer x"), (b"Bearer x", good), (good, good)):
            raw = b"GET /jobs HTTP/1.1\r\nHost: localhost\r\nAuthorization: %b\r\nauthorization: %b\r\nConnection: close\r\n\r\n"
            [answer] = sent(port, FAMILY, raw % (one, two))
            assert status_of(answer) == 401


@pytest.mark.parametrize(
    "path", ["/jobs", "/JOBS", "/jobs/", "//jobs", "/./jobs", "/v1/../jobs", "/jobs;a=b", "/jobs%2f", "/jobs?", "/jobs#a"]
)
def test_no_other_way_of_writing_an_address_goes_past_the_door(house, path):
    with listening(house.door.app) as port:
        for method in (b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"get", b"PROPFIND"):
            raw = b"%b %b HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n" % (method, path.encode())
            for answer in sent(port, FAMILY, raw):
                assert status_of(answer) in (400, 401, 404, 405), answer
                assert b'"data"' not in answer
