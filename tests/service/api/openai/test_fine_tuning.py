import math
from typing import Any

import pytest
from sqlalchemy import update

from service.api.openai.hyperparameters import auto_batch_size, batch_arguments
from service.settings import Settings
from service.specs.reasons import Reason
from service.store import events, jobs, leases, removals
from service.store.clock import now
from service.store.leases import Claim
from service.store.session import Database
from service.store.tables import IdempotencyKey
from tests.service.api import made
from tests.service.api.door import Bell, Door
from tests.service.api.openai.uploaded import keep, lines, preferences

JOBS = "/v1/fine_tuning/jobs"


def create(door: Door, file: str | None = None, **more: Any) -> dict[str, Any]:
    """A job that must be accepted."""
    answer = door.post(JOBS, json={"model": "tiny", "training_file": file or keep(door), **more})
    assert answer.status_code == 200, answer.text
    job: dict[str, Any] = answer.json()
    return job


def ours(door: Door, job: dict[str, Any]) -> dict[str, Any]:
    """The same job at our own door, as it will run."""
    resolved: dict[str, Any] = door.get(f"/jobs/{job['id'].removeprefix('ft')}").json()["resolved"]
    return resolved


def refused(door: Door, **more: Any) -> tuple[str | None, str]:
    """(param, message) of what must be refused."""
    answer = door.post(JOBS, json={"model": "tiny", "training_file": more.pop("file", None) or keep(door), **more})
    assert answer.status_code == 422, answer.text
    error = answer.json()["error"]
    assert error["type"] == "invalid_request_error"
    return error["param"], error["message"]


def test_auto_comes_to_numbers_that_are_shown(plain_door: Door, bell: Bell) -> None:
    job = create(plain_door, hyperparameters={"n_epochs": "auto", "batch_size": "auto", "learning_rate_multiplier": "auto"})
    assert job["hyperparameters"] == {"n_epochs": 3, "batch_size": 5, "learning_rate_multiplier": 1.0}  # an eighth of 40 rows
    assert job["method"] == {"type": "supervised", "supervised": {"hyperparameters": job["hyperparameters"]}}
    [step] = ours(plain_door, job)["steps"]
    assert (step["finetuning"]["stage"], step["data"]["template"]) == ("sft", "default")
    training = step["training"]
    assert (training["num_train_epochs"], training["per_device_train_batch_size"], training["learning_rate"]) == (3.0, 5, 1e-4)
    assert training["save_strategy"] == "epoch"
    assert bell.rung == ["default"]
    assert plain_door.get(f"{JOBS}/{job['id']}").json() == job


def test_a_batch_is_made_of_as_many_rows_as_go_into_it() -> None:
    made_of = {(1, 1), (8, 1), (6, 2), (8, 8), (1, 13), (6, 5)}
    assert {tuple(batch_arguments(size).values()) for size in (1, 8, 12, 64, 13, 30)} == made_of
    assert [auto_batch_size(rows) for rows in (None, 1, 40, 10**6)] == [8, 1, 5, 8]


def test_dpo_learns_from_preferences_with_its_own_rate_and_beta(plain_door: Door) -> None:
    file = keep(plain_door, preferences())
    method = {"type": "dpo", "dpo": {"hyperparameters": {"beta": 0.3, "learning_rate_multiplier": 2}}}
    job = create(plain_door, file, method=method)
    [step] = ours(plain_door, job)["steps"]
    assert (step["finetuning"]["stage"], step["finetuning"]["dpo_beta"], step["training"]["learning_rate"]) == ("dpo", 0.3, 1e-5)
    assert job["method"]["dpo"]["hyperparameters"] == {
        "n_epochs": 3, "batch_size": 5, "learning_rate_multiplier": 2.0, "beta": 0.3,
    }  # fmt: skip


