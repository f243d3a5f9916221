"""Errors: each has a status and a code, and every answer an id."""

import inspect
from types import ModuleType

import pytest
from sqlalchemy.exc import OperationalError

from service.api import errors as api_errors
from service.api.problems import STATUS, Code
from service.library import errors as library_errors
from service.storage import errors as storage_errors
from service.store import errors as store_errors
from service.store import jobs


def leaves(module: ModuleType) -> set[type]:
    found = {kind for _, kind in inspect.getmembers(module, inspect.isclass) if kind.__module__ == module.__name__}
    return {kind for kind in found if not any(other is not kind and issubclass(other, kind) for other in found)}


@pytest.mark.parametrize("module", [store_errors, api_errors, library_errors])
def test_every_error_has_its_status(module):
    assert leaves(module) <= set(STATUS)


def test_every_error_stands_in_its_tree():
    for module in (store_errors, api_errors, storage_errors):
        for kind in leaves(module):
            assert kind.__name__ in (module.__doc__ or "")


def test_every_code_is_in_use():
    assert set(Code) - {code for _, code in STATUS.values()} == {
        Code.METHOD_NOT_ALLOWED,
        Code.INTERNAL_ERROR,
    }


def test_an_unexpected_error_tells_nothing_of_the_inside(plain_door, monkeypatch, caplog):
    def fail(*arguments):
        raise RuntimeError("the password is swordfish")

    monkeypatch.setattr(jobs, "listing", fail)
    response = plain_door.get("/jobs", headers={"x-request-id": "mine-1"})
    assert (response.status_code, response.json()["code"]) == (500, "internal_error")
    assert response.headers["x-request-id"] == response.json()["request_id"] == "mine-1"
    assert "swordfish" not in response.text
    assert "Traceback" not in response.text
    assert "mine-1" in caplog.text


def test_a_database_that_is_away_is_unavailable_and_shows_no_sql(plain_door, monkeypatch):
    def fail(*arguments):
        raise OperationalError("SELECT secret FROM jobs", {}, Exception("connection refused"))

    monkeypatch.setattr(jobs, "listing", fail)
    response = plain_door.get("/jobs")
    assert (response.status_code, response.json()["code"]) == (503, "unavailable")
    assert response.headers["retry-after"]
    assert "SELECT" not in response.text


@pytest.mark.parametrize("path", ["/nope", "/jobs/", "/jobs/x/", "/jobs/x/nope", "/v2/models"])
def test_an_address_with_nothing_there(plain_door, path):
    response = plain_door.get(path)
    assert (response.status_code, response.json()["code"]) == (404, "not_found")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("DELETE", "/jobs", "GET, POST"),
        ("PUT", "/jobs/x", "DELETE, GET, PATCH"),
        ("GET", "/jobs/x/cancel", "POST"),
        ("POST", "/measures", "GET"),
        ("PATCH", "/jobs/x/artifacts/a/b", "GET, HEAD"),
        ("POST", "/livez", "GET"),
        ("BREW", "/jobs", "GET, POST"),
    ],
)
def test_a_method_that_is_not_there_is_answered_with_those_that_are(plain_door, method, path, allowed):
    response = plain_door.request(method, path)
    assert (response.status_code, response.json()["code"]) == (405, "method_not_allowed")
    assert response.headers["allow"] == allowed


# -- request ids -----------------------------------------------------------------------------------------------------------


def test_every_answer_has_an_id_of_its_own(plain_door):
    ids = {plain_door.get(path).headers["x-request-id"] for path in ("/livez", "/livez", "/nope", "/jobs?limit=0")}
    assert len(ids) == 4


@pytest.mark.parametrize("given", ["7f3a", "trace:01/span-2.x", "a" * 128])
def test_a_sane_id_is_kept(plain_door, given):
    assert plain_door.get("/nope", headers={"x-request-id": given}).json()["request_id"] == given


@pytest.mark.parametrize("given", ["", "a" * 129, "two words", "<script>", "-x", 'a"b', "a,b"])
def test_another_is_replaced(plain_door, given):
    assert plain_door.get("/livez", headers={"x-request-id": given}).headers["x-request-id"].startswith("req-")
