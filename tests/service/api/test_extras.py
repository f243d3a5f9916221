"""What a job needs of its worker beside what every worker has: refused, noticed or accepted by what workers have reported."""

import base64
from typing import Any

import pytest
from pydantic import SecretStr

from service.app import create_app
from service.specs import extras as needed
from tests.service.api.door import Door
from tests.service.store.staffed import enter
from tests.specs.job_documents import a_job
from worker import extras

KEY = SecretStr(base64.urlsafe_b64encode(bytes(range(32))).decode())
HARNESS: dict[str, Any] = {"do": "evaluate", "data": {"dataset": None}, "evaluation": {"task": "lm_eval:arc_easy"}}

# By extra: a job that needs it, where that is said, and what an operator reads.
NEEDS = {
    "unsloth": (a_job(model={"use_unsloth": True}), "/model/use_unsloth", "Without use_unsloth, peft trains."),
    "eval": (a_job(**HARNESS), "/evaluation/task", "pip install 'finebits[worker,eval]' on its host brings it."),
    "modelscope": (
        a_job(model={"ms_hub_token": "secret"}),
        "/model/ms_hub_token",
        "pip install 'finebits[worker,modelscope]' on its host brings it.",
    ),
}
CASES = pytest.mark.parametrize(("extra", "document", "pointer", "how"), [(name, *case) for name, case in NEEDS.items()])


@pytest.fixture
def opened(settings, database, bell):
    told = settings.model_copy(update={"hub": True, "modelscope": True, "secret_key": KEY})
    with Door(create_app(told, database, bell)) as door:
        yield door


def notices(door, document):
    response = door.post("/jobs?dry_run=true", json=document)
    assert response.status_code == 200, response.text
    return [(notice["pointer"], notice["detail"]) for notice in response.json()["notices"]]


@CASES
def test_with_no_worker_yet_a_notice_says_that_it_is_not_known(opened, extra, document, pointer, how):
    sentence = f"No worker of queue default has reported yet: whether one has {extra} is not known."
    assert notices(opened, document) == [(pointer, sentence)]


@CASES
def test_where_every_worker_lacks_it_it_is_refused(opened, database, extra, document, pointer, how):
    enter(database, "host-a", extras=("gptq",))
    enter(database, "elsewhere", queues=("a100",), extras=(extra,))
    [(found, sentence)] = opened.refusals(document)
    assert found == pointer
    assert sentence.startswith(f"No worker of queue default has the extra {extra}, which this needs: ")
    assert sentence.endswith(how)
    assert notices(opened, document | {"resources": {"queue": "a100"}}) == []


@CASES
def test_where_some_have_it_a_notice_says_who_does_not(opened, database, extra, document, pointer, how):
    enter(database, "host-a")
    enter(database, "host-b", extras=(extra,))
    [(found, sentence)] = notices(opened, document)
    assert (found, sentence.startswith(f"Of queue default, host-a are without the extra {extra}.")) == (pointer, True)


def test_extras_that_no_worker_has_together_are_refused(opened, database):
    enter(database, "host-a", extras=("eval",))
    enter(database, "host-b", extras=("modelscope",))
    document = a_job(**HARNESS, model={"ms_hub_token": "secret"})
    [(_, sentence)] = opened.refusals(document)
    assert sentence == "No worker of queue default has eval and modelscope together, and one worker does the whole of a job."
    enter(database, "host-c", extras=("eval", "modelscope"))
    assert len(notices(opened, document)) == 2


def test_every_extra_that_a_job_can_need_is_one_that_workers_look_for():
    assert {*NEEDS, "gptq"} == set(extras.EXTRAS)
    assert set(needed.HOW) <= set(extras.EXTRAS)
