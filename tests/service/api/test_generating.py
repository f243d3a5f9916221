"""A text that is asked of a checkpoint, with a worker that is only played: what it says is written as a supervisor would."""

import asyncio
import json
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import select

from service.api.generating import READER_SECONDS, Reader
from service.app import create_app
from service.settings import Settings
from service.specs.webhooks import WebhookSpec
from service.store import audit, generations, jobs, leases, retention, steps, webhooks, wishes
from service.store.errors import NotFound
from service.store.leases import Claim
from service.store.session import Database
from service.store.tables import GeneratedPiece, Generation, Job, WebhookDelivery
from tests.service.api import made
from tests.service.api.door import Bell, Door
from tests.service.store.staffed import enter
from tests.service.store.stored import submit
from tests.service.store.test_webhooks import KEY
from tests.specs.job_documents import a_job

FILES = {"adapter_model.safetensors": b"0123"}
SUMMARY = {"text": "the fox", "prompt_tokens": 3, "tokens": 2, "log_probability": -3.5, "entropy": 1.2, "finish_reason": "stop"}


def trained(door: Door, database: Database, *saved: int, **groups: Any) -> str:
    job_id = door.submit(**groups)
    held = made.claim(database)
    step = groups.get("finetuning", {}).get("stage", "sft")
    for global_step in saved:
        made.checkpoint(database, held, step, global_step, FILES)
    made.finish_step(database, held, step, f"{job_id}/1/{step}/checkpoint-{saved[-1]}")
    made.succeed(database, held)
    return job_id


def played(bell: Bell, database: Database, play: Callable[[Claim], None]) -> None:
    """A worker that takes what the bell rings for."""

    def work() -> None:
        play(made.claim(database))

    bell.on_ring = lambda queue: threading.Thread(target=work).start()


def say(database: Database, held: Claim, number: int, text: str) -> None:
    with made.behind_the_fence(database, held) as session:
        generations.add(session, held, number, text)


def writes(database: Database) -> Callable[[Claim], None]:
    def play(held: Claim) -> None:
        say(database, held, 0, "the ")
        say(database, held, 1, "fox")
        with database.transaction() as session:
            leases.renew(session, held, 60)
            steps.finish(session, held, 0, "generate", f"{held.job_id}/1/generate", SUMMARY)
            leases.succeed(session, held)

    return play


def ask(door: Door, job_id: str, at: int, query: str = "", **body: Any) -> Any:
    return door.post(f"/jobs/{job_id}/checkpoints/{at}/generate{query}", json=body or {"prompt": "what says the fox"})


def told(response: Any) -> list[tuple[str, Any]]:
    """(event, data) of each, in order."""
    assert response.status_code == 200, response.text
    assert response.headers["content-type"].startswith("text/event-stream")
    events = []
    for block in response.text.split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if lines:
            events.append((lines["event"], json.loads(lines["data"])))
    return events


def all_jobs(database: Database) -> list[Job]:
    with database.reading() as session:
        return list(session.scalars(select(Job)))


def test_a_text_comes_in_pieces_and_ends_with_what_it_cost(door: Door, database: Database, bell: Bell) -> None:
    job_id = trained(door, database, 20, 40)
    enter(database)
    seen = []
    play = writes(database)
    played(bell, database, lambda held: (seen.append(held.job_id), play(held)))
    started, *pieces, done = told(ask(door, job_id, 20))
    assert started == ("started", {"job_id": seen[0]})
    assert pieces == [("piece", {"text": "the "}), ("piece", {"text": "fox"})]
    assert done == ("done", SUMMARY)
    assert [job.id for job in all_jobs(database)] == [job_id], "what was asked is forgotten once it is read"
    with database.reading() as session:
        assert session.scalars(select(Generation)).all() == session.scalars(select(GeneratedPiece)).all() == []


def test_it_is_a_job_of_that_checkpoint_that_goes_ahead_and_is_tried_once(plain_door: Door, bell: Bell) -> None:
    database = plain_door.app.state.database  # type: ignore[attr-defined]
    job_id = trained(plain_door, database, 20, 40, data={"template": "alpaca"}, resources={"queue": "default", "gpus": 0})
    enter(database)
    seen: list[Any] = []
    play = writes(database)

    def look(held: Claim) -> None:
        with database.reading() as session:
            seen.append(jobs.resolved(jobs.get(session, "local", held.job_id)))
        play(held)

    played(bell, database, look)
    told(ask(plain_door, job_id, 40, prompt="hello", max_new_tokens=7, do_sample=False, seed=5))
    (resolved,) = seen
    (step,) = resolved.steps
    assert (step.do, step.data.template, step.training.seed) == ("generate", "alpaca", 5)
    assert [message.model_dump() for message in resolved.messages] == [{"role": "user", "content": "hello"}]
    assert step.measures.checkpoints == (f"{job_id}/sft/40",)
    assert (step.generating.max_new_tokens, step.generating.do_sample) == (7, False)
    assert (resolved.resources.priority, resolved.resources.max_retries, resolved.resources.max_lost) == (100, 0, 0)
    assert resolved.resources.gpus == 0


