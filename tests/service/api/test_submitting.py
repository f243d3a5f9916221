"""POST /jobs: what is accepted, what is refused and where, and that the bell rings after the commit."""

import threading

import pytest

from service.app import create_app
from service.dispatch import Doorbell
from service.store import jobs
from tests.service.api.door import Door
from tests.specs.job_documents import a_flat_job, a_job


def test_a_job_is_created_where_location_says(door):
    response = door.post("/jobs", json=a_job(name="mine", labels={"team": "blue"}))
    assert response.status_code == 201
    job = response.json()
    assert response.headers["location"] == f"/jobs/{job['id']}" == job["links"]["self"]
    shown = door.get(response.headers["location"])
    place = {"position": 1, "place_unknown": "No worker that is there now could begin it."}
    assert shown.json() == job | place
    assert response.headers["etag"] == '"v1"'
    assert shown.headers["etag"] == '"v1.1--"'  # with its place, which changes without it


def test_a_job_shows_what_was_asked_and_what_will_run(door):
    document = a_job(name="mine", labels={"team": "blue"}, resources={"priority": 3})
    job = door.post("/jobs", json=document).json()
    assert job["spec"] == document
    assert job["resolved"]["steps"][0]["finetuning"]["lora_alpha"] == 16
    assert (job["name"], job["labels"], job["priority"], job["queue"]) == ("mine", {"team": "blue"}, 3, "default")
    assert (job["state"], job["attempt"], job["lost"], job["cancel_requested"]) == ("queued", 0, 0, False)
    assert (job["reason"], job["sentence"], job["details"], job["started_at"], job["finished_at"]) == (None,) * 5
    assert job["steps"] == [
        {"name": "sft", "do": "train", "stage": "sft", "finetuning_type": "lora", "finished_at": None, "output": None}
    ]
    assert job["created_at"].endswith("Z")


def test_a_flat_document_and_yaml_make_the_same_job(plain_door):
    nested = plain_door.post("/jobs", json=a_job(training={"learning_rate": 1e-4})).json()
    flat = plain_door.post("/jobs", json=a_flat_job(learning_rate=1e-4)).json()
    body = "model_name_or_path: tiny\ntemplate: chatml\ndataset: letters\nlearning_rate: 1e-4\n"
    as_yaml = plain_door.post("/jobs", content=body, headers={"content-type": "application/yaml"}).json()
    assert nested["resolved"] == flat["resolved"] == as_yaml["resolved"]


def test_what_is_accepted_without_effect_is_a_notice(plain_door):
    job = plain_door.post("/jobs", json=a_flat_job(use_fast_tokenizer=True)).json()
    assert [notice["pointer"] for notice in job["notices"]] == ["/use_fast_tokenizer"]


# -- the bell ------------------------------------------------------------------------------------------------------------


def test_the_bell_rings_once_and_after_the_commit(door, database, bell):
    seen = []

    def look(queue):
        with database.reading() as session:
            found, _ = jobs.listing(session, "local", 10)
            seen.append([job.id for job in found])

    bell.on_ring = look
    job_id = door.submit(resources={"queue": "large"})
    assert bell.rung == ["large"]
    assert seen == [[job_id]]


class Late(Doorbell):
    """A bell that rings only when it may. `waited` says of each that nobody let it."""

    def __init__(self, broker_url):
        super().__init__(broker_url)
        self.may_ring = threading.Event()
        self.waited = []

    def _send(self, queue):
        self.waited.append(not self.may_ring.wait(60))
        super()._send(queue)


def test_a_bell_that_cannot_ring_fails_no_request(plain_door, settings, tmp_path):
    """The real one, with nothing where its broker should be. The request has its answer before the bell is through."""
    database, bell = plain_door.app.state.database, Late(f"redis+socket://{tmp_path}/nobody.sock")
    with Door(create_app(settings, database, bell)) as door:
        job_id = door.submit()
        bell.may_ring.set()
        assert door.get(f"/jobs/{job_id}").json()["state"] == "queued"
        assert door.get("/readyz").json()["checks"]["broker"] is False
    bell.close(60)
    assert bell.waited == [False]


def test_a_refused_job_is_not_stored_and_rings_nothing(door, bell):
    assert door.refusals(a_job(model={"model_name_or_path": "huge"}))
    assert door.get("/jobs").json()["data"] == []
    assert bell.rung == []


