"""Keys over HTTP: what each may, whose things it sees, and when it opens nothing any more."""

import base64
import re

import pytest
from sqlalchemy import update

from service.api import access
from service.api.scopes import SCOPES
from service.app import KEYED, create_app
from service.specs.scopes import Scope
from service.store import keys
from service.store.clock import now
from service.store.tables import ApiKey
from tests.service.api import made
from tests.service.api.door import Door


def a_key(door, owner="ann", scopes=("read", "submit"), **more):
    database = door.app.state.database
    with database.transaction() as session:
        row, key = keys.create(session, owner, [Scope(scope) for scope in scopes], **more)
    door.app.state.keyring.forget()
    return row.id, bearer(key)


def bearer(key):
    return {"authorization": f"Bearer {key}"}


@pytest.fixture
def admin(plain_door):
    return a_key(plain_door, "root", ["admin"])[1]


# What is asked with POST and changes nothing.
LOOKING = {"validate_dataset"}


def routes():
    return [(route, method) for router in KEYED for route in router.routes for method in route.methods - {"HEAD"}]


@pytest.mark.parametrize(("route", "method"), routes(), ids=lambda value: getattr(value, "name", value))
def test_every_operation_needs_the_scope_that_the_table_says(plain_door, route, method):
    assert route.name in SCOPES, f"say in scopes.py what {route.name} needs"
    looks = method == "GET" or route.name in LOOKING
    assert SCOPES[route.name] == (Scope.READ if looks else Scope.SUBMIT) or SCOPES[route.name] == Scope.ADMIN
    path = re.sub(r"{[a-z_]+(:path)?}", "nothing", route.path)
    for scope in Scope:
        allowed = scope in (SCOPES[route.name], Scope.ADMIN)
        _, key = a_key(plain_door, scopes=[scope])
        response = plain_door.request(method, path, headers=key)
        assert (response.status_code == 403) == (not allowed)
    assert plain_door.request(method, path).status_code == 401


def test_the_table_names_no_operation_that_is_not_there():
    assert set(SCOPES) == {route.name for route, _ in routes()}


def test_the_document_says_what_each_operation_needs(plain_door):
    declared = plain_door.app.openapi()["paths"]
    assert declared["/jobs"]["post"]["security"] == [{"HTTPBearer": ["submit"]}]
    assert declared["/audit"]["get"]["security"] == [{"HTTPBearer": ["admin"]}]
    assert "security" not in declared["/livez"]["get"]


OF_A_JOB = sorted({route.path for route, _ in routes() if route.path.startswith("/jobs/{job_id}")})


@pytest.mark.parametrize("path", OF_A_JOB)
def test_another_owner_s_job_is_as_good_as_none(plain_door, path):
    _, ann = a_key(plain_door, "ann")
    _, bob = a_key(plain_door, "bob")
    _, root = a_key(plain_door, "root", ["admin"])
    plain_door.headers = ann
    job_id = plain_door.submit()
    held = made.claim(plain_door.app.state.database)
    root_of_files = plain_door.app.state.settings.artifacts_root
    made.artifact(plain_door.app.state.database, held, root_of_files, "notes.txt", b"ours")
    made.checkpoint(plain_door.app.state.database, held, "sft", 3, {"model.safetensors": b"weights"})
    (root_of_files / job_id / "1" / "log.txt").write_text("a line")
    address = (
        path.replace("{job_id}", job_id)
        .replace("{name:path}", "notes.txt")
        .replace("{global_step}", "3")
        .replace("{other_id}", job_id)
    )
    methods = [route.methods - {"HEAD"} for router in KEYED for route in router.routes if route.path == path]
    for (method,) in filter(None, map(tuple, methods)):
        assert plain_door.request(method, address, headers=bob, json={"priority": 3}).status_code == 404
        # a stream would end with the job, and of a job that is not measured there is nothing to subtract
        if not path.endswith(("/stream", "/versus/{other_id}")):
            assert plain_door.request(method, address, headers=root, json={"priority": 3}).status_code != 404


def test_a_list_has_the_owner_s_own_jobs_and_an_admin_s_has_all(plain_door):
    (_, ann), (_, bob), (_, root) = (a_key(plain_door, *who) for who in (("ann",), ("bob",), ("root", ["admin"])))
    plain_door.headers = ann
    hers = plain_door.submit({**made_for("x"), "labels": {"a": "1"}})
    plain_door.headers = bob
    his = plain_door.submit({**made_for("y"), "labels": {"a": "1"}})
    for query in ("", "?state=queued", "?label=a:1"):
        ids = {name: [job["id"] for job in plain_door.get(f"/jobs{query}", headers=key).json()["data"]]
               for name, key in {"ann": ann, "bob": bob, "root": root}.items()}  # fmt: skip
        assert ids == {"ann": [hers], "bob": [his], "root": [his, hers]}
    assert plain_door.get(f"/jobs/{his}", headers=root).json()["owner"] == "bob"


def made_for(name):
    from tests.specs.job_documents import a_job

    return {**a_job(), "name": name}


def test_a_worker_s_jobs_are_shown_to_those_whose_they_are(plain_door):
    from tests.service.store.staffed import enter, place

    _, ann = a_key(plain_door, "ann")
    _, bob = a_key(plain_door, "bob")
    database = plain_door.app.state.database
    me = enter(database)
    plain_door.headers = ann
    job_id = plain_door.submit()
    assert place(database, me)
    shown = [slot["jobs"] for slot in plain_door.get("/workers").json()["data"][0]["slots"]]
    assert shown == [[{"job": job_id, "fraction": 1.0}]]
    theirs = plain_door.get("/workers/one", headers=bob).json()["slots"][0]
    assert (theirs["jobs"], theirs["used"]) == ([], 1.0)