def test_every_argument_may_be_named_and_wins(plain_door: Door) -> None:
    job = create(
        plain_door,
        method={"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 2, "lora_rank": 3}}},
        learning_rate=0.25,
        template="chatml",
        measures={"every": 2},
        resources={"gpus": 0, "priority": 3},
        seed=9,
        suffix="mine",
        metadata={"team": "blue"},
    )
    resolved = ours(plain_door, job)
    [step] = resolved["steps"]
    assert step["training"] | {"learning_rate": 0.25, "seed": 9, "num_train_epochs": 2.0} == step["training"]
    assert step["finetuning"]["lora_rank"] == 3
    assert (step["data"]["template"], step["measures"]["every"], resolved["resources"]["priority"]) == ("chatml", 2, 3)
    assert job["hyperparameters"]["learning_rate_multiplier"] == 0.25 / 1e-4
    assert (job["seed"], job["user_provided_suffix"], job["metadata"]) == (9, "mine", {"team": "blue"})
    whole = create(plain_door, finetuning_type="full")
    assert ours(plain_door, whole)["steps"][0]["training"]["learning_rate"] == 1e-5
    assert whole["hyperparameters"]["learning_rate_multiplier"] == 1.0


def test_other_stages_go_by_their_own_names(plain_door: Door) -> None:
    pt = create(plain_door, keep(plain_door, lines([{"text": "a"}] * 20)), method={"type": "pt"})
    assert (pt["method"]["type"], ours(plain_door, pt)["steps"][0]["data"]["template"]) == ("pt", None)
    rm = create(plain_door, keep(plain_door, preferences()), method={"type": "rm"})
    assert rm["method"]["type"] == "rm"


def test_the_held_out_file_is_measured(plain_door: Door) -> None:
    held_out = keep(plain_door)
    job = create(plain_door, validation_file=held_out)
    assert job["validation_file"] == held_out
    assert ours(plain_door, job)["steps"][0]["measures"]["dataset"] == [held_out]
    assert plain_door.delete(f"/v1/files/{held_out}").status_code == 409


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"model": "none"}, "model"),
    ({"model": 1}, "model"),
    ({"model": None}, "model"),
    ({"training_file": 1}, "training_file"),
    ({"file": "file-" + "0" * 24}, "training_file"),
    ({"validation_file": "file-" + "0" * 24}, "validation_file"),
    ({"method": "dpo"}, "method"),
    ({"method": {"type": "reinforcement"}}, "method.type"),
    ({"method": {"type": "supervised", "dpo": {}}}, "method.dpo"),
    ({"method": {"type": "dpo", "dpo": {"beta": 1}}}, "method.dpo.beta"),
    ({"method": {"type": "dpo"}}, "training_file"),
    ({"hyperparameters": {"n_epochs": "three"}}, "hyperparameters.n_epochs"),
    ({"hyperparameters": {"batch_size": 1.5}}, "hyperparameters.batch_size"),
    ({"hyperparameters": {"beta": 0.1}}, "hyperparameters.beta"),
    ({"hyperparameters": {"lora_rank": 0}}, "hyperparameters.lora_rank"),
    ({"hyperparameters": 3}, "hyperparameters"),
    ({"lora_rank": "x"}, "lora_rank"),
    ({"training": {"max_steps": "x"}}, "training.max_steps"),
    ({"seed": -1}, "seed"),
    ({"suffix": ""}, "suffix"),
    ({"metadata": {"a b": "c"}}, "metadata.a b"),
    ({"metadata": {"a": 1}}, "metadata.a"),
    ({"integrations": [{"type": "wandb"}]}, "integrations.0"),
    ({"integrations": "wandb"}, "integrations"),
    ({"integrations": [{"type": "comet", "comet": {}}]}, "integrations.0"),
    ({"integrations": [{"type": "wandb", "wandb": {}}]}, "integrations.0.wandb.project"),
    ({"integrations": [{"type": "wandb", "wandb": {"project": "a", "group": "b"}}]}, "integrations.0.wandb.group"),
    ({"integrations": [{"type": "wandb", "wandb": {"project": "a", "tags": [1]}}]}, "integrations.0.wandb.tags"),
    ({"integrations": [{"type": "wandb", "wandb": {"project": "a", "name": ""}}]}, "integrations.0.wandb.name"),
    ({"no_such": 1}, "no_such"),
]


def test_what_is_wrong_is_told_by_the_name_that_it_has_in_the_request(plain_door: Door) -> None:
    file = keep(plain_door)
    told = [(more, refused(plain_door, **({"file": file} | more))) for more, _ in WRONG]
    assert [(more, found) for more, (found, _) in told] == WRONG
    assert plain_door.get(JOBS).json()["data"] == []


