"""What a program written for OpenAI does, with nothing but its package: `python drive.py URL [every-method]`.

It runs under any version of the package, so it imports nothing of ours. What does not hold ends it with the line that says so.
"""

import hashlib
import io
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import openai

MODEL = "tiny-llama"
ON_CPU = {"resources": {"gpus": 0}}
FOR_NOBODY = {"resources": {"gpus": 0, "queue": "nobody"}}  # no worker takes it, so it waits as long as it is looked at


def chats(n: int, **extra: Any) -> bytes:
    """The last turn of each is learned, and the first is not."""
    rows = []
    for i in range(n):
        first = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "hello", "weight": 0}]
        last = [{"role": "user", "content": f"the number {i % 7}"}, {"role": "assistant", "content": "the answer is here"}]
        rows.append({"messages": [{"role": "system", "content": "be brief"}, *first, *last], **extra})
    return "\n".join(map(json.dumps, rows)).encode()


def preferences(n: int) -> bytes:
    rows = [
        {
            "input": {"messages": [{"role": "user", "content": f"the number {i % 7}"}], "tools": [], "parallel_tool_calls": True},
            "preferred_output": [{"role": "assistant", "content": "the answer is here"}],
            "non_preferred_output": [{"role": "assistant", "content": "no no no no"}],
        }
        for i in range(n)
    ]
    return "\n".join(map(json.dumps, rows)).encode()


def texts(n: int) -> bytes:
    return "\n".join(json.dumps({"text": f"the number {i % 7} and the answer is here"}) for i in range(n)).encode()


def upload(client: openai.OpenAI, name: str, content: bytes) -> Any:
    file = client.files.create(file=(name, content), purpose="fine-tune")
    return client.files.wait_for_processing(file.id, poll_interval=0.01)


def ended(client: openai.OpenAI, job_id: str, until: tuple[str, ...] = ("succeeded",), seconds: float = 180) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        job = client.fine_tuning.jobs.retrieve(job_id)
        if job.status in until:
            return job
        assert job.status in ("queued", "running", "paused"), (job.status, job.error)
        time.sleep(0.1)
    raise AssertionError(f"{job.status} after {seconds} s, not {until}")


def refused(kind: type[openai.APIStatusError], ask: Any) -> openai.APIStatusError:
    try:
        ask()
    except kind as error:
        refusal = error
    else:
        raise AssertionError(f"not refused with {kind.__name__}")
    assert refusal.response.headers["x-request-id"]
    return refusal


def files(client: openai.OpenAI) -> None:
    content = chats(20)
    file = upload(client, "chats.jsonl", content)
    assert (file.object, file.purpose, file.status, file.bytes) == ("file", "fine-tune", "processed", len(content))
    assert client.files.content(file.id).read() == content
    expiring = client.files.create(
        file=("notes.txt", b"any bytes \xff"),
        purpose="user_data",
        extra_body={"expires_after": {"anchor": "created_at", "seconds": 3600}},
    )
    assert expiring.expires_at == expiring.created_at + 3600
    for _ in range(3):
        upload(client, "more.jsonl", content)
    known = [one.id for one in client.files.list(purpose="fine-tune", limit=2)]  # through the pages
    assert len(known) == 4
    assert known[-1] == file.id
    assert [one.id for one in client.files.list(purpose="fine-tune", order="asc", limit=3)] == known[::-1]
    assert client.files.delete(known[0]).deleted
    refused(openai.NotFoundError, lambda: client.files.retrieve(known[0]))
    error = refused(openai.UnprocessableEntityError, lambda: upload(client, "bad.jsonl", content + b'\n{"messages": "none"}'))
    assert "bad.jsonl, line 21: messages must be a list of messages." in error.message
    assert error.param == "file"


