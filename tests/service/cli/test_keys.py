"""finebits keys, on the database itself."""

import json

import pytest
from typer.testing import CliRunner

from service.cli.main import app
from service.store import audit, keys, schema
from service.store.session import Database


@pytest.fixture
def database(tmp_path, monkeypatch):
    monkeypatch.setenv("FINEBITS_HOME", str(tmp_path))
    opened = Database(f"sqlite:///{tmp_path}/finebits.db")
    yield opened
    opened.close()


def run(*arguments):
    return CliRunner().invoke(app, ["keys", *arguments])


def test_a_key_is_made_listed_and_revoked_without_a_service(database):
    schema.upgrade(database)
    made = run("create", "root", "--scope", "admin", "--name", "operator", "--expires-in-days", "1")
    assert made.exit_code == 0, made.output
    with database.reading() as session:
        known = keys.find(session, made.output.strip())
    assert known is not None
    assert (known.owner, known.scopes, known.why_not) == ("root", {"admin"}, None)
    [listed] = json.loads(run("list", "--json").output)
    assert (listed["id"], listed["owner"], listed["name"], listed["state"]) == (known.id, "root", "operator", "")
    assert run("revoke", known.id).exit_code == 0
    with database.reading() as session:
        assert keys.find(session, made.output.strip()).why_not == "This key was revoked."
        found, _ = audit.page(session, 10)
    told = [(entry.action, entry.subject, entry.key) for entry in found]
    assert told == [("revoke_key", known.id, "command"), ("create_key", known.id, "command")]


def test_what_cannot_be_is_said(database):
    assert "finebits migrate" in run("create", "root").output
    schema.upgrade(database)
    assert "not the name of an owner" in run("create", "*").output
    missing = run("revoke", "key-nothing")
    assert (missing.exit_code, "There is no key" in missing.output) == (3, True)
    assert "There are no keys yet." in run("list").output
