"""finebits keys, on the database itself."""

import json

import pytest
from pydantic import SecretStr
from typer.testing import CliRunner

from service import home_key
from service.cli.main import app
from service.embedded import held
from service.specs.webhooks import WebhookSpec
from service.store import audit, keys, schema, webhooks
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


def sealed_with(database, key):
    with database.transaction() as session:
        webhooks.create(session, "ann", WebhookSpec(url="https://example.com/hook"), key)


def test_the_folder_s_key_is_changed_while_the_service_is_stopped(database, tmp_path):
    schema.upgrade(database)
    old = home_key.kept_key(tmp_path)
    sealed_with(database, old)
    with held(tmp_path):
        assert "in use by process" in run("rotate-secrets").output
    assert home_key.kept_key(tmp_path) == old
    assert "2 of 2 secrets were sealed anew." in run("rotate-secrets").output
    new = home_key.kept_key(tmp_path)
    assert len((tmp_path / "secret.key").read_text().split()) == 1
    assert (tmp_path / "secret.key").stat().st_mode & 0o777 == 0o600
    with database.reading() as session:
        [webhook] = webhooks.of_owner(session, "ann")
        assert (webhooks.url_of(webhook, new), webhooks.url_of(webhook, old)) == ("https://example.com/hook", None)
        assert audit.page(session, 1)[0][0].action == "rotate_secrets"


def test_a_change_that_was_broken_off_goes_on_with_the_key_that_it_had_made(database, tmp_path):
    schema.upgrade(database)
    sealed_with(database, home_key.kept_key(tmp_path))
    both = home_key.with_a_newer_key(tmp_path).get_secret_value()
    sealed_with(database, home_key.kept_key(tmp_path))  # as a service that was started meanwhile
    assert "2 of 4 secrets were sealed anew." in run("rotate-secrets").output
    assert home_key.kept_key(tmp_path).get_secret_value() == both.split(",")[0]


def test_keys_of_the_environment_are_used_in_their_order_and_a_folder_s_are_not_made(database, tmp_path, monkeypatch):
    schema.upgrade(database)
    assert "nothing is kept encrypted here" in run("rotate-secrets").output
    old, new = ("A" * 43 + "=", "B" * 42 + "A=")
    sealed_with(database, SecretStr(old))
    monkeypatch.setenv("FINEBITS_SECRET_KEY", f"{new},{old}")
    assert "2 of 2 secrets were sealed anew. Take the others out" in run("rotate-secrets").output
    monkeypatch.setenv("FINEBITS_SECRET_KEY", old)
    assert "2 of them no key opens any more." in run("rotate-secrets").output
    assert not (tmp_path / "secret.key").exists()
