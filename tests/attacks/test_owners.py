"""Every operation that names a thing, asked with the key of somebody whose it is not."""

import json
from typing import Any

import pytest

from service.api.scopes import scope_of
from service.app import KEYED
from service.specs.scopes import Scope
from tests.attacks.family import Family
from tests.attacks.house import House, opened
from tests.service.api import made
from tests.service.api.test_audit import CHANGES, ELSEWHERE
from tests.service.api.test_keys import a_key
from tests.service.store import staffed

FAMILY = Family(
    name="Other owners' things",
    tried="every operation of both doors with the ids of another owner's jobs, files, uploads, data sets, webhooks and models; "
    "lists; references from a job of one's own",
    promise="404 as if there were no such thing; nothing told, nothing changed",
)


@pytest.fixture
def house(tmp_path):
    with opened(tmp_path, FAMILY) as house:
        yield house


def state_of(house: House) -> str:
    """All that stands in the database but the use of keys and the logs of what was changed and refused."""
    with house.database.engine.connect() as connection:
        names = [row[0] for row in connection.exec_driver_sql("SELECT name FROM sqlite_master WHERE type = 'table'")]
        told = {}
        for name in sorted(set(names) - {"api_keys", "audit", "refusals", "sqlite_sequence"}):
            told[name] = [tuple(row) for row in connection.exec_driver_sql(f'SELECT * FROM "{name}"')]
    return repr(told)


# What the operator alone may do is refused by its scope (tests/service/api/test_keys.py), and making something names nothing.
OPERATORS = {"drain_worker", "undrain_worker", "create_key", "revoke_key", "change_owner"}
MAKING = {
    "create_job",
    "create_webhook",
    "create_file",
    "create_upload",
    "create_fine_tuning_job",
    "put_dataset",
    "create_sending",
    "inspect_dataset",
}
ATTACKS = sorted(set(CHANGES) - OPERATORS - MAKING)


@pytest.fixture(scope="module")
def lived_in(tmp_path_factory):
    with opened(tmp_path_factory.mktemp("owners"), FAMILY) as house:
        yield house


@pytest.mark.parametrize("action", ATTACKS)
def test_what_is_another_s_cannot_be_changed(lived_in, action):
    house = lived_in
    house.door.headers = house.admin
    for job in house.door.get("/jobs?state=queued&limit=200").json()["data"]:  # what is claimed is what the attack is about
        house.door.post(f"/jobs/{job['id']}/cancel")
    prepare, change = CHANGES[action]
    house.door.headers = house.ann
    subject = prepare(house.door)
    before = state_of(house)
    house.door.headers = house.bob
    response = change(house.door, subject)
    assert response.status_code == 404, response.text
    assert state_of(house) == before
    house.door.headers = house.ann
    assert change(house.door, subject).is_success, "the attack asked for nothing that there is"


class Things:
    """All kinds of things of one owner, by what stands in an address."""

    def __init__(self, house: House):
        door = house.door
        door.headers = house.ann
        self.dataset = CHANGES["delete_dataset"][0](door)
        self.sending = CHANGES["delete_sending"][0](door).removeprefix("mine/uploads/")
        self.file = CHANGES["delete_file"][0](door)
        self.upload = CHANGES["cancel_upload"][0](door)
        self.webhook, self.delivery = CHANGES["replay_delivery"][0](door).split("/")
        self.model = CHANGES["delete_openai_model"][0](door)
        self.job = door.get("/jobs").json()["data"][0]["id"]
        staffed.enter(house.database)
        self.running = door.submit()
        held = made.claim(house.database)
        assert held.job_id == self.running
        made.artifact(house.database, held, house.settings.artifacts_root, "notes.txt", b"bytes of ann's")
        made.checkpoint(house.database, held, "sft", 3, {"model.safetensors": b"weights"})
        made.points(house.database, held, "sft", {1: 2.0})
        log = house.settings.artifacts_root / self.running / "1" / "log.txt"
        log.write_text("a line of ann's")

    def in_path(self, path: str) -> str:
        for name, value in {
            "job_id": self.running,
            "fine_tuning_job_id": f"ft{self.running}",
            "global_step": "3",
            "file_id": self.file,
            "upload_id": self.sending if path.startswith("/datasets") else self.upload,
            "webhook_id": self.webhook,
            "delivery_id": self.delivery,
            "owner": "ann",
            "other_id": self.job,
            "key_id": "key-aaaaaaaa",
        }.items():
            path = path.replace("{" + name + "}", value)
        # a version is named where one is looked at; what is made of versions has the name alone
        is_plain = path.startswith(("/datasets/{name}/uploads", "/datasets/{name}/versions"))
        dataset = "mine" if is_plain else self.dataset
        named = {"/jobs": "notes.txt", "/v1/models": self.model, "/datasets": dataset, "/workers": "one"}
        thing = next((value for prefix, value in named.items() if path.startswith(prefix)), "")
        return path.replace("{name:path}", thing).replace("{name}", thing)

    def marks(self) -> list[str]:
        """What may stand in no answer to another."""
        digits = [one.split("-")[-1] for one in (self.job, self.running, self.file, self.upload, self.webhook, self.delivery)]
        return [*digits, self.sending, self.dataset.partition("@")[2], "bytes of ann's", "a line of ann's"]