def test_no_list_has_it_and_no_webhook_is_told_of_it(door: Door, database: Database, bell: Bell) -> None:
    job_id = trained(door, database, 20)
    enter(database)
    with database.transaction() as session:
        webhooks.create(session, "local", WebhookSpec(url="https://example.com"), KEY)
    listed: list[list[str]] = []
    play = writes(database)

    def look(held: Claim) -> None:
        assert door.get(f"/jobs/{held.job_id}").json()["state"] == "running"
        for query in ("", "?state=running", f"?after={job_id}", "?state=succeeded"):
            listed.append([job["id"] for job in door.get(f"/jobs{query}").json()["data"]])
        with database.reading() as session:
            listed.append([job.id for job in jobs.listing(session, "local", 20)[0]])
        play(held)

    played(bell, database, look)
    assert told(ask(door, job_id, 20))[-1] == ("done", SUMMARY)
    assert listed == [[job_id], [], [], [job_id], [job_id]]
    with database.reading() as session:
        assert session.scalars(select(WebhookDelivery)).all() == []


def test_a_failure_is_told_with_its_reason(plain_door: Door, bell: Bell) -> None:
    database = plain_door.app.state.database  # type: ignore[attr-defined]
    job_id = trained(plain_door, database, 20)
    enter(database)

    def fail(held: Claim) -> None:
        with database.transaction() as session:
            leases.renew(session, held, 60)
            leases.fail(session, held, leases.Reason.BAD_MODEL, "It cannot be read.", {})

    played(bell, database, fail)
    assert told(ask(plain_door, job_id, 20))[-1] == ("failed", {"reason": "bad_model", "detail": "It cannot be read."})


def test_a_worker_that_stops_gives_an_answer_up_and_nobody_begins_it_anew(plain_door: Door, bell: Bell) -> None:
    database = plain_door.app.state.database  # type: ignore[attr-defined]
    job_id = trained(plain_door, database, 20)
    enter(database)

    def give_back(held: Claim) -> None:
        say(database, held, 0, "the ")
        with database.transaction() as session:
            leases.renew(session, held, 60)
            leases.give_back(session, held, "worker-1 stops.")

    played(bell, database, give_back)
    events = told(ask(plain_door, job_id, 20))
    assert events[1:] == [
        ("piece", {"text": "the "}),
        ("failed", {"reason": "interrupted", "detail": "Its worker stopped; ask again."}),
    ]
    assert [job.id for job in all_jobs(database)] == [job_id]


@pytest.mark.parametrize(
    ("at", "query", "body", "status", "pointer", "part"),
    [
        (21, "", {"prompt": "a"}, 404, None, "it has sft/20"),
        (20, "?step=dpo", {"prompt": "a"}, 422, "/query/step", "it has sft"),
        (20, "", {}, 422, "/prompt", "one of the two"),
        (20, "", {"prompt": "a", "messages": [{"role": "user", "content": "a"}]}, 422, "/prompt", "one of the two"),
        (20, "", {"messages": []}, 422, "/messages", "at least 1 item"),
        (20, "", {"messages": [{"role": "assistant", "content": "a"}]}, 422, "/messages", "a user last"),
        (20, "", {"prompt": "a", "max_new_tokens": 99}, 422, "/max_new_tokens", "at most 64 tokens"),
        (20, "", {"prompt": "a", "top_p": 0}, 422, "/top_p", "greater than 0"),
        (20, "", {"prompt": "a", "temperature": 0.0}, 422, "/temperature", "nothing is drawn"),
        (20, "", {"prompt": "a", "do_sample": False, "top_k": 3}, 422, "/top_k", "no effect"),
        (20, "", {"prompt": "a", "num_beams": 3}, 422, "/num_beams", "There is no such argument."),
        (20, "", {"prompt": "a\0b"}, 422, "/prompt", "null character"),
    ],
)
def test_what_cannot_be_asked_is_refused_in_its_place(
    plain_door: Door, at: int, query: str, body: Any, status: int, pointer: str, part: str
) -> None:
    state = plain_door.app.state  # type: ignore[attr-defined]
    state.settings = state.settings.model_copy(update={"generate_max_tokens": 64})
    job_id = trained(plain_door, state.database, 20)
    enter(state.database)
    response = plain_door.post(f"/jobs/{job_id}/checkpoints/{at}/generate{query}", json=body)
    assert response.status_code == status, response.text
    problem = response.json()
    assert part in (problem["errors"][0]["detail"] if pointer else problem["detail"])
    assert [error["pointer"] for error in problem["errors"]] == ([pointer] if pointer else [])
    assert [job.id for job in all_jobs(state.database)] == [job_id]