# -- refusals ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("document", "pointer"),
    [
        (a_job(training={"learning_rat": 1}), "/training/learning_rat"),
        (a_job(training={"learning_rate": "1e-4"}), "/training/learning_rate"),
        (a_job(training={"learning_rate": True}), "/training/learning_rate"),
        (a_job(model={"model_name_or_path": "huge"}), "/model/model_name_or_path"),
        (a_job(model={"model_name_or_path": "../tiny"}), "/model/model_name_or_path"),
        (a_job(model={"model_name_or_path": "a\0b"}), "/model/model_name_or_path"),
        (a_job(data={"dataset": "numbers"}), "/data/dataset"),
        (a_job(data={"dataset": "empty"}), "/data/dataset"),
        (a_job(data={"dataset": "outside"}), "/data/dataset"),
        (a_job(data={"dataset_dir": "../.."}), "/data/dataset_dir"),
        (a_job(data={"template": "llama99"}), "/data/template"),
        (a_job(resources={"max_lost": 2**40}), "/resources/max_lost"),
        (a_job(resources={"gpus": -1}), "/resources/gpus"),
        (a_job(labels={"a\0b": "x"}), "/labels"),
        (a_flat_job(dataset="numbers"), "/dataset"),
        (a_flat_job(lr=1), "/lr"),
        ([], ""),
        ("job", ""),
        (0, ""),
    ],
)
def test_a_bad_document_is_refused_at_its_place(plain_door, document, pointer):
    assert [found for found, _ in plain_door.refusals(document)] == [pointer]


def test_everything_that_is_wrong_is_said_at_once(plain_door):
    found = plain_door.refusals(a_job(model={"model_name_or_path": "huge"}, data={"dataset": "numbers", "template": "llama99"}))
    assert {pointer for pointer, _ in found} == {"/model/model_name_or_path", "/data/dataset", "/data/template"}


def test_unknown_names_are_answered_with_those_there_are(plain_door):
    [(_, sentence)] = plain_door.refusals(a_job(data={"dataset": "numbers"}))
    assert "there are: letters, lines, records" in sentence


def test_a_thousand_errors_are_counted_and_not_all_sent(plain_door):
    document = a_job(training={f"key{number}": 1 for number in range(1000)})
    response = plain_door.post("/jobs", json=document)
    assert len(response.json()["errors"]) == 100
    assert "999 more" in response.json()["detail"]


# -- dry runs ------------------------------------------------------------------------------------------------------------


def test_a_dry_run_says_what_would_run_and_stores_nothing(door, bell):
    document = a_job(data={"val_size": 0.2}, training={"per_device_train_batch_size": 3, "num_train_epochs": 2.0})
    response = door.post("/jobs?dry_run=true", json=document)
    assert response.status_code == 200
    answer = response.json()
    assert answer["resolved"]["steps"][0]["training"]["num_train_epochs"] == 2.0
    assert answer["notices"] == []
    assert answer["steps"] == [
        {
            "name": "sft",
            "do": "train",
            "stage": "sft",
            "finetuning_type": "lora",
            "rows": 10,
            "training_rows": 8,
            "validation_rows": 2,
            "measured_rows": None,
            "updates": 6,
            "parameters": 420,
            "trainable_parameters": 8 * 2 * 68,
            "beside": {},
            "memory": None,
            "why_unknown": {"memory": "The model's config does not say what its layers are made of."},
        }
    ]
    assert door.get("/jobs").json()["data"] == []
    assert bell.rung == []


def test_a_dry_run_refuses_what_a_submission_would_and_what_counting_finds(plain_door):
    assert [p for p, _ in plain_door.refusals(a_job(data={"dataset": "numbers"}), "/jobs?dry_run=true")] == ["/data/dataset"]
    assert [p for p, _ in plain_door.refusals(a_flat_job(dataset="broken"), "/jobs?dry_run=true")] == ["/dataset"]
    assert [p for p, _ in plain_door.refusals(a_flat_job(val_size=10), "/jobs?dry_run=true")] == ["/val_size"]


def test_a_dry_run_that_is_neither_true_nor_false_is_refused(plain_door):
    response = plain_door.post("/jobs?dry_run=perhaps", json=a_job())
    assert [error["pointer"] for error in response.json()["errors"]] == ["/query/dry_run"]