NAMED = sorted(
    {
        (method, route.path, route.name)
        for router in KEYED
        for route in router.routes
        for method in route.methods - {"HEAD"}
        if ("{" in route.path and method == "GET") or route.name in ELSEWHERE | {"validate_dataset", "inspect_dataset"}
    }
)


def test_what_is_another_s_cannot_be_looked_at(house):
    things = Things(house)
    assert len(NAMED) >= 25
    for method, path, name in NAMED:
        if "{name}" in path and path.startswith("/workers"):
            continue
        house.door.headers = house.bob
        address = things.in_path(path)
        assert "{" not in address
        body = {"model": "tiny", "template": "alpaca"} if name == "inspect_dataset" else {}
        response = house.door.request(method, address, json=body)
        assert response.status_code == 404, (address, response.text)
        unknown = [mark for mark in things.marks() if mark not in address]
        assert not [mark for mark in unknown if mark in response.text], (address, response.text)
        missing = house.door.request(method, address.replace(things.running, "job-" + "0" * 24), json=body)
        if things.running in address:
            told, of_none = response.json(), missing.json()
            assert [told[key] for key in ("status", "code", "title")] == [of_none[key] for key in ("status", "code", "title")]


# What an operation needs to be asked well, beside the names in its address: a body, or a query with bytes.
ASKED: dict[str, dict[str, Any]] = {
    "change_job": {"json": {"priority": 3}},
    "inspect_dataset": {"json": {"model": "tiny", "template": "alpaca"}},
    "change_owner": {"json": {"queued": 3}},
    "change_webhook": {"json": {"description": "mine"}},
    "continue_sending": {"content": b"x", "headers": {"upload-offset": "0", "content-type": "application/offset+octet-stream"}},
    "generate_text": {"json": {"prompt": "a"}},
    "add_upload_part": {"files": {"data": b"x"}},
    "complete_upload": {"json": {"part_ids": ["part-1"]}},
}

# Whoever has a key may look at a worker, and make a data set of one's own under a name that another has given one, too.
SHARED = {"get_worker", "put_dataset", "create_sending"}


def test_every_operation_that_the_document_has_is_closed_to_another_s_ids(house):
    """One that is new is among them by itself, or fails here for what its address has of names that nobody knows."""
    things = Things(house)
    asked = [
        (method, path, operation["operationId"])
        for path, operations in house.door.app.openapi()["paths"].items()
        for method, operation in operations.items()
        if "{" in path and operation["operationId"] not in SHARED
    ]
    assert len(asked) > 45
    for method, path, name in asked:
        address = things.in_path(path)
        assert "{" not in address, f"{name}: say in Things what stands in {path}"
        house.door.headers = house.bob
        before = state_of(house)
        response = house.door.request(method.upper(), address, **ASKED.get(name, {}))
        assert response.status_code == (403 if scope_of(name) == Scope.ADMIN else 404), (name, response.text)
        assert state_of(house) == before, name
        if method == "get" and not name.startswith("stream_"):  # which have no end
            house.door.headers = house.ann
            own = house.door.get(address)
            assert own.status_code != 404 or "There is no job" not in own.text, (
                f"{name}: the attack asked for nothing that there is"
            )
            assert own.status_code != 404 or name == "compare_jobs", name  # which has no checkpoints to compare


def test_a_job_of_one_s_own_is_not_compared_with_another_s(house):
    things = Things(house)
    house.door.headers = house.bob
    own = house.door.submit()
    for one, other in ((own, things.job), (things.job, own)):
        response = house.door.get(f"/jobs/{one}/versus/{other}")
        assert (response.status_code, "There is no job" in response.text) == (404, True)
    assert "There is no job" not in house.door.get(f"/jobs/{own}/versus/{own}").text


LISTS = sorted(
    {
        (route.path, route.name)
        for router in KEYED
        for route in router.routes
        if "GET" in route.methods and "{" not in route.path and route.name not in ("list_keys", "list_owners", "list_audit")
    }
)


