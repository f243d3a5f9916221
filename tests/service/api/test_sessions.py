"""Signing in with a browser: what the cookie opens, for whom, how long, and to which pages."""

import re

import pytest
from sqlalchemy import func, select, update

from service.api import access
from service.api.access import COOKIE
from service.app import create_app
from service.specs.scopes import Scope
from service.store import audit, keys, sessions
from service.store.clock import now
from service.store.tables import BrowserSession
from tests.service.api.door import Door

OWN = {"x-finebits-page": "1"}


def a_key(door, owner="ann", scopes=(Scope.READ, Scope.SUBMIT), **more):
    with door.app.state.database.transaction() as session:
        row, key = keys.create(session, owner, scopes, **more)
    door.app.state.keyring.forget()
    return row.id, key


def sign_in(door, key, **headers):
    return door.post("/session", json={"key": key}, headers={**OWN, **headers})


@pytest.fixture
def signed_in(door):
    """A browser, and the key that it signed in with."""
    key_id, key = a_key(door)
    assert sign_in(door, key).status_code == 201
    return key_id, key


def test_a_key_is_exchanged_for_a_cookie_that_scripts_and_other_sites_cannot_use(plain_door):
    _, key = a_key(plain_door)
    answer = sign_in(plain_door, key)
    assert {name: answer.json()[name] for name in ("signed_in", "needs_key", "owner", "scopes")} == {
        "signed_in": True,
        "needs_key": True,
        "owner": "ann",
        "scopes": ["read", "submit"],
    }
    cookie = answer.headers["set-cookie"]
    assert {"HttpOnly", "SameSite=strict", "Path=/", "Max-Age=43200"} <= set(re.split("; ", cookie))
    assert "Secure" not in cookie
    assert key not in cookie
    assert key not in answer.text


@pytest.mark.parametrize("origin", ["https://testserver", "https://finebits.example"])
def test_over_https_the_cookie_is_sent_no_other_way(plain_door, origin):
    _, key = a_key(plain_door)
    encrypted = sign_in(plain_door, key, origin=origin, **{"sec-fetch-site": "same-origin"})
    assert "Secure" in encrypted.headers["set-cookie"]


def test_the_cookie_opens_what_the_key_opens(door, signed_in):
    job_id = door.post("/jobs", json=a_document(), headers=OWN).json()["id"]
    assert door.get(f"/jobs/{job_id}").json()["owner"] == "ann"
    assert door.get("/session").json()["owner"] == "ann"
    assert door.get("/keys").status_code == 403
    with door.app.state.database.reading() as session:
        assert [(entry.owner, entry.key, entry.action) for entry in audit.page(session, 9)[0]] == [
            ("ann", signed_in[0], "create_job"),
            ("ann", signed_in[0], "sign_in"),
        ]


def a_document():
    from tests.specs.job_documents import a_job

    return a_job()


def test_what_is_kept_is_no_cookie(door, signed_in):
    token = door.cookies[COOKIE]
    assert len(token) >= 43
    with door.app.state.database.reading() as session:
        assert token not in str(vars(session.scalars(select(BrowserSession)).one()))


OF_ANOTHER_SITE = [
    {},  # a form, in a browser that says nothing
    {**OWN, "sec-fetch-site": "cross-site"},
    {**OWN, "sec-fetch-site": "same-site"},
    {**OWN, "origin": "https://evil.example"},
    {**OWN, "origin": "null"},
    {**OWN, "origin": "http://testserver.evil.example"},
    {**OWN, "origin": "http://testserver:81"},
]


def test_another_site_s_page_changes_nothing_with_the_cookie(plain_door):
    _, key = a_key(plain_door)
    job_id = plain_door.post("/jobs", json=a_document(), headers={"authorization": f"Bearer {key}"}).json()["id"]
    sign_in(plain_door, key)
    for headers in OF_ANOTHER_SITE:
        for method, path in (("POST", f"/jobs/{job_id}/cancel"), ("DELETE", f"/jobs/{job_id}"), ("DELETE", "/session")):
            assert plain_door.request(method, path, headers=headers).status_code == 403, headers
        assert plain_door.post("/session", json={"key": key}, headers=headers).status_code == 403, headers
    assert plain_door.get(f"/jobs/{job_id}").json()["state"] == "queued"
    assert plain_door.post(f"/jobs/{job_id}/cancel", headers={**OWN, "sec-fetch-site": "same-origin"}).status_code == 200


def test_a_program_with_a_key_is_asked_for_no_header(plain_door):
    _, key = a_key(plain_door)
    headers = {"authorization": f"Bearer {key}", "origin": "https://notebook.example", "sec-fetch-site": "cross-site"}
    assert plain_door.post("/jobs", json=a_document(), headers=headers).status_code == 201