def uploads(client: openai.OpenAI) -> str:
    content = chats(60)
    whole = hashlib.md5(content).hexdigest()
    done = client.uploads.upload_file_chunked(
        file=content,
        filename="parts.jsonl",
        bytes=len(content),
        mime_type="text/jsonl",
        purpose="fine-tune",
        part_size=5000,
        md5=whole,
    )
    assert done.status == "completed"
    assert client.files.content(done.file.id).read() == content
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "held_out.jsonl")
        path.write_bytes(chats(16))
        held_out = client.uploads.upload_file_chunked(file=path, mime_type="text/jsonl", purpose="fine-tune")
    opened = client.uploads.create(bytes=10, filename="x.jsonl", mime_type="text/jsonl", purpose="fine-tune")
    part = client.uploads.parts.create(opened.id, data=io.BytesIO(b"12345"))
    error = refused(openai.UnprocessableEntityError, lambda: client.uploads.complete(opened.id, part_ids=[part.id]))
    assert "5 bytes" in error.message
    assert client.uploads.cancel(opened.id).status == "cancelled"
    error = refused(openai.ConflictError, lambda: client.uploads.parts.create(opened.id, data=b"1"))
    assert error.response.headers["x-should-retry"] == "false"
    return f"{done.file.id} {held_out.file.id}"


def supervised(client: openai.OpenAI, training: str, validation: str) -> Any:
    job = client.fine_tuning.jobs.create(
        model=MODEL,
        training_file=training,
        validation_file=validation,
        method={
            "type": "supervised",
            "supervised": {"hyperparameters": {"n_epochs": 2, "batch_size": 16, "learning_rate_multiplier": "auto"}},
        },
        suffix="first",
        seed=7,
        metadata={"team": "blue"},
        extra_body={"lora_rank": 4, "cutoff_len": 128, **ON_CPU},
    )
    assert (job.object, job.model, job.seed, job.training_file, job.validation_file) == (
        "fine_tuning.job", MODEL, 7, training, validation,
    )  # fmt: skip
    assert job.hyperparameters.learning_rate_multiplier == 1.0
    assert job.method.supervised.hyperparameters.n_epochs == 2
    return ended(client, job.id)


def look_at(client: openai.OpenAI, job: Any) -> None:
    events = list(client.fine_tuning.jobs.list_events(job.id, limit=3))  # page after page
    numbers = [event.data["number"] for event in events]
    assert numbers == list(range(len(events), 0, -1)), numbers
    assert {events[0].level, events[0].object} == {"info", "fine_tuning.job.event"}
    saved = list(client.fine_tuning.jobs.checkpoints.list(job.id, limit=1))
    assert [one.step_number for one in saved] == [8, 4]
    newest = saved[0].metrics
    assert newest.step == 8
    assert 0 < newest.valid_loss < saved[1].metrics.valid_loss
    assert newest.train_loss > 0
    extra = newest.model_extra
    assert extra["perplexity"] > 1
    assert extra["kl_to_base"] > 0
    assert abs(extra["cross_entropy"] * 0.6931471805599453 - newest.valid_loss) < 1e-9
    assert job.fine_tuned_model.startswith(f"ft:{MODEL}:")
    assert ":first:" in job.fine_tuned_model
    assert job.trained_tokens > 0
    assert job.finished_at >= job.created_at
    assert job.id in [one.id for one in client.fine_tuning.jobs.list(extra_query={"metadata[team]": "blue"})]
    assert job.id not in [one.id for one in client.fine_tuning.jobs.list(extra_query={"metadata[team]": "red"})]


