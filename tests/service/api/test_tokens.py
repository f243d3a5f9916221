"""Tokens for hubs: kept encrypted, given to the worker alone, and shown to nobody."""

import base64
import json
import logging

import pytest
from pydantic import SecretStr, ValidationError
from sqlalchemy import text

from service.app import create_app
from service.places import Places
from service.store import leases, tokens
from service.store.scheduling import Placement
from tests.service.api.door import Door
from tests.specs.job_documents import a_flat_job, a_job
from worker.settings import WorkerSettings
from worker.supervise import _work

KEY = SecretStr(base64.urlsafe_b64encode(bytes(range(32))).decode())
OTHER_KEY = SecretStr(base64.urlsafe_b64encode(bytes(32)).decode())
TOKEN = "hf_verysecret"


@pytest.fixture
def with_key(settings, database, bell):
    told = settings.model_copy(update={"hub": True, "modelscope": True, "secret_key": KEY})
    with Door(create_app(told, database, bell)) as opened:
        yield opened


DOCUMENTS = {
    "nested": a_job(model={"hf_hub_token": TOKEN}),
    "in a step": a_job(steps=[{"name": "sft", "model": {"hf_hub_token": TOKEN}}]),
    "flat": a_flat_job(hf_hub_token=TOKEN),
    "for ModelScope": a_job(model={"ms_hub_token": TOKEN}),
    "for ModelScope, flat": a_flat_job(ms_hub_token=TOKEN),
}


@pytest.mark.parametrize("document", DOCUMENTS.values(), ids=DOCUMENTS)
def test_a_token_is_nowhere_in_clear(with_key, database, document, caplog):
    caplog.set_level(logging.DEBUG)
    made = with_key.post("/jobs", json=document)
    assert made.status_code == 201
    job_id = made.json()["id"]
    answers = [made, *(with_key.get(path) for path in ("/jobs", f"/jobs/{job_id}", f"/jobs/{job_id}/events"))]
    answers.append(with_key.post("/jobs?dry_run=true", json=document))
    assert not [answer for answer in answers if TOKEN in answer.text]
    with database.engine.connect() as connection:
        for table in ("jobs", "job_tokens", "events", "idempotency_keys"):
            assert TOKEN not in str(connection.execute(text(f"SELECT * FROM {table}")).all())
    assert TOKEN not in caplog.text


@pytest.mark.parametrize("document", DOCUMENTS.values(), ids=DOCUMENTS)
def test_the_worker_that_holds_the_job_is_given_it(with_key, settings, database, document):
    with_key.post("/jobs", json=document)
    own = {"home": settings.home, "models_root": settings.models_root}
    with database.transaction() as session:
        placed = Placement(leases.claim(session, ("default",), "worker-1", 60), (), 1.0)
        work = _work(session, WorkerSettings(**own, secret_key=KEY), placed)
        blind = [_work(session, WorkerSettings(**own, secret_key=key), placed) for key in (OTHER_KEY, None)]
    for_modelscope = "ms_hub_token" in json.dumps(document)
    assert work.token("sft", "hf_hub_token") == (None if for_modelscope else TOKEN)
    assert work.token("sft", "ms_hub_token") == (TOKEN if for_modelscope else None)
    assert len(work.tokens) == 1
    assert TOKEN not in repr(work)
    assert TOKEN not in json.dumps(work.job)
    assert [other.tokens for other in blind] == [None, None]


def test_a_job_without_tokens_has_none(with_key, database):
    job_id = with_key.post("/jobs", json=a_job()).json()["id"]
    with database.reading() as session:
        assert tokens.of_job(session, job_id, None) == {}


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"hub": False, "secret_key": KEY}, "has not set FINEBITS_HUB"),
        ({"hub": True, "secret_key": None}, "has set no FINEBITS_SECRET_KEY"),
    ],
)
def test_a_token_that_cannot_be_used_or_kept_is_refused(settings, plain_door, bell, given, why):
    app = create_app(settings.model_copy(update=given), plain_door.app.state.database, bell)
    with Door(app) as door:
        answer = door.post("/jobs", json=a_job(model={"hf_hub_token": TOKEN}))
    assert answer.status_code == 422
    (error,) = answer.json()["errors"]
    assert error["pointer"] == "/model/hf_hub_token"
    assert why in error["detail"]
    assert TOKEN not in answer.text


def test_a_token_for_modelscope_is_refused_where_it_is_not_reached(settings, plain_door, bell):
    app = create_app(settings.model_copy(update={"hub": True, "secret_key": KEY}), plain_door.app.state.database, bell)
    with Door(app) as door:
        [(pointer, sentence)] = door.refusals(a_job(model={"ms_hub_token": TOKEN}))
    assert (pointer, "has not set USE_MODELSCOPE_HUB" in sentence, TOKEN in sentence) == ("/model/ms_hub_token", True, False)


def test_a_token_kept_before_there_were_two_hubs_is_read_as_hugging_face_s(with_key, settings, database):
    job_id = with_key.post("/jobs", json=a_job()).json()["id"]
    own = {"home": settings.home, "models_root": settings.models_root, "secret_key": KEY}
    with database.transaction() as session:
        tokens.keep(session, job_id, {"sft": TOKEN}, KEY)
        placed = Placement(leases.claim(session, ("default",), "worker-1", 60), (), 1.0)
        work = _work(session, WorkerSettings(**own), placed)
    assert (work.token("sft", "hf_hub_token"), work.token("sft", "ms_hub_token")) == (TOKEN, None)


@pytest.mark.parametrize("key", ["short", "é" * 44, base64.urlsafe_b64encode(bytes(31)).decode()])
def test_a_key_that_is_none_is_said_when_the_service_starts(key):
    with pytest.raises(ValidationError, match="FINEBITS_SECRET_KEY must be 32 bytes") as caught:
        Places(secret_key=SecretStr(key))
    assert key not in str(caught.value)
