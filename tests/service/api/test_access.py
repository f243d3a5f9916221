"""The one bearer key."""

import pytest
from pydantic import SecretStr

from service.app import create_app
from tests.service.api.door import Door

KEY = "correct-horse-battery"


@pytest.fixture
def locked(settings, plain_door, bell):
    app = create_app(settings.model_copy(update={"api_key": SecretStr(KEY)}), plain_door.app.state.database, bell)
    with Door(app) as door:
        yield door


def operations(door):
    return [(method, path) for path, found in door.declared.items() for method in found]


def test_every_operation_but_health_needs_the_key(locked):
    needs = {path for method, path in operations(locked) if locked.request(method, path).status_code == 401}
    assert {path for _, path in operations(locked)} - needs == {"/livez", "/readyz", "/session"}


@pytest.mark.parametrize(
    "header", ["", "Bearer", "Bearer ", f"Basic {KEY}", KEY, f"Bearer {KEY}x", f"Bearer {KEY[:-1]}", "Bearer grüße"]
)
def test_another_key_is_none(locked, header):
    response = locked.get("/jobs", headers={"authorization": header.encode("latin-1")})
    assert (response.status_code, response.json()["code"]) == (401, "unauthorized")
    assert response.headers["www-authenticate"].startswith("Bearer")
    assert KEY not in response.text


@pytest.mark.parametrize("scheme", ["Bearer", "bearer"])
def test_the_key_opens(locked, scheme):
    assert locked.get("/jobs", headers={"authorization": f"{scheme} {KEY}"}).status_code == 200


def test_nothing_is_looked_at_without_the_key(locked):
    assert locked.post("/jobs", content=b"[" * 1000, headers={"content-type": "application/json"}).status_code == 401
    assert locked.get("/jobs?limit=-1").status_code == 401


def test_with_no_key_configured_everyone_is_let_in(plain_door):
    assert plain_door.get("/jobs").status_code == 200
    assert plain_door.get("/jobs", headers={"authorization": "Bearer whatever"}).status_code == 200
