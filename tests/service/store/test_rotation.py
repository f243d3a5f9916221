"""What is kept encrypted, sealed anew with another key: all of it or nothing, and nothing lost on the way."""

import base64

import pytest
from pydantic import SecretStr
from sqlalchemy import select

from service.specs.webhooks import WebhookSpec
from service.store import rotation, tokens, webhooks
from service.store.rotation import SEALED, Rotated, rotate
from service.store.sealed import opened, seal
from service.store.tables import Base, JobTokens, Webhook
from tests.service.store.stored import submit


def a_key(number: int) -> str:
    return base64.urlsafe_b64encode(bytes([number] * 32)).decode()


OLD, NEW, OTHER = (a_key(number) for number in (1, 2, 3))
BOTH = SecretStr(f"{NEW}, {OLD}")


def test_the_first_key_seals_and_each_of_them_opens():
    assert opened(seal("text", SecretStr(OLD)), BOTH) == "text"
    assert opened(seal("text", BOTH), SecretStr(NEW)) == "text"
    assert opened(seal("text", BOTH), SecretStr(OLD)) is None
    assert opened(seal("text", BOTH), None) is None


def test_every_column_that_is_sealed_is_sealed_anew():
    """A column that is forgotten here would be lost with the old key."""
    columns = {f"{table.name}.{column.name}" for table in Base.metadata.tables.values() for column in table.columns}
    assert {f"{column.class_.__tablename__}.{column.key}" for column in SEALED} == {name for name in columns if "sealed" in name}


@pytest.fixture
def kept(database):
    """A job's token, and a webhook with a secret that is valid still, sealed with the old key."""
    job_id = submit(database)
    with database.transaction() as session:
        tokens.keep(session, job_id, {"sft": "hf_1"}, SecretStr(OLD))
        webhook, _ = webhooks.create(session, "ann", WebhookSpec(url="https://example.com/hook?token=1"), SecretStr(OLD))
        webhooks.rotate(session, "ann", webhook.id, SecretStr(OLD))
    return job_id, webhook.id


def read(database, kept, key):
    with database.reading() as session:
        webhook = webhooks.get(session, "ann", kept[1])
        return tokens.of_job(session, kept[0], key), webhooks.url_of(webhook, key), webhooks.secrets_of(webhook, key, 0.0)


def test_afterwards_the_new_key_opens_everything_and_the_old_one_nothing(database, kept):
    before = read(database, kept, SecretStr(OLD))
    with database.transaction() as session:
        assert rotate(session, BOTH) == Rotated(found=4, sealed_anew=4)
    assert read(database, kept, SecretStr(NEW)) == before
    assert before[:2] == ({"sft": "hf_1"}, "https://example.com/hook?token=1")
    assert len(before[2]) == 2
    assert read(database, kept, SecretStr(OLD)) == (None, None, None)


def test_a_second_time_there_is_nothing_to_do(database, kept):
    for expected in (4, 0):
        with database.transaction() as session:
            assert rotate(session, BOTH).sealed_anew == expected


def test_one_that_is_broken_off_has_changed_nothing_and_is_begun_again(database, kept, monkeypatch):
    sealed = []

    def die(text, key):
        sealed.append(text)
        if len(sealed) == 3:
            raise KeyboardInterrupt
        return seal(text, key)

    monkeypatch.setattr(rotation, "seal", die)
    with pytest.raises(KeyboardInterrupt), database.transaction() as session:
        rotate(session, BOTH)
    assert read(database, kept, SecretStr(NEW)) == (None, None, None)
    monkeypatch.undo()
    with database.transaction() as session:
        assert rotate(session, BOTH).sealed_anew == 4
    assert None not in read(database, kept, SecretStr(NEW))


def test_what_no_key_opens_is_counted_and_left_as_it_is(database, kept):
    with database.transaction() as session:
        webhooks.create(session, "bob", WebhookSpec(url="https://example.com/b"), SecretStr(OTHER))
        before = set(session.scalars(select(Webhook.sealed).where(Webhook.owner == "bob")))
        assert rotate(session, BOTH) == Rotated(found=6, sealed_anew=4, unopened=2)
        assert set(session.scalars(select(Webhook.sealed).where(Webhook.owner == "bob"))) == before


def test_what_is_written_while_both_keys_are_there_is_read_by_either_process(database, kept):
    """A process that has only been told of the new key as its second goes on with the old one."""
    job_id = submit(database)
    with database.transaction() as session:
        tokens.keep(session, job_id, {"sft": "hf_2"}, SecretStr(f"{OLD},{NEW}"))
        assert session.scalar(select(JobTokens.sealed).where(JobTokens.job_id == job_id))
    with database.reading() as session:
        assert tokens.of_job(session, job_id, BOTH) == {"sft": "hf_2"}