def test_a_key_that_is_sent_goes_before_the_cookie(door, signed_in):
    assert door.get("/jobs", headers={"authorization": "Bearer nonsense"}).status_code == 401
    _, bob = a_key(door, "bob")
    headers = {"authorization": f"Bearer {bob}"}
    assert door.get(f"/jobs/{door.post('/jobs', json=a_document(), headers=headers).json()['id']}").status_code == 404


def test_signing_out_ends_the_session_wherever_its_cookie_is(door, signed_in):
    token = door.cookies[COOKIE]
    answer = door.delete("/session", headers=OWN)
    assert answer.status_code == 204
    assert COOKIE not in door.cookies
    stolen = door.get("/jobs", headers={"cookie": f"{COOKIE}={token}"})
    assert (stolen.status_code, stolen.json()["code"]) == (401, "unauthorized")
    assert door.get("/session").json() == {
        "signed_in": False,
        "needs_key": True,
        "owner": None,
        "scopes": [],
        "expires_at": None,
    }


def test_signing_in_again_ends_the_session_before(door, signed_in):
    token = door.cookies[COOKIE]
    assert sign_in(door, signed_in[1]).status_code == 201
    door.app.state.keyring.forget()
    assert door.cookies[COOKIE] != token
    with door.app.state.database.reading() as session:
        assert sessions.find(session, token) is None


def test_a_session_ends_with_its_key(door, signed_in):
    with door.app.state.database.transaction() as session:
        keys.revoke(session, signed_in[0])
    door.app.state.keyring.forget()
    refused = door.get("/jobs")
    assert (refused.status_code, refused.json()["detail"]) == (401, "This key was revoked.")


def test_a_session_ends_by_itself_and_is_forgotten_at_the_next(door, signed_in, monkeypatch):
    monkeypatch.setattr(access, "KEY_SECONDS", 0)
    assert door.get("/jobs").status_code == 200
    with door.app.state.database.transaction() as session:
        session.execute(update(BrowserSession).values(expires_at=now() - 1))
    assert door.get("/jobs").status_code == 401
    door.cookies.clear()
    assert sign_in(door, signed_in[1]).status_code == 201
    with door.app.state.database.reading() as session:
        assert session.scalar(select(func.count()).select_from(BrowserSession)) == 1


def test_the_operator_s_session_ends_when_the_operator_s_key_is_another(settings, plain_door, bell):
    database = plain_door.app.state.database
    with Door(create_app(with_key(settings, "the-first-operator-key"), database, bell)) as door:
        assert sign_in(door, "the-first-operator-key").json()["owner"] == "local"
        assert door.get("/keys").status_code == 200
        cookie = {COOKIE: door.cookies[COOKIE]}
    for key, status in (("the-first-operator-key", 200), ("the-second-operator-key", 401)):
        with Door(create_app(with_key(settings, key), database, bell)) as door:
            door.cookies.update(cookie)
            assert door.get("/jobs").status_code == status


def with_key(settings, key):
    from pydantic import SecretStr

    return settings.model_copy(update={"api_key": SecretStr(key)})


@pytest.mark.parametrize("key", ["nonsense", "fb_aaaaaaaa_" + "a" * 32])
def test_a_wrong_key_signs_nobody_in(plain_door, key):
    a_key(plain_door)
    refused = sign_in(plain_door, key)
    assert (refused.status_code, refused.json()["detail"]) == (401, "This is not a key of the service.")
    assert COOKIE not in plain_door.cookies
    assert plain_door.post("/session", json={"key": ""}, headers=OWN).json()["errors"][0]["pointer"] == "/body/key"


def test_where_no_key_is_needed_nobody_is_asked_to_sign_in(plain_door):
    session = plain_door.get("/session").json()
    assert (session["signed_in"], session["needs_key"], session["owner"]) == (False, False, "local")


HEADERS_TO_AN_OPEN_DOOR = [
    ({}, 201),
    ({"sec-fetch-site": "same-origin", "origin": "http://testserver"}, 201),
    ({"origin": "http://testserver"}, 201),
    ({"sec-fetch-site": "cross-site", "origin": "https://evil.example"}, 403),
    ({"origin": "https://evil.example"}, 403),
    ({"host": "127.0.0.1:8765"}, 201),
    ({"host": "[::1]:8765"}, 201),
    ({"host": "[::1]"}, 201),
    ({"host": "localhost"}, 201),
    ({"host": "finebits.localhost:8765"}, 201),
    ({"host": "evil.example:8765"}, 403),
    ({"host": "evil.example"}, 403),
    ({"host": "127.0.0.1.evil.example:8765"}, 403),
]


def test_an_open_door_is_open_to_no_page_of_another_site(plain_door):
    for headers, status in HEADERS_TO_AN_OPEN_DOOR:
        assert plain_door.post("/jobs", json=a_document(), headers=headers).status_code == status, headers
        looked = 403 if "host" in headers and status == 403 else 200
        assert plain_door.get("/jobs", headers=headers).status_code == looked, headers