def test_an_integration_with_weights_and_biases_is_where_the_series_go_and_is_shown(plain_door: Door) -> None:
    wandb = {"project": "fables", "name": "of spring", "entity": "aesop", "tags": ["fox", "grapes"]}
    told = [{"type": "wandb", "wandb": wandb}]
    body = {"model": "tiny", "training_file": keep(plain_door), "integrations": told}
    made = plain_door.post(JOBS, json=body).json()
    assert made["integrations"] == told
    job_id = made["id"].replace("ftjob-", "job-")
    [step] = plain_door.get(f"/jobs/{job_id}").json()["resolved"]["steps"]
    training = step["training"]
    assert training["report_to"] == ["wandb"]
    assert [training[name] for name in ("project", "run_name", "wandb_entity", "run_tags")] == list(wandb.values())
    plain = plain_door.post(JOBS, json=body | {"integrations": None}).json()
    assert plain["integrations"] == []


def test_a_body_that_is_no_job_is_refused(plain_door: Door) -> None:
    assert plain_door.post(JOBS, json=[]).json()["error"]["param"] is None
    assert plain_door.post(JOBS, json={}).json()["error"]["param"] == "model"
    assert plain_door.post(JOBS, content=b"{", headers={"content-type": "application/json"}).status_code == 400


def test_the_same_body_soon_again_is_the_same_job_and_later_another(door: Door, database: Database, bell: Bell) -> None:
    file = keep(door)
    first = create(door, file)
    assert create(door, file)["id"] == first["id"]
    assert create(door, file, seed=1)["id"] != first["id"]
    assert len(bell.rung) == 2
    made_ago(database, 60)
    retried = door.post(JOBS, json={"model": "tiny", "training_file": file}, headers={"x-stainless-retry-count": "1"})
    assert retried.json()["id"] == first["id"]  # a client that waited long for the answer
    later = create(door, file)
    assert later["id"] != first["id"]
    assert create(door, file)["id"] == later["id"]


def made_ago(database: Database, seconds: float) -> None:
    with database.transaction() as session:
        session.execute(update(IdempotencyKey).values(created_at=now() - seconds).execution_options(synchronize_session=False))


