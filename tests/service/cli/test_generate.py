import json

from tests.service.cli.conftest import Finebits
from tests.service.fake_service import Answer, FakeService, problem

JOB = f"job-{1:024x}"
PATH = f"/jobs/{JOB}/checkpoints/40/generate"
DONE = {"tokens": 2, "log_probability": -3.0, "entropy": 1.25, "finish_reason": "stop"}


def stream(*events: tuple[str, object]) -> Answer:
    text = ": ping\n\n" + "".join(f"event: {event}\ndata: {json.dumps(data)}\n\n" for event, data in events)
    return Answer(body=text.encode(), content_type="text/event-stream")


def test_the_pieces_are_printed_as_they_come_and_then_what_they_cost(service: FakeService, finebits: Finebits) -> None:
    pieces = [("started", {"job_id": "job-2"}), ("piece", {"text": "the fox\n"}), ("piece", {"text": "says"}), ("done", DONE)]
    service.answers("POST", PATH, stream(*pieces))
    done = finebits("generate", f"{JOB}/sft/40", "what?", "--max-new-tokens", "9", "--greedy", "--seed", "3")
    assert done.exit_code == 0, done.output
    assert done.stdout == "the fox\nsays\n2 tokens (stop); 1.500 bits a token, entropy 1.250\n"
    assert json.loads(service.asked[-1].body) == {"prompt": "what?", "max_new_tokens": 9, "seed": 3, "do_sample": False}
    assert service.asked[-1].query == "step=sft"


def test_what_goes_wrong_is_a_sentence(service: FakeService, finebits: Finebits) -> None:
    done = finebits("generate", f"{JOB}/sft", "what?")
    assert done.exit_code != 0
    assert "by its number" in done.output
    service.answers("POST", PATH, problem(503, detail="No worker came free within 20 s.", code="no_worker_free"))
    done = finebits("generate", f"{JOB}/sft/40", "what?")
    assert done.exit_code != 0
    assert "No worker came free" in done.output
    service.answers("POST", PATH, stream(("failed", {"reason": "bad_model", "detail": "It cannot be read."})))
    done = finebits("generate", f"{JOB}/sft/40", "what?")
    assert done.exit_code != 0
    assert "It cannot be read. (bad_model)" in done.output
