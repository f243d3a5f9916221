import hashlib
import json

import pytest
import torch

from service.library.training_files import looked_at
from service.specs.reasons import Reason
from tests.worker.stages.attempts import Host, a_job, weights

FILE = "file-" + "a" * 24


@pytest.fixture
def host(tmp_path, make_llama, tokenizer_folder):
    return Host(tmp_path, make_llama, tokenizer_folder)


def upload(host, rows, name=FILE):
    """As the service keeps it, and as a supervisor tells of it."""
    path = host.artifacts / "files" / name / "train.jsonl"
    path.parent.mkdir(parents=True)
    path.write_text("\n".join(map(json.dumps, rows)))
    entry = looked_at(path, "train.jsonl").entry.model_dump(mode="json", exclude_defaults=True)
    host.uploaded[name] = {"path": f"files/{name}/train.jsonl", "size": 1, "sha256": "", "entry": entry, "rows": len(rows)}


def chats(n, weight=1):
    first = [{"role": "user", "content": "what is this"}, {"role": "assistant", "content": "this is", "weight": weight}]
    return [
        {"messages": [*first, {"role": "user", "content": f"the animals {i}"}, {"role": "assistant", "content": "the fox"}]}
        for i in range(n)
    ]


def a_short_job(**data):
    return a_job(data={"dataset": FILE, "val_size": 0} | data, training={"max_steps": 1}, measures={"names": ""})


def test_a_step_trains_on_a_file_and_needs_no_folder_of_data_sets(host):
    upload(host, chats(8))
    host.datasets.joinpath("data", "dataset_info.json").unlink()
    [loaded] = host.done(a_short_job()).events("data_loaded")
    upload(host, chats(8, weight=0), name="file-" + "b" * 24)
    [with_weights] = host.done(a_short_job(dataset="file-" + "b" * 24)).events("data_loaded")
    assert loaded["data"]["rows"] == with_weights["data"]["rows"] == 8
    assert loaded["data"]["tokens"] == with_weights["data"]["tokens"]
    assert 0 < with_weights["data"]["trained_tokens"] < loaded["data"]["trained_tokens"]


def test_a_file_of_a_store_that_is_elsewhere_is_brought_here_whole(host, tmp_path):
    upload(host, chats(8))
    told, store = host.uploaded[FILE], tmp_path / "store"
    kept = host.artifacts / told["path"]
    told |= {"size": kept.stat().st_size, "sha256": hashlib.sha256(kept.read_bytes()).hexdigest()}
    (store / told["path"]).parent.mkdir(parents=True)
    kept.rename(store / told["path"])
    host.store_url = f"file://{store}"
    assert host.done(a_short_job()).events("data_loaded")[0]["data"]["rows"] == 8
    assert kept.exists()
    kept.unlink()
    (store / told["path"]).write_bytes(b"other bytes")
    assert host.attempt(a_short_job()).error.reason == Reason.MISSING_DATA


def test_a_file_and_a_data_set_of_the_folder_go_together(host):
    upload(host, chats(8))
    attempt = host.done(a_short_job(dataset=f"{FILE},pets"))
    assert attempt.events("data_loaded")[0]["data"]["rows"] == 20


def test_a_file_that_is_gone_fails_the_job_with_its_name(host):
    upload(host, chats(2))
    host.uploaded.clear()
    error = host.attempt(a_short_job()).error
    assert (error.reason, FILE in error.sentence) == (Reason.MISSING_DATA, True)


def test_a_row_that_only_the_worker_can_refuse_names_the_clients_own_file_and_line(host):
    upload(host, [*chats(2), {"messages": [{"role": "assistant", "content": "a"}, {"role": "assistant", "content": "b"}]}])
    error = host.attempt(a_short_job()).error
    assert error.reason == Reason.BAD_ROW
    assert error.sentence.startswith("train.jsonl, row 3: ")


def test_a_job_begins_with_the_adapter_that_an_earlier_one_ended_with(host):
    document = a_job(measures={"names": ""})
    job_id = host.remember(document, host.done(document))
    model = {"adapter_name_or_path": f"{job_id}/sft/4"}
    gone_on = a_job(model=model, training={"max_steps": 1, "learning_rate": 1e-9}, measures={"names": ""}) | {"finetuning": {}}
    made = host.weights(host.done(gone_on))
    was = weights(host.artifacts / host.earlier_jobs[job_id]["outputs"]["sft"])
    assert made.keys() == was.keys()
    assert all(torch.allclose(made[name], was[name], atol=1e-6) for name in was)
    host.earlier_jobs[job_id]["checkpoints"]["sft"].clear()
    error = host.attempt(gone_on).error
    assert (error.reason, error.sentence) == (
        Reason.MISSING_MODEL,
        f"The checkpoint '{job_id}/sft/4' is not there, or is kept no longer.",
    )


def test_a_job_begins_with_the_whole_model_that_an_earlier_one_made(host):
    document = a_job(measures={"names": ""}, finetuning={"finetuning_type": "full"}) | {"finetuning": {"finetuning_type": "full"}}
    first = host.done(document)
    job_id = host.remember(document, first)
    later = host.done(a_job(model={"model_name_or_path": f"{job_id}/sft/4"}, measures={"names": ""}))
    assert later.losses()[0] < first.losses()[0] - 0.1