def test_a_key_is_shown_once_and_kept_as_a_hash(plain_door, admin):
    wanted = {"owner": "ann", "scopes": ["read"], "name": "for the dashboard", "expires_in_days": 1}
    shown = plain_door.post("/keys", json=wanted, headers=admin).json()
    _, hidden = shown["key"].removeprefix("fb_").split("_")
    assert len(base64.b32decode(hidden.upper())) * 8 == 160
    listed = plain_door.get("/keys?owner=ann", headers=admin)
    assert hidden not in listed.text
    assert {name: value for name, value in shown.items() if name != "key"} == listed.json()["data"][0]
    with plain_door.app.state.database.reading() as session:
        assert hidden not in str(vars(session.get(ApiKey, shown["id"])))
    assert plain_door.get("/jobs", headers=bearer(shown["key"])).status_code == 200


@pytest.mark.parametrize(
    ("wanted", "pointer"),
    [
        ({"owner": "*"}, "/body/owner"),
        ({"owner": "../ann"}, "/body/owner"),
        ({"owner": "ann", "scopes": []}, "/body/scopes"),
        ({"owner": "ann", "scopes": ["write"]}, "/body/scopes/0"),
        ({"owner": "ann", "expires_in_days": 0}, "/body/expires_in_days"),
        ({"owner": "ann", "colour": "red"}, "/body/colour"),
    ],
)
def test_a_key_that_cannot_be_is_refused_with_its_place(plain_door, admin, wanted, pointer):
    response = plain_door.post("/keys", json=wanted, headers=admin)
    assert (response.status_code, response.json()["errors"][0]["pointer"]) == (422, pointer)


def test_a_revoked_key_opens_nothing_at_once_where_it_was_revoked(plain_door, admin):
    key_id, key = a_key(plain_door)
    assert plain_door.get("/jobs", headers=key).status_code == 200
    assert plain_door.delete(f"/keys/{key_id}", headers=admin).json()["revoked_at"]
    refused = plain_door.get("/jobs", headers=key)
    assert (refused.status_code, refused.json()["detail"]) == (401, "This key was revoked.")
    assert plain_door.delete("/keys/key-aaaaaaaa", headers=admin).status_code == 404


def test_a_key_that_was_revoked_elsewhere_opens_for_no_longer_than_it_is_known(plain_door, monkeypatch):
    key_id, key = a_key(plain_door)
    assert plain_door.get("/jobs", headers=key).status_code == 200
    with plain_door.app.state.database.transaction() as session:
        keys.revoke(session, key_id)
    assert plain_door.get("/jobs", headers=key).status_code == 200
    monkeypatch.setattr(access, "KEY_SECONDS", 0)
    assert plain_door.get("/jobs", headers=key).status_code == 401


def test_a_key_that_has_expired_opens_nothing(plain_door):
    key_id, key = a_key(plain_door, seconds=60)
    with plain_door.app.state.database.transaction() as session:
        session.execute(update(ApiKey).where(ApiKey.id == key_id).values(expires_at=now() - 1))
    assert plain_door.get("/jobs", headers=key).json()["detail"] == "This key has expired."


def test_a_known_key_is_not_looked_up_again(plain_door, monkeypatch):
    _, key = a_key(plain_door)
    plain_door.get("/jobs", headers=key)
    monkeypatch.setattr(keys, "find", lambda *_: pytest.fail("looked up again"))
    assert plain_door.get("/jobs", headers=key).status_code == 200


def test_the_last_use_is_written_once_a_minute(plain_door, monkeypatch):
    monkeypatch.setattr(access, "KEY_SECONDS", 0)
    key_id, key = a_key(plain_door)
    written = []
    monkeypatch.setattr(
        keys, "note_use", lambda session, which, note=keys.note_use: written.append(which) or note(session, which)
    )
    for _ in range(3):
        plain_door.get("/jobs", headers=key)
    assert written == [key_id]
    with plain_door.app.state.database.transaction() as session:
        session.execute(update(ApiKey).where(ApiKey.id == key_id).values(last_used_at=now() - 61))
    plain_door.get("/jobs", headers=key)
    assert written == [key_id, key_id]


def test_the_first_key_closes_the_door_and_revoking_it_does_not_open_it(plain_door):
    assert plain_door.get("/jobs").status_code == 200
    key_id, _ = a_key(plain_door)
    assert plain_door.get("/jobs").status_code == 401
    with plain_door.app.state.database.transaction() as session:
        keys.revoke(session, key_id)
    plain_door.app.state.keyring.forget()
    assert plain_door.get("/jobs").status_code == 401


def test_with_require_key_the_door_is_closed_before_there_is_one(settings, plain_door, bell):
    app = create_app(settings.model_copy(update={"require_key": True}), plain_door.app.state.database, bell)
    with Door(app) as door:
        assert door.get("/jobs").status_code == 401


def test_wrong_keys_are_told_apart_from_none_and_from_nothing_else(plain_door):
    _, key = a_key(plain_door)
    given = key["authorization"]
    last = "a" if given[-1] != "a" else "b"
    for wrong in (given[:-1] + last, given[:-1], given.upper(), "Bearer fb_aaaaaaaa_" + "a" * 32):
        response = plain_door.get("/jobs", headers={"authorization": wrong})
        assert (response.status_code, response.json()["detail"]) == (401, "This is not a key of the service.")
