"""What is said of a quantized or pushed export when it comes: what workers lack, what the operator allows, what is not there."""

import base64
import logging

import pytest
from pydantic import SecretStr
from sqlalchemy import text

from service.app import create_app
from service.store.tables import Base
from tests.service.api.door import Door
from tests.service.store.staffed import enter
from tests.specs.job_documents import a_flat_job, a_job

TOKEN = "hf_verysecret"
KEY = SecretStr(base64.urlsafe_b64encode(bytes(range(32))).decode())
QUANTIZED = {"export_quantization_bit": 4, "export_quantization_dataset": "letters"}


def quantizing(**model):
    return a_job(do="export", model=QUANTIZED | model)


def pushing():
    return a_job(do="export", model={"export_hub_model_id": "ann/tiny", "hf_hub_token": TOKEN})


def notices(door, document):
    response = door.post("/jobs", json=document)
    assert response.status_code == 201, response.text
    return [(notice["pointer"], notice["detail"]) for notice in response.json()["notices"]]


def test_with_no_worker_yet_a_quantized_export_is_accepted_with_a_notice(door):
    sentence = "No worker of queue default has reported yet: whether one has gptq is not known."
    assert notices(door, quantizing()) == [("/model/export_quantization_bit", sentence)]
    assert notices(door, a_flat_job(do="export", **QUANTIZED)) == [("/export_quantization_bit", sentence)]


def test_where_every_worker_lacks_it_it_is_refused_with_what_brings_it(door, database):
    enter(database, "host-a")
    enter(database, "host-b", extras=("unsloth",))
    enter(database, "elsewhere", queues=("a100",), extras=("gptq",))
    sentence = (
        "No worker of queue default has the extra gptq, which this needs: pip install 'finebits[worker,gptq]' on its host "
        "brings it."
    )
    assert door.refusals(quantizing()) == [("/model/export_quantization_bit", sentence)]
    in_a_step = a_job(steps=[{"name": "export", "do": "export", "model": QUANTIZED}])
    assert door.refusals(in_a_step) == [("/steps/0/model/export_quantization_bit", sentence)]
    assert notices(door, quantizing() | {"resources": {"queue": "a100"}}) == []


def test_where_some_have_it_a_notice_says_who_does_not(door, database):
    enter(database, "host-a")
    enter(database, "host-b", extras=("gptq",))
    ((pointer, sentence),) = notices(door, quantizing())
    assert pointer == "/model/export_quantization_bit"
    assert sentence.startswith("Of queue default, host-a are without the extra gptq.")


def test_a_worker_of_a_version_that_did_not_say_may_have_it(door, database):
    enter(database, "host-a")
    with database.engine.begin() as connection:
        connection.execute(text("UPDATE workers SET extras = NULL"))
    assert notices(door, quantizing()) == []
    assert door.get("/workers/host-a").json()["extras"] is None


def test_what_a_worker_has_is_shown(door, database):
    enter(database, "host-a", extras=("gptq",))
    assert door.get("/workers/host-a").json()["extras"] == ["gptq"]


@pytest.mark.parametrize("name", ["letters", "pairs"])
def test_a_corpus_may_be_of_any_kind(plain_door, name):
    assert plain_door.post("/jobs", json=quantizing(export_quantization_dataset=name)).status_code == 201


def test_a_corpus_that_is_not_there_is_refused(plain_door):
    ((pointer, sentence),) = plain_door.refusals(quantizing(export_quantization_dataset="books"))
    assert pointer == "/model/export_quantization_dataset"
    assert sentence.startswith("There is no data set 'books' in dataset_info.json")


@pytest.fixture
def opened(settings, database, bell):
    """A service whose operator lets jobs push."""
    told = settings.model_copy(update={"hub": True, "hub_push": True, "secret_key": KEY})
    with Door(create_app(told, database, bell)) as door:
        yield door


@pytest.mark.parametrize("given", [{"hub": False, "hub_push": True}, {"hub": True, "hub_push": False}])
def test_nothing_is_pushed_where_the_operator_does_not_say_so(settings, plain_door, bell, given):
    app = create_app(settings.model_copy(update=given | {"secret_key": KEY}), plain_door.app.state.database, bell)
    with Door(app) as door:
        refusals = dict(door.refusals(pushing()))
    sentence = "Nothing is pushed to hubs from here: the operator has not set FINEBITS_HUB and FINEBITS_HUB_PUSH."
    assert refusals["/model/export_hub_model_id"] == sentence


def test_the_token_of_a_push_is_nowhere_in_clear(opened, database, caplog):
    caplog.set_level(logging.DEBUG)
    made = opened.post("/jobs", json=pushing())
    assert made.status_code == 201, made.text
    job_id = made.json()["id"]
    answers = [made, *(opened.get(path) for path in ("/jobs", f"/jobs/{job_id}", f"/jobs/{job_id}/events"))]
    assert not [answer for answer in answers if TOKEN in answer.text]
    with database.engine.connect() as connection:
        for table in Base.metadata.tables:
            assert TOKEN not in str(connection.execute(text(f'SELECT * FROM "{table}"')).all()), table
    assert TOKEN not in caplog.text