def steer(client: openai.OpenAI, training: str) -> None:
    create = client.fine_tuning.jobs.create
    asked = {"model": MODEL, "training_file": training, "suffix": "waits", "extra_body": FOR_NOBODY}
    job = create(**asked)
    assert create(**asked).id == job.id  # a client that did not hear the answer
    assert client.fine_tuning.jobs.pause(job.id).status == "paused"
    assert client.fine_tuning.jobs.resume(job.id).status == "queued"
    error = refused(openai.ConflictError, lambda: client.files.delete(training))
    assert job.id in error.message
    assert client.fine_tuning.jobs.cancel(job.id).status == "cancelled"
    error = refused(openai.ConflictError, lambda: client.fine_tuning.jobs.resume(job.id))
    assert "cancelled" in error.message
    refused(openai.NotFoundError, lambda: client.fine_tuning.jobs.retrieve("ftjob-none"))
    for wrong, param in (
        ({"model": "no-such"}, "model"),
        ({"method": {"type": "dpo"}}, "training_file"),
        ({"extra_body": {"lora_rank": -1}}, "lora_rank"),
        ({"hyperparameters": {"n_epochs": -1}}, "hyperparameters.n_epochs"),
    ):
        error = refused(openai.UnprocessableEntityError, lambda wrong=wrong: create(**asked | wrong))
        assert error.param == param, (error.param, error.message)


def models(client: openai.OpenAI, name: str, training: str) -> None:
    known = [model.id for model in client.models.list()]
    assert {MODEL, name} <= set(known)
    assert client.models.retrieve(name).id == name
    following = client.fine_tuning.jobs.create(model=name, training_file=training, extra_body=FOR_NOBODY)
    assert following.model == name
    refused(openai.ConflictError, lambda: client.models.delete(name))
    client.fine_tuning.jobs.cancel(following.id)
    assert client.models.delete(name).deleted
    refused(openai.NotFoundError, lambda: client.models.retrieve(name))
    refused(openai.UnprocessableEntityError, lambda: client.fine_tuning.jobs.create(model=name, training_file=training))


def every_method(client: openai.OpenAI, training: str, made: str) -> None:
    """Each to its end, and one that is paused while it runs."""
    pairs = upload(client, "pairs.jsonl", preferences(32)).id
    create = client.fine_tuning.jobs.create
    small = {"cutoff_len": 64, "lora_rank": 4, **ON_CPU}
    dpo = create(
        model=made, training_file=pairs, method={"type": "dpo", "dpo": {"hyperparameters": {"beta": 0.2}}}, extra_body=small
    )
    assert ended(client, dpo.id).method.dpo.hyperparameters.beta == 0.2
    pt = create(model=MODEL, training_file=upload(client, "t.jsonl", texts(200)).id, method={"type": "pt"}, extra_body=small)
    ended(client, pt.id)
    rm = create(model=MODEL, training_file=pairs, method={"type": "rm"}, extra_body=small)
    assert ended(client, rm.id).method.type == "rm"
    reward = f"job-{rm.id.removeprefix('ftjob-')}/rm"
    generating = {"generating": {"max_new_tokens": 6}}
    ppo = create(
        model=MODEL,
        training_file=training,
        method={"type": "ppo"},
        hyperparameters={"n_epochs": 1},
        extra_body={**small, "reward_model": reward, **generating},
    )
    ended(client, ppo.id)
    long = create(model=made, training_file=training, hyperparameters={"n_epochs": 40, "batch_size": 4}, extra_body=small)
    deadline = time.monotonic() + 120
    while not client.fine_tuning.jobs.checkpoints.list(long.id).data:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    client.fine_tuning.jobs.pause(long.id)
    ended(client, long.id, ("paused",))
    client.fine_tuning.jobs.resume(long.id)
    assert ended(client, long.id).model == made


def main(url: str, *options: str) -> None:
    client = openai.OpenAI(base_url=f"{url}/v1", api_key="any", max_retries=2)
    files(client)
    training, validation = uploads(client).split()
    job = supervised(client, training, validation)
    look_at(client, job)
    steer(client, training)
    if "every-method" in options:
        every_method(client, training, job.fine_tuned_model)
    models(client, job.fine_tuned_model, training)
    print(f"openai {openai.__version__}: all of it")


if __name__ == "__main__":
    main(*sys.argv[1:])