def test_a_checkpoint_of_several_steps_is_named_with_its_step(plain_door: Door, bell: Bell) -> None:
    database = plain_door.app.state.database  # type: ignore[attr-defined]
    job_id = plain_door.submit(steps=[{"name": "one"}, {"name": "two", "model": {"model_name_or_path": "@one"}}])
    held = made.claim(database)
    for step in ("one", "two"):
        made.checkpoint(database, held, step, 20, FILES)
    made.succeed(database, held)
    enter(database)
    response = ask(plain_door, job_id, 20)
    assert (response.status_code, response.json()["errors"][0]["pointer"]) == (422, "/query/step")
    assert "one, two" in response.json()["detail"]
    played(bell, database, writes(database))
    assert told(ask(plain_door, job_id, 20, "?step=two"))[-1][0] == "done"


def test_a_reward_model_writes_nothing_and_what_is_gone_is_gone(plain_door: Door, bell: Bell) -> None:
    database = plain_door.app.state.database  # type: ignore[attr-defined]
    enter(database)
    rm = trained(plain_door, database, 20, finetuning={"stage": "rm"}, data={"dataset": "pairs"})
    response = ask(plain_door, rm, 20)
    assert (response.status_code, response.json()["errors"][0]["pointer"]) == (422, "/path/global_step")
    assert "scores texts" in response.json()["detail"]
    document = a_job(do="predict", measures={"checkpoints": f"{rm}/rm"})
    (refusal,) = plain_door.refusals(document)
    assert (refusal[0], "scores texts" in refusal[1]) == ("/measures/checkpoints/0", True)

    job_id = trained(plain_door, database, 20, 40, resources={"artifacts_ttl_seconds": 0.001})
    time.sleep(0.01)
    with database.transaction() as session:
        retention.expire(session)
    assert ask(plain_door, job_id, 20).status_code == 410
    assert ask(plain_door, f"job-{0:024x}", 20).status_code == 404


def test_where_no_worker_is_or_none_comes_free_the_answer_is_503_and_nothing_is_left(
    settings: Settings, bell: Bell, database: Database
) -> None:
    with Door(create_app(settings.model_copy(update={"generate_wait_seconds": 0.15}), database, bell)) as door:
        job_id = trained(door, database, 20)
        rung = len(bell.rung)
        for _ in ("no worker", "a busy one"):
            response = ask(door, job_id, 20)
            assert (response.status_code, response.json()["code"]) == (503, "no_worker_free")
            assert int(response.headers["retry-after"]) > 0
            assert [job.id for job in all_jobs(database)] == [job_id]
            enter(database)
        assert len(bell.rung) == rung + 1, "without a worker none is rung for"
        with database.reading() as session:
            assert [entry.action for entry in audit.page(session, 10)[0]].count("generate_text") == 1


# -- the reader ---------------------------------------------------------------------------------------------------------


def an_asked_job(database: Database, reader_seconds: float = READER_SECONDS) -> str:
    job_id = submit(database, "local")
    with database.transaction() as session:
        generations.begin(session, job_id, reader_seconds)
    return job_id


def test_a_client_that_goes_away_has_the_worker_stop(database: Database) -> None:
    job_id = an_asked_job(database)
    held = made.claim(database)
    say(database, held, 0, "the ")

    async def read_and_go() -> list[Any]:
        reader = Reader(database, "local", job_id)
        events = reader.events()
        seen = [(await anext(events)).event, (await anext(events)).event]
        waiting = asyncio.ensure_future(anext(events))
        await asyncio.sleep(0.01)
        waiting.cancel()
        await reader.leave()
        return seen

    assert asyncio.run(read_and_go()) == ["started", "piece"]
    with database.transaction() as session:
        assert leases.renew(session, held, 60) == leases.Wish.CANCEL
        leases.give_back(session, held, "it stopped")
    with database.transaction() as session:
        assert generations.forget(session) == [job_id]
    with database.reading() as session, pytest.raises(NotFound):
        jobs.get(session, "local", job_id)


def test_a_reader_that_is_not_heard_of_is_gone_and_one_that_is_stays(database: Database) -> None:
    gone, there = an_asked_job(database, -1), an_asked_job(database)
    with database.transaction() as session:
        assert generations.forget(session) == [gone]
    assert [job.id for job in all_jobs(database)] == [there]
    with database.transaction() as session:
        generations.still_read(session, there, -1)
    with database.transaction() as session:
        assert generations.forget(session) == [there]


def test_pieces_are_kept_only_for_a_reader_and_behind_what_is_read(database: Database) -> None:
    job_id = an_asked_job(database)
    held = made.claim(database)
    for number, text in enumerate(("a", "b", "c")):
        say(database, held, number, text)
    say(database, held, 2, "c")
    with database.reading() as session:
        reading = generations.read(session, job_id, behind=0)
    assert reading is not None
    assert list(reading.pieces) == [(1, "b"), (2, "c")]
    with database.transaction() as session:
        wishes.cancel(session, "local", job_id)
        leases.renew(session, held, 60)
        leases.give_back(session, held, "it stopped")
    nobody = submit(database, "local")
    other = made.claim(database)
    assert other.job_id == nobody
    say(database, other, 0, "a")
    with database.reading() as session:
        assert session.scalars(select(GeneratedPiece.text).where(GeneratedPiece.job_id == nobody)).all() == []