def test_a_key_of_the_clients_own_goes_before(plain_door: Door) -> None:
    file = keep(plain_door)
    body = {"model": "tiny", "training_file": file}
    ids = {plain_door.post(JOBS, json=body, headers={"idempotency-key": key}).json()["id"] for key in ("a", "b", "a")}
    assert len(ids) == 2
    answer = plain_door.post(JOBS, json=body | {"seed": 1}, headers={"idempotency-key": "a"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "idempotency_mismatch")


def test_jobs_are_paged_and_found_by_their_metadata(door: Door) -> None:
    file = keep(door)
    ids = [create(door, file, seed=n, metadata={"team": "blue", "n": str(n % 2)})["id"] for n in range(4)]
    create(door, file)
    page = door.get(JOBS, params={"metadata[team]": "blue", "limit": 3}).json()
    assert ([job["id"] for job in page["data"]], page["has_more"]) == (ids[:0:-1], True)
    rest = door.get(JOBS, params={"metadata[team]": "blue", "limit": 3, "after": page["last_id"]}).json()
    assert ([job["id"] for job in rest["data"]], rest["has_more"]) == (ids[:1], False)
    both = door.get(JOBS, params={"metadata[team]": "blue", "metadata[n]": "1"}).json()
    assert [job["id"] for job in both["data"]] == [ids[3], ids[1]]
    assert door.get(JOBS, params={"after": "nobody"}).json()["error"]["code"] == "bad_cursor"
    assert door.get(JOBS, params={"metadata": "null"}).json()["error"]["param"] == "metadata"


def test_a_job_is_steered_and_what_its_state_forbids_is_not_asked_again(door: Door, bell: Bell) -> None:
    url = f"{JOBS}/{create(door)['id']}"
    told = [door.post(f"{url}/{verb}").json()["status"] for verb in ("pause", "resume", "cancel")]
    assert told == ["paused", "queued", "cancelled"]
    assert len(bell.rung) == 2
    again = door.post(f"{url}/resume", content=b"{}", headers={"content-type": "application/json"})
    assert (again.status_code, again.headers["x-should-retry"], again.json()["state"]) == (409, "false", "cancelled")
    assert door.get(f"{JOBS}/job-{'0' * 24}").json()["error"]["code"] == "not_found"


def test_events_come_newest_first_and_page_on_by_their_ids(door: Door, database: Database) -> None:
    job = create(door)
    job_id = job["id"].removeprefix("ft")
    with database.transaction() as session:
        events.add(session, job_id, "alert", "too sure", {"step": "sft"})
        events.add(session, job_id, "measured", "measured", {"step": "sft"})
    page = door.get(f"{JOBS}/{job['id']}/events", params={"limit": 2}).json()
    assert [(event["level"], event["type"], event["message"]) for event in page["data"]] == [
        ("info", "metrics", "measured"),
        ("warn", "message", "too sure"),
    ]
    assert page["data"][1]["data"] == {"kind": "alert", "number": 2, "step": "sft"}
    rest = door.get(f"{JOBS}/{job['id']}/events", params={"limit": 2, "after": page["last_id"]}).json()
    assert ([event["data"]["number"] for event in rest["data"]], rest["has_more"]) == ([1], False)
    foreign = page["last_id"].replace(job_id.removeprefix("job-"), "0" * 24)
    assert door.get(f"{JOBS}/{job['id']}/events", params={"after": foreign}).json()["error"]["param"] == "after"


@pytest.fixture
def trained(door: Door, database: Database) -> tuple[dict[str, Any], Claim]:
    """A job with two checkpoints, measured, that has succeeded; as its client sees it."""
    job = create(door, suffix="my first: run")
    held = made.claim(database)
    for global_step in (5, 10):
        made.checkpoint(database, held, "sft", global_step, {"adapter_model.safetensors": b"weights"})
        made.measure(database, held, "sft", global_step, cross_entropy=2.0 + 1 / global_step, top_1_accuracy=0.5, kl_to_base=0.1)
        made.measure(database, held, "sft", global_step, split="anchor", cross_entropy=9.0)
    with database.transaction() as session:
        events.add(session, held.job_id, "data_loaded", "loaded", {"step": "sft", "trained_tokens": 100})
    made.finish_step(database, held, "sft", f"{held.job_id}/1/sft/checkpoint-10")
    made.succeed(database, held)
    return door.get(f"{JOBS}/{job['id']}").json(), held


def test_checkpoints_have_openais_metrics_in_nats_and_ours_in_bits(door: Door, trained: tuple[dict[str, Any], Claim]) -> None:
    job, _ = trained
    page = door.get(f"{JOBS}/{job['id']}/checkpoints", params={"limit": 1}).json()
    [newest] = page["data"]
    assert (newest["step_number"], newest["fine_tuned_model_checkpoint"]) == (10, f"{job['fine_tuned_model']}:ckpt-sft-10")
    told = newest["metrics"]
    assert (told["step"], told["train_loss"], told["valid_mean_token_accuracy"], told["split"]) == (10, 1.25, 0.5, "validation")
    assert (told["cross_entropy"], told["kl_to_base"]) == (2.1, 0.1)
    assert told["valid_loss"] == told["full_valid_loss"] == pytest.approx(2.1 * math.log(2))
    rest = door.get(f"{JOBS}/{job['id']}/checkpoints", params={"after": page["last_id"]}).json()
    assert ([one["step_number"] for one in rest["data"]], page["has_more"], rest["has_more"]) == ([5], True, False)
    assert door.get(f"{JOBS}/{job['id']}/checkpoints", params={"after": "ftckpt-x"}).json()["error"]["param"] == "after"


def test_a_model_that_a_job_made_is_listed_and_given_up_while_its_story_stays(
    door: Door, database: Database, trained: tuple[dict[str, Any], Claim]
) -> None:
    job, held = trained
    name = job["fine_tuned_model"]
    assert name == f"ft:tiny:local:my-first-run:{held.job_id.removeprefix('job-')}"
    models = {model["id"]: model for model in door.get("/v1/models").json()["data"]}
    assert set(models) == {"tiny", "org/small", name}
    assert models[name] == door.get(f"/v1/models/{name}").json()
    assert door.get("/v1/models/org%2Fsmall").json()["id"] == "org/small"
    assert door.get(f"/v1/models/{name}:ckpt-sft-5").json()["checkpoint"] == f"{held.job_id}/sft/5"
    assert door.delete(f"/v1/models/{name}:ckpt-sft-5").json()["deleted"]
    assert door.get(f"/v1/models/{name}:ckpt-sft-5").status_code == 404
    assert door.get(f"/v1/models/{name}").status_code == 200
    assert door.delete(f"/v1/models/{name}").json() == {"id": name, "object": "model", "deleted": True}
    for answer in (door.get(f"/v1/models/{name}"), door.delete(f"/v1/models/{name}"), door.get(f"/v1/models/{name}:ckpt-sft-10")):
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")
    assert len(door.get("/v1/models").json()["data"]) == 2
    assert door.get(f"{JOBS}/{job['id']}").json()["fine_tuned_model"] == name
    assert door.get(f"{JOBS}/{job['id']}/checkpoints").json()["data"] == []
    with database.reading() as session:
        gone = {f"{held.job_id}/1/sft/checkpoint-{n}" for n in (5, 10)}
        assert set(removals.waiting(session)) == gone
    assert door.delete("/v1/models/tiny").json()["error"]["message"].startswith("The model 'tiny' lies in the operator's folder")


def test_a_job_may_begin_with_a_model_that_another_made(
    door: Door, database: Database, trained: tuple[dict[str, Any], Claim]
) -> None:
    job, held = trained
    name, file = job["fine_tuned_model"], keep(door)
    following = create(door, file, model=name)
    [step] = ours(door, following)["steps"]
    assert following["model"] == name
    assert step["model"]["model_name_or_path"] == "tiny"
    assert step["model"]["adapter_name_or_path"] == [f"{held.job_id}/sft/10"]
    assert (step["finetuning"]["create_new_adapter"], step["data"]["template"]) == (True, "default")
    earlier = create(door, file, model=f"{name}:ckpt-sft-5", seed=3)
    assert ours(door, earlier)["steps"][0]["model"]["adapter_name_or_path"] == [f"{held.job_id}/sft/5"]
    answer = door.delete(f"/v1/models/{name}")
    assert answer.status_code == 409
    assert following["id"] in answer.json()["error"]["message"]
    for one in (following, earlier):
        door.post(f"{JOBS}/{one['id']}/cancel")
    assert door.delete(f"/v1/models/{name}").status_code == 200
    assert refused(door, file=file, model=name, seed=4) == ("model", f"There is no model {name!r}.")


def test_our_own_door_takes_a_checkpoint_as_a_model_too(door: Door, trained: tuple[dict[str, Any], Claim]) -> None:
    _, held = trained
    document = {"model": {"model_name_or_path": f"{held.job_id}/sft"}, "data": {"dataset": "letters", "template": "chatml"}}
    dry = door.post("/jobs", params={"dry_run": True}, json=document).json()
    assert dry["resolved"]["steps"][0]["model"]["adapter_name_or_path"] == [f"{held.job_id}/sft/10"]
    assert dry["steps"][0]["parameters"] == 420
    assert door.refusals({**document, "model": {"model_name_or_path": f"{held.job_id}/sft/7"}}) == [
        ("/model/model_name_or_path", f"There is no checkpoint 7 of {held.job_id}/sft; there are 5, 10.")
    ]
    quantized = {"model_name_or_path": f"{held.job_id}/sft", "quantization_bit": 4}
    step = door.post("/jobs", params={"dry_run": True}, json={**document, "model": quantized}).json()["resolved"]["steps"][0]
    assert step["finetuning"]["create_new_adapter"] is False  # nothing can be merged into it: the adapter is gone on with


def test_how_a_job_failed_is_told_as_openai_does(door: Door, database: Database) -> None:
    job = create(door)
    held = made.claim(database)
    with database.transaction() as session:
        leases.fail(session, held, Reason.BAD_ROW, "train.jsonl, row 3: no.", {"row": 3})
    failed = door.get(f"{JOBS}/{job['id']}").json()
    assert failed["status"] == "failed"
    assert failed["error"] == {"code": "bad_row", "message": "train.jsonl, row 3: no.", "param": "training_file"}
    assert failed["fine_tuned_model"] is None


def test_a_job_of_our_own_door_is_seen_here(door: Door, database: Database, settings: Settings) -> None:
    job_id = door.submit()
    [job] = door.get(JOBS).json()["data"]
    assert (job["id"], job["model"], job["training_file"]) == (f"ft{job_id}", "tiny", "letters")
    with database.reading() as session:
        assert jobs.get(session, "local", job_id).state == job["status"]