def test_lists_have_nothing_of_another_s(house):
    things = Things(house)
    house.door.headers = house.bob
    assert len(LISTS) >= 10
    for path, _ in [*LISTS, ("/workers/one", "get_worker"), ("/owners/bob", "get_owner")]:
        for query in ("", "?limit=100"):
            text = house.door.get(path + query).text
            assert not [mark for mark in [*things.marks(), '"mine"'] if mark in text], (path, text)
    for path, after in (("/jobs", things.job), ("/v1/files", things.file), ("/v1/fine_tuning/jobs", f"ft{things.job}")):
        assert house.door.get(f"{path}?after={after}").status_code == 422, "a cursor tells that there is such a thing"


# What a job may name of other jobs and files, as its owner's; by argument.
REFERENCES = {
    "a file": lambda things: {"data": {"dataset": things.file}},
    "a data set": lambda things: {"data": {"dataset": things.dataset}},
    "a data set by its name": lambda things: {"data": {"dataset": "mine"}},
    "a file to measure on": lambda things: {"measures": {"dataset": things.file}},
    "a checkpoint to begin with": lambda things: {"model": {"model_name_or_path": f"{things.job}/sft/3"}},
    "a checkpoint to measure": lambda things: {"do": "measure", "measures": {"checkpoints": f"{things.job}/sft/*"}},
    "a checkpoint to export": lambda things: {"do": "export", "model": {"model_name_or_path": f"{things.job}/sft"}},
    "an adapter": lambda things: {"model": {"adapter_name_or_path": f"{things.job}/sft/3"}},
    "a reference model": lambda things: {"finetuning": {"stage": "dpo", "ref_model": f"{things.job}/sft/3"}},
    "a reward model": lambda things: {
        "finetuning": {"stage": "ppo", "reward_model": f"{things.job}/sft/3", "reward_model_type": "full"}
    },
}


def test_a_job_can_name_nothing_of_another_s(house):
    things = Things(house)
    house.door.headers = house.bob
    for name, document in REFERENCES.items():
        asked = {"model": {"model_name_or_path": "tiny"}, "data": {"dataset": "letters", "template": "alpaca"}}
        for group, values in document(things).items():
            asked[group] = asked.get(group, {}) | values if isinstance(values, dict) else values
        if asked.get("do") in ("measure", "export"):
            asked["data"] = {"template": "alpaca"} if asked["do"] == "export" else asked["data"]
        for query in ("", "?dry_run=true"):
            response = house.door.post(f"/jobs{query}", json=asked)
            assert response.status_code == 422, (name, response.text)
        own = {"there is no", "is not"}
        assert any(word in response.text.lower() for word in own), (name, response.text)
    fine_tuning = {"model": "tiny", "training_file": things.file}
    assert house.door.post("/v1/fine_tuning/jobs", json=fine_tuning).status_code == 422
    assert house.door.post("/v1/fine_tuning/jobs", json={"model": things.model, "training_file": "letters"}).status_code == 422


def test_a_key_that_another_used_makes_something_of_one_s_own(house):
    """Idempotency keys are each owner's, and so is what a body's digest remembers."""
    document = {"model": {"model_name_or_path": "tiny"}, "data": {"dataset": "letters", "template": "alpaca"}}
    ids = []
    for who in (house.ann, house.bob):
        response = house.door.post("/jobs", json=document, headers=who | {"idempotency-key": "the-same"})
        assert response.status_code == 201
        ids.append(response.json()["id"])
    assert len(set(ids)) == 2


@pytest.mark.parametrize("owner", ["*", "ann", "root", "local"])
def test_nobody_becomes_another_by_saying_so(house, owner):
    """In a header, a query or a body, whatever it is called."""
    house.door.headers = house.ann
    theirs = house.door.submit()
    house.door.headers = house.bob | {"x-owner": owner, "x-forwarded-user": owner, "owner": owner, "x-api-key": owner}
    assert theirs not in house.door.get(f"/jobs?owner={owner}&sees={owner}").text
    assert house.door.get(f"/jobs/{theirs}?owner={owner}").status_code == 404
    refused = house.door.post("/jobs", json={"owner": owner, "model": {"model_name_or_path": "tiny"}})
    assert json.loads(refused.text)["errors"][0]["pointer"] == "/owner"
    assert house.door.post("/keys", json={"owner": owner, "scopes": ["admin"]}).status_code == 403


def test_a_key_of_one_scope_is_worth_no_more(house):
    _, reading = a_key(house.door, "ann", ["read"])
    house.door.headers = house.ann
    job_id = house.door.submit()
    for method, path in (("DELETE", f"/jobs/{job_id}"), ("POST", f"/jobs/{job_id}/cancel"), ("POST", "/jobs"), ("GET", "/audit")):
        assert house.door.request(method, path, headers=reading).status_code == 403
